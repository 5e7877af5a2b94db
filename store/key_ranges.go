package store

import (
	"math"
	"math/bits"

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
	parts  keyParts
}

// keyParts says in which parts of a range, of equal width, there are keys: a bit for each. Partitions of Kafka that are read at different speeds leave gaps
// in what a rowset has, as wide as one is ahead of the other, and the fresh rows of the slower one are in them.
type keyParts struct {
	bits  []uint64 // nil: there may be keys in all of them
	shift uint     // a part is 1<<shift wide
}

const partsLog = 12 // there are 1<<partsLog parts at most, half a KiB

// newKeyRanges are those of no rows.
func newKeyRanges(s *schema.Schema) (r keyRanges) {
	for _, k := range s.Key {
		if t := s.Columns[k].Type; t.Integral() && t.Width() >= 4 {
			r = append(r, keyRange{column: k, lo: math.MaxInt64, hi: math.MinInt64})
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

// divide notes in which parts of r, which are the ranges of a DiskRowSet, the rows of batches are. They must be all that it was made of, and may be more.
func (r keyRanges) divide(batches []memBatch) {
	for i := range r {
		k := &r[i]
		if k.hi < k.lo {
			continue
		}
		width := uint64(k.hi) - uint64(k.lo)
		k.parts.shift = uint(max(0, bits.Len64(width)-partsLog))
		k.parts.bits = make([]uint64, width>>k.parts.shift/64+1)
		for _, b := range batches {
			if c := &b.rows.Columns[k.column]; c.Type.Layout() == schema.Fixed8 {
				takeParts(k, c.Int64s())
			} else {
				takeParts(k, c.Int32s())
			}
		}
		if k.parts.full(width) {
			k.parts = keyParts{}
		}
	}
}

// full tells whether there are keys in all parts of a range of this width.
func (p *keyParts) full(width uint64) bool {
	n := uint64(0)
	for _, w := range p.bits {
		n += uint64(bits.OnesCount64(w))
	}
	return n > width>>p.shift
}

func takeParts[T int32 | int64](k *keyRange, values []T) {
	width := uint64(k.hi) - uint64(k.lo)
	for _, v := range values {
		if at := uint64(int64(v)) - uint64(k.lo); at <= width { // not a row that was left out of the file
			part := at >> k.parts.shift
			k.parts.bits[part/64] |= 1 << (part % 64)
		}
	}
}

// someIn tells whether there may be keys between lo and hi.
func (k *keyRange) someIn(lo, hi int64) bool {
	if hi < k.lo || lo > k.hi {
		return false
	}
	if k.parts.bits == nil {
		return true
	}
	from := (uint64(max(lo, k.lo)) - uint64(k.lo)) >> k.parts.shift
	to := (uint64(min(hi, k.hi)) - uint64(k.lo)) >> k.parts.shift
	first, last := ^uint64(0)<<(from%64), ^uint64(0)>>(63-to%64)
	for w := from / 64; w <= to/64; w++ {
		word := k.parts.bits[w]
		if w == from/64 {
			word &= first
		}
		if w == to/64 {
			word &= last
		}
		if word != 0 {
			return true
		}
	}
	return false
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
		r[i].lo, r[i].hi, r[i].parts = min(r[i].lo, o[i].lo), max(r[i].hi, o[i].hi), keyParts{}
	}
}

// leaveOut adds to skip the rows of b, which lie in of, that do not lie in r. It reports whether some may; if none does, skip is as it was.
func (r keyRanges) leaveOut(b *batch.Batch, of keyRanges, skip []bool) (some bool) {
	for i := range r {
		if !r[i].someIn(of[i].lo, of[i].hi) {
			return false
		}
	}
	for i := range r {
		k := &r[i]
		if k.parts.bits == nil && of[i].lo >= k.lo && of[i].hi <= k.hi {
			continue
		}
		if c := &b.Columns[k.column]; c.Type.Layout() == schema.Fixed8 {
			skipOutside(c.Int64s(), k, skip)
		} else {
			skipOutside(c.Int32s(), k, skip)
		}
	}
	return true
}

func skipOutside[T int32 | int64](values []T, k *keyRange, skip []bool) {
	width, parts := uint64(k.hi)-uint64(k.lo), k.parts
	for i, v := range values {
		at := uint64(int64(v)) - uint64(k.lo)
		if at > width {
			skip[i] = true
		} else if part := at >> parts.shift; parts.bits != nil && parts.bits[part/64]>>(part%64)&1 == 0 {
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
