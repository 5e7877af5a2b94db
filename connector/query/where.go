package query

import (
	"fmt"
	"strings"
	"unicode"
)

// Condition is one --where before it is bound to a table: a column, an operator, and constants as text.
type Condition struct {
	Column string
	Op     string // =, !=, <, <=, >, >=, in, is null, is not null
	Values []string
}

// operators in the order in which they are tried: longer ones first.
var operators = []string{"!=", "<>", "<=", ">=", "=", "<", ">"}

// ParseCondition reads a condition such as `tenant = 7`, `url != 'a b'`, `country in ('DE', 'FR')`
// or `value is not null`. Text may be quoted with single quotes, doubled inside.
func ParseCondition(text string) (Condition, error) {
	s := strings.TrimSpace(text)
	end := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != '.' })
	if end <= 0 {
		return Condition{}, conditionError(text, "want a column, an operator and a value")
	}
	c := Condition{Column: s[:end]}
	rest := strings.TrimSpace(s[end:])
	switch words := strings.ToLower(strings.Join(strings.Fields(rest), " ")); {
	case words == "is null" || words == "is not null":
		c.Op = words
		return c, nil
	case strings.HasPrefix(words, "in ") || strings.HasPrefix(words, "in("):
		return c.list(text, strings.TrimSpace(rest[2:]))
	}
	for _, op := range operators {
		if value, ok := strings.CutPrefix(rest, op); ok {
			c.Op = strings.Replace(op, "<>", "!=", 1)
			v, left, err := constant(strings.TrimSpace(value))
			if err != nil || left != "" {
				return Condition{}, conditionError(text, "want one value behind "+op)
			}
			c.Values = []string{v}
			return c, nil
		}
	}
	return Condition{}, conditionError(text, "want one of = != < <= > >= in (..) is null, is not null behind the column")
}

func conditionError(text, want string) error {
	return fmt.Errorf("query: condition %q: %s, as in: --where 'tenant = 7'", text, want)
}

func (c Condition) list(text, rest string) (Condition, error) {
	c.Op = "in"
	inner, ok := strings.CutPrefix(rest, "(")
	inner, ok2 := strings.CutSuffix(inner, ")")
	if !ok || !ok2 {
		return Condition{}, conditionError(text, "want a list in parentheses behind in")
	}
	for {
		v, left, err := constant(strings.TrimSpace(inner))
		if err != nil {
			return Condition{}, conditionError(text, err.Error())
		}
		c.Values = append(c.Values, v)
		if left == "" {
			return c, nil
		}
		if inner, ok = strings.CutPrefix(left, ","); !ok {
			return Condition{}, conditionError(text, "want commas between values")
		}
	}
}

// constant takes one value off the front of s.
func constant(s string) (value, left string, err error) {
	if !strings.HasPrefix(s, "'") {
		end := strings.IndexAny(s, ", '")
		if end < 0 {
			end = len(s)
		}
		if end == 0 {
			return "", "", fmt.Errorf("want a value")
		}
		return s[:end], strings.TrimSpace(s[end:]), nil
	}
	var out strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			out.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			out.WriteByte('\'')
			i++
			continue
		}
		return out.String(), strings.TrimSpace(s[i+1:]), nil
	}
	return "", "", fmt.Errorf("want a closing quote")
}
