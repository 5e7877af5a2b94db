package store

import (
	"math"
	"slices"
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

// TestKeyParts: of rows that lie in some parts of a range, none is left out that may be there, and an entry between them is as a whole.
func TestKeyParts(t *testing.T) {
	s := &schema.Schema{Version: 1, Key: []int{0}, Buckets: 1, Columns: []schema.Column{{ID: 1, Name: "id", Type: schema.Type{Kind: schema.Int64}}}}
	build := func(ids []int64) *batch.Batch {
		b := batch.NewBuilder(s.Columns, len(ids))
		for _, id := range ids {
			b.Columns[0].AppendInt(id)
		}
		view := b.View()
		return &view
	}
	near := rapid.Int64Range(-3, 200)
	id := rapid.Custom(func(r *rapid.T) int64 {
		return rapid.SampledFrom([]int64{math.MinInt64 + 3, -1 << 40, 0, 1 << 20, 1 << 40, math.MaxInt64 - 200}).Draw(r, "where") + near.Draw(r, "near")
	})
	rapid.Check(t, func(r *rapid.T) {
		old, left, fresh := rapid.SliceOfN(id, 1, 6).Draw(r, "old"), rapid.SliceOfN(id, 0, 3).Draw(r, "left out"), rapid.SliceOfN(id, 1, 4).Draw(r, "fresh")
		have, of := newKeyRanges(s), newKeyRanges(s)
		have.take(build(old))
		of.take(build(fresh))
		batches := []memBatch{{rows: build(old)}}
		if len(left) > 0 {
			batches = append(batches, memBatch{rows: build(left)})
		}
		have.divide(batches)
		skip := make([]bool, len(fresh))
		some := have.leaveOut(build(fresh), of, skip)
		for i, f := range fresh {
			if slices.Contains(old, f) && some && skip[i] {
				r.Fatalf("row %d is left out of %v", f, old)
			}
		}
		inside, near := false, false // of the entry, and of parts that it touches
		for _, o := range append(slices.Clone(old), left...) {
			if o < have[0].lo || o > have[0].hi {
				continue
			}
			width := uint64(1) << have[0].parts.shift
			below, above := uint64(of[0].lo)-uint64(o), uint64(o)-uint64(of[0].hi)
			in := o >= of[0].lo && o <= of[0].hi
			inside = inside || in && slices.Contains(old, o)
			near = near || in || o < of[0].lo && below < width || o > of[0].hi && above < width
		}
		if inside && !some || !near && some {
			r.Fatalf("old %v, left out %v, fresh %v: %v", old, left, fresh, some)
		}
	})
}
