package rowset

import (
	"fmt"
	"math/bits"
	"unsafe"

	"nyala/store/batch"
	"nyala/store/schema"
)

// Ref names a row of a list of batches.
type Ref = batch.Ref

// physical is how a column is stored in Parquet.
type physical uint8

const (
	physBool physical = iota
	physInt32
	physInt64
	physFloat
	physDouble
	physBytes
	physFixed16
)

func physicalOf(t schema.Type) physical {
	switch t.Kind {
	case schema.Bool:
		return physBool
	case schema.Int8, schema.Int16, schema.Int32, schema.Date:
		return physInt32
	case schema.Int64, schema.Decimal, schema.Timestamp:
		return physInt64
	case schema.Float32:
		return physFloat
	case schema.Float64:
		return physDouble
	case schema.UUID:
		return physFixed16
	}
	return physBytes
}

var physWidths = [...]int{physBool: 0, physInt32: 4, physInt64: 8, physFloat: 4, physDouble: 8, physBytes: 0, physFixed16: 16}

// width is the number of bytes of one value, 0 for bool and bytes.
func (p physical) width() int { return physWidths[p] }

// slack is how many bytes behind a span's data may be read: loads and copies work in words and look past the end.
const slack = 64

// span is a run of rows of one column, nulls squeezed out: what an encoder takes. It lives until the next take.
type span struct {
	rows, nulls int
	valid       []byte   // bitmap of rows bits, zero behind them; nil: no nulls
	data        []byte   // the values, slack bytes readable behind them
	off         []uint32 // of physBytes: values()+1, from 0
}

func (s *span) values() int { return s.rows - s.nulls }

// longest is the length of the longest value of bytes.
func (s *span) longest() (n uint32) {
	for i := 1; i < len(s.off); i++ {
		n = max(n, s.off[i]-s.off[i-1])
	}
	return n
}

// piece is one batch's part of the column.
type piece struct {
	values unsafe.Pointer
	limit  int // bytes there
	off    unsafe.Pointer
	valid  unsafe.Pointer // nil: no nulls
}

// source gathers one column's rows, in the order of refs, into its own memory. It reads through
// unsafe pointers: reset checks every buffer against its batch, and open every ref, so that the loops need not.
type source struct {
	kind   physical
	layout schema.Layout
	pieces []piece
	refs   []Ref
	nulls  bool // some piece has nulls

	data    []byte
	off     []uint32
	valid   []byte
	touched byte           // of no meaning
	keep    []batch.Column // columns made for batches that lack one
}

// checkRefs makes sure that every ref names a row.
func checkRefs(batches []*batch.Batch, refs []Ref) error {
	for i, r := range refs {
		if int(r.Batch) >= len(batches) || int(r.Row) >= batches[r.Batch].Rows {
			return fmt.Errorf("rowset: ref %d: got batch %d row %d, want one of %d batches and a row of it", i, r.Batch, r.Row, len(batches))
		}
	}
	return nil
}

// reset points s at a column; refs have been checked. A batch without the column (it is older than the
// column) has its default in every row, or null.
func (s *source) reset(c *schema.Column, batches []*batch.Batch, refs []Ref) error {
	s.kind, s.layout, s.refs, s.nulls = physicalOf(c.Type), c.Type.Layout(), refs, false
	s.pieces, s.keep = s.pieces[:0], s.keep[:0]
	for i, b := range batches {
		col := b.Column(c.ID)
		if col == nil {
			filled := constantColumn(c, b.Rows)
			col = &filled
			s.keep = append(s.keep, filled)
		}
		if err := checkColumn(c, col, b.Rows); err != nil {
			return fmt.Errorf("rowset: batch %d column %s: %w", i, c.Name, err)
		}
		p := piece{values: unsafe.Pointer(unsafe.SliceData(col.Values)), limit: len(col.Values), off: unsafe.Pointer(unsafe.SliceData(col.Offsets))}
		if col.Valid != nil && col.Nulls > 0 {
			p.valid = unsafe.Pointer(unsafe.SliceData(col.Valid))
			s.nulls = true
		}
		s.pieces = append(s.pieces, p)
		s.touch(col)
	}
	return nil
}

const (
	cacheLine = 64
	// touchMax bounds the bytes of a batch's values that are touched. In larger ones rows side by side are so many that the processor sees them coming.
	touchMax = 64 << 10
)

// touch reads a byte of each cache line of a column of a small batch. A processor fetches a dozen lines at a time where none waits for another; gathering
// rows, a few here, a few there, would wait for nearly every one.
func (s *source) touch(c *batch.Column) {
	if len(c.Values) > touchMax {
		return
	}
	for at := 0; at < len(c.Values); at += cacheLine {
		s.touched ^= c.Values[at]
	}
	for at := 0; at < len(c.Offsets); at += cacheLine / 4 {
		s.touched ^= byte(c.Offsets[at])
	}
}

// forget lets go of the batches: the writer waits for its next file, and would keep the rows of the last one, megabytes, in memory until then.
func (s *source) forget() {
	clear(s.pieces)
	clear(s.keep)
	s.refs = nil
}

func checkColumn(want *schema.Column, c *batch.Column, rows int) error {
	bitmap := (rows + 7) / 8
	switch l := c.Type.Layout(); {
	case c.Type != want.Type:
		return fmt.Errorf("got type %s, want %s", c.Type, want.Type)
	case c.Rows != rows:
		return fmt.Errorf("got %d rows, want %d", c.Rows, rows)
	case c.Valid == nil && c.Nulls != 0 || c.Valid != nil && len(c.Valid) < bitmap:
		return fmt.Errorf("got %d nulls and a bitmap of %d bytes, want %d", c.Nulls, len(c.Valid), bitmap)
	case c.Nulls > 0 && !want.Nullable:
		return fmt.Errorf("got %d nulls, want none", c.Nulls)
	case l == schema.Bytes && len(c.Offsets) < rows+1:
		return fmt.Errorf("got %d offsets, want %d", len(c.Offsets), rows+1)
	case l == schema.Bits && len(c.Values) < bitmap || len(c.Values) < rows*c.Type.Width():
		return fmt.Errorf("got %d bytes of values for %d rows", len(c.Values), rows)
	}
	return nil
}

// constantColumn is what a column added later reads as in older rows: its default in every row, else null.
func constantColumn(c *schema.Column, rows int) batch.Column {
	v := schema.Null
	if c.Default != nil {
		v = *c.Default
	} else if !c.Nullable {
		v = schema.Value{Bytes: zeroFor(c.Type)}
	}
	b := batch.NewBuilder([]schema.Column{*c}, rows)
	for range rows {
		b.Columns[0].AppendValue(v)
	}
	return b.Columns[0].View()
}

// Fill looks at the given columns of a batch, in that order. Those that came after it are made up: the default in every row, else null.
func Fill(b *batch.Batch, columns []schema.Column) *batch.Batch {
	out := &batch.Batch{Rows: b.Rows, Columns: make([]batch.Column, len(columns))}
	for i := range columns {
		if c := b.Column(columns[i].ID); c != nil {
			out.Columns[i] = *c
		} else {
			out.Columns[i] = constantColumn(&columns[i], b.Rows)
		}
	}
	return out
}

func zeroFor(t schema.Type) []byte {
	if t.Kind == schema.UUID {
		return make([]byte, 16)
	}
	return nil
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}

// take gathers rows [at, at+n), or fewer: it ends behind the value with which the bytes of a column of
// bytes reach limit. That cut, like everything that shapes a file, depends on rows alone.
func (s *source) take(at, n, limit int) span {
	refs := s.refs[at : at+n]
	sp := span{rows: n}
	if s.nulls {
		s.gatherValid(refs, &sp)
	}
	s.data = grow(s.data, n*max(s.kind.width(), 1)+slack)
	switch s.layout {
	case schema.Bits:
		s.gatherBits(refs, &sp)
	case schema.Fixed1:
		gatherWide[int8](s, refs, &sp)
	case schema.Fixed2:
		gatherWide[int16](s, refs, &sp)
	case schema.Fixed4:
		gatherFixed[uint32](s, refs, &sp)
	case schema.Fixed8:
		gatherFixed[uint64](s, refs, &sp)
	case schema.Fixed16:
		gatherFixed[[2]uint64](s, refs, &sp)
	case schema.Bytes:
		s.gatherBytes(refs, &sp, limit)
	}
	return sp
}

func (s *source) gatherValid(refs []Ref, sp *span) {
	s.valid = grow(s.valid, (len(refs)+7)/8)
	clear(s.valid)
	n := 0
	for i, r := range refs {
		v := byte(1)
		if p := s.pieces[r.Batch].valid; p != nil {
			v = *(*byte)(unsafe.Add(p, r.Row>>3)) >> (r.Row & 7) & 1
		}
		s.valid[i>>3] |= v << (i & 7)
		n += int(v)
	}
	if sp.nulls = len(refs) - n; sp.nulls > 0 {
		sp.valid = s.valid
	}
}

// bit is bit i of a bitmap.
func bit(b []byte, i int) byte { return b[i>>3] >> (i & 7) & 1 }

func (s *source) gatherBits(refs []Ref, sp *span) {
	d := s.data
	clear(d[:len(refs)/8+1])
	j := 0
	for i, r := range refs {
		if sp.valid != nil && bit(sp.valid, i) == 0 {
			continue
		}
		v := *(*byte)(unsafe.Add(s.pieces[r.Batch].values, r.Row>>3)) >> (r.Row & 7) & 1
		d[j>>3] |= v << (j & 7)
		j++
	}
	sp.data = d[:(j+7)/8]
}

func gatherFixed[T uint32 | uint64 | [2]uint64](s *source, refs []Ref, sp *span) {
	var zero T
	size := unsafe.Sizeof(zero)
	dst := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(s.data))), len(refs)+1)
	if sp.valid == nil {
		for i, r := range refs {
			dst[i] = *(*T)(unsafe.Add(s.pieces[r.Batch].values, uintptr(r.Row)*size))
		}
	} else {
		j := 0
		for i, r := range refs {
			dst[j] = *(*T)(unsafe.Add(s.pieces[r.Batch].values, uintptr(r.Row)*size))
			j += int(bit(sp.valid, i))
		}
	}
	sp.data = s.data[:sp.values()*int(size)]
}

// gatherWide widens to int32, the smallest integer that Parquet has.
func gatherWide[T int8 | int16](s *source, refs []Ref, sp *span) {
	var zero T
	size := unsafe.Sizeof(zero)
	dst := unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(s.data))), len(refs)+1)
	j := 0
	for i, r := range refs {
		dst[j] = int32(*(*T)(unsafe.Add(s.pieces[r.Batch].values, uintptr(r.Row)*size)))
		if sp.valid == nil {
			j++
		} else {
			j += int(bit(sp.valid, i))
		}
	}
	sp.data = s.data[:sp.values()*4]
}

func (s *source) gatherBytes(refs []Ref, sp *span, limit int) {
	s.off = grow(s.off, sp.values()+1)
	d, pos, j := s.data[:cap(s.data)], 0, 0
	s.off[0] = 0
	for i, r := range refs {
		if pos >= limit {
			s.cut(sp, i)
			break
		}
		if sp.valid != nil && bit(sp.valid, i) == 0 {
			continue
		}
		p := &s.pieces[r.Batch]
		o := (*[2]int32)(unsafe.Add(p.off, uintptr(r.Row)*4))
		from, l := uint(o[0]), int(o[1]-o[0])
		if uint(pos+l+slack) > uint(len(d)) {
			must(l >= 0, "rowset: offsets of a batch fall")
			d = append(make([]byte, 0, 2*(pos+l+slack)+1<<16), d[:pos]...)
			d = d[:cap(d)]
		}
		if uint(l) <= 16 && from+16 <= uint(p.limit) {
			*(*[2]uint64)(unsafe.Pointer(&d[pos])) = *(*[2]uint64)(unsafe.Add(p.values, from))
		} else if uint(l) <= slack && from+slack <= uint(p.limit) { // whole words: past the value's end, never past the buffer's
			src := unsafe.Add(p.values, from)
			for x := 0; x < l; x += 16 {
				*(*[2]uint64)(unsafe.Pointer(&d[pos+x])) = *(*[2]uint64)(unsafe.Add(src, x))
			}
		} else {
			copy(d[pos:pos+l], unsafe.Slice((*byte)(p.values), p.limit)[from:from+uint(l)])
		}
		pos += l
		j++
		s.off[j] = uint32(pos)
	}
	s.data = d
	sp.data, sp.off = d[:pos], s.off[:j+1]
}

// cut ends a span at its first n rows.
func (s *source) cut(sp *span, n int) {
	sp.rows = n
	if sp.valid == nil {
		return
	}
	sp.valid = sp.valid[:(n+7)/8]
	if n&7 != 0 {
		sp.valid[n>>3] &= 1<<(n&7) - 1
	}
	ones := 0
	for _, b := range sp.valid {
		ones += bits.OnesCount8(b)
	}
	if sp.nulls = n - ones; sp.nulls == 0 {
		sp.valid = nil
	}
}

// view looks at bytes as values.
func view[T int32 | uint32 | int64 | uint64 | float32 | float64 | [2]uint64](b []byte) []T {
	var zero T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(zero)))
}

// raw looks at values as bytes.
func raw[T int32 | uint32 | int64 | uint64 | [2]uint64](v []T) []byte {
	var zero T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(zero)))
}

// load8 reads the first 8 of a value's l bytes as a big-endian word, zeros behind. 8 bytes must be readable.
func load8(p unsafe.Pointer, l int) uint64 {
	v := bits.ReverseBytes64(*(*uint64)(p))
	if l < 8 {
		v &= ^(^uint64(0) >> (8 * l))
	}
	return v
}
