package verify

import (
	"testing"

	"nyala/store/batch"
	"nyala/store/schema"
)

// everyType is a schema with a column of each type, all but the key nullable.
func everyType() *schema.Schema {
	s := &schema.Schema{Version: 1, Key: []int{4}, Buckets: 1}
	for i, name := range schema.KindNames() {
		if name == "decimal" {
			name = "decimal(10,2)"
		}
		kind, err := schema.ParseType(name)
		if err != nil {
			panic(err)
		}
		s.Columns = append(s.Columns, schema.Column{ID: schema.ColumnID(i + 1), Name: name, Type: kind, Nullable: i != 4})
	}
	return s
}

// TestHashSeesEveryColumn has a row, and rows that differ from it in one column only: by another value, and by a null.
func TestHashSeesEveryColumn(t *testing.T) {
	s := everyType()
	plain := func(c schema.Column, n int64) schema.Value {
		switch {
		case c.Type.Integral():
			return schema.Value{Int: n}
		case c.Type.Kind == schema.UUID:
			return schema.Value{Bytes: append(make([]byte, 15), byte(n))}
		case c.Type.Layout() == schema.Bytes:
			return schema.Value{Bytes: []byte{'0' + byte(n)}}
		}
		return schema.Value{Float: float64(n)}
	}
	for changed, column := range s.Columns {
		rows := batch.NewBuilder(s.Columns, 4)
		for row := range 4 {
			for i, c := range s.Columns {
				v := plain(c, 0)
				if i == changed && row == 2 {
					v = plain(c, 1)
				}
				if i == changed && row == 3 && c.Nullable {
					v = schema.Null
				}
				rows.Columns[i].AppendValue(v)
			}
		}
		x, b := newHasher(s), rows.View()
		var all []int
		for i := range s.Columns {
			all = append(all, i)
		}
		h := x.hash(&b, all)
		if h[0] != h[1] || h[0] == h[2] || column.Nullable && (h[0] == h[3] || h[2] == h[3]) {
			t.Errorf("column %s: hashes %x of equal, equal, another and a null value", column.Name, h)
		}
	}
}

// TestHashIgnoresWhatANullHides has the same rows in two batches whose nulls have other bytes in their place.
func TestHashIgnoresWhatANullHides(t *testing.T) {
	s := &schema.Schema{Version: 1, Columns: []schema.Column{{ID: 1, Name: "n", Type: schema.Type{Kind: schema.Int64}, Nullable: true}}, Key: []int{0}, Buckets: 1}
	rows := batch.NewBuilder(s.Columns, 2)
	rows.Columns[0].AppendInt(7)
	rows.Columns[0].AppendNull()
	x, b := newHasher(s), rows.View()
	want := append([]uint64{}, x.hash(&b, []int{0})...)
	b.Columns[0].Values[8] = 99
	if got := x.hash(&b, []int{0}); got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %x, want %x", got, want)
	}
}
