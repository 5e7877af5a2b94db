package batch

import (
	"slices"

	"nyala/store/schema"
)

// Blocks are batches of a few rows each, picked from one batch, one behind the other in memory. All columns of a block lie side by side: to read it is
// to read a piece of memory from front to back, where a few rows of a large batch are a few values here and there for each column.
// Where its parts are is reckoned without looking at it.
type Blocks struct {
	data    []byte
	blocks  []block
	texts   []int32  // per block and column of texts: how long they are together
	columns []Column // as those of the batch, without buffers; Nulls is 1 where there are any
}

type block struct{ at, rows, texts int } // where they begin

// Reset empties b for rows of from and keeps its memory.
func (b *Blocks) Reset(from *Batch) {
	b.blocks, b.texts, b.columns = b.blocks[:0], b.texts[:0], b.columns[:0]
	size := 0
	for i := range from.Columns {
		c := &from.Columns[i]
		b.columns = append(b.columns, Column{ID: c.ID, Type: c.Type, Nulls: min(c.Nulls, 1)})
		size += len(c.Values) + 4*len(c.Offsets) + len(c.Valid)
	}
	b.data = slices.Grow(b.data[:0], size+size/4)
}

// Capacity is the memory that b holds.
func (b *Blocks) Capacity() int {
	return cap(b.data) + 24*cap(b.blocks) + 4*cap(b.texts) + 128*cap(b.columns)
}

// Add appends a block of some rows of from.
func (b *Blocks) Add(from *Batch, rows []uint32) {
	b.blocks = append(b.blocks, block{len(b.data), len(rows), len(b.texts)})
	for i := range from.Columns {
		c := &from.Columns[i]
		if b.columns[i].Nulls > 0 {
			out := b.room((len(rows) + 7) / 8)
			clear(out)
			for k, r := range rows {
				if !c.IsNull(int(r)) {
					out[k>>3] |= 1 << (k & 7)
				}
			}
		}
		switch c.Type.Layout() {
		case schema.Bytes:
			b.addText(c, rows)
		case schema.Bits:
			out := b.room((len(rows) + 7) / 8)
			clear(out)
			for k, r := range rows {
				if c.Bit(int(r)) {
					out[k>>3] |= 1 << (k & 7)
				}
			}
		case schema.Fixed1:
			pick[uint8](b, c, rows)
		case schema.Fixed2:
			pick[uint16](b, c, rows)
		case schema.Fixed4:
			pick[uint32](b, c, rows)
		case schema.Fixed8:
			pick[uint64](b, c, rows)
		default:
			pick[[16]byte](b, c, rows)
		}
	}
}

// room appends n bytes, which are anything, and begins the next on a multiple of 8.
func (b *Blocks) room(n int) []byte {
	at, end := len(b.data), len(b.data)+(n+7)&^7
	if end > cap(b.data) {
		b.data = slices.Grow(b.data, end-at)
	}
	b.data = b.data[:end]
	return b.data[at : at+n]
}

func pick[T number](b *Blocks, c *Column, rows []uint32) {
	in, out := View[T](c.Values, c.Rows), View[T](b.room(len(rows)*c.Type.Width()), len(rows))
	for k, r := range rows {
		out[k] = in[r]
	}
}

func (b *Blocks) addText(c *Column, rows []uint32) {
	offsets := View[int32](b.room(4*(len(rows)+1)), len(rows)+1)
	n := int32(0)
	offsets[0] = 0
	for k, r := range rows {
		n += c.Offsets[r+1] - c.Offsets[r]
		offsets[k+1] = n
	}
	b.texts = append(b.texts, n)
	out := b.room(int(n))
	for _, r := range rows {
		out = out[copy(out, c.Values[c.Offsets[r]:c.Offsets[r+1]]):]
	}
}

// Batch is block i, its columns in the memory given.
func (b *Blocks) Batch(i int, columns []Column) Batch {
	at, rows, texts := b.blocks[i].at, b.blocks[i].rows, b.texts[b.blocks[i].texts:]
	next := func(n int) (part []byte) {
		part = b.data[at : at+n : at+n]
		at += (n + 7) &^ 7
		return part
	}
	columns = append(columns[:0], b.columns...)
	for k := range columns {
		c := &columns[k]
		if c.Rows = rows; c.Nulls > 0 {
			c.Valid = next((rows + 7) / 8)
		}
		switch c.Type.Layout() {
		case schema.Bytes:
			c.Offsets = View[int32](next(4*(rows+1)), rows+1)
			c.Values, texts = next(int(texts[0])), texts[1:]
		case schema.Bits:
			c.Values = next((rows + 7) / 8)
		default:
			c.Values = next(rows * c.Type.Width())
		}
	}
	return Batch{Rows: rows, Columns: columns}
}
