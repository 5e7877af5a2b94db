package batch

import (
	"encoding/binary"
	"slices"

	"nyala/offsets"
)

// Op is what a row of a Write does to the row of its key. The numbers are in logs.
type Op uint8

// The operations; a deleted row has its key columns only, the rest is null or zero.
const (
	Upsert Op = 0 // the last one wins
	Insert Op = 1 // the first one wins
	Delete Op = 2
)

const opPerRow = 255

// What an entry knows of where its rows come from. The numbers are in logs.
const (
	noOrigins    = 0 // nothing
	rowOrigins   = 1 // the segment and offset of each row
	notedOrigins = 2 // its segments, and not which row is of which
)

// Ref names a row of one of several batches.
type Ref struct{ Batch, Row uint32 }

// Write is the content of a Write entry before it is encoded: rows picked from batches whose columns
// stand in the schema's order, in primary-key order (equal keys: in offset order).
type Write struct {
	Header   Header
	Batches  []Batch
	Refs     []Ref             // the rows; fastest where they stand batch by batch and in the batch's order
	Places   []uint32          // per ref: which row of the entry it is, each once; nil: the refs are in the entry's order
	Segments []offsets.Segment // of at most 65,536 sources; none: rows without origin
	Noted    bool              // the rows have no origin, the segments only say how far their sources have come (dead letters)
	Segment  []uint16          // per row: its segment; unused when there are no segments, or Noted
	Delta    []uint32          // per row: its offset less the segment's First
	Op       Op                // of all rows, unless
	Ops      []Op              // ... they differ: per row

	gathering gathering // scratch
}

// Reset empties w for another entry and keeps its memory.
func (w *Write) Reset(h Header, noted bool) {
	*w = Write{
		Header: h, Noted: noted,
		Batches: w.Batches[:0], Refs: w.Refs[:0], Places: w.Places[:0], Segments: w.Segments[:0], Segment: w.Segment[:0], Delta: w.Delta[:0],
		gathering: w.gathering,
	}
}

// AppendWrite appends w as a sealed entry. dst's start must be 8-byte aligned and its length zero.
func AppendWrite(dst []byte, w *Write) []byte {
	var columns []Column
	if len(w.Batches) > 0 {
		columns = w.Batches[0].Columns
	}
	end := w.layOut(w.prefix()+len(columns)*directoryEntry, columns)
	dst = Begin(slices.Grow(dst, end))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(w.Refs)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(columns)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(w.Segments)))
	op, origins := byte(w.Op), byte(noOrigins)
	if w.Ops != nil {
		op = opPerRow
	}
	if w.Noted {
		origins = notedOrigins
	} else if len(w.Segments) > 0 {
		origins = rowOrigins
	}
	dst = append(dst, op, origins, 0, 0)
	dst = appendSegments(dst, w.Segments)
	if origins == rowOrigins {
		dst = pad(append(dst, BytesOf(w.Segment)...))
		dst = pad(append(dst, BytesOf(w.Delta)...))
	}
	if w.Ops != nil {
		dst = pad(append(dst, BytesOf(w.Ops)...))
	}
	if len(dst) != w.prefix() {
		panic("batch: columns are not where they were reckoned to be")
	}
	dst = w.appendPicked(dst, columns, end)
	Seal(dst, w.Header)
	return dst
}

// AppendRows appends b as a sealed entry of kind Rows: what a scan sends to another node.
func AppendRows(dst []byte, b *Batch, h Header) []byte {
	h.Kind = KindRows
	dst = Begin(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(b.Rows))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(b.Columns)))
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = appendColumns(dst, b.Columns)
	Seal(dst, h)
	return dst
}

// prefix is how many bytes of an entry are before its columns.
func (w *Write) prefix() int {
	n := HeaderSize + 16
	for _, s := range w.Segments {
		n += segmentBytes + (len(s.Source.Connector)+7)&^7
	}
	if len(w.Segments) > 0 && !w.Noted {
		n += (2*len(w.Segment)+7)&^7 + (4*len(w.Delta)+7)&^7
	}
	return n + (len(w.Ops)+7)&^7
}

func pad(b []byte) []byte {
	var zero [8]byte
	return append(b, zero[:-len(b)&7]...)
}

func appendSegments(dst []byte, segments []offsets.Segment) []byte {
	for _, s := range segments {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Start))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(s.First))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Next))
		dst = append(dst, s.Source.Topic[:]...)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(s.Source.Partition))
		dst = binary.LittleEndian.AppendUint32(dst, s.Decision)
		dst = append(dst, 0, 0, 0, 0)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s.Source.Connector)))
		dst = pad(append(dst, s.Source.Connector...))
	}
	return dst
}

const directoryEntry = 32

// appendColumns appends the directory and the buffers of each column as they are.
func appendColumns(dst []byte, columns []Column) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, len(columns)*directoryEntry)...)
	for i := range columns {
		var d [directoryEntry]byte
		columns[i].describe(d[:])
		dst = columns[i].appendTo(dst, d[:])
		copy(dst[at+i*directoryEntry:], d[:])
	}
	var tail [columnsTail]byte
	return append(dst, tail[:]...)
}

// columnsTail is zeros behind the columns.
const columnsTail = 64

// describe writes what a directory entry says of the column itself.
func (c *Column) describe(d []byte) {
	binary.LittleEndian.PutUint32(d, uint32(c.ID))
	d[4], d[5], d[6] = byte(c.Type.Kind), c.Type.Precision, c.Type.Scale
}

func putNulls(d []byte, nulls, at int) {
	binary.LittleEndian.PutUint32(d[8:], uint32(nulls))
	binary.LittleEndian.PutUint32(d[12:], uint32(at-HeaderSize))
}

func putValues(d []byte, at, length int) {
	binary.LittleEndian.PutUint32(d[16:], uint32(at-HeaderSize))
	binary.LittleEndian.PutUint32(d[20:], uint32(length))
}

func putOffsets(d []byte, at int) { binary.LittleEndian.PutUint32(d[24:], uint32(at-HeaderSize)) }

// appendTo copies a column's buffers as they are.
func (c *Column) appendTo(dst, d []byte) []byte {
	if c.Nulls > 0 {
		putNulls(d, c.Nulls, len(dst))
		dst = pad(append(dst, c.Valid[:(c.Rows+7)/8]...))
	}
	values := c.Values
	if c.Offsets != nil {
		putOffsets(d, len(dst))
		base := c.Offsets[0]
		values = values[base:c.Offsets[c.Rows]]
		for _, o := range c.Offsets[:c.Rows+1] {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(o-base))
		}
		dst = pad(dst)
	} else if w := c.Type.Width(); w > 0 {
		values = values[:c.Rows*w]
	} else {
		values = values[:(c.Rows+7)/8]
	}
	putValues(d, len(dst), len(values))
	return pad(append(dst, values...))
}
