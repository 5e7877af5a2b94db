package batch

// Arranger puts the rows of a batch into another order and keeps its memory for the next time.
type Arranger struct {
	write Write
	data  []byte
}

// Arrange returns the rows of b in the order that places says: row i comes to places[i], each place once. The result is in the Arranger's
// memory, until the next call.
func (a *Arranger) Arrange(b *Batch, places []uint32) Batch {
	w := &a.write
	for i := len(w.Refs); i < b.Rows; i++ {
		w.Refs = append(w.Refs, Ref{Row: uint32(i)})
	}
	refs := w.Refs
	w.Refs, w.Places, w.Batches = refs[:b.Rows], places, append(w.Batches[:0], *b)
	a.data = appendColumns(Begin(a.data[:0]), b.Columns, w.newGathering().add)
	w.Refs, w.Places = refs, nil
	clear(w.Batches)
	var out Batch
	c := cursor{b: a.data[HeaderSize:]}
	if err := c.columns(&out, b.Rows, len(b.Columns)); err != nil {
		panic("batch: arranged rows: " + err.Error()) // we wrote them
	}
	return out
}

// Capacity is the memory that the Arranger holds.
func (a *Arranger) Capacity() int { return cap(a.data) + 8*cap(a.write.Refs) }
