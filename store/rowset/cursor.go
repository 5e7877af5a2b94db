package rowset

import (
	"fmt"

	"nyala/store/batch"
	"nyala/store/schema"
)

// cursorPages is how many decoded pages a cursor keeps: a scan takes its chunks so that no column has more in one.
const cursorPages = 4

// readAhead is how many bytes of pages that lie one behind the other are read at once.
const readAhead = 512 << 10

// cursor reads the pages of one column.
type cursor struct {
	file     *parquetFile
	position int
	tools    *pageTools
	group    int // whose dictionary and pages these are; -1: none
	chunk    *columnChunk
	dict     *batch.Column // nil: not read
	slots    [cursorPages]struct {
		index   int // of the page, -1: none
		decoder *pageDecoder
		page    page
	}
	buf    []byte // read ahead
	bufOff int64
}

func newCursor(f *parquetFile, position int, tools *pageTools) *cursor {
	c := &cursor{file: f, position: position, tools: tools, group: -1}
	for i := range c.slots {
		c.slots[i].decoder = newPageDecoder(tools, f.schema.Columns[position])
	}
	return c
}

// enter makes g the group that page reads from.
func (c *cursor) enter(g int) {
	if c.group == g {
		return
	}
	c.group, c.chunk, c.dict, c.buf = g, &c.file.groups[g].chunks[c.position], nil, c.buf[:0]
	for i := range c.slots {
		c.slots[i].index = -1
	}
}

// find is the page that holds row, counted from the group's first.
func (c *cursor) find(row int) int {
	lo, hi := 0, len(c.chunk.pages)-1
	for lo < hi {
		m := (lo + hi + 1) / 2
		if int(c.chunk.pages[m].FirstRowIndex) <= row {
			lo = m
		} else {
			hi = m - 1
		}
	}
	return lo
}

// page decodes page i, or finds it decoded; pages that begin before row until may be read with it. The
// result lives until cursorPages others have been asked for.
func (c *cursor) page(i, until int) (*page, error) {
	s := &c.slots[i%cursorPages]
	if s.index == i {
		return &s.page, nil
	}
	s.index = -1
	if err := c.decode(i, until, s.decoder, &s.page); err != nil {
		return nil, fmt.Errorf("rowset: %s: column %s, group %d page %d at %d: %w", c.file.name,
			c.file.schema.Columns[c.position].Name, c.group, i, c.chunk.pages[i].Offset, err)
	}
	s.index = i
	return &s.page, nil
}

func (c *cursor) decode(i, until int, d *pageDecoder, p *page) error {
	use := func(b []byte) error {
		return d.data(b, c.file.pageSum(c.chunk, i+c.chunk.dictionaryPages()), c.chunk.meta.Codec, p)
	}
	b, err := c.bytes(i, until)
	if err == nil {
		err = use(b)
	}
	if l := &c.chunk.pages[i]; err != nil {
		if err = c.file.elsewhere(l.Offset, int(l.CompressedPageSize), err, use); err != nil {
			return err
		}
	}
	first, next := c.chunk.rowsOf(i, c.file.groups[c.group].rows)
	if p.first = first; p.rows != next-first {
		return corrupt("%d rows, want %d", p.rows, next-first)
	}
	if p.ids == nil {
		return nil
	}
	dict, err := c.dictionary()
	if err != nil {
		return fmt.Errorf("dictionary: %w", err)
	}
	most := int32(-1)
	for _, id := range p.ids {
		if id < 0 {
			return corrupt("dictionary id %d", id)
		}
		most = max(most, id)
	}
	if int(most) >= dict.Rows {
		return corrupt("dictionary id %d, want less than %d", most, dict.Rows)
	}
	return nil
}

// bytes reads page i, and with it what lies behind.
func (c *cursor) bytes(i, until int) ([]byte, error) {
	l := &c.chunk.pages[i]
	from, to := l.Offset, l.Offset+int64(l.CompressedPageSize)
	if from >= c.bufOff && to <= c.bufOff+int64(len(c.buf)) {
		return c.buf[from-c.bufOff : to-c.bufOff : to-c.bufOff], nil
	}
	end := to
	for k := i + 1; k < len(c.chunk.pages); k++ {
		n := &c.chunk.pages[k]
		if n.Offset != end || int(n.FirstRowIndex) >= until || end+int64(n.CompressedPageSize)-from > readAhead {
			break
		}
		end += int64(n.CompressedPageSize)
	}
	c.buf, c.bufOff = grow(c.buf, int(end-from)), from
	if err := c.file.read(c.buf, from); err != nil {
		c.buf = c.buf[:0]
		return nil, err
	}
	return c.buf[: to-from : to-from], nil
}

// dictionary reads the chunk's dictionary.
func (c *cursor) dictionary() (*batch.Column, error) {
	if c.dict != nil {
		return c.dict, nil
	}
	off, size := c.chunk.dictionaryAt()
	if c.chunk.dictionaryPages() == 0 || size < 1 || size > pageSizeMax || off < int64(len(parquetMagic)) {
		return nil, corrupt("no dictionary, or one of %d bytes at %d", size, off)
	}
	use := func(b []byte) (err error) {
		d := newPageDecoder(c.tools, c.file.schema.Columns[c.position])
		c.dict, err = d.dictionary(b, c.file.pageSum(c.chunk, 0), c.chunk.meta.Codec)
		return err
	}
	b := make([]byte, size)
	err := c.file.read(b, off)
	if err == nil {
		err = use(b)
	}
	if err != nil {
		if err = c.file.elsewhere(off, int(size), err, use); err != nil {
			return nil, fmt.Errorf("at %d: %w", off, err)
		}
	}
	return c.dict, nil
}

// columnOut is a column of an answer in the making.
type columnOut struct {
	column  schema.Column
	rows    int
	nulls   int
	valid   []byte
	values  []byte
	offsets []int32
}

func newColumnOut(c schema.Column, rows int) *columnOut {
	o := &columnOut{column: c}
	switch w := c.Type.Width(); c.Type.Layout() {
	case schema.Bits:
		o.values = make([]byte, (rows+7)/8, (rows+7)/8+slack)
	case schema.Bytes:
		o.offsets = append(make([]int32, 0, rows+1), 0)
	default:
		o.values = make([]byte, 0, rows*w+slack)
	}
	return o
}

func (o *columnOut) view() batch.Column {
	return batch.Column{ID: o.column.ID, Type: o.column.Type, Rows: o.rows, Nulls: o.nulls, Valid: o.valid, Values: o.values, Offsets: o.offsets}
}

// take appends the given rows of a page, counted from its first row, ascending; total is how many rows there will be.
func (o *columnOut) take(p *page, dict *batch.Column, rows []uint32, total int) {
	if p.col.Nulls > 0 || o.nulls > 0 {
		o.takeValid(p, rows, total)
	}
	from, ids := &p.col, []int32(nil)
	if p.ids != nil {
		from, ids = dict, p.ids
	}
	run := ids == nil && int(rows[len(rows)-1]-rows[0]) == len(rows)-1
	switch w := o.column.Type.Width(); o.column.Type.Layout() {
	case schema.Bits:
		for i, r := range rows {
			o.values[(o.rows+i)>>3] |= bit(from.Values, int(r)) << ((o.rows + i) & 7)
		}
	case schema.Bytes:
		if o.rows == 0 && from.Rows > 0 { // the mean of the first page, and a quarter: values then seldom move
			o.values = make([]byte, 0, total*(len(from.Values)/from.Rows+1)*5/4+slack)
		}
		o.takeBytes(from, p, ids, rows)
	case schema.Fixed8:
		o.values = takeFixed[uint64](o.values, from.Values, ids, rows, run, w)
	case schema.Fixed4:
		o.values = takeFixed[uint32](o.values, from.Values, ids, rows, run, w)
	case schema.Fixed16:
		o.values = takeFixed[[2]uint64](o.values, from.Values, ids, rows, run, w)
	default: // 1 or 2 bytes
		for _, r := range rows {
			if ids != nil {
				r = uint32(ids[r])
			}
			o.values = append(o.values, from.Values[int(r)*w:int(r)*w+w]...)
		}
	}
	o.rows += len(rows)
}

func (o *columnOut) takeValid(p *page, rows []uint32, total int) {
	if o.valid == nil {
		o.valid = make([]byte, (total+7)/8, (total+7)/8+slack)
		setBits(o.valid, 0, o.rows)
	}
	if p.col.Nulls == 0 {
		setBits(o.valid, o.rows, len(rows))
		return
	}
	for i, r := range rows {
		v := bit(p.col.Valid, int(r))
		o.valid[(o.rows+i)>>3] |= v << ((o.rows + i) & 7)
		o.nulls += int(1 - v)
	}
	if o.nulls == 0 {
		o.valid = nil
	}
}

func takeFixed[T uint32 | uint64 | [2]uint64](dst, src []byte, ids []int32, rows []uint32, run bool, w int) []byte {
	if run {
		return append(dst, src[int(rows[0])*w:(int(rows[0])+len(rows))*w]...)
	}
	n := len(dst)
	dst = dst[:n+len(rows)*w]
	out, in := view[T](dst[n:]), view[T](src)
	if ids != nil {
		for i, r := range rows {
			out[i] = in[ids[r]]
		}
		return dst
	}
	for i, r := range rows {
		out[i] = in[r]
	}
	return dst
}

func (o *columnOut) takeBytes(from *batch.Column, p *page, ids []int32, rows []uint32) {
	off := from.Offsets
	if ids == nil && int(rows[len(rows)-1]-rows[0]) == len(rows)-1 {
		first, next := off[rows[0]], off[rows[len(rows)-1]+1]
		delta := int32(len(o.values)) - first
		o.values = append(o.values, from.Values[first:next]...)
		for _, v := range off[rows[0]+1 : rows[len(rows)-1]+2] {
			o.offsets = append(o.offsets, v+delta)
		}
		return
	}
	for _, r := range rows {
		if ids != nil && !p.col.IsNull(int(r)) {
			id := ids[r]
			o.values = append(o.values, from.Values[off[id]:off[id+1]]...)
		} else if ids == nil {
			o.values = append(o.values, from.Values[off[r]:off[r+1]]...)
		}
		o.offsets = append(o.offsets, int32(len(o.values)))
	}
}
