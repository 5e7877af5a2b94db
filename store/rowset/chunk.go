package rowset

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"nyala/store/schema"
)

// The shape of a chunk. Replicas must write the same bytes, so these, like every decision below, are
// constants or follow from rows by integer arithmetic alone.
const (
	pageBytes    = 128 << 10 // of values, before encoding
	keyPageBytes = 32 << 10  // of a key column: a lookup in Parquet reads little
	dictRows     = 32 << 10  // rows of a page of dictionary ids
	dictStep     = 2048      // rows taken into the dictionary at once
	dictStepMax  = 1 << 20   // bytes taken at once
	dictSample   = 4096      // values after which a dictionary must not be nearly all distinct
	dictMax      = 1 << 20   // bytes of a dictionary; values beyond it are written without
	dictValueMax = 4 << 10   // bytes of a value in it: a reader makes 8,192 rows of a few ids
	bitPageRows  = 1 << 20
)

// columnPlan says how a column is written.
type columnPlan struct {
	column    schema.Column
	kind      physical
	encoding  format.Encoding // of values that no dictionary holds
	dict      bool            // try a dictionary; it is given up where it does not pay
	text      bool            // bounds must be valid UTF-8
	pageBytes int
}

// planColumns chooses by LIMITS: integers DELTA_BINARY_PACKED, text DELTA_LENGTH_BYTE_ARRAY, the rest PLAIN, and a
// dictionary tried on everything but bools and integers of the key, whose deltas are smaller.
func planColumns(s *schema.Schema) []columnPlan {
	plans := make([]columnPlan, len(s.Columns))
	for i, c := range s.Columns {
		p := columnPlan{column: c, kind: physicalOf(c.Type), dict: true, pageBytes: pageBytes}
		switch p.kind {
		case physInt32, physInt64:
			p.encoding = format.DeltaBinaryPacked
		case physBytes:
			p.encoding = format.DeltaLengthByteArray
			p.text = c.Type.Kind != schema.Binary
		case physBool:
			p.dict = false
		}
		plans[i] = p
	}
	for _, k := range s.Key {
		plans[k].pageBytes = keyPageBytes
		if plans[k].encoding == format.DeltaBinaryPacked {
			plans[k].dict = false
		}
	}
	return plans
}

// chunk is a column chunk in the making.
type chunk struct {
	plan *columnPlan
	meta format.ColumnMetaData
	cix  format.ColumnIndex
	oix  format.OffsetIndex
	sums []uint32 // CRC32C of each page in file order

	rows    int64
	hold    bool // pages wait until the dictionary that goes before them is complete
	literal bool // entropy-code literals, see hexText
	probed  bool // literal has been decided
	noIndex bool // a page with values has no bounds: then the chunk has none, and no column index
	lo, hi  []byte
	counts  [format.ByteStreamSplit + 1]int32 // pages by encoding

	ascending, descending bool
	last                  [2][]byte // bounds of the page before
	hasLast               bool
}

// writeChunk writes rows [0, n) of w.src as a column chunk.
func (w *parquetWriter) writeChunk(p *columnPlan, n int) *chunk {
	c := &chunk{plan: p, ascending: true, descending: true}
	c.meta = format.ColumnMetaData{Type: physTypes[p.kind], PathInSchema: thrift.Slice[string]{p.column.Name}, Codec: w.codec()}
	at := 0
	if p.dict {
		if at = w.dictPages(c, n); at > 0 {
			w.putDictionary(c)
		}
	}
	c.hold = false
	if at == 0 {
		c.meta.DataPageOffset = w.out.size()
	}
	for at < n {
		s := w.src.take(at, min(p.pageRows(), n-at), p.pageBytes)
		w.plainPage(c, &s)
		at += s.rows
	}
	c.finish()
	return c
}

// pageRows is the most rows of a page that is not of ids.
func (p *columnPlan) pageRows() int {
	switch p.kind {
	case physBool:
		return bitPageRows
	case physBytes:
		return p.pageBytes / 4
	}
	return p.pageBytes / p.kind.width()
}

// plainPage encodes a span without a dictionary. The Encode functions of parquet-go overwrite their
// destination; text is written as its encoded lengths and then its bytes where they are.
func (w *parquetWriter) plainPage(c *chunk, s *span) {
	n := s.values()
	body, behind := s.data, []byte(nil)
	switch e := c.plan.encoding; {
	case e == format.DeltaBinaryPacked && c.plan.kind == physInt64:
		w.body, _ = w.deltaInts.EncodeInt64(w.body, view[int64](s.data))
		body = w.body
	case e == format.DeltaBinaryPacked:
		w.body, _ = w.deltaInts.EncodeInt32(w.body, view[int32](s.data))
		body = w.body
	case e == format.DeltaLengthByteArray:
		if n == 0 {
			s.off = []uint32{0}
		}
		w.body, _ = w.deltaBytes.EncodeByteArray(w.body, nil, s.off)
		body, behind = w.body, s.data
		c.meta.SizeStatistics.UnencodedByteArrayDataBytes += int64(len(s.data))
		if !c.probed && len(s.data) > 0 {
			c.literal, c.probed = hexText(s.data), true
		}
	}
	lo, hi, ok := bounds(c.plan.kind, s)
	w.levels = w.levels[:0]
	if c.plan.column.Nullable {
		w.levels = appendLevels(w.levels, s.rows, s.nulls, s.valid)
	}
	if len(behind) > 0 {
		w.body = append(body, behind...)
		body = w.body
	}
	w.putPage(c, c.plan.encoding, s.rows, s.nulls, body)
	c.index(s.rows, s.nulls, lo, hi, ok)
}

// hexText tells text of hexadecimal digits, dashes and the like: zstd's fastest level finds no matches there and would
// leave it as it is, though its literals need half the bits.
func hexText(data []byte) bool {
	const sample, few = 16 << 10, 24
	var seen [4]uint64
	for _, b := range data[:min(len(data), sample)] {
		seen[b>>6] |= 1 << (b & 63)
	}
	n := 0
	for _, s := range seen {
		n += bits.OnesCount64(s)
	}
	return n <= few
}

// dictPages writes pages of ids, to be held, until the rows end or the dictionary is full; it returns the next
// row, or 0 if there is to be no dictionary at all.
func (w *parquetWriter) dictPages(c *chunk, n int) int {
	w.dict.reset()
	w.held, c.hold = w.held[:0], true
	t := dictTally{}
	for at := 0; at < n; {
		page := uint32(len(c.oix.PageLocations) + 1)
		rows, nulls := w.takeIDs(c, &t, at, n, page)
		if at == 0 && (rows == 0 || !t.pays(w.dict.size(c.plan.kind), w.dict.n)) {
			return 0
		}
		if rows > 0 {
			w.levels = w.levels[:0]
			if c.plan.column.Nullable {
				w.levels = appendLevels(w.levels, rows, nulls, w.valid)
			}
			w.body = appendIDRuns(w.body[:0], w.ids)
			w.putPage(c, format.RLEDictionary, rows, nulls, w.body)
			seen := w.dict.pageSpan(page)
			lo, hi, ok := bounds(c.plan.kind, &seen)
			c.index(rows, nulls, lo, hi, ok)
		}
		if at += rows; at == n || t.full {
			if c.plan.kind == physBytes {
				c.meta.SizeStatistics.UnencodedByteArrayDataBytes += int64(t.plain - 4*t.values)
			}
			return at
		}
	}
	return n
}

// dictTally is what has gone into a chunk's dictionary so far.
type dictTally struct {
	values int
	plain  int  // bytes of them without a dictionary
	full   bool // no more may go in
	futile bool // nearly all are distinct
}

// pays asks whether a dictionary of so many bytes and values saves a fifth.
func (t *dictTally) pays(size, n int) bool {
	return !t.futile && n > 0 && size+t.values*bits.Len(uint(n))/8 <= t.plain*4/5
}

// takeIDs fills w.ids and w.valid with a page of rows from at on.
func (w *parquetWriter) takeIDs(c *chunk, t *dictTally, at, n int, page uint32) (rows, nulls int) {
	w.ids, w.valid = w.ids[:0], w.valid[:0]
	for rows < dictRows && at+rows < n && !t.full {
		s := w.src.take(at+rows, min(dictStep, dictRows-rows, n-at-rows), dictStepMax)
		if c.plan.kind == physBytes {
			if t.full = s.longest() > dictValueMax; t.full {
				break
			}
			t.plain += 4 * s.values()
		}
		w.ids = w.dict.appendIDs(w.ids, c.plan.kind, &s, page)
		w.valid = appendBits(w.valid, rows, &s)
		early := t.values < dictSample
		t.plain += len(s.data)
		rows, nulls, t.values = rows+s.rows, nulls+s.nulls, t.values+s.values()
		t.full = w.dict.size(c.plan.kind) > dictMax
		if early && at == 0 && t.values >= dictSample && w.dict.n > t.values*15/16 {
			t.futile, t.full = true, true
		}
	}
	return rows, nulls
}

// putDictionary writes the dictionary page and then the pages held for it. A dictionary page has no flag
// that says it is not compressed, so it always is.
func (w *parquetWriter) putDictionary(c *chunk) {
	w.body = w.dict.appendPlain(w.body[:0], c.plan.kind)
	body := w.body
	if w.level != levelNone {
		body = w.compress(body, false)
	}
	h := format.PageHeader{Type: format.DictionaryPage, UncompressedPageSize: int32(len(w.body)), CompressedPageSize: int32(len(body)), CRC: int32(crc32.ChecksumIEEE(body)),
		DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{NumValues: int32(w.dict.n), Encoding: format.Plain})}
	header := w.marshal(&h)
	c.meta.DictionaryPageOffset = w.out.size()
	w.out.put(header)
	w.out.put(body)
	c.sums = append([]uint32{crc32.Update(crc32.Checksum(header, castagnoli), castagnoli, body)}, c.sums...)
	c.meta.TotalUncompressedSize += int64(len(header) + len(w.body))
	c.meta.TotalCompressedSize += int64(len(header) + len(body))
	c.meta.EncodingStats = append(c.meta.EncodingStats, format.PageEncodingStats{PageType: format.DictionaryPage, Encoding: format.Plain, Count: 1})
	c.meta.DataPageOffset = w.out.size()
	for i := range c.oix.PageLocations {
		c.oix.PageLocations[i].Offset += c.meta.DataPageOffset
	}
	w.out.put(w.held)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// putPage writes a data page: header, w.levels (never compressed), body.
func (w *parquetWriter) putPage(c *chunk, enc format.Encoding, rows, nulls int, body []byte) {
	size, compressed := len(w.levels)+len(body), false
	if w.level != levelNone && len(body) > 0 {
		if z := w.compress(body, c.literal); len(z) < len(body) {
			body, compressed = z, true
		}
	}
	h := format.PageHeader{Type: format.DataPageV2, UncompressedPageSize: int32(size), CompressedPageSize: int32(len(w.levels) + len(body)),
		CRC: int32(crc32.Update(crc32.ChecksumIEEE(w.levels), crc32.IEEETable, body)),
		DataPageHeaderV2: thrift.New(format.DataPageHeaderV2{NumValues: int32(rows), NumNulls: int32(nulls), NumRows: int32(rows), Encoding: enc,
			DefinitionLevelsByteLength: int32(len(w.levels)), IsCompressed: thrift.New(compressed), Statistics: format.Statistics{NullCount: int64(nulls)}})}
	header := w.marshal(&h)
	total := len(header) + len(w.levels) + len(body)
	place := format.PageLocation{Offset: w.out.size(), CompressedPageSize: int32(total), FirstRowIndex: c.rows}
	if c.hold {
		place.Offset = int64(len(w.held))
		w.held = append(append(append(w.held, header...), w.levels...), body...)
	} else {
		w.out.put(header)
		w.out.put(w.levels)
		w.out.put(body)
	}
	c.sums = append(c.sums, crc32.Update(crc32.Update(crc32.Checksum(header, castagnoli), castagnoli, w.levels), castagnoli, body))
	c.oix.PageLocations = append(c.oix.PageLocations, place)
	c.rows += int64(rows)
	c.counts[enc]++
	c.meta.NumValues += int64(rows)
	c.meta.TotalUncompressedSize += int64(len(header) + size)
	c.meta.TotalCompressedSize += int64(total)
	c.meta.Statistics.NullCount += int64(nulls)
}

// index adds a page's bounds to the column index and the chunk's statistics. An empty bound must be an empty slice: nil is left out.
func (c *chunk) index(rows, nulls int, lo, hi []byte, ok bool) {
	x := &c.cix
	x.NullPages, x.NullCounts = append(x.NullPages, rows == nulls), append(x.NullCounts, int64(nulls))
	if !ok {
		x.MinValues, x.MaxValues = append(x.MinValues, []byte{}), append(x.MaxValues, []byte{})
		c.noIndex = c.noIndex || rows != nulls
		return
	}
	k := c.plan.kind
	if k == physBytes {
		lo, hi = cutBelow(lo, c.plan.text), cutAbove(hi, c.plan.text)
	}
	if c.lo == nil || plainLess(k, lo, c.lo) {
		c.lo = lo
	}
	if c.hi == nil || plainLess(k, c.hi, hi) {
		c.hi = hi
	}
	if c.hasLast {
		c.ascending = c.ascending && !plainLess(k, lo, c.last[0]) && !plainLess(k, hi, c.last[1])
		c.descending = c.descending && !plainLess(k, c.last[0], lo) && !plainLess(k, c.last[1], hi)
	}
	c.hasLast, c.last = true, [2][]byte{lo, hi}
	x.MinValues, x.MaxValues = append(x.MinValues, lo), append(x.MaxValues, hi)
}

func (c *chunk) finish() {
	switch {
	case c.noIndex:
		c.cix = format.ColumnIndex{}
	case c.ascending:
		c.cix.BoundaryOrder = format.Ascending
	case c.descending:
		c.cix.BoundaryOrder = format.Descending
	}
	if !c.noIndex {
		c.meta.Statistics.MinValue, c.meta.Statistics.MaxValue = c.lo, c.hi
	}
	if c.plan.column.Nullable {
		c.meta.Encoding = append(c.meta.Encoding, format.RLE)
	}
	if c.meta.DictionaryPageOffset > 0 {
		c.meta.Encoding = append(c.meta.Encoding, format.Plain)
	}
	for e, n := range c.counts {
		if n == 0 {
			continue
		}
		if e := format.Encoding(e); e != format.Plain || c.meta.DictionaryPageOffset == 0 {
			c.meta.Encoding = append(c.meta.Encoding, e)
		}
		c.meta.EncodingStats = append(c.meta.EncodingStats, format.PageEncodingStats{PageType: format.DataPageV2, Encoding: format.Encoding(e), Count: n})
	}
}

// appendBits appends a span's validity behind the first rows bits of dst.
func appendBits(dst []byte, rows int, s *span) []byte {
	dst = append(dst, make([]byte, (rows+s.rows+7)/8-len(dst))...)
	if rows&7 == 0 && s.valid != nil {
		copy(dst[rows>>3:], s.valid)
		return dst
	}
	for i := range s.rows {
		v := byte(1)
		if s.valid != nil {
			v = bit(s.valid, i)
		}
		dst[(rows+i)>>3] |= v << ((rows + i) & 7)
	}
	return dst
}

// appendLevels writes definition levels, one bit a row, in the RLE and bit-packing hybrid: runs of 64 and more
// equal bits as runs, the rest packed.
func appendLevels(dst []byte, rows, nulls int, valid []byte) []byte {
	if nulls == 0 || nulls == rows {
		return append(binary.AppendUvarint(dst, uint64(rows)<<1), oneIf(nulls == 0))
	}
	v, packed := valid[:(rows+7)/8], 0
	pack := func(to int) {
		if to > packed {
			dst = append(binary.AppendUvarint(dst, uint64(to-packed)<<1|1), v[packed:to]...)
		}
	}
	for i := 0; i < len(v); {
		j := i
		for j < len(v) && v[j] == v[i] && (j+1)*8 <= rows {
			j++
		}
		if (v[i] == 0 || v[i] == 0xff) && j-i >= 8 {
			pack(i)
			dst = append(binary.AppendUvarint(dst, uint64(j-i)*8<<1), v[i]&1)
			packed, i = j, j
			continue
		}
		i = max(j, i+1)
	}
	pack(len(v)) // bits behind the last row are zero in every bitmap of a source
	return dst
}
