package batch

import (
	"encoding/binary"
	"slices"

	"nyala/offsets"
	"nyala/store/schema"
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
}

// AppendWrite appends w as a sealed entry. dst's start must be 8-byte aligned and its length zero.
func AppendWrite(dst []byte, w *Write) []byte {
	var columns []Column
	if len(w.Batches) > 0 {
		columns = w.Batches[0].Columns
	}
	dst = Begin(dst)
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
	dst = appendColumns(dst, columns, w.newGathering().add)
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
	dst = appendColumns(dst, b.Columns, func(dst []byte, i int, d []byte) []byte { return b.Columns[i].appendTo(dst, d) })
	Seal(dst, h)
	return dst
}

// Size is how many bytes AppendWrite appends, at most a few more.
func (w *Write) Size() int {
	n := HeaderSize + 16 + 64 + 8*4 // with the gaps before parts that begin on a multiple of 8
	for _, s := range w.Segments {
		n += 56 + (len(s.Source.Connector)+7)&^7
	}
	rows := len(w.Refs)
	if len(w.Segments) > 0 {
		n += 6 * rows
	}
	n += len(w.Ops)
	if len(w.Batches) == 0 {
		return n
	}
	for i := range w.Batches[0].Columns {
		n += directoryEntry + 8*4 + (rows+7)/8
		switch t := w.Batches[0].Columns[i].Type; {
		case t.Layout() == schema.Bytes:
			n += 4 * (rows + 1)
			for _, r := range w.Refs {
				o := w.Batches[r.Batch].Columns[i].Offsets
				n += int(o[r.Row+1] - o[r.Row])
			}
		default:
			n += rows * t.Width()
		}
	}
	return n
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

// appendColumns appends the directory and, by add, the buffers of each column; add fills in the
// directory entry d, whose place in dst may move.
func appendColumns(dst []byte, columns []Column, add func(dst []byte, i int, d []byte) []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, len(columns)*directoryEntry)...)
	for i, c := range columns {
		var d [directoryEntry]byte
		binary.LittleEndian.PutUint32(d[:], uint32(c.ID))
		d[4], d[5], d[6] = byte(c.Type.Kind), c.Type.Precision, c.Type.Scale
		dst = add(dst, i, d[:])
		copy(dst[at+i*directoryEntry:], d[:])
	}
	var tail [64]byte
	return append(dst, tail[:]...)
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

// run is refs [from, to) of one batch.
type run struct {
	batch    uint32
	from, to int
}

func runsOf(refs []Ref) (runs []run) {
	for i, r := range refs {
		if i == 0 || r.Batch != refs[i-1].Batch {
			runs = append(runs, run{r.Batch, i, i})
		}
		runs[len(runs)-1].to++
	}
	return runs
}

// gathering is one column of the rows that a Write picks, in the making.
//
// It goes through the refs, not through the rows of the entry: the values of the batches, which are more than a processor's caches hold, are
// then read from front to back, and what is written here and there is one column of one entry, which they do hold.
type gathering struct {
	*Write
	runs    []run
	places  []uint32
	columns []*Column // by batch
}

func (w *Write) newGathering() *gathering {
	g := &gathering{Write: w, runs: runsOf(w.Refs), places: w.Places, columns: make([]*Column, len(w.Batches))}
	if g.places == nil {
		g.places = make([]uint32, len(w.Refs))
		for i := range g.places {
			g.places[i] = uint32(i)
		}
	}
	return g
}

// add appends column i of the picked rows.
func (g *gathering) add(dst []byte, i int, d []byte) []byte {
	nulls := false
	for b := range g.Batches {
		g.columns[b] = &g.Batches[b].Columns[i]
		nulls = nulls || g.columns[b].Nulls > 0
	}
	if nulls {
		dst = g.nulls(dst, d)
	}
	switch t := g.columns[0].Type; t.Layout() {
	case schema.Bytes:
		return g.bytes(dst, d)
	case schema.Bits:
		return g.bits(dst, d)
	case schema.Fixed1:
		return gatherFixed[uint8](g, dst, d)
	case schema.Fixed2:
		return gatherFixed[uint16](g, dst, d)
	case schema.Fixed4:
		return gatherFixed[uint32](g, dst, d)
	case schema.Fixed8:
		return gatherFixed[uint64](g, dst, d)
	default:
		return gatherFixed[[16]byte](g, dst, d)
	}
}

func (g *gathering) nulls(dst, d []byte) []byte {
	at, nulls := len(dst), 0
	dst = append(dst, make([]byte, (len(g.Refs)+7)/8)...)
	for k, r := range g.Refs {
		if g.columns[r.Batch].IsNull(int(r.Row)) {
			nulls++
		} else {
			dst[at+int(g.places[k]>>3)] |= 1 << (g.places[k] & 7)
		}
	}
	if nulls == 0 {
		return dst[:at]
	}
	putNulls(d, nulls, at)
	return pad(dst)
}

func (g *gathering) bits(dst, d []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, (len(g.Refs)+7)/8)...)
	for k, r := range g.Refs {
		if g.columns[r.Batch].Bit(int(r.Row)) {
			dst[at+int(g.places[k]>>3)] |= 1 << (g.places[k] & 7)
		}
	}
	putValues(d, at, len(dst)-at)
	return pad(dst)
}

func gatherFixed[T number](g *gathering, dst, d []byte) []byte {
	var zero T
	n := len(g.Refs)
	at, size := len(dst), n*len(BytesOf([]T{zero}))
	dst = slices.Grow(dst, size+8)[:at+size]
	out := View[T](dst[at:], n)
	for _, r := range g.runs {
		c := g.columns[r.batch]
		in, places := View[T](c.Values, c.Rows), g.places[r.from:r.to]
		for k, ref := range g.Refs[r.from:r.to] {
			out[places[k]] = in[ref.Row]
		}
	}
	putValues(d, at, size)
	return pad(dst)
}

func (g *gathering) bytes(dst, d []byte) []byte {
	n, offsets := len(g.Refs), len(dst)
	putOffsets(d, offsets)
	dst = slices.Grow(dst, 4*n+12)[:offsets+4*(n+1)]
	out := View[int32](dst[offsets:], n+1)
	for _, r := range g.runs {
		in, places := g.columns[r.batch].Offsets, g.places[r.from:r.to]
		for k, ref := range g.Refs[r.from:r.to] {
			out[places[k]+1] = in[ref.Row+1] - in[ref.Row]
		}
	}
	total := int32(0)
	out[0] = 0
	for k := 1; k < len(out); k++ {
		total += out[k]
		out[k] = total
	}
	dst = pad(dst)
	at := len(dst)
	dst = slices.Grow(dst, int(total)+8)[:at+int(total)]
	values := dst[at:]
	out = View[int32](dst[offsets:], n+1) // dst may have moved
	for _, r := range g.runs {
		c, places := g.columns[r.batch], g.places[r.from:r.to]
		for k, ref := range g.Refs[r.from:r.to] {
			copy(values[out[places[k]]:], c.Values[c.Offsets[ref.Row]:c.Offsets[ref.Row+1]])
		}
	}
	putValues(d, at, int(total))
	return pad(dst)
}
