package batch

import (
	"math/rand/v2"
	"testing"

	"nyala/store/schema"
)

// BenchmarkAppendWrite sorts and gathers 8,192 event-like rows out of two batches; report ns per row.
func BenchmarkAppendWrite(b *testing.B) {
	kinds := []schema.Kind{schema.Int32, schema.Timestamp, schema.Int64, schema.String, schema.UUID, schema.String, schema.String, schema.String, schema.Int64, schema.Float64, schema.Bool}
	s := &schema.Schema{Key: []int{0, 1, 2}, Hash: []int{2}, Buckets: 4}
	for i, k := range kinds {
		s.Columns = append(s.Columns, schema.Column{ID: schema.ColumnID(i + 1), Name: string(rune('a' + i)), Type: schema.Type{Kind: k}})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	w := &Write{Header: Header{Kind: KindWrite}}
	text := []byte("https://app.example.com/p/12345?ref=home7")
	const rows = 4096
	for range 2 {
		bu := NewBuilder(s.Columns, rows)
		for r := range rows {
			for i := range bu.Columns {
				c := &bu.Columns[i]
				switch c.Type.Kind {
				case schema.Int32:
					c.AppendInt(rng.Int64N(64))
				case schema.Timestamp:
					c.AppendInt(int64(r)*20 + rng.Int64N(200_000))
				case schema.Int64:
					c.AppendInt(int64(r))
				case schema.String:
					c.AppendBytes(text[:8+i*3])
				case schema.UUID:
					c.AppendFixed16([16]byte{byte(r)})
				case schema.Float64:
					c.AppendFloat(float64(r))
				case schema.Bool:
					c.AppendBool(r%7 == 0)
				}
			}
		}
		w.Batches = append(w.Batches, bu.View())
	}
	keys := NewKeys(s)
	var sorter Sorter
	var order []uint32
	var dst []byte
	hashes := make([]uint64, rows)
	b.ReportAllocs()
	for b.Loop() {
		keys.Reset()
		w.Refs = w.Refs[:0]
		for i := range w.Batches {
			HashRows(s, &w.Batches[i], 0, rows, hashes)
			keys.Append(&w.Batches[i], 0, rows)
		}
		order = sorter.Sort(keys, order)
		for _, o := range order {
			w.Refs = append(w.Refs, Ref{o / rows, o % rows})
		}
		dst = AppendWrite(dst[:0], w)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(2*rows), "ns/row")
}
