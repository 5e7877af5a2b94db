package store

import (
	"math"

	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
)

// keyRanges says between which values the keys of a rowset lie, in each column of the primary key that is a number of four or eight bytes.
// Most streams have a time or a counter in their keys. Fresh rows are then above all that was stored before, whatever column the key begins with,
// and need not be looked for there: a comparison in the caches, where a Bloom filter, a directory or an index costs a cache miss a row.
// They are Parquet's bounds of pages, which scans use in the same way (small materialized aggregates, Moerkotte: VLDB 1998).
type keyRanges []keyRange

type keyRange struct {
	column int // of the schema
	lo, hi int64
}

// newKeyRanges are those of no rows.
func newKeyRanges(s *schema.Schema) (r keyRanges) {
	for _, k := range s.Key {
		if t := s.Columns[k].Type; t.Integral() && t.Width() >= 4 {
			r = append(r, keyRange{k, math.MaxInt64, math.MinInt64})
		}
	}
	return r
}

// rangesOfDisk are those of a DiskRowSet.
func rangesOfDisk(d *rowset.RowSet) keyRanges {
	r := newKeyRanges(d.Schema())
	for i := range r {
		r[i].lo, r[i].hi = d.Range(r[i].column)
	}
	return r
}

// reset makes r that of no rows.
func (r keyRanges) reset() {
	for i := range r {
		r[i].lo, r[i].hi = math.MaxInt64, math.MinInt64
	}
}

// take widens r by the rows of a batch, which are not none.
func (r keyRanges) take(b *batch.Batch) {
	for i := range r {
		k := &r[i]
		if c := &b.Columns[k.column]; c.Type.Layout() == schema.Fixed8 {
			k.lo, k.hi = widened(k.lo, k.hi, c.Int64s())
		} else {
			k.lo, k.hi = widened(k.lo, k.hi, c.Int32s())
		}
	}
}

func widened[T int32 | int64](lo, hi int64, values []T) (int64, int64) {
	least, most := values[0], values[0]
	for _, v := range values {
		least, most = min(least, v), max(most, v)
	}
	return min(lo, int64(least)), max(hi, int64(most))
}

// join widens r by o.
func (r keyRanges) join(o keyRanges) {
	for i := range r {
		r[i].lo, r[i].hi = min(r[i].lo, o[i].lo), max(r[i].hi, o[i].hi)
	}
}

// leaveOut adds to skip the rows of b, which lie in of, that do not lie in r. It reports whether some may; if none does, skip is as it was.
func (r keyRanges) leaveOut(b *batch.Batch, of keyRanges, skip []bool) (some bool) {
	for i := range r {
		if of[i].hi < r[i].lo || of[i].lo > r[i].hi {
			return false
		}
	}
	for i := range r {
		k := &r[i]
		if of[i].lo >= k.lo && of[i].hi <= k.hi {
			continue
		}
		if c := &b.Columns[k.column]; c.Type.Layout() == schema.Fixed8 {
			skipOutside(c.Int64s(), k.lo, k.hi, skip)
		} else {
			skipOutside(c.Int32s(), k.lo, k.hi, skip)
		}
	}
	return true
}

func skipOutside[T int32 | int64](values []T, lo, hi int64, skip []bool) {
	width := uint64(hi) - uint64(lo)
	for i, v := range values {
		if uint64(int64(v))-uint64(lo) > width {
			skip[i] = true
		}
	}
}

// mayHave fills scratch.skip with the keys of b that need not be looked for in rowsets of ranges r, those that were found before among them, and
// reports whether any is left.
func (t *Tablet) mayHave(r keyRanges, b *batch.Batch) bool {
	x := &t.scratch
	x.skip = append(x.skip[:0], x.found...)
	if t.broken == rangesNarrow {
		r = append(keyRanges{}, r...)
		for i := range r {
			r[i].hi--
		}
	}
	return r.leaveOut(b, x.ranges, x.skip)
}
