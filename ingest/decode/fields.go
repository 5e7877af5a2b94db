package decode

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"nyala/store/schema"
)

// node is an object on the way to columns: the fields of it that lead somewhere.
//
// Producers write the same keys in the same order again and again, so after each field the next one is
// predicted, and one comparison with its `"name":` replaces the search of the key's end and a map look-up.
// A wrong guess costs that comparison and is learnt from.
type node struct {
	fields   []field
	patterns []pattern // of fields; apart, because this is all that most keys need
	index    map[string]int32
	after    []int32 // after[f]: the field that last followed f; after[len(fields)]: the first one
}

// pattern is a key as it is mostly written, `"name":`. Up to 16 bytes are compared as two words, which may overlap.
type pattern struct {
	head, mask uint64      // the first eight bytes, or as many as there are
	tail       uint64      // the last eight bytes
	size       int         // 0: the name needs escapes and has no pattern
	leaf       int32       // the only column, or -1 where the field needs more care
	kind       schema.Kind // of that column
	text       string
}

func newPattern(text string) pattern {
	p := pattern{size: len(text), leaf: -1, text: text}
	var b [8]byte
	copy(b[:], text)
	p.head = binary.LittleEndian.Uint64(b[:])
	p.mask = 1<<(8*min(len(text), 8)) - 1
	if len(text) >= 8 {
		p.mask = math.MaxUint64
		p.tail = binary.LittleEndian.Uint64([]byte(text[len(text)-8:]))
	}
	return p
}

// at tells whether the pattern stands at i and something behind it.
func (p *pattern) at(s []byte, i int) bool {
	if i+8 >= len(s) || p.size > 16 || p.size == 0 {
		return p.size > 0 && len(s)-i > p.size && string(s[i:i+p.size]) == p.text
	}
	if binary.LittleEndian.Uint64(s[i:])&p.mask != p.head {
		return false
	}
	return p.size <= 8 || i+p.size < len(s) && binary.LittleEndian.Uint64(s[i+p.size-8:]) == p.tail
}

// field is one key of a node.
type field struct {
	name    string
	columns []int    // builder positions that take this value
	child   *node    // not nil: paths go on below
	below   []*field // all fields under child, at any depth
}

// splitPath cuts a path at its dots; a dot behind a backslash belongs to a name.
func splitPath(path string) []string {
	var names []string
	var name strings.Builder
	for i := 0; i < len(path); i++ {
		switch {
		case path[i] == '\\' && i+1 < len(path) && (path[i+1] == '.' || path[i+1] == '\\'):
			i++
			name.WriteByte(path[i])
		case path[i] == '.':
			names = append(names, name.String())
			name.Reset()
		default:
			name.WriteByte(path[i])
		}
	}
	return append(names, name.String())
}

// add makes column reachable under names.
func (n *node) add(names []string, column int) {
	if n.index == nil {
		n.index = map[string]int32{}
	}
	at, ok := n.index[names[0]]
	if !ok {
		at = int32(len(n.fields))
		n.index[names[0]] = at
		n.fields = append(n.fields, field{name: names[0]})
	}
	f := &n.fields[at]
	if len(names) == 1 {
		f.columns = append(f.columns, column)
		return
	}
	if f.child == nil {
		f.child = &node{}
	}
	f.child.add(names[1:], column)
}

// finish fills in what is derived.
func (n *node) finish(columns []schema.Column) {
	n.after = make([]int32, len(n.fields)+1)
	for i := range n.fields {
		f := &n.fields[i]
		text := ""
		if plain(f.name) {
			text = `"` + f.name + `":`
		}
		p := newPattern(text)
		if f.child == nil && len(f.columns) == 1 {
			p.leaf = int32(f.columns[0])
			p.kind = columns[p.leaf].Type.Kind
		}
		n.patterns = append(n.patterns, p)
		if len(n.fields) > 0 {
			n.after[i] = int32((i + 1) % len(n.fields))
		}
		if f.child != nil {
			f.child.finish(columns)
			for j := range f.child.fields {
				c := &f.child.fields[j]
				f.below = append(append(f.below, c), c.below...)
			}
		}
	}
}

// plain tells whether a name stands in JSON as it is.
func plain(name string) bool {
	end, _ := scanString([]byte(name+`"`), 0)
	return end == len(name)
}

// checkPath returns what is wrong with a path.
func checkPath(path string) error {
	for _, name := range splitPath(path) {
		if name == "" {
			return fmt.Errorf("path %q has an empty name", path)
		}
	}
	return nil
}
