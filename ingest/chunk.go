package ingest

import (
	"slices"
	"sync"
	"sync/atomic"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/schema"
)

// chunk is the rows decoded from one run of a source's records, on their way into the entries of several
// tablets. It is decided as a whole: when the last of its pieces is, its offsets are. So the tracker sees a few
// ranges a second instead of every row, at the price that a watermark waits for the slowest tablet of a chunk.
//
// The worker fills a chunk, then hands out its pieces; afterwards nobody changes it until the last piece is
// released, which puts it back into its pool. Gathering into an entry copies, so no reader of an entry ever
// depends on a chunk.
type chunk struct {
	owner    *owner
	parent   *chunk // of dead letters: the chunk that waits for them
	pool     *chunkPool
	class    int   // of its size in the pool
	size     int64 // what it holds, while it is free
	schema   *schema.Schema
	decision uint32 // the version that its rows were decided under
	noted    bool   // its rows have no origin, and its span is noted where they go

	rows    *batch.Builder
	view    batch.Batch
	keys    *batch.Keys
	offsets []int64    // per row
	records []int32    // per row: which record of the run it is; none once the rows are arranged
	ops     []batch.Op // per row, when mixed
	op      batch.Op
	mixed   bool

	span    offsets.Range // the offsets it decides
	newest  int64         // milliseconds: the latest timestamp of its records
	oldest  int64         // milliseconds: the earliest timestamp of its records, 0 of none
	bytes   int64         // of records; held of the memory budget
	letters int           // dead letters among the records
	written Point         // with a parent: reached when it is decided

	hashes []uint64
	slots  []slot
	place  []int32

	arranger batch.Arranger
	places   []uint32 // by row, where arrange puts it; scratch
	moved    []int64  // scratch of arrange

	pending   atomic.Int32 // pieces not released, and one for who hands them out
	abandoned atomic.Bool  // some piece was not applied
}

// piece is the rows of a chunk that go to one tablet.
type piece struct {
	chunk *chunk
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
	c.pool.put(c)
}

// chunkPool keeps chunks of one schema: the first touch of fresh memory costs more than the decoding into it. There is a
// free list for each size, so that a thousand partitions with a few records each do not hold a thousand large chunks.
type chunkPool struct {
	schema *schema.Schema
	limit  int64 // bytes of free chunks
	mu     struct {
		sync.Mutex
		free  [chunkClasses][]*chunk
		bytes int64
	}
}

// A chunk of class n was made for chunkRowsMin << (2n) rows.
const (
	chunkClasses = 5
	chunkRowsMin = 16
)

func chunkClass(rows int) int {
	n := 0
	for n < chunkClasses-1 && rows > chunkRowsMin<<(2*n) {
		n++
	}
	return n
}

func newChunkPool(s *schema.Schema, limit int64) *chunkPool {
	return &chunkPool{schema: s, limit: limit}
}

// get lends a chunk for so many rows.
func (p *chunkPool) get(rows int) *chunk {
	class := chunkClass(rows)
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.mu.free[class]); n > 0 {
		c := p.mu.free[class][n-1]
		p.mu.free[class] = p.mu.free[class][:n-1]
		p.mu.bytes -= c.size
		return c
	}
	return &chunk{pool: p, class: class, schema: p.schema, rows: batch.NewBuilder(p.schema.Columns, min(rows, chunkRowsMin<<(2*class))), keys: batch.NewKeys(p.schema)}
}

// put takes a chunk back, unless there are enough free ones, or it has grown so much that it is worth several.
func (p *chunkPool) put(c *chunk) {
	c.rows.Reset()
	c.keys.Reset()
	c.owner, c.parent, c.view = nil, nil, batch.Batch{}
	c.offsets, c.records, c.ops = c.offsets[:0], c.records[:0], c.ops[:0]
	c.op, c.mixed, c.noted, c.letters, c.bytes, c.newest, c.oldest = 0, false, false, 0, 0, 0, 0
	c.slots = c.slots[:0]
	c.abandoned.Store(false)
	c.size = c.footprint()
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.size <= p.limit/2 && p.mu.bytes+c.size <= p.limit {
		p.mu.free[c.class] = append(p.mu.free[c.class], c)
		p.mu.bytes += c.size
	}
}

// footprint is the memory that a chunk holds, with rows in it or without.
func (c *chunk) footprint() int64 {
	n := c.rows.Capacity() + cap(c.keys.Data) + 4*cap(c.keys.Offsets) + 8*cap(c.offsets) + 4*cap(c.records) + cap(c.ops) + 8*cap(c.hashes) +
		c.arranger.Capacity() + 4*cap(c.places) + 8*cap(c.moved)
	for _, s := range c.slots[:cap(c.slots)] {
		n += 4 * cap(s.rows)
	}
	return int64(n)
}

// addOp notes the operation of the row that was just appended.
func (c *chunk) addOp(op batch.Op) {
	if len(c.offsets) == 1 {
		c.op = op
	}
	if op != c.op && !c.mixed {
		c.mixed = true
		c.ops = c.ops[:0]
		for range len(c.offsets) - 1 {
			c.ops = append(c.ops, c.op)
		}
	}
	if c.mixed {
		c.ops = append(c.ops, op)
	}
}

func (c *chunk) opOf(row uint32) batch.Op {
	if c.mixed {
		return c.ops[row]
	}
	return c.op
}

// seal fixes the rows: their view, and their encoded keys, so that entries only copy them.
func (c *chunk) seal() {
	c.view = c.rows.View()
	if c.view.Rows == 0 {
		return
	}
	c.keys.Append(&c.view, 0, c.view.Rows)
}

// Chunks of arrangeRows rows and more are arranged when they go to arrangeSlots tablets or more.
const (
	arrangeRows  = 512
	arrangeSlots = 16
)

// arrange puts the rows of each tablet side by side. A tablet's entry is built when the chunk is long out of the processor's caches, and of many
// tablets each takes a row here and there: every value was then a cache miss. Now it is one for several rows, at the price of another copy
// while the chunk is in the caches.
func (c *chunk) arrange() {
	n := c.view.Rows
	if n < arrangeRows || len(c.slots) < arrangeSlots {
		return
	}
	const nowhere = ^uint32(0)
	c.places = slices.Grow(c.places[:0], n)[:n]
	for i := range c.places {
		c.places[i] = nowhere
	}
	at := uint32(0)
	for i := range c.slots {
		rows := c.slots[i].rows
		for k, row := range rows {
			c.places[row], rows[k] = at, at
			at++
		}
	}
	for i, p := range c.places { // rows that were refused
		if p == nowhere {
			c.places[i] = at
			at++
		}
	}
	c.view = c.arranger.Arrange(&c.view, c.places)
	c.moved = slices.Grow(c.moved[:0], n)[:n]
	for i, p := range c.places {
		c.moved[p] = c.offsets[i]
	}
	c.offsets, c.moved = c.moved, c.offsets
	if c.mixed {
		ops := slices.Clone(c.ops)
		for i, p := range c.places {
			c.ops[p] = ops[i]
		}
	}
	c.records = c.records[:0]
	c.keys.Reset()
	c.keys.Append(&c.view, 0, n)
}
