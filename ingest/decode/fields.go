package decode

import (
	"fmt"
	"strings"
)

// node is an object on the way to columns: the fields of it that lead somewhere.
//
// Producers write the same keys in the same order again and again, so after each field the next one is
// predicted, and one comparison with its `"name":` replaces the search of the key's end and a map look-up.
// A wrong guess costs that comparison and is learnt from.
type node struct {
	fields []field
	index  map[string]int32
	after  []int32 // after[f]: the field that last followed f; after[len(fields)]: the first one
}

// field is one key of a node.
type field struct {
	name    string
	pattern string   // `"name":`, or nothing where the name needs escapes
	bit     int      // place in the row's set of seen fields
	columns []int    // builder positions that take this value
	child   *node    // not nil: paths go on below
	below   []*field // all fields under child, at any depth
	shared  bool     // another field may fill the same column
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

// finish numbers the fields from bit on and fills in what is derived; it returns the next free bit.
func (n *node) finish(bit int) int {
	n.after = make([]int32, len(n.fields)+1)
	for i := range n.fields {
		f := &n.fields[i]
		f.bit = bit
		bit++
		if plain(f.name) {
			f.pattern = `"` + f.name + `":`
		}
		if len(n.fields) > 0 {
			n.after[i] = int32((i + 1) % len(n.fields))
		}
		if f.child != nil {
			bit = f.child.finish(bit)
			for j := range f.child.fields {
				c := &f.child.fields[j]
				f.below = append(append(f.below, c), c.below...)
			}
		}
	}
	return bit
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

// share marks all fields of n as such that fill columns which others fill too.
func (n *node) share() {
	for i := range n.fields {
		n.fields[i].shared = true
		if n.fields[i].child != nil {
			n.fields[i].child.share()
		}
	}
}
