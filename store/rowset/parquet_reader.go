package rowset

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"nyala/store/schema"
	"nyala/store/vfs"
)

// parquetFile is an open Parquet file that this package wrote. Its footer and indexes are in memory; it is immutable and
// may be used by many goroutines.
type parquetFile struct {
	*sharedFile
	schema *schema.Schema
	footer []Pair
	rows   int
	groups []rowGroup
	tail   int64    // where the pages end; without sums, where the footer begins
	behind []byte   // during load: all bytes from tail on
	sums   []uint32 // CRC32C of each page in file order, and of all behind tail; nil: not known
}

type rowGroup struct {
	first, rows int
	chunks      []columnChunk // in the schema's order
}

type columnChunk struct {
	meta  *format.ColumnMetaData
	pages []format.PageLocation
	index *format.ColumnIndex // nil: none
	sum   int                 // of the first page, dictionary or not, in sums
}

// dictionaryPages is 1 where the chunk has a dictionary page, else 0.
func (c *columnChunk) dictionaryPages() int { return int(oneIf(c.meta.DictionaryPageOffset > 0)) }

// rowsOf gives the rows of page i, of a group of n rows, as [first, next) from the group's first.
func (c *columnChunk) rowsOf(i, n int) (first, next int) {
	if i+1 < len(c.pages) {
		n = int(c.pages[i+1].FirstRowIndex)
	}
	return int(c.pages[i].FirstRowIndex), n
}

// readAt fills b from off on, or fails.
func readAt(f vfs.File, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return corrupt("read of %d bytes at %d: got %d", len(b), off, n)
	}
	return fmt.Errorf("read of %d bytes at %d: %w", len(b), off, err)
}

// openParquet reads the footer and the indexes. sums, with tail, is what the keys file knows of this file: with it, everything
// is checked before it is decoded.
func openParquet(fsys vfs.FS, name string, tail int64, sums []uint32) (*parquetFile, error) {
	f, err := openShared(fsys, name)
	if err != nil {
		return nil, err
	}
	p := &parquetFile{sharedFile: f, tail: tail, sums: sums}
	if err := p.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("rowset: %s: %w", name, err), f.close())
	}
	return p, nil
}

const parquetEnd = 8 // length of the footer, magic

func (p *parquetFile) load() (err error) {
	defer func() { // parquet-go may panic on hostile bytes
		if r := recover(); r != nil {
			err = corrupt("footer: %v", r)
		}
	}()
	var head [len(parquetMagic)]byte
	var end [parquetEnd]byte
	if p.size < int64(len(head)+len(end)) {
		return corrupt("it ends at %d, too early for a Parquet file", p.size)
	}
	if err := errors.Join(p.read(head[:], 0), p.read(end[:], p.size-parquetEnd)); err != nil {
		return err
	}
	length := int64(binary.LittleEndian.Uint32(end[:]))
	if string(head[:]) != parquetMagic || string(end[4:]) != parquetMagic || length > p.size-parquetEnd-int64(len(head)) {
		return corrupt("not a Parquet file at 0 and %d, or a footer of %d bytes", p.size-parquetEnd, length)
	}
	start := p.size - parquetEnd - length
	if p.sums != nil {
		start = p.tail
	}
	if start < int64(len(head)) || start > p.size-parquetEnd-length {
		return corrupt("footer of %d bytes at %d, pages end at %d", length, p.size-parquetEnd-length, start)
	}
	behind := make([]byte, p.size-start)
	if err := p.read(behind, start); err != nil {
		return err
	}
	p.behind, p.tail = behind, start
	defer func() { p.behind = nil }()
	if p.sums != nil {
		if got, want := crc32.Checksum(behind, castagnoli), p.sums[len(p.sums)-1]; got != want {
			return corrupt("footer and indexes at %d: crc %08x, want %08x", start, got, want)
		}
	}
	meta := new(format.FileMetaData)
	if err := thrift.Unmarshal(new(thrift.CompactProtocol), behind[int64(len(behind))-parquetEnd-length:len(behind)-parquetEnd], meta); err != nil {
		return corrupt("footer: %v", err)
	}
	return p.bind(meta)
}

// bind checks the footer against the schema that it carries and reads the indexes.
func (p *parquetFile) bind(m *format.FileMetaData) error {
	for _, kv := range m.KeyValueMetadata {
		p.footer = append(p.footer, Pair{kv.Key, kv.Value})
		switch kv.Key {
		case "nyala.format":
			if kv.Value != formatVersion {
				return fmt.Errorf("got format %q, want %q", kv.Value, formatVersion)
			}
		case "nyala.schema":
			p.schema = new(schema.Schema)
			if err := json.Unmarshal([]byte(kv.Value), p.schema); err != nil {
				return corrupt("schema in the footer: %v", err)
			}
			if err := p.schema.Validate(); err != nil {
				return corrupt("schema in the footer: %v", err)
			}
		}
	}
	if p.schema == nil {
		return fmt.Errorf("no schema in the footer: this is not a file of ours")
	}
	if m.NumRows < 0 || m.NumRows > math.MaxUint32 {
		return corrupt("%d rows", m.NumRows)
	}
	sum := 0
	for i := range m.RowGroups {
		g, err := p.bindGroup(&m.RowGroups[i], &sum)
		if err != nil {
			return fmt.Errorf("row group %d: %w", i, err)
		}
		g.first = p.rows
		p.groups = append(p.groups, g)
		p.rows += g.rows
	}
	if p.rows != int(m.NumRows) || p.sums != nil && sum != len(p.sums)-1 {
		return corrupt("%d rows in %d pages, want %d in %d", p.rows, sum, m.NumRows, len(p.sums)-1)
	}
	return nil
}

func (p *parquetFile) bindGroup(m *format.RowGroup, sum *int) (rowGroup, error) {
	g := rowGroup{rows: int(m.NumRows)}
	if len(m.Columns) != len(p.schema.Columns) || m.NumRows < 1 {
		return g, corrupt("%d columns and %d rows, want %d columns", len(m.Columns), m.NumRows, len(p.schema.Columns))
	}
	for i := range m.Columns {
		c, column := columnChunk{meta: &m.Columns[i].MetaData, sum: *sum}, &p.schema.Columns[i]
		if err := p.bindChunk(&c, &m.Columns[i], g.rows, column); err != nil {
			return g, fmt.Errorf("column %s: %w", column.Name, err)
		}
		*sum += len(c.pages) + c.dictionaryPages()
		g.chunks = append(g.chunks, c)
	}
	return g, nil
}

func (p *parquetFile) bindChunk(c *columnChunk, m *format.ColumnChunk, rows int, column *schema.Column) error {
	switch {
	case c.meta.Codec != format.Zstd && c.meta.Codec != format.Uncompressed: // LZ4_RAW would read back wrong, silently
		return fmt.Errorf("codec %s is refused, want ZSTD", c.meta.Codec)
	case c.meta.Type != physTypes[physicalOf(column.Type)]:
		return corrupt("type %s, want %s", c.meta.Type, column.Type)
	case c.meta.NumValues != int64(rows):
		return corrupt("%d values, want %d", c.meta.NumValues, rows)
	}
	var oix format.OffsetIndex
	if err := p.unmarshal(m.OffsetIndexOffset, m.OffsetIndexLength, &oix); err != nil {
		return fmt.Errorf("offset index: %w", err)
	}
	c.pages = oix.PageLocations
	last := int64(-1)
	for i, l := range c.pages {
		if l.FirstRowIndex <= last || i == 0 && l.FirstRowIndex != 0 || l.FirstRowIndex >= int64(rows) ||
			l.Offset < int64(len(parquetMagic)) || l.CompressedPageSize < 1 || l.Offset+int64(l.CompressedPageSize) > p.size {
			return corrupt("page %d: %d bytes at %d, row %d", i, l.CompressedPageSize, l.Offset, l.FirstRowIndex)
		}
		last = l.FirstRowIndex
	}
	if len(c.pages) == 0 {
		return corrupt("no pages")
	}
	if m.ColumnIndexOffset == 0 {
		return nil
	}
	c.index = new(format.ColumnIndex)
	if err := p.unmarshal(m.ColumnIndexOffset, m.ColumnIndexLength, c.index); err != nil {
		return fmt.Errorf("column index: %w", err)
	}
	return c.checkIndex(physicalOf(column.Type).width())
}

// checkIndex makes sure that every page has an entry, of the right width, in each list of the index.
func (c *columnChunk) checkIndex(width int) error {
	n := len(c.pages)
	if len(c.index.MinValues) != n || len(c.index.MaxValues) != n || len(c.index.NullPages) != n || len(c.index.NullCounts) != n {
		return corrupt("column index of %d entries, want %d", len(c.index.MinValues), n)
	}
	if c.meta.Type == format.Boolean {
		width = 1
	}
	for i := range n {
		if c.meta.Type != format.ByteArray && !c.index.NullPages[i] && (len(c.index.MinValues[i]) != width || len(c.index.MaxValues[i]) != width) {
			return corrupt("column index: bounds of page %d have %d bytes, want %d", i, len(c.index.MinValues[i]), width)
		}
	}
	return nil
}

func (p *parquetFile) unmarshal(off int64, length int32, v any) error {
	if off < int64(len(parquetMagic)) || length < 1 || off+int64(length) > p.size {
		return corrupt("%d bytes at %d", length, off)
	}
	var b []byte
	if off >= p.tail {
		b = p.behind[off-p.tail:][:length]
	} else { // no keys file told where the indexes begin
		b = make([]byte, length)
		if err := p.read(b, off); err != nil {
			return err
		}
	}
	if err := thrift.Unmarshal(new(thrift.CompactProtocol), b, v); err != nil {
		return corrupt("%v", err)
	}
	return nil
}

// pageSum is the checksum of page i of a chunk, counting the dictionary page, or nil when none is known.
func (p *parquetFile) pageSum(c *columnChunk, i int) *uint32 {
	if p.sums == nil {
		return nil
	}
	return &p.sums[c.sum+i]
}

// dictionaryAt says where a chunk's dictionary page is.
func (c *columnChunk) dictionaryAt() (off int64, size int64) {
	return c.meta.DictionaryPageOffset, c.pages[0].Offset - c.meta.DictionaryPageOffset
}
