package batch

import (
	"encoding/binary"
	"fmt"

	"nyala/offsets"
	"nyala/store/schema"
)

// Parsed is a Write or Rows entry viewed in place: every slice aliases the entry's bytes.
type Parsed struct {
	Header   Header
	Sum      uint32 // CRC32C of the entry's body
	Batch    Batch
	Segments []offsets.Segment
	Noted    bool     // rows have no origin, and segments only say how far sources have come
	Segment  []uint16 // per row, nil without origins
	Delta    []uint32 // per row, nil without origins
	op       byte
	ops      []Op
}

// Op is the operation of row i.
func (p *Parsed) Op(i int) Op {
	if p.ops != nil {
		return p.ops[i]
	}
	return Op(p.op)
}

// Offset is the source offset of row i; the entry must have origins.
func (p *Parsed) Offset(i int) int64 { return p.Segments[p.Segment[i]].First + int64(p.Delta[i]) }

// ParseWrite views a Write or Rows entry. The entry must start on 8 bytes. It checks everything that
// a later access could fall over, so that a hostile entry is an error and never a panic.
func ParseWrite(entry []byte) (*Parsed, error) {
	h, body, err := Open(entry)
	if err != nil {
		return nil, err
	}
	if h.Kind != KindWrite && h.Kind != KindRows {
		return nil, fmt.Errorf("batch: entry is a %s, want a write or rows", h.Kind)
	}
	p := &Parsed{Header: h, Sum: binary.LittleEndian.Uint32(entry[28:])}
	c := &cursor{b: body}
	if err := c.parse(p); err != nil {
		return nil, fmt.Errorf("batch: %s entry at %d: %w: %w", h.Kind, HeaderSize+c.at, err, ErrCorrupt)
	}
	return p, nil
}

// cursor reads a body front to back.
type cursor struct {
	b  []byte
	at int
}

func (c *cursor) take(n int) ([]byte, error) {
	if n < 0 || n > len(c.b)-c.at {
		return nil, fmt.Errorf("want %d bytes, got %d", n, len(c.b)-c.at)
	}
	out := c.b[c.at : c.at+n : c.at+n]
	c.at += (n + 7) &^ 7
	c.at = min(c.at, len(c.b))
	return out, nil
}

func (c *cursor) parse(p *Parsed) error {
	head, err := c.take(16)
	if err != nil {
		return err
	}
	rows, columns := int(binary.LittleEndian.Uint32(head)), int(binary.LittleEndian.Uint32(head[4:]))
	segments := int(binary.LittleEndian.Uint32(head[8:]))
	if (rows > len(c.b)*8 && columns > 0) || columns > len(c.b)/directoryEntry || segments > len(c.b)/segmentBytes || segments > 1<<16 {
		return fmt.Errorf("%d rows, %d columns and %d segments do not fit %d bytes", rows, columns, segments, len(c.b))
	}
	for range segments {
		s, err := c.segment()
		if err != nil {
			return err
		}
		p.Segments = append(p.Segments, s)
	}
	switch head[13] {
	case noOrigins:
	case notedOrigins:
		p.Noted = true
	case rowOrigins:
		if err := c.origins(p, rows); err != nil {
			return err
		}
	default:
		return fmt.Errorf("origins %d are unknown", head[13])
	}
	if p.op = head[12]; p.op == opPerRow {
		b, err := c.take(rows)
		if err != nil {
			return err
		}
		p.ops = View[Op](b, rows)
	}
	for _, o := range p.ops {
		if o > Delete {
			return fmt.Errorf("operation %d is unknown", o)
		}
	}
	if p.ops == nil && Op(p.op) > Delete {
		return fmt.Errorf("operation %d is unknown", p.op)
	}
	return c.columns(&p.Batch, rows, columns)
}

// segmentBytes is a segment without its connector's name.
const segmentBytes = 56

func (c *cursor) segment() (s offsets.Segment, err error) {
	b, err := c.take(segmentBytes)
	if err != nil {
		return s, err
	}
	s.Start = int64(binary.LittleEndian.Uint64(b))
	s.First = int64(binary.LittleEndian.Uint64(b[8:]))
	s.Next = int64(binary.LittleEndian.Uint64(b[16:]))
	copy(s.Source.Topic[:], b[24:])
	s.Source.Partition = int32(binary.LittleEndian.Uint32(b[40:]))
	s.Decision = binary.LittleEndian.Uint32(b[44:])
	name, err := c.take(int(binary.LittleEndian.Uint32(b[52:])))
	s.Source.Connector = string(name)
	if err == nil && (s.First > s.Next || s.First < 0) {
		err = fmt.Errorf("segment [%d,%d) is no range", s.First, s.Next)
	}
	return s, err
}

func (c *cursor) origins(p *Parsed, rows int) error {
	seg, err := c.take(rows * 2)
	if err != nil {
		return err
	}
	delta, err := c.take(rows * 4)
	if err != nil {
		return err
	}
	p.Segment, p.Delta = View[uint16](seg, rows), View[uint32](delta, rows)
	for i, s := range p.Segment {
		if int(s) >= len(p.Segments) {
			return fmt.Errorf("row %d is of segment %d of %d", i, s, len(p.Segments))
		}
		if r := p.Segments[s]; int64(p.Delta[i]) >= r.Next-r.First {
			return fmt.Errorf("row %d has offset %d, outside of [%d,%d)", i, r.First+int64(p.Delta[i]), r.First, r.Next)
		}
	}
	return nil
}

func (c *cursor) columns(out *Batch, rows, columns int) error {
	dir, err := c.take(columns * directoryEntry)
	if err != nil {
		return err
	}
	out.Rows, out.Columns = rows, make([]Column, columns)
	for i := range out.Columns {
		if err := c.column(&out.Columns[i], rows, dir[i*directoryEntry:]); err != nil {
			return fmt.Errorf("column %d: %w", i, err)
		}
	}
	return nil
}

func (c *cursor) slice(at, n uint32) ([]byte, error) {
	if at&7 != 0 || uint64(at)+uint64(n) > uint64(len(c.b)) {
		return nil, fmt.Errorf("buffer [%d,%d) is outside of %d bytes or not aligned", at, uint64(at)+uint64(n), len(c.b))
	}
	return c.b[at : at+n : at+n], nil
}

func (c *cursor) column(out *Column, rows int, d []byte) (err error) {
	le := binary.LittleEndian
	out.ID, out.Rows = schema.ColumnID(le.Uint32(d)), rows
	out.Type = schema.Type{Kind: schema.Kind(d[4]), Precision: d[5], Scale: d[6]}
	if !out.Type.Valid() {
		return fmt.Errorf("type %s is not valid", out.Type)
	}
	if out.Nulls = int(le.Uint32(d[8:])); out.Nulls > 0 {
		if out.Valid, err = c.slice(le.Uint32(d[12:]), uint32(rows+7)/8); err != nil {
			return err
		}
	}
	if out.Values, err = c.slice(le.Uint32(d[16:]), le.Uint32(d[20:])); err != nil {
		return err
	}
	want := rows * out.Type.Width()
	switch out.Type.Layout() {
	case schema.Bits:
		want = (rows + 7) / 8
	case schema.Bytes:
		b, err := c.slice(le.Uint32(d[24:]), uint32(rows+1)*4)
		if err != nil {
			return err
		}
		out.Offsets = View[int32](b, rows+1)
		last := int32(0)
		for _, o := range out.Offsets {
			if o < last {
				return fmt.Errorf("offsets fall from %d to %d", last, o)
			}
			last = o
		}
		want = int(last)
	}
	if len(out.Values) != want {
		return fmt.Errorf("%d bytes of values, want %d", len(out.Values), want)
	}
	return nil
}
