package store

import (
	"math/bits"
	"sync/atomic"
)

// deaths is a deletion vector: when each dead row of a rowset died. One goroutine sets (apply, or
// whoever builds the rowset before it is seen), any number read without a lock: a reader at T does not
// care for deaths after T, and those up to T were set before it began.
//
// It is a tree of fixed shape over row numbers whose leaves are pages of 64 rows; only branches with a
// death exist. A dense array would cost 8 bytes a row in every rowset, a map a lock for readers and
// an allocation a death. A row dies once: its time never changes.
type deaths struct {
	top   [1 << topBits]atomic.Pointer[deathMid]
	count atomic.Int64
	pages atomic.Int64
}

const (
	topBits  = 8 // bits of a row number, from the highest
	midBits  = 8
	leafBits = 10
	pageBits = 6
)

type deathMid [1 << midBits]atomic.Pointer[deathLeaf]
type deathLeaf [1 << leafBits]atomic.Pointer[deathPage]

// deathPage holds 64 rows. A bit of mask is set after the row's time is there.
type deathPage struct {
	mask atomic.Uint64
	at   [1 << pageBits]atomic.Int64
}

// deathPageBytes is what one page costs, with its share of the branches above.
const deathPageBytes = 8 + 8<<pageBits + 24

// page returns the page of rows [row &^ 63, +64), nil if none of them died.
func (d *deaths) page(row uint32) *deathPage {
	mid := d.top[row>>(32-topBits)].Load()
	if mid == nil {
		return nil
	}
	leaf := mid[row>>(leafBits+pageBits)&(1<<midBits-1)].Load()
	if leaf == nil {
		return nil
	}
	return leaf[row>>pageBits&(1<<leafBits-1)].Load()
}

// at is when row died, 0 if it did not.
func (d *deaths) at(row uint32) Timestamp {
	p := d.page(row)
	if p == nil || p.mask.Load()>>(row&63)&1 == 0 {
		return 0
	}
	return p.at[row&63].Load()
}

// set says that row died at t, unless it had died before; it tells whether it did now.
func (d *deaths) set(row uint32, t Timestamp) bool {
	mid := child(&d.top[row>>(32-topBits)])
	leaf := child(&mid[row>>(leafBits+pageBits)&(1<<midBits-1)])
	slot := &leaf[row>>pageBits&(1<<leafBits-1)]
	if slot.Load() == nil {
		d.pages.Add(1)
	}
	p := child(slot)
	bit := uint64(1) << (row & 63)
	if p.mask.Load()&bit != 0 {
		return false
	}
	p.at[row&63].Store(t)
	p.mask.Or(bit)
	d.count.Add(1)
	return true
}

func child[T any](p *atomic.Pointer[T]) *T {
	if c := p.Load(); c != nil {
		return c
	}
	c := new(T)
	p.Store(c)
	return c
}

// span calls f for every row in [first, end) that died at or before upTo, in row order.
func (d *deaths) span(first, end uint64, upTo Timestamp, f func(row uint32, t Timestamp)) {
	for at := first; at < end; {
		mid := d.top[at>>(32-topBits)].Load()
		if mid == nil {
			at = (at>>(32-topBits) + 1) << (32 - topBits)
			continue
		}
		leaf := mid[at>>(leafBits+pageBits)&(1<<midBits-1)].Load()
		if leaf == nil {
			at = (at>>(leafBits+pageBits) + 1) << (leafBits + pageBits)
			continue
		}
		base := at &^ (1<<pageBits - 1)
		if p := leaf[at>>pageBits&(1<<leafBits-1)].Load(); p != nil {
			for mask := p.mask.Load() >> (at - base) << (at - base); mask != 0; mask &= mask - 1 {
				row := base + uint64(bits.TrailingZeros64(mask))
				if row >= end {
					return
				}
				if t := p.at[row-base].Load(); t <= upTo {
					f(uint32(row), t)
				}
			}
		}
		at = base + 1<<pageBits
	}
}

// mask clears the bits of rows that were dead at t; bit i of selection is row first+i.
func (d *deaths) mask(first int, selection []uint64, t Timestamp) {
	if d.count.Load() == 0 {
		return
	}
	end := uint64(first) + uint64(len(selection))*64
	d.span(uint64(first), min(end, 1<<32), t, func(row uint32, _ Timestamp) {
		i := uint64(row) - uint64(first)
		selection[i>>6] &^= 1 << (i & 63)
	})
}

// each calls f for every row that died at or before upTo, in row order, among the first rows rows.
func (d *deaths) each(rows uint32, upTo Timestamp, f func(row uint32, t Timestamp)) {
	d.span(0, uint64(rows), upTo, f)
}
