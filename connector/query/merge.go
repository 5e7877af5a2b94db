package query

import (
	"bytes"
	"container/heap"
	"errors"
	"io"
	"slices"

	"nyala/store/batch"
	"nyala/store/schema"
)

// mergeRows is how many rows a merged batch has, unless they are large.
const (
	mergeRows  = 4096
	mergeBytes = 4 << 20
)

// Merge gives the rows of several streams, each ordered by primary key, in one order. Every stream has
// the columns of fetch; columns says which of them are given out.
type Merge struct {
	heads   mergeHeap
	streams []Stream
	columns []schema.Column
	take    []int // position of each of columns in fetch
	builder *batch.Builder
}

// NewMerge merges streams and closes them with itself.
func NewMerge(s *schema.Schema, fetch, columns []schema.Column, streams []Stream) (*Merge, error) {
	m := &Merge{streams: streams, columns: columns, builder: batch.NewBuilder(columns, mergeRows)}
	position := func(id schema.ColumnID) int {
		return slices.IndexFunc(fetch, func(c schema.Column) bool { return c.ID == id })
	}
	for _, c := range columns {
		m.take = append(m.take, position(c.ID))
	}
	for _, in := range streams {
		h := NewCursor(s, fetch, in)
		switch err := h.Next(); {
		case err == nil:
			m.heads = append(m.heads, h)
		case err != io.EOF:
			return nil, errors.Join(err, m.Close())
		}
	}
	heap.Init(&m.heads)
	return m, nil
}

// Next returns the next rows in key order; they are valid until the call after.
func (m *Merge) Next() (*batch.Batch, error) {
	m.builder.Reset()
	rows := 0
	for ; rows < mergeRows && len(m.heads) > 0 && m.builder.Bytes() < mergeBytes; rows++ {
		h := m.heads[0]
		for i, from := range m.take {
			m.builder.Columns[i].AppendValue(h.Value(from))
		}
		switch err := h.Next(); {
		case err == io.EOF:
			heap.Pop(&m.heads)
		case err != nil:
			return nil, err
		default:
			heap.Fix(&m.heads, 0)
		}
	}
	if rows == 0 {
		return nil, io.EOF
	}
	out := m.builder.View()
	return &out, nil
}

// Close closes the streams.
func (m *Merge) Close() error {
	var errs []error
	for _, s := range m.streams {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

type mergeHeap []*Cursor

func (h mergeHeap) Len() int { return len(h) }
func (h mergeHeap) Less(i, j int) bool {
	return bytes.Compare(h[i].Key(), h[j].Key()) < 0
}
func (h mergeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *mergeHeap) Push(x any)   { *h = append(*h, x.(*Cursor)) }
func (h *mergeHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
