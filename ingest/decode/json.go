package decode

import (
	"errors"
	"fmt"
	"slices"

	"nyala/store/batch"
	"nyala/store/schema"
)

// Unit is what a timestamp that is a number counts.
type Unit uint8

// The units; milliseconds are the default.
const (
	Milliseconds Unit = iota
	Seconds
	Microseconds
	Nanoseconds
)

// microScale is the power of ten from a unit to microseconds.
var microScale = [...]int{Milliseconds: 3, Seconds: 6, Microseconds: 0, Nanoseconds: -3}

// ParseUnit reads a unit as the configuration writes it: s, ms, us or ns.
func ParseUnit(s string) (Unit, error) {
	if i := slices.Index([]string{"ms", "s", "us", "ns"}, s); i >= 0 {
		return Unit(i), nil
	}
	return 0, fmt.Errorf("decode: timestamp unit %q is unknown, want one of s, ms, us, ns", s)
}

// Options say how records become rows of a table.
type Options struct {
	Schema              *schema.Schema
	Fields              map[string]string // column: path in the record; a column without one takes its own name
	Add                 map[string]string // column: topic, partition, offset, timestamp, key or headers.NAME
	TimestampUnit       Unit
	RefuseUnknownFields bool     // a field that no column takes makes a bad record
	Op                  batch.Op // of every row: Upsert or Insert
	Changes             bool     // upserts, and a record without a value deletes the row that its key names
}

// JSON decodes JSON records, one object each.
//
// It walks the text once, front to back, and appends each value to its column as it meets it. What a row
// still lacks at the end gets its default; a bad record is undone by cutting every column back. The walk
// keeps no tree: encoding/json takes ten times as long, and every tree-building parser at least twice.
type JSON struct {
	options Options
	columns []schema.Column
	root    node
	key     node    // of a tombstone's key
	added   []added // columns that do not come from the value
	wanted  int     // columns that the root fills
	careful bool    // without run; only tests set it

	// Of the record at hand.
	rows    *batch.Builder
	base    int // rows before it
	filled  int // columns that have its value
	fault   fault
	scratch []byte // unescaped text
	name    []byte // an unescaped field name
}

// scratchMax is how much a decoder keeps for the next record; there is a decoder for each partition.
const scratchMax = 64 << 10

// fault is where decoding stopped.
type fault struct {
	column int // -1: none in particular
	at     int
	got    string // empty: what stands at at
	want   string
}

// NewJSON makes a decoder, or returns everything that is wrong with the options.
func NewJSON(o Options) (*JSON, error) {
	d := &JSON{options: o, columns: o.Schema.Columns}
	var errs []error
	for name, path := range o.Fields {
		if o.Schema.Position(name) < 0 {
			errs = append(errs, fmt.Errorf("decode: fields: table has no column %q", name))
		} else if err := checkPath(path); err != nil {
			errs = append(errs, fmt.Errorf("decode: fields: column %s: %w", name, err))
		}
		if _, both := o.Add[name]; both {
			errs = append(errs, fmt.Errorf("decode: column %s is both in fields and in add", name))
		}
	}
	var err error
	if d.added, err = compileAdded(o); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		slices.SortFunc(errs, func(a, b error) int { return compareText(a.Error(), b.Error()) })
		return nil, errors.Join(errs...)
	}
	d.compile()
	return d, nil
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (d *JSON) compile() {
	for i, c := range d.columns {
		if _, ok := d.options.Add[c.Name]; ok {
			continue
		}
		names := []string{c.Name}
		if path, ok := d.options.Fields[c.Name]; ok {
			names = splitPath(path)
		}
		d.root.add(names, i)
		d.wanted++
		if slices.Contains(d.options.Schema.Key, i) {
			d.key.add([]string{c.Name}, i)
			if len(names) > 1 || names[0] != c.Name {
				d.key.add(names, i)
			}
		}
	}
	d.root.finish(d.columns)
	d.key.finish(d.columns)
}

// Decode appends r as one row to rows, whose columns are the schema's in their order.
func (d *JSON) Decode(r *Record, rows *batch.Builder) (batch.Op, error) {
	d.rows, d.base, d.filled = rows, rows.Rows(), 0
	d.fault = fault{column: -1}
	op, text := d.options.Op, r.Value
	var reason Reason
	switch {
	case r.Value != nil:
		reason = d.value(r.Value)
	case d.options.Changes:
		op, text = batch.Delete, r.Key
		reason = d.tombstone(r.Key)
	default:
		d.fault.got, d.fault.want = "a record without a value", "a JSON object"
		reason = NoValue
	}
	if reason == "" {
		reason = d.complete(r, op == batch.Delete)
	}
	d.rows = nil // a decoder that waits for its next record must not hold on to a chunk
	if cap(d.scratch) > scratchMax {
		d.scratch = nil
	}
	if reason != "" {
		rows.Truncate(d.base)
		return 0, d.badRecord(reason, text)
	}
	return op, nil
}

func (d *JSON) badRecord(reason Reason, text []byte) error {
	e := &BadRecord{Reason: reason, Got: d.fault.got, Want: d.fault.want, At: d.fault.at}
	if e.Want == "" {
		e.Want = wants[reason]
	}
	if d.fault.column >= 0 {
		e.Column = d.columns[d.fault.column].Name
		if e.Want == "" {
			e.Want = d.columns[d.fault.column].Type.String()
		}
	}
	if e.Got == "" {
		e.Got = describe(text, d.fault.at)
	}
	return e
}

var wants = map[Reason]string{
	BadSyntax: "valid JSON",
	BadUTF8:   "valid UTF-8",
	TooDeep:   "at most 512 levels",
}

// value decodes a record's whole value.
func (d *JSON) value(s []byte) Reason {
	i := space(s, 0)
	if i >= len(s) || s[i] != '{' {
		return d.stop(BadSyntax, -1, i, "a JSON object")
	}
	next, reason := d.object(s, i, &d.root, 1)
	if reason != "" {
		return reason
	}
	if next = space(s, next); next != len(s) {
		return d.stop(BadSyntax, -1, next, "nothing behind the object")
	}
	return ""
}

// stop notes where decoding ended and why.
func (d *JSON) stop(reason Reason, column, at int, want string) Reason {
	d.fault.column, d.fault.at, d.fault.want = column, at, want
	return reason
}

// object decodes the object at i, which lies depth-1 levels deep, into the columns of n.
func (d *JSON) object(s []byte, i int, n *node, depth int) (next int, reason Reason) {
	i++
	if i < len(s) && s[i] <= ' ' {
		i = space(s, i)
	}
	if i < len(s) && s[i] == '}' {
		return i + 1, ""
	}
	last := len(n.fields) // the field before this one, or this for none
	for {
		var at place
		if i, last, at = d.run(s, i, n, last); at == behindObject {
			return i, ""
		}
		if at == atKey {
			if i, last, reason = d.pair(s, i, n, last, depth); reason != "" {
				return 0, reason
			}
		}
		if i < len(s) && s[i] <= ' ' {
			i = space(s, i)
		}
		if i >= len(s) {
			return 0, d.stop(BadSyntax, -1, i, ", or }")
		}
		if s[i] == '}' {
			return i + 1, ""
		}
		if s[i] != ',' {
			return 0, d.stop(BadSyntax, -1, i, ", or }")
		}
		if i++; i < len(s) && s[i] <= ' ' {
			i = space(s, i)
		}
	}
}

// pair decodes the key at i and its value into the columns of n. last is the field before it; the result is this one, or last
// when no column wants it.
func (d *JSON) pair(s []byte, i int, n *node, last, depth int) (next, field int, reason Reason) {
	f := -1
	if len(n.fields) > 0 {
		f = int(n.after[last])
		if p := &n.patterns[f]; p.at(s, i) {
			i += p.size
		} else {
			if f, i, reason = d.fieldName(s, i, n); reason != "" {
				return 0, 0, reason
			}
			if f >= 0 {
				n.after[last] = int32(f)
			}
		}
	} else if f, i, reason = d.fieldName(s, i, n); reason != "" {
		return 0, 0, reason
	}
	if i < len(s) && s[i] <= ' ' {
		i = space(s, i)
	}
	if f < 0 {
		next, fault := skipValue(s, i, depth)
		if fault != "" {
			return 0, 0, d.stop(fault, -1, i, "")
		}
		return next, last, ""
	}
	if leaf := n.patterns[f].leaf; leaf >= 0 && d.rows.Columns[leaf].Rows() == d.base && i < len(s) && s[i] != 'n' {
		// Not doubled (or so far null), not null, one column: the usual case.
		next, reason = d.cell(s, i, int(leaf), depth)
	} else {
		next, reason = d.field(s, i, &n.fields[f], depth)
	}
	return next, f, reason
}

// fieldName reads a name and the colon behind it; f is -1 when no column wants the field.
func (d *JSON) fieldName(s []byte, i int, n *node) (f, next int, reason Reason) {
	if i >= len(s) || s[i] != '"' {
		return 0, 0, d.stop(BadSyntax, -1, i, "a field name")
	}
	at := i
	name, escaped, i, fault := rawString(s, i)
	if fault != "" {
		return 0, 0, d.stop(fault, -1, at, "")
	}
	if escaped {
		var ok bool
		if d.name, ok = appendUnescaped(d.name[:0], name); !ok {
			return 0, 0, d.stop(BadUTF8, -1, at, "")
		}
		name = d.name
	}
	f = -1
	if x, ok := n.index[string(name)]; ok {
		f = int(x)
	} else if d.options.RefuseUnknownFields {
		d.fault.got = fmt.Sprintf("an unknown field with a name of %d bytes", len(name))
		return 0, 0, d.stop(UnknownField, -1, at, "only fields that a column takes")
	}
	if i < len(s) && s[i] != ':' {
		i = space(s, i)
	}
	if i >= len(s) || s[i] != ':' {
		return 0, 0, d.stop(BadSyntax, -1, i, ": behind a field name")
	}
	return f, i + 1, ""
}

// field decodes the value at i for the columns of f.
func (d *JSON) field(s []byte, i int, f *field, depth int) (next int, reason Reason) {
	d.forget(f)
	if i < len(s) && s[i] == 'n' {
		if literalLength(s, i) == 0 {
			return 0, d.stop(BadSyntax, -1, i, "")
		}
		return i + 4, ""
	}
	if f.child == nil && len(f.columns) == 1 {
		return d.cell(s, i, f.columns[0], depth)
	}
	for _, c := range f.columns {
		if next, reason = d.cell(s, i, c, depth); reason != "" {
			return 0, reason
		}
	}
	if f.child != nil {
		if i >= len(s) || s[i] != '{' {
			return 0, d.stop(BadType, firstColumn(f), i, "an object on the way to it")
		}
		if depth >= depthMax {
			return 0, d.stop(TooDeep, -1, i, "")
		}
		return d.object(s, i, f.child, depth+1)
	}
	return next, ""
}

func firstColumn(f *field) int {
	for _, b := range f.below {
		if len(b.columns) > 0 {
			return b.columns[0]
		}
	}
	return -1
}

// forget takes back what a field that comes again, or another one for the same column, has given: the last value
// counts, whole.
func (d *JSON) forget(f *field) {
	d.clearColumns(f.columns)
	for _, b := range f.below {
		d.clearColumns(b.columns)
	}
}

func (d *JSON) clearColumns(columns []int) {
	for _, c := range columns {
		if k := &d.rows.Columns[c]; k.Rows() > d.base {
			k.Truncate(d.base)
			d.filled--
		}
	}
}

// complete gives every column that has no value yet one: what is added, a default, null.
func (d *JSON) complete(r *Record, deletion bool) Reason {
	for i := range d.added {
		if reason := d.add(&d.added[i], r); reason != "" {
			return reason
		}
	}
	if d.filled == len(d.columns) {
		return ""
	}
	for i := range d.columns {
		k := &d.rows.Columns[i]
		if k.Rows() > d.base {
			continue
		}
		switch c := &d.columns[i]; {
		case deletion && !slices.Contains(d.options.Schema.Key, i):
			k.AppendValue(emptyValue(c))
		case c.Default != nil:
			k.AppendValue(*c.Default)
		case c.Nullable:
			k.AppendNull()
		default:
			d.fault.got = "no value"
			return d.stop(MissingValue, i, 0, "")
		}
	}
	return ""
}

// emptyValue is what a deleted row has in a column that is not in its key.
func emptyValue(c *schema.Column) schema.Value {
	if c.Nullable {
		return schema.Null
	}
	if c.Type.Kind == schema.UUID {
		return schema.Value{Bytes: make([]byte, 16)}
	}
	return schema.Value{}
}
