package batch

import (
	"slices"

	"nyala/store/schema"
)

// gathering is the rows that a Write picks, on their way into its entry. First it is reckoned where each column's buffers are, then these are
// filled, going through the refs and not through the rows of the entry: what is read is more than a processor's caches hold and is read from front to
// back, and what is written here and there, of a column or of all, they do hold.
type gathering struct {
	runs   []run
	places []uint32
	at     []columnPlace
}

// run is refs [from, to) of one batch.
type run struct {
	batch    uint32
	from, to int
	whole    bool // the rows stand side by side in the batch
}

// columnPlace is where a column's buffers are in the entry.
type columnPlace struct {
	nulls, values, offsets int
	length                 int // of the values
	null                   int // how many are
}

// A Write with shorter runs is filled batch by batch, not column by column: the rows of a short one are in a block (blocks.go), all columns of it
// in a few lines of the caches.
const runMin = 128

// findRuns cuts the refs into runs.
func (w *Write) findRuns() {
	runs := w.gathering.runs[:0]
	var last *run
	for i, r := range w.Refs {
		if i == 0 || r.Batch != last.batch {
			runs = append(runs, run{r.Batch, i, i, true})
			last = &runs[len(runs)-1]
		} else {
			last.whole = last.whole && r.Row == w.Refs[i-1].Row+1
		}
		last.to++
	}
	w.gathering.runs = runs
}

// textLength is the length of all values of column i, which are of any length.
func (w *Write) textLength(i int) (n int) {
	for _, r := range w.gathering.runs {
		offsets, refs := w.Batches[r.batch].Columns[i].Offsets, w.Refs[r.from:r.to]
		if r.whole {
			n += int(offsets[refs[len(refs)-1].Row+1] - offsets[refs[0].Row])
			continue
		}
		for _, ref := range refs {
			n += int(offsets[ref.Row+1] - offsets[ref.Row])
		}
	}
	return n
}

// appendPicked appends the directory and the columns of the picked rows, up to end.
func (w *Write) appendPicked(dst []byte, columns []Column, end int) []byte {
	g := &w.gathering
	if g.places = w.Places; g.places == nil {
		g.places = make([]uint32, len(w.Refs))
		for i := range g.places {
			g.places[i] = uint32(i)
		}
	}
	directory := len(dst)
	dst = dst[:end]
	clear(dst[end-columnsTail:])
	for i := range columns {
		w.describe(dst, dst[directory+i*directoryEntry:][:directoryEntry], &columns[i], &g.at[i])
	}
	if len(w.Refs) < runMin*len(g.runs) {
		for _, r := range g.runs {
			for i := range columns {
				w.fill(dst, r, i)
			}
		}
		for i := range columns {
			w.addUp(dst, i)
		}
		for _, r := range g.runs {
			for i := range columns {
				w.fillText(dst, r, i)
			}
		}
		return dst
	}
	for i := range columns {
		for _, r := range g.runs {
			w.fill(dst, r, i)
		}
		w.addUp(dst, i)
		for _, r := range g.runs {
			w.fillText(dst, r, i)
		}
	}
	return dst
}

// layOut reckons where the columns are in the entry, the first one at at, and where they end.
func (w *Write) layOut(at int, columns []Column) (end int) {
	w.findRuns()
	rows := len(w.Refs)
	room := func(n int) (begin int) {
		begin, at = at, at+(n+7)&^7
		return begin
	}
	w.gathering.at = slices.Grow(w.gathering.at[:0], len(columns))[:len(columns)]
	for i := range columns {
		p := &w.gathering.at[i]
		*p = columnPlace{null: w.countNulls(i)}
		if p.null > 0 {
			p.nulls = room((rows + 7) / 8)
		}
		switch t := columns[i].Type; t.Layout() {
		case schema.Bytes:
			p.offsets = room(4 * (rows + 1))
			p.length = w.textLength(i)
		case schema.Bits:
			p.length = (rows + 7) / 8
		default:
			p.length = rows * t.Width()
		}
		p.values = room(p.length)
	}
	return at + columnsTail
}

func (w *Write) countNulls(i int) (n int) {
	for _, r := range w.gathering.runs {
		c := &w.Batches[r.batch].Columns[i]
		if c.Nulls == 0 {
			continue
		}
		for _, ref := range w.Refs[r.from:r.to] {
			if c.IsNull(int(ref.Row)) {
				n++
			}
		}
	}
	return n
}

// describe writes a column's directory entry, and the zeros that its buffers have where nothing else is written.
func (w *Write) describe(dst, d []byte, c *Column, p *columnPlace) {
	clear(d)
	c.describe(d)
	bits := (len(w.Refs) + 7) / 8
	padded := func(at, n int) {
		clear(dst[at+n : at+(n+7)&^7])
	}
	if p.null > 0 {
		putNulls(d, p.null, p.nulls)
		clear(dst[p.nulls : p.nulls+bits])
		padded(p.nulls, bits)
	}
	if c.Type.Layout() == schema.Bytes {
		putOffsets(d, p.offsets)
		padded(p.offsets, 4*(len(w.Refs)+1))
	}
	if c.Type.Layout() == schema.Bits {
		clear(dst[p.values : p.values+bits])
	}
	putValues(d, p.values, p.length)
	padded(p.values, p.length)
}

// fill puts the values of a run where they belong; of texts, their lengths.
func (w *Write) fill(dst []byte, r run, i int) {
	c, p, places := &w.Batches[r.batch].Columns[i], &w.gathering.at[i], w.gathering.places[r.from:r.to]
	refs := w.Refs[r.from:r.to]
	if p.null > 0 {
		nulls := dst[p.nulls:]
		for k, ref := range refs {
			if !c.IsNull(int(ref.Row)) {
				nulls[places[k]>>3] |= 1 << (places[k] & 7)
			}
		}
	}
	switch out := dst[p.values:]; c.Type.Layout() {
	case schema.Bytes:
		lengths := View[int32](dst[p.offsets:], len(w.Refs)+1)[1:]
		for k, ref := range refs {
			lengths[places[k]] = c.Offsets[ref.Row+1] - c.Offsets[ref.Row]
		}
	case schema.Bits:
		for k, ref := range refs {
			if c.Bit(int(ref.Row)) {
				out[places[k]>>3] |= 1 << (places[k] & 7)
			}
		}
	case schema.Fixed1:
		fillFixed[uint8](w, out, c, r, places)
	case schema.Fixed2:
		fillFixed[uint16](w, out, c, r, places)
	case schema.Fixed4:
		fillFixed[uint32](w, out, c, r, places)
	case schema.Fixed8:
		fillFixed[uint64](w, out, c, r, places)
	default:
		fillFixed[[16]byte](w, out, c, r, places)
	}
}

func fillFixed[T number](w *Write, dst []byte, c *Column, r run, places []uint32) {
	out, in := View[T](dst, len(w.Refs)), View[T](c.Values, c.Rows)
	if r.whole {
		in = in[w.Refs[r.from].Row:]
		for k, place := range places {
			out[place] = in[k]
		}
		return
	}
	for k, ref := range w.Refs[r.from:r.to] {
		out[places[k]] = in[ref.Row]
	}
}

// addUp makes offsets of the lengths of texts.
func (w *Write) addUp(dst []byte, i int) {
	p := &w.gathering.at[i]
	if p.offsets == 0 {
		return
	}
	offsets := View[int32](dst[p.offsets:], len(w.Refs)+1)
	total := int32(0)
	offsets[0] = 0
	for k := 1; k < len(offsets); k++ {
		total += offsets[k]
		offsets[k] = total
	}
}

// fillText copies the texts of a run.
func (w *Write) fillText(dst []byte, r run, i int) {
	p := &w.gathering.at[i]
	if p.offsets == 0 {
		return
	}
	c, values, offsets := &w.Batches[r.batch].Columns[i], dst[p.values:], View[int32](dst[p.offsets:], len(w.Refs)+1)
	places := w.gathering.places[r.from:r.to]
	for k, ref := range w.Refs[r.from:r.to] {
		copy(values[offsets[places[k]]:], c.Values[c.Offsets[ref.Row]:c.Offsets[ref.Row+1]])
	}
}
