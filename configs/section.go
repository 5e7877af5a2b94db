package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// reader carries what reading the file needs, and collects the faults.
//
// Reading never stops at a fault: a value that is wrong is reported once and then treated as if
// nothing were known about it, so that one mistake does not cause ten messages.
type reader struct {
	src       *source
	resolver  resolver
	overrides map[string]value // by key
	faults    Faults
}

func newReader(src *source, env func(string) (string, bool), readFile func(string) ([]byte, error)) *reader {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	if readFile == nil {
		readFile = func(string) ([]byte, error) { return nil, fs.ErrNotExist }
	}
	dir := filepath.Dir(src.name)
	return &reader{src: src, overrides: map[string]value{}, resolver: resolver{env: env, readFile: func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return readFile(name)
	}}}
}

// fault reports a problem of an object at a place. Object may be empty.
func (r *reader) fault(at place, object string, p problem) {
	message := p.message
	if object != "" {
		message = object + ": " + message
	}
	f := Fault{File: at.file, Message: message, Hint: p.hint}
	if at.line > 0 {
		f.Line, f.Column, f.Excerpt = at.line, at.column, r.src.excerpt(at)
	}
	r.faults = append(r.faults, f)
}

// section is one mapping of the file, whose keys are known and unique. It may stand for a
// mapping that is not there: then every key is absent.
type section struct {
	*reader
	path   string // as in keys
	label  string // in messages
	at     place
	values map[string]*node
	given  bool            // in the file; false too when it was of the wrong type
	excuse map[string]bool // keys that are not reported as missing: something that was reported meant them
	whole  bool            // every key could be read
}

// section reads the keys of a mapping. A node of nil is an absent section. Every fault of the
// mapping itself is reported: what it is, its unknown, doubled and unbuilt keys.
func (r *reader) section(n *node, path, label string, at place) *section {
	s := &section{reader: r, path: path, label: label, at: at, values: map[string]*node{}, excuse: map[string]bool{}, whole: true}
	if n == nil {
		return s
	}
	s.at = n.at
	if n.kind != kindMapping {
		r.wrongKind(n, label, "keys and values")
		return s
	}
	s.given = true
	s.whole = !slices.ContainsFunc(n.entries, func(e entry) bool { return e.key.kind == kindRefused })
	for _, e := range r.unique(n, label, "key") {
		name := e.key.text
		if instead, yes := isUnbuilt(join(path, name), ""); yes {
			s.fault(e.key.at, label, problem{name + " is not built yet", instead})
			continue
		}
		if !slices.Contains(keys[path], name) {
			p, meant := unknownKey(path, name, sectionKeys(n))
			s.fault(e.key.at, label, p)
			s.excuse[meant] = true
			continue
		}
		s.values[name] = e.value
	}
	return s
}

// sectionKeys returns the keys that a mapping has already: they are no good suggestion for another.
func sectionKeys(n *node) []string {
	var names []string
	for _, e := range n.entries {
		names = append(names, e.key.text)
	}
	return names
}

// unknownKey returns what to say about a key that the section does not have, and the key that was
// probably meant, or "".
func unknownKey(path, name string, present []string) (p problem, meant string) {
	p.message = "unknown key " + quote(name)
	if key, _, found := strings.Cut(name, ":"); found && slices.Contains(keys[path], key) {
		p.hint = "a colon needs a space after it"
		return p, key
	}
	var built, missing []string
	for _, key := range keys[path] {
		if _, refused := isUnbuilt(join(path, key), ""); !refused {
			built = append(built, key)
		}
		if !slices.Contains(present, key) {
			missing = append(missing, key)
		}
	}
	if meant = nearest(name, missing); meant != "" {
		p.hint = didYouMean(meant)
		if !slices.Contains(built, meant) {
			p.hint += " It is not built yet"
		}
		return p, meant
	}
	if section := owner(name); section != "" {
		p.hint = "it is a key of " + section
	} else if hint := suggest(name, keys[path]); hint != "" {
		p.hint = hint
	} else {
		p.hint = "the keys here are " + enumerate(built, "and")
	}
	return p, ""
}

// unique returns the entries of a mapping whose keys are names, and reports those that come twice.
func (r *reader) unique(n *node, label, what string) []entry {
	var entries []entry
	lines := map[string]int{}
	for _, e := range n.entries {
		if e.key.kind == kindRefused {
			continue
		}
		if line, doubled := lines[e.key.text]; doubled {
			r.fault(e.key.at, label, problem{fmt.Sprintf("%s %s is given twice%s", what, quote(e.key.text), firstIn(line, e.key.at)), ""})
			continue
		}
		lines[e.key.text] = e.key.at.line
		entries = append(entries, e)
	}
	return entries
}

// firstIn says where something was given first, unless it is in the same line.
func firstIn(line int, at place) string {
	if line == at.line {
		return ""
	}
	return fmt.Sprintf(", first in line %d", line)
}

// wrongKind reports a node that is not what its place wants.
func (r *reader) wrongKind(n *node, object, want string) {
	what := ""
	switch n.kind {
	case kindRefused:
		return
	case kindNull:
		what = "nothing"
	case kindList:
		what = "a list"
	case kindMapping:
		what = "keys and values"
	default:
		what = value{text: n.text, kind: n.kind}.String()
	}
	hint := ""
	if n.kind == kindText && !n.quoted && strings.HasPrefix(want, "keys") && strings.Contains(n.text, ":") {
		hint = "a colon needs a space after it"
	}
	r.fault(n.at, object, problem{fmt.Sprintf("got %s, want %s", what, want), hint})
}

// object names a key of the section in messages.
func (s *section) object(key string) string {
	if s.label == "" {
		return key
	}
	return s.label + ": " + key
}

// node returns the node of a key, or nil.
func (s *section) node(key string) *node {
	must(slices.Contains(keys[s.path], key), "configs: key %s is not in the table of keys", join(s.path, key))
	return s.values[key]
}

// wants says in messages what a scalar key takes, by the key's path; others take "a single value".
var wants = map[string]string{
	"kafka.brokers":           "a list such as [kafka-1:9092, kafka-2:9092]",
	"cluster.nodes":           "a list of nodes",
	"tables":                  "a list of tables",
	"connectors":              "a list of connectors",
	"tables[].columns":        "a list of columns",
	"tables[].primary_key":    "a list of columns such as [tenant, event_id]",
	"tables[].hash.columns":   "a list of columns such as [event_id]",
	"connectors[].topics":     "a list of topics such as [app-events]",
	"connectors[].fields":     "column: path pairs such as {user_id: user.id}",
	"connectors[].add":        "column: source pairs such as {kafka_offset: offset}",
	"tables[].columns[].type": "a type such as int64 or decimal(18,2)",
}

// want describes what a key takes, for one that got a list, a mapping or nothing.
func (s *section) want(key string) string {
	if want := wants[join(s.path, key)]; want != "" {
		return want
	}
	return "a single value"
}

// scalar resolves a scalar node; ok is false when a fault was reported.
func (r *reader) scalar(n *node, object, want string, secret bool) (v value, ok bool) {
	if n.kind > kindBool {
		if n.kind != kindNull && secret {
			n = &node{kind: n.kind, at: n.at}
		}
		r.wrongKind(n, object, want)
		return value{}, false
	}
	v = value{kind: n.kind, quoted: n.quoted, secret: secret, at: n.at}
	nth := map[string]int{}
	v.text, v.from, ok = r.resolver.resolve(n.text, func(index int, reference string, p problem) {
		r.fault(r.referencePlace(n.at, index, reference, nth), object, p)
	})
	return v, ok
}

// referencePlace finds a reference of a value in the file. Escapes and line breaks move the
// characters of a quoted value, so that the index alone does not do.
func (r *reader) referencePlace(at place, index int, reference string, nth map[string]int) place {
	if at.line < 1 {
		return at
	}
	skip := nth[reference]
	nth[reference]++
	from := at.column - 1
	for line := at.line; line <= len(r.src.lines) && line < at.line+100; line++ {
		text := string(r.src.lines[line-1][min(from, len(r.src.lines[line-1])):])
		start := 0
		for {
			i := strings.Index(text[start:], reference)
			if i < 0 {
				break
			}
			if skip == 0 {
				column := from + utf8.RuneCountInString(text[:start+i]) + 1
				return place{file: at.file, line: line, column: column, width: utf8.RuneCountInString(reference)}
			}
			skip--
			start += i + len(reference)
		}
		from = 0
	}
	return at
}

// judge calls parse and reports what it finds wrong.
func judge[T any](r *reader, v value, object string, parse func(value) (T, error)) (result T, ok bool) {
	result, err := parse(v)
	if err == nil {
		return result, true
	}
	p := problem{message: err.Error()}
	if found := (problem{}); errors.As(err, &found) {
		p = found
	}
	r.fault(v.at, object, p)
	return result, false
}

// setting is what a key of a section was found to hold.
type setting[T any] struct {
	value T
	at    place // of the value; of the section when it was not given
	given bool  // there is something in the file, right or wrong
	ok    bool  // the value can be used: it is right, or the default
}

// optional reads a key that may be left out.
func optional[T any](s *section, key string, fallback T, parse func(value) (T, error)) setting[T] {
	n := s.node(key)
	found := setting[T]{value: fallback, at: s.at, ok: true}
	if n != nil {
		found.at, found.given = n.at, true
		v, ok := s.scalar(n, s.object(key), s.want(key), secretKeys[join(s.path, key)])
		if ok {
			found.value, ok = judge(s.reader, v, s.object(key), parse)
		}
		found.ok = ok
	}
	if v, overridden := s.overrides[join(s.path, key)]; overridden {
		found.at, found.given = v.at, true
		found.value, found.ok = judge(s.reader, v, s.object(key), parse)
	}
	if !found.ok {
		found.value = fallback
	}
	return found
}

// required reads a key that must be there. Why ends the sentence "KEY is missing".
func required[T any](s *section, key, why string, parse func(value) (T, error)) setting[T] {
	var zero T
	found := optional(s, key, zero, parse)
	if !found.given {
		found.ok = false
		s.missing(key, why)
	}
	return found
}

// missing reports a key that is not there, at the section that lacks it. A section that is not
// there, or of the wrong type, has been reported itself; so has a key that was meant to be this one.
func (s *section) missing(key, why string) {
	if s.given && s.whole && !s.excuse[key] {
		s.fault(s.at, s.label, problem{key + " is missing", why})
	}
}

// elements returns the elements of a list, or nil; ok is false when it was reported, or absent.
func (s *section) elements(key string) (items []*node, ok bool) {
	n := s.node(key)
	if n == nil {
		return nil, false
	}
	if n.kind != kindList {
		if n.kind <= kindBool && !secretKeys[join(s.path, key)] {
			s.fault(n.at, s.object(key), problem{got(value{text: n.text, kind: n.kind}, s.want(key)).message, s.bracketHint(key, n)})
			return nil, false
		}
		s.wrongKind(n, s.object(key), s.want(key))
		return nil, false
	}
	return n.items, true
}

// bracketHint shows how a single scalar becomes a list.
func (s *section) bracketHint(key string, n *node) string {
	if len(n.text) == 0 || len(n.text) > 40 || strings.ContainsAny(n.text, "[]{}\n") {
		return ""
	}
	return fmt.Sprintf("write %s: [%s]", key, n.text)
}

// list reads a list of scalars, each of which parse judges; the wrong ones are left out and make ok false.
func list[T comparable](s *section, key string, parse func(value) (T, error)) (found []located[T], ok bool) {
	items, ok := s.elements(key)
	seen := map[T]int{}
	for _, n := range items {
		v, good := s.scalar(n, s.object(key), "a single value", false)
		if !good {
			ok = false
			continue
		}
		element, good := judge(s.reader, v, s.object(key), parse)
		if !good {
			ok = false
			continue
		}
		if line, doubled := seen[element]; doubled {
			s.fault(n.at, s.object(key), problem{fmt.Sprintf("%s is given twice%s", v, firstIn(line, n.at)), ""})
			ok = false
			continue
		}
		seen[element] = n.at.line
		found = append(found, located[T]{element, n.at})
	}
	return found, ok
}

// values strips the places.
func values[T any](found []located[T]) []T {
	var plain []T
	for _, l := range found {
		plain = append(plain, l.value)
	}
	return plain
}

// pairs reads a mapping from names to scalars.
func (s *section) pairs(key string) []pair {
	n := s.node(key)
	if n == nil {
		return nil
	}
	if n.kind != kindMapping {
		s.wrongKind(n, s.object(key), s.want(key))
		return nil
	}
	var found []pair
	for _, e := range s.unique(n, s.object(key), "column") {
		object := fmt.Sprintf("%s of %s", s.object(key), e.key.text)
		if v, ok := s.scalar(e.value, object, "a single value", false); ok {
			found = append(found, pair{name: e.key.text, at: e.key.at, value: v, object: object})
		}
	}
	return found
}

// pair is a name with its value.
type pair struct {
	name   string
	at     place // of the name
	value  value
	object string // in messages
}

// peek returns the text of a key in a mapping that has not been read yet, to name the mapping in
// messages; or fallback.
func peek(n *node, key, fallback string) string {
	for _, e := range n.entries {
		if e.key.text == key && e.value.kind <= kindBool && e.value.text != "" && len(e.value.text) <= maxQuoted &&
			!strings.ContainsAny(e.value.text, "\n") {
			return e.value.text
		}
	}
	return fallback
}
