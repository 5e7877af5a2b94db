package ingest

import (
	"nyala/store/batch"
)

// blocked is the rows of a chunk cut into blocks, one for each tablet. An entry is built when the chunk has long left the processor's caches, and of many
// tablets each takes a row here and there: every value was a cache miss. So the rows are copied while they are in the caches, and their own memory, still in
// the caches, takes the next run of records. Where there are few tablets the chunk itself is read just as well, and the copy is saved.
type blocked struct {
	batch.Blocks
	pool    *decodedPool
	size    int64      // what it holds, while it is free
	first   []int      // per block: its first row
	offsets []int64    // per row
	ops     []batch.Op // per row, when they differ
	op      batch.Op
}

// blockShare is the part of a largest chunk below which cutting it into blocks is not worth it.
const blockShare = 8

// everyRow lists the rows of a block. Nobody may change it.
var everyRow = func() (rows [4096]uint32) {
	for i := range rows {
		rows[i] = uint32(i)
	}
	return rows
}()

// cut puts the rows of c into blocks, if they are worth it; block i is then what was in slot i.
func (c *chunk) cut(o *Options) bool {
	if len(c.slots) < o.BlockTablets || c.count < o.ChunkRows/blockShare || c.count > len(everyRow) {
		return false
	}
	c.putInBlocks()
	return true
}

func (c *chunk) putInBlocks() {
	b := c.pool.getBlocked()
	b.Reset(&c.view)
	b.op = c.op
	for i := range c.slots {
		rows := c.slots[i].rows
		b.Add(&c.view, rows)
		b.first = append(b.first, len(b.offsets))
		for _, r := range rows {
			b.offsets = append(b.offsets, c.offsets[r])
			if c.mixed {
				b.ops = append(b.ops, c.ops[r])
			}
		}
	}
	c.blocked = b
}

// origin is where the rows of a piece are, and what an entry says of them beside their values.
type origin struct {
	view    batch.Batch
	offsets []int64     // per row of the view
	ops     []batch.Op  // per row of the view; nil: op
	keys    *batch.Keys // of the view's rows; nil: they are not encoded yet
	op      batch.Op
}

// origin looks at where the rows of a piece are; columns is memory for the view.
func (p *piece) origin(columns []batch.Column) (o origin) {
	if b := p.chunk.blocked; b != nil {
		from := b.first[p.block]
		o = origin{view: b.Batch(p.block, columns), offsets: b.offsets[from:], op: b.op}
		if len(b.ops) > 0 {
			o.ops = b.ops[from:]
		}
		return o
	}
	d := p.chunk.decoded
	o = origin{view: d.view, offsets: d.offsets, keys: d.keys, op: d.op}
	if d.mixed {
		o.ops = d.ops
	}
	return o
}

func (b *blocked) footprint() int64 {
	return int64(b.Capacity() + 8*cap(b.first) + 8*cap(b.offsets) + cap(b.ops))
}

// getBlocked lends memory for blocks.
func (p *decodedPool) getBlocked() *blocked {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.mu.blocked)
	if n == 0 {
		return &blocked{pool: p}
	}
	b := p.mu.blocked[n-1]
	p.mu.blocked = p.mu.blocked[:n-1]
	p.mu.bytes -= b.size
	return b
}

// putBlocked takes it back, as put does.
func (p *decodedPool) putBlocked(b *blocked) {
	b.first, b.offsets, b.ops = b.first[:0], b.offsets[:0], b.ops[:0]
	b.size = b.footprint()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.roomLocked(b.size) {
		p.mu.blocked = append(p.mu.blocked, b)
		p.mu.bytes += b.size
	}
}
