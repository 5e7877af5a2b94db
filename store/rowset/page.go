package rowset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/delta"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"nyala/store/batch"
	"nyala/store/schema"
)

// ErrCorrupt is in every error that says that a file's bytes are not what was written.
var ErrCorrupt = errors.New("corrupt")

func corrupt(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrCorrupt)...)
}

// page is a decoded data page. Its rows are aligned: a null has a place in the values. It lives until the next one is
// decoded with the same decoder.
type page struct {
	first, rows int          // first is counted from the row group's first row
	col         batch.Column // the values; only validity and counts where ids is set
	ids         []int32      // of each row, into the chunk's dictionary
}

// pageTools are what decoders of one goroutine share: nothing here outlives a page.
type pageTools struct {
	reader thrift.BytesReader
	header *thrift.Decoder
	zstd   *zstd.Decoder
	body   []byte // decompressed
}

func newPageTools() (*pageTools, error) {
	r := new(thrift.CompactProtocol).NewReaderFromBytes(nil)
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(pageSizeMax))
	if err != nil {
		return nil, fmt.Errorf("rowset: zstd: %w", err)
	}
	return &pageTools{reader: r, header: thrift.NewDecoder(r), zstd: z}, nil
}

func (t *pageTools) close() { t.zstd.Close() }

// pageDecoder turns the bytes of pages of one column into values, with buffers that it keeps.
type pageDecoder struct {
	*pageTools
	column  schema.Column
	kind    physical
	valid   []byte
	ints32  []int32
	ints64  []int64
	offsets []uint32
	values  []byte

	deltaInts  delta.BinaryPackedEncoding
	deltaBytes delta.LengthByteArrayEncoding
	idCodes    rle.DictionaryEncoding
}

// pageSizeMax bounds what a header may ask for; a value of 1 GiB is beyond any entry.
const pageSizeMax = 1 << 30

func newPageDecoder(t *pageTools, c schema.Column) *pageDecoder {
	return &pageDecoder{pageTools: t, column: c, kind: physicalOf(c.Type)}
}

// split decodes a page's header and checks what it says of the bytes behind it. sum, where known, is of all bytes of the page.
func (t *pageTools) split(b []byte, sum *uint32) (h format.PageHeader, body []byte, err error) {
	defer func() { // parquet-go may panic on hostile bytes
		if p := recover(); p != nil {
			err = corrupt("page header: %v", p)
		}
	}()
	if sum != nil {
		if got := crc32.Checksum(b, castagnoli); got != *sum {
			return h, nil, corrupt("page of %d bytes: crc %08x, want %08x", len(b), got, *sum)
		}
	}
	t.reader.ResetBytes(b)
	if err := t.header.Decode(&h); err != nil {
		return h, nil, corrupt("page header: %v", err)
	}
	body = b[t.reader.BytesRead():]
	if len(body) != int(h.CompressedPageSize) || h.UncompressedPageSize < 0 || h.UncompressedPageSize > pageSizeMax {
		return h, nil, corrupt("page of %d bytes: header says %d, uncompressed %d", len(body), h.CompressedPageSize, h.UncompressedPageSize)
	}
	if got := crc32.ChecksumIEEE(body); sum == nil && got != uint32(h.CRC) {
		return h, nil, corrupt("page of %d bytes: crc %08x, want %08x", len(body), got, uint32(h.CRC))
	}
	return h, body, nil
}

func (t *pageTools) decompress(b []byte, size int, compressed bool) ([]byte, error) {
	if !compressed {
		if len(b) != size {
			return nil, corrupt("page of %d bytes, want %d", len(b), size)
		}
		return b, nil
	}
	t.body = grow(t.body, size+slack)
	out, err := t.zstd.DecodeAll(b, t.body[:0])
	if err != nil || len(out) != size {
		return nil, corrupt("page of %d bytes after zstd, want %d (%v)", len(out), size, err)
	}
	return out, nil
}

// data decodes a data page into p.
func (d *pageDecoder) data(b []byte, sum *uint32, codec format.CompressionCodec, p *page) (err error) {
	h, body, err := d.split(b, sum)
	if err != nil {
		return err
	}
	v, ok := h.DataPageHeaderV2.Get()
	if h.Type != format.DataPageV2 || !ok || v.RepetitionLevelsByteLength != 0 || v.NumRows < 0 || v.NumRows > bitPageRows || v.NumRows != v.NumValues ||
		v.NumNulls < 0 || v.NumNulls > v.NumRows || v.DefinitionLevelsByteLength < 0 || int(v.DefinitionLevelsByteLength) > len(body) {
		return corrupt("page header of type %s", h.Type)
	}
	levels := body[:v.DefinitionLevelsByteLength]
	compressed, set := v.IsCompressed.Get()
	body, err = d.decompress(body[len(levels):], int(h.UncompressedPageSize)-len(levels), codec == format.Zstd && (compressed || !set))
	if err != nil {
		return err
	}
	p.rows, p.ids = int(v.NumRows), nil
	p.col = batch.Column{ID: d.column.ID, Type: d.column.Type, Rows: p.rows, Nulls: int(v.NumNulls)}
	if p.col.Nulls > 0 {
		if err := d.decodeLevels(levels, p.rows, p.col.Nulls); err != nil {
			return err
		}
		p.col.Valid = d.valid
	}
	defer func() {
		if r := recover(); r != nil {
			err = corrupt("page of %d rows in %s: %v", p.rows, v.Encoding, r)
		}
	}()
	return d.decodeValues(v.Encoding, body, p)
}

// decodeLevels turns definition levels of one bit into a validity bitmap.
func (d *pageDecoder) decodeLevels(b []byte, rows, nulls int) error {
	d.valid = grow(d.valid, (rows+7)/8)
	clear(d.valid)
	at, ones := 0, 0
	for len(b) > 0 && at < rows {
		u, n := binary.Uvarint(b)
		if n <= 0 || u>>1 > math.MaxInt32 {
			return corrupt("definition levels")
		}
		b = b[n:]
		if u&1 == 0 { // a run
			run := min(int(u>>1), rows-at)
			if len(b) < 1 || run == 0 {
				return corrupt("definition levels")
			}
			if b[0] != 0 {
				setBits(d.valid, at, run)
				ones += run
			}
			b, at = b[1:], at+run
			continue
		}
		bytes := int(u >> 1)
		if len(b) < bytes || bytes == 0 {
			return corrupt("definition levels")
		}
		for i := range min(bytes*8, rows-at) {
			v := bit(b, i)
			d.valid[(at+i)>>3] |= v << ((at + i) & 7)
			ones += int(v)
		}
		b, at = b[bytes:], at+bytes*8
	}
	if at < rows || rows-ones != nulls {
		return corrupt("definition levels of %d rows have %d nulls, want %d of %d", at, rows-ones, nulls, rows)
	}
	return nil
}

func setBits(b []byte, at, n int) {
	for i := at; i < at+n; i++ {
		if i&7 == 0 && at+n-i >= 8 {
			b[i>>3] = 0xff
			i += 7
			continue
		}
		b[i>>3] |= 1 << (i & 7)
	}
}

func (d *pageDecoder) decodeValues(e format.Encoding, body []byte, p *page) (err error) {
	n := p.rows - p.col.Nulls
	switch {
	case e == format.RLEDictionary:
		d.ints32 = grow(d.ints32, p.rows+slack)
		if d.ints32, err = d.idCodes.DecodeInt32(d.ints32[:0], body); err != nil || len(d.ints32) < n {
			return corrupt("page of %d ids, want %d (%v)", len(d.ints32), n, err)
		}
		d.ints32 = grow32(d.ints32, p.rows)
		p.ids = d.ints32[:p.rows]
		spread(p.ids, n, p.col.Valid)
		return nil
	case e == format.DeltaBinaryPacked && d.kind == physInt32:
		d.ints32, err = d.deltaInts.DecodeInt32(d.ints32[:0], body)
		if err != nil || len(d.ints32) != n {
			return corrupt("page of %d integers, want %d (%v)", len(d.ints32), n, err)
		}
		d.ints32 = grow32(d.ints32, p.rows)
		spread(d.ints32, n, p.col.Valid)
		p.col.Values = narrow(d.column.Type, d.ints32)
		return nil
	case e == format.DeltaBinaryPacked && d.kind == physInt64:
		d.ints64, err = d.deltaInts.DecodeInt64(d.ints64[:0], body)
		if err != nil || len(d.ints64) != n {
			return corrupt("page of %d integers, want %d (%v)", len(d.ints64), n, err)
		}
		d.ints64 = grow64(d.ints64, p.rows)
		spread(d.ints64, n, p.col.Valid)
		p.col.Values = raw(d.ints64)
		return nil
	case e == format.DeltaLengthByteArray && d.kind == physBytes:
		d.values, d.offsets, err = d.deltaBytes.DecodeByteArray(d.values[:0], body, d.offsets[:0])
		if err != nil || len(d.offsets) != n+1 {
			return corrupt("page of %d texts, want %d (%v)", len(d.offsets)-1, n, err)
		}
		p.col.Values = d.values
		p.col.Offsets = d.spreadOffsets(p)
		return nil
	case e == format.Plain && d.kind != physBytes:
		return d.plain(body, n, p)
	}
	return corrupt("page of type %s in encoding %s", d.column.Type, e)
}

// plain takes values that are not bytes as they are.
func (d *pageDecoder) plain(body []byte, n int, p *page) error {
	w := d.kind.width()
	want := n * w
	if d.kind == physBool {
		want = (n + 7) / 8
	}
	if len(body) != want {
		return corrupt("page of %d bytes, want %d", len(body), want)
	}
	d.values = append(grow(d.values, p.rows*max(w, 1)+slack)[:0], body...)
	switch {
	case d.kind == physBool:
		p.col.Values = spreadBits(d.values, p)
		return nil
	case w == 4:
		v := view[uint32](d.values[:p.rows*4])
		spread(v, n, p.col.Valid)
	case w == 8:
		v := view[uint64](d.values[:p.rows*8])
		spread(v, n, p.col.Valid)
	case w == 16:
		v := view[[2]uint64](d.values[:p.rows*16])
		spread(v, n, p.col.Valid)
	}
	p.col.Values = d.values[:p.rows*w]
	if d.kind == physInt32 {
		p.col.Values = narrow(d.column.Type, view[int32](p.col.Values))
	}
	return nil
}

// spread moves n values, from the last on, to the places of the rows that have one, and clears the others.
func spread[T int32 | uint32 | int64 | uint64 | [2]uint64](v []T, n int, valid []byte) {
	if n == len(v) {
		return
	}
	var zero T
	for i, j := len(v)-1, n; i >= 0; i-- {
		if bit(valid, i) != 0 {
			j--
			v[i] = v[j]
		} else {
			v[i] = zero
		}
	}
}

// spreadBits is spread for bits; values beyond the page's rows are zero.
func spreadBits(v []byte, p *page) []byte {
	n := (p.rows + 7) / 8
	if p.col.Nulls == 0 {
		return v[:n]
	}
	out := make([]byte, n)
	j := 0
	for i := range p.rows {
		if bit(p.col.Valid, i) != 0 {
			out[i>>3] |= bit(v, j) << (i & 7)
			j++
		}
	}
	return out
}

// spreadOffsets gives every row its place in the bytes; that of a null is empty.
func (d *pageDecoder) spreadOffsets(p *page) []int32 {
	n := len(d.offsets) - 1
	if p.col.Nulls > 0 {
		d.offsets = append(d.offsets, make([]uint32, p.rows+1-len(d.offsets))...)
		for i, j := p.rows, n; i > 0; i-- {
			d.offsets[i] = d.offsets[j]
			if bit(p.col.Valid, i-1) != 0 {
				j--
			}
		}
	}
	return view[int32](raw(d.offsets[:p.rows+1]))
}

// narrow gives integers the width that the type has in memory; it works in place.
func narrow(t schema.Type, v []int32) []byte {
	b := raw(v)
	switch t.Layout() {
	case schema.Fixed1:
		for i, x := range v {
			b[i] = byte(x)
		}
		return b[:len(v)]
	case schema.Fixed2:
		for i, x := range v {
			binary.LittleEndian.PutUint16(b[i*2:], uint16(x))
		}
		return b[:len(v)*2]
	}
	return b
}

func grow32(v []int32, n int) []int32 {
	if n > len(v) {
		return append(v, make([]int32, n-len(v))...)
	}
	return v[:n]
}

func grow64(v []int64, n int) []int64 {
	if n > len(v) {
		return append(v, make([]int64, n-len(v))...)
	}
	return v[:n]
}

// dictionary decodes a dictionary page into a column with a row for each id; the column is the caller's.
func (d *pageDecoder) dictionary(b []byte, sum *uint32, codec format.CompressionCodec) (col *batch.Column, err error) {
	h, body, err := d.split(b, sum)
	if err != nil {
		return nil, err
	}
	v, ok := h.DictionaryPageHeader.Get()
	if h.Type != format.DictionaryPage || !ok || v.Encoding != format.Plain || v.NumValues < 0 {
		return nil, corrupt("dictionary page header of type %s", h.Type)
	}
	if body, err = d.decompress(body, int(h.UncompressedPageSize), codec == format.Zstd); err != nil {
		return nil, err
	}
	n := int(v.NumValues)
	col = &batch.Column{ID: d.column.ID, Type: d.column.Type, Rows: n}
	if d.kind == physBytes {
		return col, dictionaryBytes(col, body)
	}
	if len(body) != n*d.kind.width() || d.kind == physBool {
		return nil, corrupt("dictionary of %d bytes for %d values", len(body), n)
	}
	col.Values = append(make([]byte, 0, len(body)+slack), body...)
	if d.kind == physInt32 {
		col.Values = narrow(d.column.Type, view[int32](col.Values))
	}
	return col, nil
}

func dictionaryBytes(col *batch.Column, body []byte) error {
	col.Offsets = append(make([]int32, 0, col.Rows+1), 0)
	for range col.Rows {
		if len(body) < 4 || uint64(binary.LittleEndian.Uint32(body)) > uint64(len(body)-4) {
			return corrupt("dictionary ends in value %d of %d", len(col.Offsets)-1, col.Rows)
		}
		n := 4 + int(binary.LittleEndian.Uint32(body))
		col.Values = append(col.Values, body[4:n]...)
		col.Offsets = append(col.Offsets, int32(len(col.Values)))
		body = body[n:]
	}
	if len(body) > 0 {
		return corrupt("dictionary has %d bytes too many", len(body))
	}
	return nil
}
