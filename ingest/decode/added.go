package decode

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"nyala/store/batch"
	"nyala/store/schema"
)

// added is a column that takes something of a record but its value.
type added struct {
	column int
	from   origin
	header string
}

type origin uint8

const (
	fromTopic origin = iota
	fromPartition
	fromOffset
	fromTimestamp
	fromKey
	fromHeader
)

const headerPrefix = "headers."

var origins = map[string]origin{
	"topic": fromTopic, "partition": fromPartition, "offset": fromOffset, "timestamp": fromTimestamp, "key": fromKey,
}

// takes says which column kinds an origin fits; a key or header is text that fits any.
var takes = map[origin][]schema.Kind{
	fromTopic:     {schema.String},
	fromPartition: {schema.Int32, schema.Int64},
	fromOffset:    {schema.Int64},
	fromTimestamp: {schema.Timestamp, schema.Int64},
}

func compileAdded(o Options) (out []added, err error) {
	var errs []error
	for i, c := range o.Schema.Columns {
		source, ok := o.Add[c.Name]
		if !ok {
			continue
		}
		a := added{column: i}
		if a.from, ok = origins[source]; !ok {
			if a.header, ok = strings.CutPrefix(source, headerPrefix); !ok || a.header == "" {
				errs = append(errs, fmt.Errorf("decode: add: column %s: got %q, want topic, partition, offset, timestamp, key or headers.NAME", c.Name, source))
				continue
			}
			a.from = fromHeader
		}
		if kinds := takes[a.from]; kinds != nil && !containsKind(kinds, c.Type.Kind) {
			errs = append(errs, fmt.Errorf("decode: add: column %s of type %s cannot take the %s, want %s", c.Name, c.Type, source, kinds[0]))
		}
		out = append(out, a)
	}
	for name := range o.Add {
		if o.Schema.Position(name) < 0 {
			errs = append(errs, fmt.Errorf("decode: add: table has no column %q", name))
		}
	}
	return out, errors.Join(errs...)
}

func containsKind(kinds []schema.Kind, k schema.Kind) bool {
	for _, x := range kinds {
		if x == k {
			return true
		}
	}
	return false
}

// add gives one added column its value; an absent key or header leaves it to its default.
func (d *JSON) add(a *added, r *Record) Reason {
	k := &d.rows.Columns[a.column]
	text, what := r.Key, "the record's key"
	switch a.from {
	case fromTopic:
		k.AppendScratch(append(k.Scratch(), r.Topic...))
	case fromPartition:
		k.AppendInt(int64(r.Partition))
	case fromOffset:
		k.AppendInt(r.Offset)
	case fromTimestamp:
		if k.Type.Kind == schema.Timestamp {
			k.AppendInt(r.Timestamp * 1000)
		} else {
			k.AppendInt(r.Timestamp)
		}
	case fromHeader:
		text, what = nil, "a header"
		for i := range r.Headers {
			if r.Headers[i].Key == a.header {
				text = r.Headers[i].Value
			}
		}
		fallthrough
	case fromKey:
		if text == nil {
			return ""
		}
		if reason := d.bareText(k, text); reason != "" {
			d.fault.got = fmt.Sprintf("%s of %d bytes", what, len(text))
			return d.stop(reason, a.column, 0, "")
		}
	}
	d.filled++
	return ""
}

// bareText appends bytes that stand for themselves, outside of JSON: binary as they are, text that must be
// UTF-8, JSON text, true and false, and else what a JSON string may hold for the column.
func (d *JSON) bareText(k *batch.ColumnBuilder, text []byte) Reason {
	switch k.Type.Kind {
	case schema.Binary:
		k.AppendBytes(text)
		return ""
	case schema.JSON:
		i := space(text, 0)
		next, reason := skipValue(text, i, 0)
		if reason != "" {
			return reason
		}
		if space(text, next) != len(text) {
			return BadSyntax
		}
		k.AppendBytes(text[i:next])
		return ""
	case schema.Bool:
		if s := string(text); s != "true" && s != "false" {
			return BadType
		}
		k.AppendBool(text[0] == 't')
		return ""
	case schema.String:
		if !utf8.Valid(text) {
			return BadUTF8
		}
	}
	return d.text(k, text)
}

// tombstone fills the key columns of a row to delete from the record's key: an object with them or, for a
// key of one column, the value itself: as JSON, or bare as most producers of plain keys write it.
func (d *JSON) tombstone(key []byte) Reason {
	i := space(key, 0)
	if i < len(key) && key[i] == '{' {
		next, reason := d.object(key, i, &d.key, 1)
		if reason == "" {
			if next = space(key, next); next != len(key) {
				reason = d.stop(BadSyntax, -1, next, "nothing behind the object")
			}
		}
		if reason == UnknownField || reason == "" {
			return reason
		}
		return BadKey
	}
	columns := d.keyColumns()
	if len(columns) != 1 || key == nil {
		d.fault.got = fmt.Sprintf("a key of %d bytes that is no object", len(key))
		return d.stop(BadKey, -1, i, "an object with the primary key's columns")
	}
	k := &d.rows.Columns[columns[0]]
	if i < len(key) && key[i] == '"' {
		next, reason := d.slowCell(key, i, columns[0], 0)
		if reason == "" && space(key, next) == len(key) {
			return ""
		}
		d.clearColumns(columns)
		d.fault = fault{column: -1}
	}
	if reason := d.bareText(k, key); reason != "" {
		d.fault.got = fmt.Sprintf("a key of %d bytes", len(key))
		return d.stop(BadKey, columns[0], i, "")
	}
	d.filled++
	return ""
}

// keyColumns are the primary key's columns that come from the record's key.
func (d *JSON) keyColumns() []int {
	var out []int
	for _, c := range d.options.Schema.Key {
		if _, ok := d.options.Add[d.columns[c].Name]; !ok {
			out = append(out, c)
		}
	}
	return out
}
