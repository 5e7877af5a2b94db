package ingest

import (
	"time"

	"nyala/offsets"
)

// mistake breaks one rule on purpose. Only tests set it, to prove that the simulation of whole clusters would notice.
type mistake int

const (
	_          mistake = iota
	wentOn             // behind an entry that was given up, and back to the checkpoint a while later
	segmentOwn         // a segment begins at its first own row
	highest            // the watermark is the highest offset decided
)

// goneOn is how long an owner goes on behind an entry that it gave up.
const goneOn = 3 * time.Second

func (m mistake) goOn(pieces []piece) {
	if m != wentOn {
		return
	}
	for _, p := range pieces {
		if p.lane != nil {
			p.lane.next = p.chunk.span.Next
			time.AfterFunc(goneOn, func() { p.lane.owner.refused("an entry was given up") })
		}
	}
}

// first is where the segment of a piece begins.
func (m mistake) first(p *piece) int64 {
	if m == segmentOwn && len(p.rows) > 0 {
		return p.chunk.offsets[p.rows[0]]
	}
	return p.lane.next
}

// decided is what a tracker is told of a range.
func (m mistake) decided(t *offsets.Tracker, r offsets.Range) offsets.Range {
	if m == highest {
		r.First = min(r.First, t.Low())
	}
	return r
}
