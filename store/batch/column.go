package batch

import (
	"math"
	"unsafe"

	"nyala/store/schema"
)

// Column is one column of a batch. It never owns its buffers: it looks into an entry, a Builder or a page.
type Column struct {
	ID      schema.ColumnID
	Type    schema.Type
	Rows    int
	Nulls   int     // number of nulls
	Valid   []byte  // a set bit is a value; nil when there are no nulls
	Values  []byte  // fixed-width values, bits, or the bytes that Offsets cuts
	Offsets []int32 // Rows+1 of them for variable-length types, else nil
}

// Batch is a set of rows, all columns of the same length.
type Batch struct {
	Rows    int
	Columns []Column
}

// Column finds a column by id, nil when the batch has none of that id.
func (b *Batch) Column(id schema.ColumnID) *Column {
	for i := range b.Columns {
		if b.Columns[i].ID == id {
			return &b.Columns[i]
		}
	}
	return nil
}

// number is what a fixed-width buffer can be viewed as.
type number interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64 | [16]byte
}

// View looks at b as a slice of n values. b must be aligned for T, which all buffers of a batch are.
func View[T number](b []byte, n int) []T {
	if n == 0 {
		return nil
	}
	_ = b[n*int(unsafe.Sizeof(*new(T)))-1]
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// BytesOf looks at a slice of values as bytes.
func BytesOf[T number](s []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(*new(T))))
}

// Int8s and the like view a fixed-width column.
func (c *Column) Int8s() []int8       { return View[int8](c.Values, c.Rows) }
func (c *Column) Int16s() []int16     { return View[int16](c.Values, c.Rows) }
func (c *Column) Int32s() []int32     { return View[int32](c.Values, c.Rows) }
func (c *Column) Int64s() []int64     { return View[int64](c.Values, c.Rows) }
func (c *Column) Float32s() []float32 { return View[float32](c.Values, c.Rows) }
func (c *Column) Float64s() []float64 { return View[float64](c.Values, c.Rows) }

// IsNull tells whether row i has no value.
func (c *Column) IsNull(i int) bool {
	return c.Valid != nil && c.Valid[i>>3]&(1<<(i&7)) == 0
}

// Bit is the value of row i of a bool column.
func (c *Column) Bit(i int) bool { return c.Values[i>>3]&(1<<(i&7)) != 0 }

// Bytes is the value of row i of a variable-length column; it aliases the batch.
func (c *Column) Bytes(i int) []byte { return c.Values[c.Offsets[i]:c.Offsets[i+1]:c.Offsets[i+1]] }

// Int is the value of row i of an integral column, widened.
func (c *Column) Int(i int) int64 {
	switch c.Type.Layout() {
	case schema.Bits:
		if c.Bit(i) {
			return 1
		}
		return 0
	case schema.Fixed1:
		return int64(c.Int8s()[i])
	case schema.Fixed2:
		return int64(c.Int16s()[i])
	case schema.Fixed4:
		return int64(c.Int32s()[i])
	}
	return c.Int64s()[i]
}

// Value is row i in the slow, general form; bytes alias the batch.
func (c *Column) Value(i int) schema.Value {
	if c.IsNull(i) {
		return schema.Null
	}
	switch c.Type.Kind {
	case schema.Float32:
		return schema.Value{Float: float64(c.Float32s()[i])}
	case schema.Float64:
		return schema.Value{Float: c.Float64s()[i]}
	case schema.UUID:
		return schema.Value{Bytes: c.Values[i*16 : i*16+16 : i*16+16]}
	case schema.String, schema.Binary, schema.JSON:
		return schema.Value{Bytes: c.Bytes(i)}
	}
	return schema.Value{Int: c.Int(i)}
}

// float32Bits and float64Bits keep NaN payloads and the sign of zero.
func float32Bits(f float64) uint32 { return math.Float32bits(float32(f)) }
func float64Bits(f float64) uint64 { return math.Float64bits(f) }

// Head is the batch's first n rows; it aliases the batch.
func (b *Batch) Head(n int) *Batch {
	out := &Batch{Rows: n, Columns: make([]Column, len(b.Columns))}
	for i, c := range b.Columns {
		if c.Valid != nil {
			c.Nulls = 0
			for r := range n {
				if c.IsNull(r) {
					c.Nulls++
				}
			}
			if c.Nulls == 0 {
				c.Valid = nil
			}
		}
		switch w := c.Type.Width(); {
		case c.Offsets != nil:
			c.Offsets = c.Offsets[:n+1]
		case w > 0:
			c.Values = c.Values[:n*w]
		}
		c.Rows = n
		out.Columns[i] = c
	}
	return out
}
