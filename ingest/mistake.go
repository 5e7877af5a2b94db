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
	inFlight           // several entries are on their way to a tablet
	ackAny             // an entry of unknown fate is cut again, and its acknowledgement is taken for all that was in it
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
		return p.origin(nil).offsets[p.rows[0]]
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

// recut is what an entry of unknown fate is sent again as.
func (m mistake) recut(q *tabletQueue, pieces []piece, entry []byte) []byte {
	if m == ackAny && len(pieces) > 1 && pieces[0].lane != nil {
		entry, _ = q.sender.build(pieces[:1], nil)
	}
	return entry
}

// deliverAhead sends pieces and does not wait for the answer.
func (q *tabletQueue) deliverAhead(pieces []piece) {
	if pieces = dropDead(pieces); len(pieces) == 0 {
		return
	}
	entry, owners := q.sender.build(pieces, nil)
	for _, p := range pieces {
		if p.lane != nil {
			p.lane.next = p.chunk.span.Next
		}
	}
	q.sender.wg.Go(func() {
		answer, err := q.write(pieces, entry)
		applied := err == nil && answer.Status == Applied
		if err == nil && !applied && answer.Segment < len(owners) {
			q.restartOwners(pieces, owners[answer.Segment], refusals[answer.Status])
		}
		releaseAll(pieces, applied)
	})
}
