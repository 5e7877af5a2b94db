package rowset

import (
	"encoding/binary"
	"math"
	"testing"

	"nyala/store/batch"
	"nyala/store/schema"
)

// TestDictionaryPays writes values of which some are equal: there is a dictionary where that, with the ids, takes at most four fifths of the values.
func TestDictionaryPays(t *testing.T) {
	for _, c := range []struct {
		kind           schema.Kind
		rows, distinct int
		want           bool
	}{
		{schema.Float64, 20_000, 100, true},
		{schema.Float64, 12_000, 6_900, true}, // 55,200 + 19,500 of 96,000 bytes
		{schema.Float64, 12_000, 7_200, false},
		{schema.Float64, 12_000, 12_000, false},
		{schema.String, 12_000, 7_900, true}, // each with 4 bytes of length: 94,800 + 19,500 of 144,000
		{schema.String, 12_000, 8_100, false},
	} {
		columns := []schema.Column{
			{ID: 1, Name: "id", Type: schema.Type{Kind: schema.Int64}},
			{ID: 2, Name: "value", Type: schema.Type{Kind: c.kind}},
		}
		s := &schema.Schema{Version: 1, Buckets: 1, Columns: columns, Key: []int{0}, Hash: []int{0}}
		b := batch.NewBuilder(columns, c.rows)
		refs := make([]Ref, c.rows)
		for i := range c.rows {
			refs[i] = Ref{Row: uint32(i)}
			b.Columns[0].AppendValue(schema.Value{Int: int64(i)})
			x := uint64(i*c.distinct/c.rows) * 0x9E3779B97F4A7C15 >> 11
			b.Columns[1].AppendValue(schema.Value{Float: math.Float64frombits(x), Bytes: binary.LittleEndian.AppendUint64(nil, x)})
		}
		w, err := newParquetWriter(levelNone)
		if err == nil {
			err = w.setSchema(s, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.begin(sinkFile{}, false)
		view := b.View()
		if err := w.writeGroup([]*batch.Batch{&view}, refs); err != nil {
			t.Fatal(err)
		}
		if got := w.chunks[1].meta.DictionaryPageOffset > 0; got != c.want {
			t.Errorf("%d of %d values of kind %v are distinct: dictionary %t, want %t", c.distinct, c.rows, c.kind, got, c.want)
		}
	}
}
