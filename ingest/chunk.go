package ingest

import (
	"sync/atomic"

	"nyala/offsets"
	"nyala/store/schema"
)

// chunk is one run of a source's records, decoded, on its way into the entries of several tablets. It is decided as a whole:
// when the last of its pieces is, its offsets are. So the tracker sees a few ranges a second instead of every row, at the price that a
// watermark waits for the slowest tablet of a chunk.
//
// The worker fills a chunk, then hands out its pieces; afterwards nobody changes its rows until the last piece is released, which puts their
// memory back into its pool. Gathering into an entry copies, so no reader of an entry ever depends on a chunk.
type chunk struct {
	*decoded          // its rows; nil when they are in blocks
	blocked  *blocked // its rows once they are cut into blocks

	owner    *owner
	parent   *chunk // of dead letters: the chunk that waits for them
	schema   *schema.Schema
	decision uint32 // the version that its rows were decided under
	noted    bool   // its rows have no origin, and its span is noted where they go

	span    offsets.Range // the offsets it decides
	count   int           // rows
	newest  int64         // milliseconds: the latest timestamp of its records
	oldest  int64         // milliseconds: the earliest timestamp of its records, 0 of none
	bytes   int64         // of records; held of the memory budget
	letters int           // dead letters among the records
	written Point         // with a parent: reached when it is decided

	pending   atomic.Int32 // pieces not released, and one for who hands them out
	abandoned atomic.Bool  // some piece was not applied
}

// piece is the rows of a chunk that go to one tablet.
type piece struct {
	chunk *chunk
	block int // of a chunk that is cut into blocks: which one it is
	rows  []uint32
	lane  *lane // nil: rows without origin
	bytes int
}

// lane is an owner's stream of segments to one tablet. Once the first piece is queued only the tablet's queue
// touches it.
type lane struct {
	owner *owner
	next  int64 // where the last segment that was acknowledged ended
}

// release gives a piece back; decided says that its rows were applied.
func (c *chunk) release(decided bool) {
	if !decided {
		c.abandoned.Store(true)
	}
	if c.pending.Add(-1) > 0 {
		return
	}
	if decided = !c.abandoned.Load(); c.parent != nil {
		if decided {
			c.owner.session.options.reached(c.written)
		}
		c.parent.release(decided)
	} else {
		c.owner.finish(c, decided)
	}
	c.free()
	if b := c.blocked; b != nil {
		c.blocked = nil
		b.pool.putBlocked(b)
	}
}

// free gives the memory of decoded rows back.
func (c *chunk) free() {
	if d := c.decoded; d != nil && d.pool != nil {
		d.pool.put(d)
	}
	c.decoded = nil
}

// seal fixes the rows.
func (c *chunk) seal() {
	c.view = c.rows.View()
	c.count = c.view.Rows
}
