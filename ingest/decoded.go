package ingest

import (
	"sync"

	"nyala/store/batch"
	"nyala/store/schema"
)

// decoded is the rows of a chunk, what an entry says of them beside their values, and memory to work that out.
type decoded struct {
	pool  *decodedPool // nil: it is not used again
	class int          // of its size in the pool
	size  int64        // what it holds, while it is free

	rows    *batch.Builder
	view    batch.Batch
	keys    *batch.Keys
	offsets []int64    // per row
	records []int32    // per row: which record of the run it is
	ops     []batch.Op // per row, when mixed
	op      batch.Op
	mixed   bool

	hashes []uint64
	slots  []slot
	place  []int32
}

func newDecoded(s *schema.Schema, rows int) *decoded {
	return &decoded{rows: batch.NewBuilder(s.Columns, rows), keys: batch.NewKeys(s)}
}

// footprint is the memory that is held, with rows in it or without.
func (d *decoded) footprint() int64 {
	n := d.rows.Capacity() + cap(d.keys.Data) + 4*cap(d.keys.Offsets) + 8*cap(d.offsets) + 4*cap(d.records) + cap(d.ops) + 8*cap(d.hashes)
	for _, s := range d.slots[:cap(d.slots)] {
		n += 4 * cap(s.rows)
	}
	return int64(n)
}

// encodeKeys encodes the keys of all rows, which are in the view, so that entries only copy them.
func (d *decoded) encodeKeys() { d.keys.Append(&d.view, 0, d.view.Rows) }

// addOp notes the operation of the row that was just appended.
func (d *decoded) addOp(op batch.Op) {
	if len(d.offsets) == 1 {
		d.op = op
	}
	if op != d.op && !d.mixed {
		d.mixed = true
		d.ops = d.ops[:0]
		for range len(d.offsets) - 1 {
			d.ops = append(d.ops, d.op)
		}
	}
	if d.mixed {
		d.ops = append(d.ops, op)
	}
}

// decodedPool keeps memory for rows of one schema: the first touch of fresh memory costs more than the decoding into it. There is a
// free list for each size, so that a thousand partitions with a few records each do not hold memory for a thousand large chunks.
type decodedPool struct {
	schema *schema.Schema
	limit  int64 // bytes of what is free
	mu     struct {
		sync.Mutex
		free    [sizeClasses][]*decoded
		blocked []*blocked
		bytes   int64
	}
}

// What is of class n was made for classRowsMin << (2n) rows.
const (
	sizeClasses  = 5
	classRowsMin = 16
)

func sizeClass(rows int) int {
	n := 0
	for n < sizeClasses-1 && rows > classRowsMin<<(2*n) {
		n++
	}
	return n
}

func newDecodedPool(s *schema.Schema, limit int64) *decodedPool {
	return &decodedPool{schema: s, limit: limit}
}

// get lends memory for so many rows.
func (p *decodedPool) get(rows int) *decoded {
	class := sizeClass(rows)
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.mu.free[class]); n > 0 {
		d := p.mu.free[class][n-1]
		p.mu.free[class] = p.mu.free[class][:n-1]
		p.mu.bytes -= d.size
		return d
	}
	d := newDecoded(p.schema, min(rows, classRowsMin<<(2*class)))
	d.pool, d.class = p, class
	return d
}

// put takes memory back, unless there is enough, or it has grown so much that it is worth several.
func (p *decodedPool) put(d *decoded) {
	d.rows.Reset()
	d.keys.Reset()
	d.view = batch.Batch{}
	d.offsets, d.records, d.ops = d.offsets[:0], d.records[:0], d.ops[:0]
	d.op, d.mixed = 0, false
	d.slots = d.slots[:0]
	d.size = d.footprint()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.roomLocked(d.size) {
		p.mu.free[d.class] = append(p.mu.free[d.class], d)
		p.mu.bytes += d.size
	}
}

// roomLocked tells whether so much is worth keeping.
func (p *decodedPool) roomLocked(size int64) bool {
	return size <= p.limit/2 && p.mu.bytes+size <= p.limit
}
