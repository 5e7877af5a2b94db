package store

import (
	"bytes"
	"container/heap"
	"io"
	"slices"

	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
)

// merge gives the rows of a tablet in the order of their encoded primary keys. A row that is alive is in one
// rowset only, so there are no ties. A MemRowSet's rows are chosen and sorted first; a DiskRowSet comes in order.
type merge struct {
	columns []schema.Column
	heads   runs
}

// mergeRows is the most rows of a merged batch.
const mergeRows = 4096

// run is one rowset's rows in order.
type run struct {
	batches []*batch.Batch
	refs    []batch.Ref // nil: rows 0, 1, ... of batches[0]
	rows    int
	order   []uint32 // of refs; nil: as they are
	keys    *batch.Keys
	at      int
	scan    *rowset.Scan // nil: of a MemRowSet
	disk    *diskRowSet
}

func (r *run) position() int {
	if r.order != nil {
		return int(r.order[r.at])
	}
	return r.at
}

func (r *run) key() []byte { return r.keys.At(r.position()) }

// row is the batch and row that the run stands at.
func (r *run) row() (*batch.Batch, uint32) {
	if r.refs == nil {
		return r.batches[0], uint32(r.at)
	}
	k := r.refs[r.position()]
	return r.batches[k.Batch], k.Row
}

// load brings the next chunk of a DiskRowSet; io.EOF ends the run.
func (r *run) load() error {
	if r.scan == nil {
		return io.EOF
	}
	c, err := r.scan.Next()
	if err != nil {
		return err
	}
	r.batches, r.rows, r.at = []*batch.Batch{&c.Batch}, c.Rows, 0
	r.keys.Reset()
	r.keys.Append(&c.Batch, 0, c.Rows)
	return nil
}

func (r *run) close() {
	if r.scan != nil {
		r.scan.Close()
		r.disk.release()
	}
}

// order makes s give its rows by key.
func (s *Scanner) order(sc *schema.Schema) error {
	s.fetch = slices.Clone(s.columns)
	key := &schema.Schema{}
	for _, k := range sc.Key {
		c := sc.Columns[k]
		i := slices.IndexFunc(s.fetch, func(o schema.Column) bool { return o.ID == c.ID })
		if i < 0 {
			i = len(s.fetch)
			s.fetch = append(s.fetch, c)
		}
		key.Key = append(key.Key, i)
	}
	key.Columns = s.fetch
	s.merge = &merge{columns: s.columns}
	for i := range s.mems {
		if r := s.sorted(&s.mems[i], sc); r != nil {
			s.merge.heads = append(s.merge.heads, r)
		}
	}
	s.mems = nil
	for len(s.disks) > 0 {
		d := s.disks[0]
		scan, err := s.scanDisk(d)
		if err != nil {
			return err
		}
		s.disks = s.disks[1:]
		r := &run{scan: scan, disk: d, keys: batch.NewKeys(key)}
		if err := r.load(); err != nil {
			r.close()
			if err != io.EOF {
				return err
			}
			continue
		}
		s.merge.heads = append(s.merge.heads, r)
	}
	heap.Init(&s.merge.heads)
	return nil
}

// sorted chooses and sorts the rows of a MemRowSet; nil if none is left.
func (s *Scanner) sorted(m *memView, sc *schema.Schema) *run {
	r := &run{keys: batch.NewKeys(sc), refs: []batch.Ref{}}
	for i := range m.batches {
		b := &m.batches[i]
		if s.choose(b, m.deaths) == 0 {
			continue
		}
		from := len(r.refs)
		r.refs = appendSelected(r.refs, s.selection, uint32(len(r.batches)))
		r.batches = append(r.batches, rowset.Fill(b.rows, s.columns))
		for _, k := range r.refs[from:] {
			r.keys.Append(b.rows, int(k.Row), int(k.Row)+1)
		}
	}
	if r.rows = len(r.refs); r.rows == 0 {
		return nil
	}
	var sorter batch.Sorter
	r.order = sorter.Sort(r.keys, nil)
	return r
}

// next returns up to mergeRows rows, at least one, or io.EOF.
func (m *merge) next() (*batch.Batch, error) {
	var batches []*batch.Batch
	var refs []batch.Ref
	places := map[*batch.Batch]uint32{}
	for len(refs) < mergeRows && len(m.heads) > 0 {
		r := m.heads[0]
		b, row := r.row()
		at, ok := places[b]
		if !ok {
			at = uint32(len(batches))
			places[b], batches = at, append(batches, b)
		}
		refs = append(refs, batch.Ref{Batch: at, Row: row})
		if r.at++; r.at == r.rows {
			if err := r.load(); err == io.EOF {
				heap.Pop(&m.heads)
				r.close()
				continue
			} else if err != nil {
				return nil, err
			}
		}
		heap.Fix(&m.heads, 0)
	}
	if len(refs) == 0 {
		return nil, io.EOF
	}
	return gather(m.columns, batches, refs), nil
}

func (m *merge) close() {
	for _, r := range m.heads {
		r.close()
	}
	m.heads = nil
}

// runs is a heap of runs by the key that each stands at.
type runs []*run

func (h runs) Len() int           { return len(h) }
func (h runs) Less(i, j int) bool { return bytes.Compare(h[i].key(), h[j].key()) < 0 }
func (h runs) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runs) Push(x any)        { *h = append(*h, x.(*run)) }
func (h *runs) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
