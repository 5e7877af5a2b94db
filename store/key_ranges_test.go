package store

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"nyala/store/batch"
	"nyala/store/schema"
)

// TestKeyRanges holds what ranges leave out against a comparison of each row with each.
func TestKeyRanges(t *testing.T) {
	s := &schema.Schema{Version: 1, Key: []int{1, 2, 0}, Buckets: 1, Columns: []schema.Column{
		{ID: 1, Name: "text", Type: schema.Type{Kind: schema.String}},
		{ID: 2, Name: "long", Type: schema.Type{Kind: schema.Int64}},
		{ID: 3, Name: "day", Type: schema.Type{Kind: schema.Date}},
	}}
	long := rapid.OneOf(rapid.Int64Range(-4, 4), rapid.SampledFrom([]int64{math.MinInt64, math.MinInt64 + 1, math.MaxInt64 - 1, math.MaxInt64}))
	day := rapid.OneOf(rapid.Int64Range(-4, 4), rapid.SampledFrom([]int64{math.MinInt32, math.MaxInt32}))
	rows := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) [2]int64 { return [2]int64{long.Draw(r, "long"), day.Draw(r, "day")} }), 1, 5)
	build := func(rows [][2]int64) *batch.Batch {
		b := batch.NewBuilder(s.Columns, len(rows))
		for _, r := range rows {
			b.Columns[0].AppendBytes([]byte("x"))
			b.Columns[1].AppendInt(r[0])
			b.Columns[2].AppendInt(r[1])
		}
		view := b.View()
		return &view
	}
	rapid.Check(t, func(r *rapid.T) {
		old, older, fresh := rows.Draw(r, "old"), rows.Draw(r, "older"), rows.Draw(r, "fresh")
		have, more, of := newKeyRanges(s), newKeyRanges(s), newKeyRanges(s)
		have.take(build(old))
		more.take(build(older))
		have.join(more)
		of.take(build(fresh))
		skip := make([]bool, len(fresh))
		some := have.leaveOut(build(fresh), of, skip)
		for i, f := range fresh {
			in := true
			for c := range f {
				lo, hi := int64(math.MaxInt64), int64(math.MinInt64)
				for _, o := range append(append([][2]int64{}, old...), older...) {
					lo, hi = min(lo, o[c]), max(hi, o[c])
				}
				in = in && f[c] >= lo && f[c] <= hi
			}
			if in && (!some || skip[i]) {
				r.Fatalf("row %v is left out of %v and %v", f, old, older)
			}
			if !in && some && !skip[i] {
				r.Fatalf("row %v is not left out of %v and %v", f, old, older)
			}
		}
	})
}
