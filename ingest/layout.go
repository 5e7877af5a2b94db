package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"

	"nyala/store/batch"
	"nyala/store/schema"
)

// Layout is where the rows of a table live at some moment.
type Layout struct {
	Schema *schema.Schema
	Ranges []RangeTablets
}

// RangeTablets is a range partition [Low, High) of the range column and its tablet per hash bucket. A table
// without ranges has one, from math.MinInt64 to math.MaxInt64.
type RangeTablets struct {
	Low, High int64
	Tablets   []uint64
}

// sameSchema tells whether two schemas of one table are the same; a catalog may hand out a copy each time.
func sameSchema(a, b *schema.Schema) bool {
	return a == b || a.Version == b.Version && reflect.DeepEqual(a, b)
}

// find is the position of the range that v falls into, or -1. Ranges are in ascending order.
func (l *Layout) find(v int64) int {
	i, _ := slices.BinarySearchFunc(l.Ranges, v, func(r RangeTablets, v int64) int {
		if r.High <= v && r.High != math.MaxInt64 {
			return -1
		}
		return 1
	})
	if i < len(l.Ranges) && l.Ranges[i].Low <= v {
		return i
	}
	return -1
}

// slot is the rows of a chunk that belong to one tablet.
type slot struct {
	tablet uint64
	rows   []uint32
}

// route sorts the rows of a chunk by tablet into c.slots. Rows whose range is refused are left out and returned
// by their positions, in order; an error means that ctx is done.
//
// The chunk keeps its slots' memory. A map from tablet to slot would be looked up once a row; consecutive rows
// mostly share their range, so the slots of the present range are found by bucket instead.
func (c *chunk) route(ctx context.Context, r Router, table string, l *Layout) (refused []uint32, err error) {
	n := c.view.Rows
	c.hashes = slices.Grow(c.hashes[:0], n)[:n]
	batch.HashRows(l.Schema, &c.view, 0, n, c.hashes)
	c.slots = c.slots[:0]
	var column *batch.Column
	if rg := l.Schema.Range; rg != nil {
		column = &c.view.Columns[rg.Column]
	}
	var at *RangeTablets // the present range
	var place []int32    // bucket -> slot, or -1
	for i := range n {
		v := int64(0)
		if column != nil {
			v = column.Int(i)
		}
		if at == nil || v < at.Low || v >= at.High && at.High != math.MaxInt64 {
			if l, at, err = ensure(ctx, r, table, l, v); errors.Is(err, ErrRangeRefused) {
				refused = append(refused, uint32(i))
				err = nil
				continue
			} else if err != nil {
				return nil, err
			}
			place = slices.Grow(c.place[:0], len(at.Tablets))[:len(at.Tablets)]
			c.place = place
			for b, tablet := range at.Tablets {
				place[b] = c.slotOf(tablet)
			}
		}
		b := 0
		if len(place) > 1 {
			b = schema.BucketOf(c.hashes[i], len(place))
		}
		if place[b] < 0 {
			place[b] = c.addSlot(at.Tablets[b])
		}
		s := &c.slots[place[b]]
		s.rows = append(s.rows, uint32(i))
	}
	return refused, nil
}

func (c *chunk) slotOf(tablet uint64) int32 {
	for i := range c.slots {
		if c.slots[i].tablet == tablet {
			return int32(i)
		}
	}
	return -1
}

// addSlot takes up the memory of a slot of an earlier use.
func (c *chunk) addSlot(tablet uint64) int32 {
	n := len(c.slots)
	if n < cap(c.slots) {
		c.slots = c.slots[:n+1]
	} else {
		c.slots = append(c.slots, slot{})
	}
	s := &c.slots[n]
	s.tablet, s.rows = tablet, s.rows[:0]
	return int32(n)
}

// ensure finds the range of v, making it if there is none yet. It returns the layout that has it.
func ensure(ctx context.Context, r Router, table string, l *Layout, v int64) (*Layout, *RangeTablets, error) {
	if i := l.find(v); i >= 0 {
		return l, &l.Ranges[i], nil
	}
	err := retry(ctx, func() error {
		if err := r.EnsureRange(ctx, table, v); err != nil {
			return err
		}
		fresh, err := r.Layout(table)
		if err != nil {
			return err
		}
		if fresh.find(v) < 0 {
			return fmt.Errorf("ingest: table %s: the layout has no range for %d yet", table, v)
		}
		l = fresh
		return nil
	}, ErrRangeRefused)
	if err != nil {
		return l, nil, err
	}
	return l, &l.Ranges[l.find(v)], nil
}
