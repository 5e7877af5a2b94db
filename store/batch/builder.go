package batch

import (
	"encoding/binary"

	"nyala/store/schema"
)

// ColumnBuilder grows one column. Exactly one Append call a row; a decoder that must take a value
// back (a doubled key, a bad record) calls Truncate.
type ColumnBuilder struct {
	ID      schema.ColumnID
	Type    schema.Type
	rows    int
	nulls   int
	valid   []byte // nil until the first null
	values  []byte
	offsets []int32
}

// Builder grows a batch row by row.
type Builder struct {
	Columns []ColumnBuilder
}

// NewBuilder makes a builder for the given columns with room for rows rows.
func NewBuilder(columns []schema.Column, rows int) *Builder {
	b := &Builder{Columns: make([]ColumnBuilder, len(columns))}
	for i, c := range columns {
		k := &b.Columns[i]
		k.ID, k.Type = c.ID, c.Type
		switch w := c.Type.Width(); {
		case c.Type.Layout() == schema.Bytes:
			k.offsets = append(make([]int32, 0, rows+2), 0)
			k.values = make([]byte, 0, rows*16+64)
		case c.Type.Layout() == schema.Bits:
			k.values = make([]byte, 0, rows/8+64)
		default:
			k.values = make([]byte, 0, rows*w+64)
		}
	}
	return b
}

// Rows is the number of rows of the first column.
func (b *Builder) Rows() int {
	if len(b.Columns) == 0 {
		return 0
	}
	return b.Columns[0].rows
}

// Bytes is the memory that the rows take.
func (b *Builder) Bytes() int {
	n := 0
	for i := range b.Columns {
		c := &b.Columns[i]
		n += len(c.valid) + len(c.values) + 4*len(c.offsets)
	}
	return n
}

// Capacity is the memory that the builder holds, for rows that are there or may come.
func (b *Builder) Capacity() int {
	n := 0
	for i := range b.Columns {
		c := &b.Columns[i]
		n += cap(c.valid) + cap(c.values) + 4*cap(c.offsets)
	}
	return n
}

// Truncate takes every column back to the first n rows.
func (b *Builder) Truncate(n int) {
	for i := range b.Columns {
		b.Columns[i].Truncate(n)
	}
}

// Reset empties the builder and keeps its memory.
func (b *Builder) Reset() { b.Truncate(0) }

// View is the batch built so far; it aliases the builder until the next change.
func (b *Builder) View() Batch {
	out := Batch{Rows: b.Rows(), Columns: make([]Column, len(b.Columns))}
	for i := range b.Columns {
		out.Columns[i] = b.Columns[i].View()
	}
	return out
}

// View is the column built so far; it aliases the builder until the next change.
func (c *ColumnBuilder) View() Column {
	return Column{ID: c.ID, Type: c.Type, Rows: c.rows, Nulls: c.nulls, Valid: c.valid, Values: c.values, Offsets: c.offsets}
}

// Rows is the number of rows appended.
func (c *ColumnBuilder) Rows() int { return c.rows }

// Truncate takes the column back to its first n rows; more rows than there are is no change.
func (c *ColumnBuilder) Truncate(n int) {
	if n >= c.rows {
		return
	}
	if c.valid != nil {
		for i := n; i < c.rows; i++ {
			if c.valid[i>>3]&(1<<(i&7)) == 0 {
				c.nulls--
			}
		}
		c.valid = truncateBits(c.valid, n)
		if c.nulls == 0 {
			c.valid = nil
		}
	}
	switch c.Type.Layout() {
	case schema.Bytes:
		c.values, c.offsets = c.values[:c.offsets[n]], c.offsets[:n+1]
	case schema.Bits:
		c.values = truncateBits(c.values, n)
	default:
		c.values = c.values[:n*c.Type.Width()]
	}
	c.rows = n
}

// truncateBits keeps n bits; those behind the last are zero, as appends expect.
func truncateBits(b []byte, n int) []byte {
	b = b[:(n+7)/8]
	if n&7 != 0 {
		b[n>>3] &= 1<<(n&7) - 1
	}
	return b
}

func appendBit(b []byte, row int, set bool) []byte {
	if row&7 == 0 {
		b = append(b, 0)
	}
	if set {
		b[row>>3] |= 1 << (row & 7)
	}
	return b
}

// next counts a row that has a value.
func (c *ColumnBuilder) next() {
	if c.valid != nil {
		c.valid = appendBit(c.valid, c.rows, true)
	}
	c.rows++
}

// AppendNull appends a row without a value.
func (c *ColumnBuilder) AppendNull() {
	if c.valid == nil {
		c.valid = make([]byte, (c.rows+7)/8, cap(c.values)/8+64)
		for i := range c.valid {
			c.valid[i] = 0xff
		}
		c.valid = truncateBits(c.valid, c.rows)
	}
	c.valid = appendBit(c.valid, c.rows, false)
	c.nulls++
	switch c.Type.Layout() {
	case schema.Bytes:
		c.offsets = append(c.offsets, int32(len(c.values)))
	case schema.Bits:
		c.values = appendBit(c.values, c.rows, false)
	default:
		var zero [16]byte
		c.values = append(c.values, zero[:c.Type.Width()]...)
	}
	c.rows++
}

// AppendBool appends to a bool column.
func (c *ColumnBuilder) AppendBool(v bool) {
	c.values = appendBit(c.values, c.rows, v)
	c.next()
}

// AppendInt appends to any integral column but bool; v must fit its width.
func (c *ColumnBuilder) AppendInt(v int64) {
	switch c.Type.Layout() {
	case schema.Fixed8:
		c.values = binary.LittleEndian.AppendUint64(c.values, uint64(v))
	case schema.Fixed4:
		c.values = binary.LittleEndian.AppendUint32(c.values, uint32(v))
	case schema.Fixed2:
		c.values = binary.LittleEndian.AppendUint16(c.values, uint16(v))
	case schema.Fixed1:
		c.values = append(c.values, byte(v))
	default:
		panic("batch: AppendInt on a column of type " + c.Type.String())
	}
	c.next()
}

// AppendInt64 is AppendInt for a column with values of eight bytes, which the caller knows it has.
func (c *ColumnBuilder) AppendInt64(v int64) {
	c.values = binary.LittleEndian.AppendUint64(c.values, uint64(v))
	c.next()
}

// AppendInt32 is AppendInt for a column with values of four bytes.
func (c *ColumnBuilder) AppendInt32(v int32) {
	c.values = binary.LittleEndian.AppendUint32(c.values, uint32(v))
	c.next()
}

// AppendFloat appends to a float32 or float64 column.
func (c *ColumnBuilder) AppendFloat(v float64) {
	if c.Type.Kind == schema.Float32 {
		c.values = binary.LittleEndian.AppendUint32(c.values, float32Bits(v))
	} else {
		c.values = binary.LittleEndian.AppendUint64(c.values, float64Bits(v))
	}
	c.next()
}

// AppendFixed16 appends to a UUID column.
func (c *ColumnBuilder) AppendFixed16(v [16]byte) {
	c.values = append(c.values, v[:]...)
	c.next()
}

// AppendBytes appends a copy of v to a string, binary or JSON column.
func (c *ColumnBuilder) AppendBytes(v []byte) {
	c.values = append(c.values, v...)
	c.offsets = append(c.offsets, int32(len(c.values)))
	c.next()
}

// Scratch lends the value buffer's tail to a decoder that unescapes in place: append to it, then
// hand the grown slice to AppendScratch; or drop it, and nothing has changed.
func (c *ColumnBuilder) Scratch() []byte { return c.values }

// AppendScratch makes what was appended to Scratch the next row's value.
func (c *ColumnBuilder) AppendScratch(grown []byte) {
	c.values = grown
	c.offsets = append(c.offsets, int32(len(c.values)))
	c.next()
}

// AppendValue appends a value in the general form.
func (c *ColumnBuilder) AppendValue(v schema.Value) {
	switch {
	case v.Null:
		c.AppendNull()
	case c.Type.Kind == schema.Bool:
		c.AppendBool(v.Int != 0)
	case c.Type.Integral():
		c.AppendInt(v.Int)
	case c.Type.Layout() == schema.Bytes:
		c.AppendBytes(v.Bytes)
	case c.Type.Kind == schema.UUID:
		c.AppendFixed16([16]byte(v.Bytes))
	default:
		c.AppendFloat(v.Float)
	}
}
