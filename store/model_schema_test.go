package store

import (
	"fmt"
	"slices"

	"nyala/store/rowset"
	"nyala/store/schema"
)

func modelSchemas() []*schema.Schema {
	value := []schema.Column{{ID: 7, Name: "value", Type: schema.Type{Kind: schema.Int64}}, {ID: 9, Name: "text", Type: schema.Type{Kind: schema.String}, Nullable: true}}
	return []*schema.Schema{
		{Version: 1, Columns: append([]schema.Column{{ID: 1, Name: "k", Type: schema.Type{Kind: schema.Int32}}}, value...), Key: []int{0}, Buckets: 1},
		{Version: 1, Columns: append([]schema.Column{{ID: 1, Name: "k", Type: schema.Type{Kind: schema.String}}}, value...), Key: []int{0}, Buckets: 1},
	}
}

// Columns are appended to the model's table, among all else. Writers of every version go on writing.

// extraMax is how many columns are appended at most.
const extraMax = 4

var extraColumns = [3]schema.Column{
	{Type: schema.Type{Kind: schema.Int64}, Nullable: true},
	{Type: schema.Type{Kind: schema.Int64}, Default: &schema.Value{Int: 42}},
	{Type: schema.Type{Kind: schema.String}, Nullable: true, Default: &schema.Value{Bytes: []byte("d")}},
}

// appended is s with one more column, the k-th that comes.
func appended(s *schema.Schema, k int) *schema.Schema {
	c := extraColumns[k%3]
	out := *s
	out.Version++
	c.ID, c.Name, c.Since = extraID(k), fmt.Sprint("extra", k), out.Version
	out.Columns = append(slices.Clip(s.Columns), c)
	return &out
}

func extraID(k int) schema.ColumnID { return schema.ColumnID(20 + k) }

func extraIDs(n int) (ids []schema.ColumnID) {
	for k := range n {
		ids = append(ids, extraID(k))
	}
	return ids
}

// extra is what a writer that knows column k writes into it.
func extra(k int, value int64, gone bool) schema.Value {
	switch {
	case gone, k%3 != 1 && value%2 == 0:
		return schema.Null
	case k%3 == 1 && value%5 == 0:
		return *extraColumns[1].Default
	case k%3 == 2:
		return schema.Value{Bytes: fmt.Append(nil, "s", value%3)}
	}
	return schema.Value{Int: value}
}

// read is what column k of a row reads as.
func (v version) read(k int) schema.Value {
	if k < v.schema {
		return extra(k, v.value, false)
	}
	if d := extraColumns[k%3].Default; d != nil {
		return *d
	}
	return schema.Null
}

func extras(v version, n int) (text string) {
	for k := range n {
		text += "/" + string(schema.AppendText(nil, extraColumns[k%3].Type, v.read(k)))
	}
	return text
}

// modelWhere is a predicate on an appended column; nil holds for all rows.
type modelWhere struct {
	column int
	null   bool
	value  schema.Value
}

func (w *modelWhere) holds(v version) bool {
	if w == nil {
		return true
	}
	got := v.read(w.column)
	if w.null || got.Null {
		return w.null && got.Null
	}
	return schema.Compare(extraColumns[w.column%3].Type, got, w.value) == 0
}

// where is a predicate on one of the n appended columns, or none.
func (m *model) where(n int) (*modelWhere, []rowset.Predicate) {
	if n == 0 || m.rng.IntN(2) == 0 {
		return nil, nil
	}
	w := &modelWhere{column: m.rng.IntN(n), null: m.rng.IntN(3) == 0}
	p := rowset.Predicate{Column: extraID(w.column), Op: rowset.IsNull}
	if !w.null {
		w.value = schema.Value{Int: 42}
		if w.column%3 == 2 {
			w.value = schema.Value{Bytes: []byte([]string{"d", "s1"}[m.rng.IntN(2)])}
		}
		p.Op, p.Values = rowset.Equal, []schema.Value{w.value}
	}
	return w, []rowset.Predicate{p}
}

// schemaChange appends a column; sometimes it is a second copy, or none that may follow.
func (m *model) schemaChange() {
	stamp, h := m.tick()
	next := appended(m.schemas[h.schema], h.schema)
	switch k := m.rng.IntN(8); {
	case h.schema == extraMax || k == 0:
		next = m.schemas[m.rng.IntN(h.schema+1)] // one that was carried out, or the one that the tablet was made with
	case k == 1:
		next, h.outcome = appended(next, h.schema+1), Malformed // a version is left out
	case k == 2:
		next.Columns = slices.Clone(next.Columns)
		next.Columns[1].Nullable, h.outcome = true, Malformed
	default:
		m.schemas = append(m.schemas, next)
		h.schema++
	}
	m.append(SchemaEntry(next), stamp, h)
}

// writer picks how many of the appended columns the next writer knows.
func (m *model) writer(h *history) int {
	if m.rng.IntN(3) > 0 {
		return h.schema
	}
	return m.rng.IntN(h.schema + 1)
}

// columns are those that a writer who knows n appended ones writes.
func (m *model) columns(n int) []schema.Column { return m.schemas[n].Columns }
