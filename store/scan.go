package store

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
)

// Errors of Scan that a caller acts upon.
var (
	ErrNotYet = errors.New("the tablet has not reached that time") // propose an AdvanceEntry, then try again
	ErrTooOld = errors.New("the history does not reach back that far")
)

// ScanOptions say what a scan returns.
type ScanOptions struct {
	At      Timestamp          // rows born at or before it and not dead by then; 0: as of the last entry applied
	Columns []schema.ColumnID  // in this order; none: rows are counted only, and batches have no columns
	Where   []rowset.Predicate // all of which must hold
	Ordered bool               // by primary key; else in any order
	// Schema is the table's as the reader knows it; nil: the tablet's. A replica that lags behind, or one that is asked for a time
	// before columns came, may not have these yet: no row of that time has a value there, so all have the default, or null.
	Schema *schema.Schema
}

// Scanner gives the rows of a tablet at one timestamp. It keeps the rowsets that it began with, whatever is flushed or
// replaced meanwhile, and holds no lock. It belongs to one goroutine.
type Scanner struct {
	at      Timestamp
	columns []schema.Column
	fetch   []schema.Column // columns, and the key's where the order needs them
	filter  *rowset.Filter
	mems    []memView
	disks   []*diskRowSet
	scan    *rowset.Scan // of disks[0]
	merge   *merge       // when ordered
	closed  bool

	selection []uint64
	refs      []batch.Ref
}

// memView is a MemRowSet as of when the scan began.
type memView struct {
	batches []memBatch
	deaths  *deaths
}

// Scan begins a scan; the caller closes it.
func (t *Tablet) Scan(o ScanOptions) (*Scanner, error) {
	s := &Scanner{}
	table := t.Schema()
	if o.Schema != nil && o.Schema.Version > table.Version {
		table = o.Schema
	}
	for _, id := range o.Columns {
		i := table.PositionOf(id)
		if i < 0 {
			return nil, fmt.Errorf("store: tablet %d: scan of column id %d, which the table does not have", t.spec.ID, id)
		}
		s.columns = append(s.columns, table.Columns[i])
	}
	s.fetch = s.columns
	var err error
	if s.filter, err = rowset.NewFilter(o.Where, table.Columns); err != nil {
		return nil, err
	}
	if err := t.snapshot(s, o.At); err != nil {
		return nil, err
	}
	if o.Ordered {
		if err := s.order(table); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// snapshot takes the rowsets as they are.
func (t *Tablet) snapshot(s *Scanner, at Timestamp) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if s.at = at; at == 0 {
		s.at = t.mu.last
	}
	switch {
	case t.mu.failed != nil:
		return t.mu.failed
	case s.at > t.mu.last:
		return fmt.Errorf("store: tablet %d: scan at %d, the last entry was at %d: %w", t.spec.ID, s.at, t.mu.last, ErrNotYet)
	case s.at < t.mu.horizon && t.broken != horizonFree:
		return fmt.Errorf("store: tablet %d: scan at %d, the history begins at %d: %w", t.spec.ID, s.at, t.mu.horizon, ErrTooOld)
	}
	s.mems = append(s.mems, memView{t.mu.batches, &t.mu.mem.deaths})
	for _, f := range t.mu.frozen {
		s.mems = append(s.mems, memView{f.batches, &f.deaths})
	}
	s.disks = slices.Clone(t.mu.disks)
	for _, d := range s.disks {
		d.refs.Add(1)
	}
	return nil
}

// At is the timestamp of the scan.
func (s *Scanner) At() Timestamp { return s.at }

// Columns are those of the batches that Next returns.
func (s *Scanner) Columns() []schema.Column { return s.columns }

// Next returns rows, at least one, or io.EOF. The batch is the caller's; it may look into log entries and must not be changed.
func (s *Scanner) Next() (*batch.Batch, error) {
	if s.closed {
		return nil, errors.New("store: scan is closed")
	}
	if s.merge != nil {
		return s.merge.next()
	}
	for len(s.mems) > 0 {
		m := &s.mems[0]
		if len(m.batches) == 0 {
			s.mems = s.mems[1:]
			continue
		}
		b := &m.batches[0]
		m.batches = m.batches[1:]
		if out := s.project(b, m.deaths); out != nil {
			return out, nil
		}
	}
	for len(s.disks) > 0 {
		if s.scan == nil {
			var err error
			if s.scan, err = s.scanDisk(s.disks[0]); err != nil {
				return nil, err
			}
		}
		c, err := s.scan.Next()
		if err == nil {
			return &c.Batch, nil
		}
		if err != io.EOF {
			return nil, err
		}
		s.scan.Close()
		s.scan = nil
		s.disks[0].release()
		s.disks = s.disks[1:]
	}
	return nil, io.EOF
}

// Close ends the scan.
func (s *Scanner) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if s.scan != nil {
		s.scan.Close()
	}
	if s.merge != nil {
		s.merge.close()
	}
	for _, d := range s.disks {
		d.release()
	}
	s.disks = nil
	return nil
}

func (s *Scanner) scanDisk(d *diskRowSet) (*rowset.Scan, error) {
	o := rowset.ScanOptions{Columns: s.fetch, Where: s.filter, At: s.at}
	if d.deaths.count.Load() > 0 {
		o.Mask = func(first int, selection []uint64) { d.deaths.mask(first, selection, s.at) }
	}
	scan, err := d.RowSet.Scan(o)
	if err != nil {
		return nil, fmt.Errorf("store: rowset %d: %w", d.id, err)
	}
	return scan, nil
}

// choose fills s.selection with the rows of b that are there at the scan's time and fulfil its predicates, and returns their number.
func (s *Scanner) choose(b *memBatch, dead *deaths) (n int) {
	if b.birth > s.at {
		return 0
	}
	words := (b.rows.Rows + 63) / 64
	s.selection = slices.Grow(s.selection[:0], words)[:words]
	for i := range s.selection {
		s.selection[i] = ^uint64(0)
	}
	if k := b.rows.Rows & 63; k != 0 {
		s.selection[words-1] = 1<<k - 1
	}
	dead.mask(int(b.first), s.selection, s.at)
	s.filter.Apply(b.rows, s.selection)
	for _, w := range s.selection {
		n += bits.OnesCount64(w)
	}
	return n
}

// project returns the wanted columns of the wanted rows of b, nil if there are none. Where all rows are wanted, it is b's own columns.
func (s *Scanner) project(b *memBatch, dead *deaths) *batch.Batch {
	n := s.choose(b, dead)
	switch {
	case n == 0:
		return nil
	case len(s.columns) == 0:
		return &batch.Batch{Rows: n}
	case n == b.rows.Rows:
		return rowset.Fill(b.rows, s.columns)
	}
	s.refs = appendSelected(s.refs[:0], s.selection, 0)
	return gather(s.columns, []*batch.Batch{rowset.Fill(b.rows, s.columns)}, s.refs)
}

// appendSelected appends a Ref to each selected row of batch number at.
func appendSelected(refs []batch.Ref, selection []uint64, at uint32) []batch.Ref {
	for i, w := range selection {
		for ; w != 0; w &= w - 1 {
			refs = append(refs, batch.Ref{Batch: at, Row: uint32(i*64 + bits.TrailingZeros64(w))})
		}
	}
	return refs
}
