package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxReferencedBytes bounds what ${file:PATH} and the files of TLS and SASL may hold.
const maxReferencedBytes = 1 << 20

// value is a scalar of the file, or of a flag, after its references were resolved.
type value struct {
	text   string
	kind   kind   // kindText, kindNumber or kindBool
	quoted bool   // literal text in quotes
	from   string // the reference or the flag that the text came from; it then takes the type its key wants
	secret bool   // must not be shown
	at     place
}

// located is a value with its place.
type located[T any] struct {
	value T
	at    place
}

// String describes the value for a message: what was got.
func (v value) String() string {
	switch {
	case v.secret:
		return "a value that is not shown"
	case strings.HasPrefix(v.from, "${file:"):
		return "the content of " + v.from
	case v.text == "" && v.from != "" && v.at.line > 0:
		return "nothing from " + v.from
	case v.from != "" && v.at.line > 0: // not of a flag
		return fmt.Sprintf("%s from %s", quote(v.text), v.from)
	case v.text == "":
		return `""`
	case v.kind == kindNumber:
		return "the number " + v.text
	case v.kind == kindBool:
		return v.text
	}
	return quote(v.text)
}

// maxQuoted is how much of a text a message repeats; the excerpt shows the rest.
const maxQuoted = 60

func quote(text string) string {
	if runes := []rune(text); len(runes) > maxQuoted {
		text = string(runes[:maxQuoted]) + "…"
	}
	if strings.Contains(text, `"`) && !strings.ContainsAny(text, "'\\") && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "'" + text + "'" // easier to read than escapes
	}
	return strconv.Quote(text)
}

// isText reports whether the value may be taken as text: an unquoted number or true is a
// mistake more often than not.
func (v value) isText() bool { return v.kind == kindText || v.from != "" }

// resolver carries the outside world into references.
type resolver struct {
	env      func(string) (string, bool)
	readFile func(string) ([]byte, error) // name as it is in the configuration
}

var variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// resolve replaces the references in a text. Every one that fails is reported with its index,
// in characters, in the text. From is the first reference, or "".
func (r resolver) resolve(text string, report func(index int, reference string, p problem)) (resolved, from string, ok bool) {
	var b strings.Builder
	ok = true
	for rest := text; rest != ""; {
		i := strings.IndexByte(rest, '$')
		if i < 0 {
			b.WriteString(rest)
			break
		}
		b.WriteString(rest[:i])
		rest = rest[i:]
		switch {
		case strings.HasPrefix(rest, "$${"):
			b.WriteString("${")
			rest = rest[3:]
		case !strings.HasPrefix(rest, "${"):
			b.WriteByte('$')
			rest = rest[1:]
		default:
			reference, after, closed := strings.Cut(rest, "}")
			if closed {
				reference += "}"
			}
			content, err := r.lookup(reference, closed)
			if err != nil {
				p := problem{}
				must(errors.As(err, &p), "configs: reference %s: %v", reference, err)
				report(utf8.RuneCountInString(text[:len(text)-len(rest)]), reference, p)
				ok = false
			}
			if from == "" {
				from = reference
			}
			b.WriteString(content)
			rest = after
		}
	}
	return b.String(), from, ok
}

// lookup returns what one reference stands for.
func (r resolver) lookup(reference string, closed bool) (string, error) {
	inner := strings.TrimSuffix(strings.TrimPrefix(reference, "${"), "}")
	if !closed {
		return "", problem{"the reference " + quote(reference) + " has no closing }", "write $${ for a plain ${"}
	}
	if strings.Contains(inner, "${") {
		return "", problem{"a reference cannot be inside another", ""}
	}
	source, name, found := strings.Cut(inner, ":")
	switch {
	case found && source == "env":
		return r.variable(name)
	case found && source == "file" && name != "":
		content, err := r.file(name)
		return strings.TrimSuffix(strings.TrimSuffix(content, "\n"), "\r"), err
	}
	p := problem{"unknown reference " + quote(reference), "write ${env:NAME}, ${env:NAME:-default} or ${file:PATH}, or $${ for a plain ${"}
	if variablePattern.MatchString(inner) {
		p.hint = didYouMean("${env:" + inner + "}")
	}
	return "", p
}

func (r resolver) variable(text string) (string, error) {
	name, fallback, hasFallback := strings.Cut(text, ":-")
	if !variablePattern.MatchString(name) {
		return "", problem{fmt.Sprintf("%q is no name of an environment variable", name), "write ${env:NAME} or ${env:NAME:-default}"}
	}
	content, set := r.env(name)
	switch {
	case hasFallback && content == "":
		return fallback, nil
	case !set:
		return "", problem{"the environment variable " + name + " is not set", ""}
	}
	return content, checkContent("the environment variable "+name, content)
}

// file returns a file's content, as text.
func (r resolver) file(name string) (string, error) {
	if strings.ContainsRune(name, 0) {
		return "", problem{"a file's name cannot hold the character U+0000", ""}
	}
	data, err := r.readFile(name)
	if err != nil {
		// The path is in the message already; the system's error would repeat it.
		if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
			err = cause.Err
		}
		return "", problem{fmt.Sprintf("the file %q cannot be read: %v", name, err), ""}
	}
	if len(data) > maxReferencedBytes {
		return "", problem{fmt.Sprintf("the file %q is larger than %s", name, formatSize(maxReferencedBytes)), ""}
	}
	return string(data), checkContent(fmt.Sprintf("the file %q", name), string(data))
}

// checkContent refuses what cannot be written in the configuration itself, and could not be printed.
func checkContent(what, content string) error {
	if !utf8.ValidString(content) {
		return problem{what + " is not text in UTF-8", ""}
	}
	for _, r := range content {
		if unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' {
			return problem{fmt.Sprintf("%s holds the character U+%04X", what, r), ""}
		}
	}
	return nil
}
