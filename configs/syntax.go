package configs

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	yaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// kind is what a node of the file is.
type kind int

const (
	kindText   kind = iota
	kindNumber      // unquoted
	kindBool        // unquoted
	kindNull        // nothing, ~ or null
	kindList
	kindMapping
	kindRefused // a fault has been reported; nothing more is to be said about it
)

// node is a value of the file with its place: all that the rest of the package sees of YAML.
type node struct {
	kind    kind
	at      place
	text    string // of a scalar, as it is written but for quotes and escapes
	quoted  bool   // or a block of text
	entries []entry
	items   []*node
}

// entry is a key of a mapping with its value, in the order of the file. Keys may repeat.
type entry struct {
	key   *node
	value *node
}

// parseYAML returns the one document of the text, or nil after reporting a fault. An empty
// document is a node of kindNull.
func parseYAML(src *source, text string, report func(place, problem)) *node {
	file, err := parseProtected(text)
	if err != nil {
		at, p := syntaxFault(src, err)
		report(at, p)
		return nil
	}
	c := converter{src: src, report: report}
	var root *node
	for _, document := range file.Docs {
		switch {
		case document.Body == nil || document.Body.Type() == ast.CommentType:
		case root != nil:
			at := c.place(document.Start, "")
			c.report(at, problem{message: "got a second document, want one per file", hint: "remove this line, and make one of the two"})
			return nil
		default:
			root = c.node(document.Body)
		}
	}
	if root == nil {
		root = &node{kind: kindNull, at: place{file: src.name, line: 1, column: 1, width: 1}}
	}
	return root
}

// parseProtected keeps a panic of the YAML library, which malformed input can cause, inside.
func parseProtected(text string) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			file, err = nil, fmt.Errorf("the YAML parser failed: %v", r)
		}
	}()
	return parser.ParseBytes([]byte(text), 0, parser.AllowDuplicateMapKey())
}

// converter turns the library's tree into ours.
type converter struct {
	src    *source
	report func(place, problem)
}

func (c converter) node(n ast.Node) *node {
	switch n := n.(type) {
	case *ast.MappingNode:
		m := &node{kind: kindMapping, at: c.place(n.GetToken(), "")}
		for _, value := range n.Values {
			m.entries = append(m.entries, c.entry(value))
		}
		if !n.IsFlowStyle && len(m.entries) > 0 {
			m.at = m.entries[0].key.at
		}
		return m
	case *ast.MappingValueNode:
		e := c.entry(n)
		return &node{kind: kindMapping, at: e.key.at, entries: []entry{e}}
	case *ast.SequenceNode:
		l := &node{kind: kindList, at: c.place(n.GetToken(), "")}
		for _, value := range n.Values {
			l.items = append(l.items, c.node(value))
		}
		return l
	case *ast.LiteralNode:
		return &node{kind: kindText, at: c.place(n.GetToken(), ""), text: unmask(n.Value.Value), quoted: true}
	case *ast.NullNode:
		at := c.place(n.GetToken(), n.GetToken().Value)
		return &node{kind: kindNull, at: at}
	case *ast.StringNode:
		return c.scalar(kindText, n)
	case *ast.BoolNode:
		return c.scalar(kindBool, n)
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return c.scalar(kindNumber, n)
	}
	return c.refuse(n)
}

func (c converter) scalar(k kind, n ast.Node) *node {
	tk := n.GetToken()
	quoted := tk.Type == token.SingleQuoteType || tk.Type == token.DoubleQuoteType
	plain := tk.Value
	if quoted {
		plain = ""
	}
	return &node{kind: k, at: c.place(tk, plain), text: unmask(tk.Value), quoted: quoted}
}

func (c converter) entry(n *ast.MappingValueNode) entry {
	e := entry{key: c.key(n.Key)}
	if n.Value == nil {
		e.value = &node{kind: kindNull}
	} else {
		e.value = c.node(n.Value)
	}
	// A value that is not there has no place of its own: the fault is shown at the key.
	if e.value.kind == kindNull && (e.value.at.line != e.key.at.line || n.Value.GetToken().Type == token.ImplicitNullType) {
		e.value.at = e.key.at
	}
	return e
}

func (c converter) key(n ast.MapKeyNode) *node {
	if s, ok := n.(ast.Node); ok {
		switch s.(type) {
		case *ast.StringNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.NullNode:
			k := c.scalar(kindText, s)
			return k
		}
		return c.refuse(s)
	}
	return &node{kind: kindRefused}
}

// refuse reports a part of YAML that a configuration may not use.
func (c converter) refuse(n ast.Node) *node {
	what := "this part of YAML"
	hint := ""
	switch n.(type) {
	case *ast.AnchorNode:
		what, hint = "an anchor (&)", "write the value where it is used; text that begins with & needs quotes"
	case *ast.AliasNode:
		what, hint = "an alias (*)", "write the value here again; text that begins with * needs quotes"
	case *ast.MergeKeyNode:
		what, hint = "a merge key (<<)", "write the keys here again"
	case *ast.TagNode:
		what, hint = "a tag (!)", "text that begins with ! needs quotes"
	case *ast.MappingKeyNode:
		what, hint = "a complex key (?)", "write key: value"
	case *ast.DirectiveNode:
		what = "a directive (%)"
	}
	at := c.place(n.GetToken(), "")
	c.report(at, problem{message: "got " + what + ", which a configuration cannot have", hint: hint})
	return &node{kind: kindRefused, at: at}
}

// place returns where a token is. Text is the value, still masked, of one without quotes, or "".
func (c converter) place(tk *token.Token, text string) place {
	at := place{file: c.src.name, line: 1, column: 1, width: 1}
	if tk == nil || tk.Position == nil {
		return at
	}
	at.line = min(max(1, tk.Position.Line), len(c.src.lines))
	line := c.src.lines[at.line-1]
	at.column = min(max(1, tk.Position.Column), len(line)+1)
	at = c.realPlace(at, text)
	at.width = tokenWidth(c.src.lines[at.line-1][at.column-1:], text)
	return at
}

// realPlace sets the place of an unquoted text right, by looking for its first word. The library
// counts blanks at the end of a line as if they stood before the text,
// and may place a text of several lines in its last.
func (c converter) realPlace(at place, text string) place {
	words := strings.Fields(unmask(text))
	line := c.src.lines[at.line-1]
	rest := string(line[at.column-1:])
	if len(words) == 0 || strings.HasPrefix(rest, words[0]) {
		return at
	}
	end := min(len(line), at.column-1+utf8.RuneCountInString(words[0]))
	for i := at.line; i > 0; i-- {
		before := string(c.src.lines[i-1][:end])
		if start := strings.LastIndex(before, words[0]); start >= 0 {
			at.line, at.column = i, utf8.RuneCountInString(before[:start])+1
			return at
		}
		if start := strings.Index(rest, words[0]); i == at.line && start >= 0 {
			at.column += utf8.RuneCountInString(rest[:start])
			return at
		}
		if i > 1 {
			end = len(c.src.lines[i-2])
		}
	}
	return at
}

// tokenWidth returns how many characters of rest, the line from a token on, the token takes there.
func tokenWidth(rest []rune, text string) int {
	if len(rest) == 0 {
		return 1
	}
	if quote := rest[0]; quote == '"' || quote == '\'' {
		for i := 1; i < len(rest); i++ {
			switch {
			case quote == '"' && rest[i] == '\\':
				i++
			case rest[i] == quote && quote == '\'' && i+1 < len(rest) && rest[i+1] == quote:
				i++
			case rest[i] == quote:
				return i + 1
			}
		}
		return len(rest)
	}
	width := max(1, utf8.RuneCountInString(text))
	if width > len(rest) { // text over several lines
		return max(1, len([]rune(strings.TrimRight(string(rest), " \t"))))
	}
	return width
}

// syntaxFaults says in our words what the library's parser stumbled over. The library's message
// is the key; one that is not here is passed on as it is.
var syntaxFaults = map[string]problem{
	"non-map value is specified":                                         {`want "key: value" here`, "a colon needs a space after it"},
	"sequence end token ']' not found":                                   {"the [ that is opened here is never closed", ""},
	"could not find flow mapping end token '}'":                          {"the { that is opened here is never closed", ""},
	"could not find '[' character corresponding to ']'":                  {"this ] closes nothing", ""},
	"could not find '{' character corresponding to '}'":                  {"this } closes nothing", ""},
	"could not find end character of double-quoted text":                 {"the double quote that is opened here is never closed", ""},
	"could not find end character of single-quoted text":                 {"the single quote that is opened here is never closed", "inside single quotes write '' for one"},
	"block sequence entries are not allowed in this context":             {"a list's first element must start on a line of its own", ""},
	"value is not allowed in this context":                               {"this line is indented like none of the lines above it", ""},
	"value is not allowed in this context. map key-value is pre-defined": {"this line is indented deeper than the line above, which already has a value", ""},
	"found an invalid key for this map":                                  {"a key must be a plain name", ""},
	"found a tab character where an indentation space is expected":       {"got a tab, want spaces", "YAML cannot be indented with tabs"},
	"found character '\t' that cannot start any token":                   {"got a tab, want spaces", "YAML cannot be indented with tabs"},
	"unexpected scalar value type":                                       {"want a value here", ""},
}

// syntaxFault turns the library's error into a fault with a place.
func syntaxFault(src *source, err error) (place, problem) {
	c := converter{src: src}
	var syntax yaml.Error
	if !errors.As(err, &syntax) || syntax.GetToken() == nil {
		return place{file: src.name}, problem{message: "got text that is not YAML: " + unmask(err.Error())}
	}
	message := unmask(syntax.GetMessage())
	at := c.place(syntax.GetToken(), "")
	p, known := syntaxFaults[message]
	switch {
	case message == "mapping value is not allowed in this context":
		at, p = c.secondColon(at)
	case message == "',' or ']' must be specified", message == "',' or '}' must be specified":
		p = c.notClosed(at)
	case strings.HasSuffix(message, "is a reserved character"):
		p = problem{message: fmt.Sprintf("a value cannot begin with %s", string(src.lines[at.line-1][at.column-1:][:1])), hint: "put it in quotes"}
	case strings.HasPrefix(message, "found unknown escape character"):
		p = problem{message: "got " + strings.TrimPrefix(message, "found "), hint: `in double quotes write \\ for a backslash, or use single quotes`}
	case !known:
		p = problem{message: "got text that is not YAML: " + message}
	}
	switch line := string(src.lines[at.line-1]); {
	case p.hint != "":
	case strings.Contains(line, "${") && !referencePattern.MatchString(line):
		p.hint = "the reference ${ in this line is not closed"
	}
	// The parser stops at the first mistake, so this is the only fault that the user sees now.
	p.hint = strings.TrimPrefix(p.hint+"; nothing else could be checked", "; ")
	return at, p
}

// notClosed explains a place inside [ ] or { } where a comma or the end should be.
func (c converter) notClosed(at place) problem {
	type bracket struct {
		r    rune
		line int
	}
	var open []bracket
	for i, line := range c.src.lines[:at.line] {
		if i == at.line-1 {
			line = line[:at.column-1]
		}
		for j, r := range line {
			if r == '#' && (j == 0 || line[j-1] == ' ') {
				break // a comment
			}
			// A bracket in quotes is rare enough: it makes the message point to a wrong line, no more.
			if r == '[' || r == '{' {
				open = append(open, bracket{r, i + 1})
			} else if (r == ']' || r == '}') && len(open) > 0 {
				open = open[:len(open)-1]
			}
		}
	}
	if len(open) == 0 {
		return problem{"a bracket is not closed, or a comma is missing before this", ""}
	}
	last := open[len(open)-1]
	return problem{fmt.Sprintf("the %c in line %d is not closed, or a comma is missing before this", last.r, last.line), ""}
}

// secondColon explains a value that holds ": " at its end, or in the line below, where the value
// goes on if that line is indented deeper. The library knows the place of the value only.
func (c converter) secondColon(at place) (place, problem) {
	line := c.src.lines[at.line-1]
	value := string(line[at.column-1:])
	if i := strings.Index(value, ": "); i >= 0 || strings.HasSuffix(value, ":") {
		if i < 0 {
			i = len(value) - 1
		}
		at.column += utf8.RuneCountInString(value[:i])
		return at, problem{message: "got a second colon in one line", hint: "put the value in quotes, or the second key in a line of its own"}
	}
	for i := at.line; i < len(c.src.lines); i++ {
		text := string(c.src.lines[i])
		if trimmed := strings.TrimLeft(text, " "); trimmed != "" && trimmed[0] != '#' {
			at.line, at.column = i+1, len(text)-len(trimmed)+1
			return at, syntaxFaults["value is not allowed in this context. map key-value is pre-defined"]
		}
	}
	return at, problem{message: "got a colon where a value ends", hint: "put the value in quotes"}
}
