package ingest

import (
	"math"
	"slices"

	"nyala/offsets"
	"nyala/store/batch"
)

// entryBuilder gathers pieces into entries and keeps its scratch memory.
type entryBuilder struct {
	keys    *batch.Keys
	sorter  batch.Sorter
	order   []uint32
	all     []rowOrigin    // in order of arrival
	owners  []*owner       // per segment
	columns []batch.Column // of the pieces
	write   batch.Write
	broken  mistake // only set by tests
}

// rowOrigin is what an entry says of a row beside its values.
type rowOrigin struct {
	segment uint16
	delta   uint32
	op      batch.Op
}

// build makes the entry of pieces, which have one schema. Rows are in primary-key order, equal keys in order of
// arrival: the pieces of a source arrive in offset order, so the last of equal keys is the newest.
//
// A segment begins where the last acknowledged one of its lane ended and ends with the last piece's chunk, although
// rows of other tablets lie between. The pieces are not changed: the same ones make the same entry again.
func (b *entryBuilder) build(pieces []piece) ([]byte, []offsets.Segment) {
	w := &b.write
	schema := pieces[0].chunk.schema
	w.Reset(batch.Header{Kind: batch.KindWrite, SchemaVersion: schema.Version}, pieces[0].chunk.noted)
	if b.keys == nil || b.keys.Width != schema.KeyWidth() {
		b.keys = batch.NewKeys(schema)
	}
	b.keys.Reset()
	b.all, b.owners = b.all[:0], b.owners[:0]
	columns := len(schema.Columns)
	b.columns = slices.Grow(b.columns[:0], len(pieces)*columns)[:len(pieces)*columns]
	mixed := false
	for i := range pieces {
		o := pieces[i].origin(b.columns[i*columns : i*columns : (i+1)*columns])
		mixed = b.add(&pieces[i], &o) || mixed
	}
	op := batch.Op(0)
	if len(b.all) > 0 {
		op = b.all[0].op
	}
	b.sort(op, mixed)
	return batch.AppendWrite(nil, w), w.Segments
}

// add takes up the rows of a piece, which are in o, and tells whether their operations are not all the same as those before.
func (b *entryBuilder) add(p *piece, o *origin) (mixed bool) {
	w, segment := &b.write, b.segment(p)
	row, first := rowOrigin{op: o.op}, int64(0)
	if p.lane != nil {
		row.segment, first = uint16(segment), w.Segments[segment].First
	}
	at := uint32(len(w.Batches))
	w.Batches = append(w.Batches, o.view)
	for _, r := range p.rows {
		if o.ops != nil {
			row.op = o.ops[r]
		}
		if p.lane != nil {
			row.delta = uint32(o.offsets[r] - first)
		}
		w.Refs = append(w.Refs, batch.Ref{Batch: at, Row: r})
		b.all = append(b.all, row)
		mixed = mixed || row.op != b.all[0].op
	}
	if o.keys == nil {
		b.keys.Append(&o.view, 0, len(p.rows))
		return mixed
	}
	for _, r := range p.rows {
		b.keys.Data = append(b.keys.Data, o.keys.At(int(r))...)
		if b.keys.Width == 0 {
			b.keys.Offsets = append(b.keys.Offsets, uint32(len(b.keys.Data)))
		}
	}
	return mixed
}

// forget lets go of the chunks and owners of the last entry.
func (b *entryBuilder) forget() {
	clear(b.write.Batches)
	clear(b.columns)
	clear(b.owners)
	clear(b.write.Segments)
}

// segment is the position of the piece's segment, which it makes or extends.
func (b *entryBuilder) segment(p *piece) int {
	if p.lane == nil && !p.chunk.noted {
		return 0
	}
	w, o := &b.write, p.chunk.ownerOf()
	if i := slices.Index(b.owners, o); i >= 0 {
		w.Segments[i].Next = p.chunk.span.Next
		return i
	}
	b.owners = append(b.owners, o)
	g := offsets.Segment{Source: o.source, Decision: p.chunk.decision, Range: p.chunk.span}
	if p.lane != nil {
		g.Start, g.First = o.start, b.broken.first(p)
	}
	w.Segments = append(w.Segments, g)
	return len(w.Segments) - 1
}

// sort gives w's rows their places, in key order.
func (b *entryBuilder) sort(op batch.Op, mixed bool) {
	w := &b.write
	b.order = b.sorter.Sort(b.keys, b.order)
	w.Op = op
	if mixed {
		w.Ops = make([]batch.Op, 0, len(b.order))
	}
	w.Places = slices.Grow(w.Places, len(b.order))[:len(b.order)]
	for place, i := range b.order {
		o := &b.all[i]
		w.Places[i] = uint32(place)
		if len(w.Segments) > 0 && !w.Noted {
			w.Segment = append(w.Segment, o.segment)
			w.Delta = append(w.Delta, o.delta)
		}
		if mixed {
			w.Ops = append(w.Ops, o.op)
		}
	}
}

// deltaMax is the farthest that a row may lie behind its segment's beginning.
const deltaMax = math.MaxUint32

// far returns a piece whose rows lie too far behind the end of its lane for one segment: a tablet that had no
// row of a source for four thousand million offsets.
func far(pieces []piece) *piece {
	for i := range pieces {
		p := &pieces[i]
		if p.lane != nil && p.chunk.span.Next-p.lane.next > deltaMax {
			return p
		}
	}
	return nil
}

// buildAdvance makes the entry without rows that brings p's lane to its chunk.
func (b *entryBuilder) buildAdvance(p *piece) ([]byte, []offsets.Segment) {
	b.owners = append(b.owners[:0], p.lane.owner)
	b.write = batch.Write{
		Header:  batch.Header{Kind: batch.KindWrite, SchemaVersion: p.chunk.schema.Version},
		Batches: []batch.Batch{p.origin(nil).view},
		Segments: []offsets.Segment{{
			Source: p.lane.owner.source, Start: p.lane.owner.start, Decision: p.chunk.decision,
			Range: offsets.Range{First: p.lane.next, Next: p.chunk.span.First},
		}},
	}
	return batch.AppendWrite(nil, &b.write), b.write.Segments
}
