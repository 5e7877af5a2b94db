package rowset

import (
	"fmt"
	"io"
	"math/bits"

	"nyala/store/batch"
	"nyala/store/schema"
)

// ScanOptions say which rows and columns a scan returns.
type ScanOptions struct {
	Columns []schema.Column // in this order; one that the file lacks is newer and has its default in every row
	Where   *Filter         // nil: all rows
	First   int             // row numbers [First, Next); a Next of 0 is the end
	Next    int
	At      int64 // only rows born at or before it; 0: all
	// Mask clears the bits of rows that are not wanted, before any column is read: bit i of selection is row
	// first+i. It is how the tablet takes out rows that are dead. Some bits may be clear already.
	Mask func(first int, selection []uint64)
}

// Chunk is a part of a scan's answer. It is the caller's for ever.
type Chunk struct {
	batch.Batch
	Numbers []uint32 // the rows' numbers, ascending
}

// chunkRows is the most rows of a chunk: columns of 8 bytes stay in the second cache.
const chunkRows = 8192

// interval is rows [first, next).
type interval struct{ first, next int }

// Scan reads columns of some rows. It takes the rows of each chunk through births, Mask and predicates first, and
// reads pages of other columns only where rows are left.
type Scan struct {
	file      *parquetFile
	options   ScanOptions
	births    func(first int, selection []uint64) // nil: all rows are old enough
	tools     *pageTools
	cursors   map[int]*cursor // by position in the file
	todo      []interval      // each within one row group
	at        int
	group     int
	ids       []predicateTable // by matcher
	selection []uint64
}

// predicateTable is a predicate worked out for each id of a dictionary.
type predicateTable struct {
	dict *batch.Column
	hit  []byte
}

func newScan(f *parquetFile, o ScanOptions) (*Scan, error) {
	tools, err := newPageTools()
	if err != nil {
		return nil, err
	}
	s := &Scan{file: f, options: o, tools: tools, cursors: map[int]*cursor{}, group: -1}
	if o.Where != nil {
		s.ids = make([]predicateTable, len(o.Where.matchers))
	}
	next := o.Next
	if next == 0 {
		next = f.rows
	}
	if o.First < 0 || next > f.rows || o.First > next {
		return nil, fmt.Errorf("rowset: scan of rows %d to %d of %d", o.First, next, f.rows)
	}
	for g := range f.groups {
		r := &f.groups[g]
		if first, end := max(o.First, r.first), min(next, r.first+r.rows); first < end {
			s.todo = append(s.todo, s.prune(r, interval{first, end})...)
		}
	}
	if len(s.todo) > 0 {
		s.at = s.todo[0].first
	}
	return s, nil
}

// Close ends the scan.
func (s *Scan) Close() { s.tools.close() }

// prune leaves out the pages that the column indexes rule out.
func (s *Scan) prune(g *rowGroup, rows interval) []interval {
	left := []interval{rows}
	if s.options.Where == nil {
		return left
	}
	for i := range s.options.Where.matchers {
		m := &s.options.Where.matchers[i]
		position := s.file.schema.PositionOf(m.column)
		if position < 0 {
			if !s.constantMatches(i) {
				return nil
			}
			continue
		}
		c := &g.chunks[position]
		if c.index == nil {
			continue
		}
		var may []interval
		for p := range c.pages {
			first, next := c.rowsOf(p, g.rows)
			if !m.mayMatch(c.index.MinValues[p], c.index.MaxValues[p], !c.index.NullPages[p], int64(next-first), c.index.NullCounts[p]) {
				continue
			}
			if n := len(may); n > 0 && may[n-1].next == g.first+first {
				may[n-1].next = g.first + next
			} else {
				may = append(may, interval{g.first + first, g.first + next})
			}
		}
		left = intersect(left, may)
	}
	return left
}

// constantMatches evaluates predicate i on a column that the file does not have.
func (s *Scan) constantMatches(i int) bool {
	c := constantColumn(&s.options.Where.columns[i], 1)
	selection := []uint64{1}
	s.options.Where.matchers[i].apply(&c, 0, 1, selection, 0)
	return selection[0] != 0
}

func intersect(a, b []interval) (out []interval) {
	for len(a) > 0 && len(b) > 0 {
		if first, next := max(a[0].first, b[0].first), min(a[0].next, b[0].next); first < next {
			out = append(out, interval{first, next})
		}
		if a[0].next < b[0].next {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// Next returns rows that are left, at least one, or io.EOF.
func (s *Scan) Next() (*Chunk, error) {
	for len(s.todo) > 0 {
		r := s.todo[0]
		if s.at == r.next {
			if s.todo = s.todo[1:]; len(s.todo) > 0 {
				s.at = s.todo[0].first
			}
			continue
		}
		if err := s.enter(s.at); err != nil {
			return nil, err
		}
		first, n := s.at, s.chunkRows(r.next)
		s.at += n
		left, err := s.filter(first, n, r.next)
		if err != nil {
			return nil, err
		}
		if left > 0 {
			return s.read(first, n, left, r.next)
		}
	}
	return nil, io.EOF
}

// enter brings all cursors to the row group of row.
func (s *Scan) enter(row int) error {
	for g := range s.file.groups {
		r := &s.file.groups[g]
		if row < r.first || row >= r.first+r.rows || s.group == g {
			continue
		}
		s.group = g
		if s.options.Where != nil {
			for i := range s.options.Where.matchers {
				s.use(s.options.Where.matchers[i].column)
			}
		}
		for i := range s.options.Columns {
			s.use(s.options.Columns[i].ID)
		}
		for _, c := range s.cursors {
			c.enter(g)
		}
	}
	return nil
}

func (s *Scan) use(id schema.ColumnID) {
	if p := s.file.schema.PositionOf(id); p >= 0 && s.cursors[p] == nil {
		s.cursors[p] = newCursor(s.file, p, s.tools)
	}
}

// cursor is the one for a column, nil if the file lacks the column.
func (s *Scan) cursor(id schema.ColumnID) *cursor { return s.cursors[s.file.schema.PositionOf(id)] }

// chunkRows is the number of rows from s.at of which no column has more than cursorPages pages.
func (s *Scan) chunkRows(next int) int {
	g := &s.file.groups[s.group]
	next = min(next, s.at+chunkRows)
	for _, c := range s.cursors {
		if last := c.find(s.at-g.first) + cursorPages - 1; last < len(c.chunk.pages) {
			_, end := c.chunk.rowsOf(last, g.rows)
			next = min(next, g.first+end)
		}
	}
	return next - s.at
}

// filter works out s.selection for rows [first, first+n) and returns how many are left.
func (s *Scan) filter(first, n, until int) (int, error) {
	s.selection = grow(s.selection, (n+63)/64)
	for i := range s.selection {
		s.selection[i] = ^uint64(0)
	}
	if n&63 != 0 {
		s.selection[n>>6] = 1<<(n&63) - 1
	}
	if s.births != nil {
		s.births(first, s.selection)
	}
	if s.options.Mask != nil {
		s.options.Mask(first, s.selection)
		if n&63 != 0 {
			s.selection[n>>6] &= 1<<(n&63) - 1
		}
	}
	if s.options.Where != nil {
		for i := range s.options.Where.matchers {
			if count(s.selection) == 0 {
				return 0, nil
			}
			if err := s.match(i, first, n, until); err != nil {
				return 0, err
			}
		}
	}
	return count(s.selection), nil
}

func count(selection []uint64) (n int) {
	for _, w := range selection {
		n += bits.OnesCount64(w)
	}
	return n
}

// match evaluates a predicate page by page; where a page has dictionary ids, it compares those.
func (s *Scan) match(i, first, n, until int) error {
	m := &s.options.Where.matchers[i]
	c := s.cursor(m.column)
	if c == nil {
		return nil // decided for all rows when the scan began
	}
	base := s.file.groups[s.group].first
	for at := first - base; at < first+n-base; {
		p, err := c.page(c.find(at), until-base)
		if err != nil {
			return err
		}
		from, k := at-p.first, min(p.first+p.rows, first+n-base)-at
		if p.ids != nil && m.op != IsNull && m.op != IsNotNull {
			t := &s.ids[i]
			t.work(m, c.dict)
			keepIDs(p, t.hit, from, k, s.selection, at+base-first)
		} else {
			m.apply(&p.col, from, k, s.selection, at+base-first)
		}
		at += k
	}
	return nil
}

func (t *predicateTable) work(m *matcher, dict *batch.Column) {
	if t.dict == dict {
		return
	}
	selection := make([]uint64, (dict.Rows+63)/64)
	for i := range selection {
		selection[i] = ^uint64(0)
	}
	m.apply(dict, 0, dict.Rows, selection, 0)
	t.dict, t.hit = dict, grow(t.hit, dict.Rows)
	for i := range t.hit {
		t.hit[i] = byte(selection[i>>6] >> (i & 63) & 1)
	}
}

func keepIDs(p *page, hit []byte, from, n int, selection []uint64, at int) {
	if p.col.Nulls > 0 {
		keepWhere(n, selection, at, func(i int) bool { return !p.col.IsNull(from+i) && hit[p.ids[from+i]] != 0 })
		return
	}
	ids := p.ids[from : from+n]
	for len(ids) > 0 {
		shift := at & 63
		k := min(64-shift, len(ids))
		keep := uint64(0)
		for i, id := range ids[:k] {
			keep |= uint64(hit[id]) << (i & 63)
		}
		selection[at>>6] &= keep<<shift | ^(^uint64(0) >> (64 - k) << shift)
		ids, at = ids[k:], at+k
	}
}

// read makes a chunk of the selected rows.
func (s *Scan) read(first, n, left, until int) (*Chunk, error) {
	out := &Chunk{Batch: batch.Batch{Rows: left, Columns: make([]batch.Column, len(s.options.Columns))}, Numbers: make([]uint32, 0, left)}
	for i, w := range s.selection {
		for ; w != 0; w &= w - 1 {
			out.Numbers = append(out.Numbers, uint32(first+i*64+bits.TrailingZeros64(w)))
		}
	}
	rows := make([]uint32, left)
	for i := range s.options.Columns {
		column := &s.options.Columns[i]
		c := s.cursor(column.ID)
		if c == nil {
			out.Columns[i] = constantColumn(column, left)
			continue
		}
		if own := c.file.schema.Columns[c.position].Type; own != column.Type {
			return nil, fmt.Errorf("rowset: column %s: got type %s, the file has %s", column.Name, column.Type, own)
		}
		if err := s.readColumn(c, &out.Columns[i], out.Numbers, rows, until); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readColumn takes the numbered rows from their pages; rows is scratch.
func (s *Scan) readColumn(c *cursor, col *batch.Column, numbers, rows []uint32, until int) error {
	base := s.file.groups[s.group].first
	o := newColumnOut(s.file.schema.Columns[c.position], len(numbers))
	for i := 0; i < len(numbers); {
		p, err := c.page(c.find(int(numbers[i])-base), until-base)
		if err != nil {
			return err
		}
		start, end := base+p.first, base+p.first+p.rows
		k := i
		for ; k < len(numbers) && int(numbers[k]) < end; k++ {
			rows[k] = numbers[k] - uint32(start)
		}
		o.take(p, c.dict, rows[i:k], len(numbers))
		i = k
	}
	*col = o.view()
	return nil
}
