package offsets

import (
	"slices"
	"sort"
)

// Tracker turns decisions that come in any order into a watermark: the offset below which every offset of one source is decided.
// Decided means applied by a tablet, written to dead letters, or dropped by a stated policy; an offset that holds no record for
// us (a control record, a compaction hole) is decided by whoever sees that.
//
// What is decided above the watermark is kept as disjoint ranges in order, no two of them touching. A batch decides the offsets
// of its rows, which interleave with those of other tablets' batches, so the list is as long as what is in flight: DoneAll merges
// a whole batch into it in one pass, while Done pays a search and a move. A bitmap over the window would be simpler, but a
// compacted topic may jump over billions of offsets; a heap does not merge what touches.
//
// Not safe for concurrent use.
type Tracker struct {
	low   int64
	above []Range // ascending; above[0].First > low; above[i].Next < above[i+1].First
	spare []Range // the other half of DoneAll's double buffer
}

// NewTracker begins at start: everything below it was decided before.
func NewTracker(start int64) *Tracker {
	must(start >= 0, "tracker starts at %d", start)
	return &Tracker{low: start}
}

// Low is the watermark; it never goes back.
func (t *Tracker) Low() int64 { return t.low }

// Pending is the number of separate ranges decided above the watermark.
func (t *Tracker) Pending() int { return len(t.above) }

// Done decides the offsets of r. What was decided before, all or in part, does no harm; an empty range does nothing.
func (t *Tracker) Done(r Range) {
	if r.Empty() || r.Next <= t.low {
		return
	}
	if r.First <= t.low {
		t.low = r.Next
		t.settle()
		return
	}
	// The ranges [i, j) touch or overlap r: they and r become one.
	i := sort.Search(len(t.above), func(i int) bool { return t.above[i].Next >= r.First })
	j := i
	for j < len(t.above) && t.above[j].First <= r.Next {
		r = Range{min(r.First, t.above[j].First), max(r.Next, t.above[j].Next)}
		j++
	}
	t.above = slices.Replace(t.above, i, j, r)
	t.check()
}

// DoneAll is Done for each of ranges, which must be in ascending order of First (they may touch and overlap): one pass over them
// and what is pending. The slice is not kept.
func (t *Tracker) DoneAll(ranges []Range) {
	merged := t.spare[:0]
	old := t.above
	for len(old) > 0 || len(ranges) > 0 {
		var r Range
		if len(ranges) == 0 || len(old) > 0 && old[0].First <= ranges[0].First {
			r, old = old[0], old[1:]
		} else {
			r, ranges = ranges[0], ranges[1:]
			if len(ranges) > 0 && ranges[0].First < r.First {
				must(false, "ranges out of order: %s after %s", ranges[0], r)
			}
		}
		switch last := len(merged) - 1; {
		case r.Empty() || r.Next <= t.low:
		case r.First <= t.low:
			t.low = r.Next
		case last >= 0 && r.First <= merged[last].Next:
			merged[last].Next = max(merged[last].Next, r.Next)
		default:
			merged = append(merged, r)
		}
	}
	t.above, t.spare = merged, t.above
	t.check()
}

// settle takes the ranges that the watermark has reached off the list.
func (t *Tracker) settle() {
	n := 0
	for n < len(t.above) && t.above[n].First <= t.low {
		t.low = max(t.low, t.above[n].Next)
		n++
	}
	t.above = slices.Delete(t.above, 0, n)
	t.check()
}

// check holds the list against its invariant.
func (t *Tracker) check() {
	if !invariants {
		return
	}
	below := t.low
	for _, r := range t.above {
		must(r.First > below && !r.Empty(), "tracker at %d: %s after %d", t.low, r, below)
		below = r.Next
	}
}
