package rowset

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go/format"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// Verify reads everything of both files: checksums, encodings, bounds, null counts, that no byte lies between, and
// that keys, order, filter and births agree with the rows. Open has been passed; the keys file is read again.
func Verify(fsys vfs.FS, base string) error {
	r, err := Open(fsys, base)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.parquet.verify(); err != nil {
		return fmt.Errorf("rowset: %s: %w", r.parquet.name, err)
	}
	if err := r.verifyKeys(); err != nil {
		return fmt.Errorf("rowset: %s: %w", r.keys.Load().name, err)
	}
	return nil
}

// VerifyFile is Verify for a file that a Stream wrote.
func VerifyFile(fsys vfs.FS, name string) error {
	f, err := OpenFile(fsys, name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.parquet.verify(); err != nil {
		return fmt.Errorf("rowset: %s: %w", name, err)
	}
	return nil
}

// verify reads every page.
func (p *parquetFile) verify() error {
	tools, err := newPageTools()
	if err != nil {
		return err
	}
	defer tools.close()
	at := int64(len(parquetMagic))
	for g := range p.groups {
		for i := range p.groups[g].chunks {
			c := newCursor(p, i, tools)
			c.enter(g)
			if c.chunk.dictionaryPages() > 0 {
				off, size := c.chunk.dictionaryAt()
				if off != at {
					return corrupt("group %d column %s: dictionary at %d, want %d", g, p.schema.Columns[i].Name, off, at)
				}
				at += size
			}
			for k, l := range c.chunk.pages {
				if l.Offset != at {
					return corrupt("group %d column %s: page %d at %d, want %d", g, p.schema.Columns[i].Name, k, l.Offset, at)
				}
				at += int64(l.CompressedPageSize)
			}
			if err := c.verify(); err != nil {
				return err
			}
		}
	}
	if p.sums != nil && at != p.tail {
		return corrupt("pages end at %d, want %d", at, p.tail)
	}
	return nil
}

// verify decodes the chunk and compares it with its index.
func (c *cursor) verify() error {
	rows := c.file.groups[c.group].rows
	nulls := int64(0)
	for i := range c.chunk.pages {
		if err := c.verifyCRC(i); err != nil {
			return err
		}
		p, err := c.page(i, rows)
		if err != nil {
			return err
		}
		nulls += int64(p.col.Nulls)
		if c.chunk.index == nil {
			continue
		}
		if err := c.verifyBounds(i, p); err != nil {
			return fmt.Errorf("group %d column %s page %d: %w", c.group, c.file.schema.Columns[c.position].Name, i, err)
		}
	}
	if nulls != c.chunk.meta.Statistics.NullCount {
		return corrupt("group %d column %s: %d nulls, want %d", c.group, c.file.schema.Columns[c.position].Name, nulls, c.chunk.meta.Statistics.NullCount)
	}
	return nil
}

// verifyCRC checks a page's own CRC, which other readers use, where ours does instead when rows are read.
func (c *cursor) verifyCRC(i int) error {
	b, err := c.bytes(i, c.file.groups[c.group].rows)
	if err == nil {
		_, _, err = c.tools.split(b, nil)
	}
	if err != nil {
		return fmt.Errorf("group %d column %s page %d: %w", c.group, c.file.schema.Columns[c.position].Name, i, err)
	}
	return nil
}

func (c *cursor) verifyBounds(i int, p *page) error {
	x := c.chunk.index
	if x.NullCounts[i] != int64(p.col.Nulls) || x.NullPages[i] != (p.col.Nulls == p.rows) {
		return corrupt("index says %d nulls, want %d of %d", x.NullCounts[i], p.col.Nulls, p.rows)
	}
	if x.NullPages[i] {
		return nil
	}
	t := p.col.Type
	for r := range p.rows {
		if p.col.IsNull(r) {
			continue
		}
		v := p.value(c.dict, r)
		ok := false
		if isBytes(t) {
			ok = bytes.Compare(x.MinValues[i], v.Bytes) <= 0 && bytes.Compare(v.Bytes, x.MaxValues[i]) <= 0
		} else {
			o := ordinal(t, v)
			ok = plainOrdinal(t, x.MinValues[i]) <= o && o <= plainOrdinal(t, x.MaxValues[i])
		}
		if !ok {
			return corrupt("row %d is outside the page's bounds", r)
		}
	}
	return nil
}

// value is a row of a page in the general form.
func (p *page) value(dict *batch.Column, row int) schema.Value {
	if p.ids == nil || p.col.IsNull(row) {
		return p.col.Value(row)
	}
	return dict.Value(int(p.ids[row]))
}

// verifyKeys compares the keys file with the rows.
func (r *RowSet) verifyKeys() error {
	s := r.Schema()
	columns := make([]schema.Column, len(s.Key))
	for i, k := range s.Key {
		columns[i] = s.Columns[k]
	}
	scan, err := r.Scan(ScanOptions{Columns: columns})
	if err != nil {
		return err
	}
	defer scan.Close()
	keys, row := batch.NewKeys(s), 0
	at := 0 // in keys
	next := func() ([]byte, error) {
		for at == keys.Len() {
			c, err := scan.Next()
			if err != nil {
				return nil, err
			}
			view := batch.Batch{Rows: c.Rows, Columns: make([]batch.Column, len(s.Columns))}
			for i, k := range s.Key {
				view.Columns[k] = c.Columns[i]
			}
			keys.Reset()
			keys.Append(&view, 0, c.Rows)
			at = 0
		}
		at++
		return keys.At(at - 1), nil
	}
	var last []byte
	k := r.keys.Load()
	blocks := newBlockReader()
	defer blocks.free()
	for i := range k.count {
		b, err := blocks.at(k, i)
		if err != nil {
			return err
		}
		err = b.each(func(_ int, key []byte) error {
			want, err := next()
			if err != nil {
				return fmt.Errorf("row %d: %w", row, err)
			}
			if c := bytes.Compare(last, key); !bytes.Equal(key, want) || row > 0 && (c > 0 || c == 0 && r.Birth(row-1) > r.Birth(row)) {
				return corrupt("row %d: key %x, the Parquet file has %x, the row before %x", row, key, want, last)
			}
			if !k.mayContain(schema.HashBytes(key)) {
				return corrupt("row %d: the Bloom filter lacks key %x", row, key)
			}
			last = append(last[:0], key...)
			row++
			return nil
		})
		if err != nil {
			return err
		}
	}
	if _, err := next(); !errors.Is(err, io.EOF) {
		return corrupt("the Parquet file has more than %d rows (%v)", row, err)
	}
	return nil
}

// Dump prints what both files are made of.
func (r *RowSet) Dump(w io.Writer) error {
	k := r.keys.Load()
	least, greatest := r.Births()
	ew := &errWriter{w: w}
	ew.printf("rowset %s: %d rows, births %d to %d (%d distinct)\n", r.base, r.Rows(), least, greatest, len(k.births.table))
	ew.printf("keys %s: %d bytes, %d blocks, %d bytes of filter, %d of keys, key %x to %x\n", k.name, k.size, k.count, k.sections[sectionBloom].size, k.sections[sectionBlocks].size, k.lo, k.hi)
	if ew.err != nil {
		return ew.err
	}
	return r.parquet.dump(w)
}

// Dump prints what the file is made of.
func (f *File) Dump(w io.Writer) error { return f.parquet.dump(w) }

// errWriter keeps the first error of many prints.
type errWriter struct {
	w   io.Writer
	err error
}

func (e *errWriter) printf(format string, args ...any) {
	if e.err == nil {
		_, e.err = fmt.Fprintf(e.w, format, args...)
	}
}

func (p *parquetFile) dump(w io.Writer) error {
	ew := &errWriter{w: w}
	ew.printf("parquet %s: %d bytes, %d rows, %d row groups\n", p.name, p.size, p.rows, len(p.groups))
	for _, kv := range p.footer {
		ew.printf("  footer %s = %s\n", kv.Key, kv.Value)
	}
	for g := range p.groups {
		ew.printf("  row group %d: rows %d to %d\n", g, p.groups[g].first, p.groups[g].first+p.groups[g].rows)
		for i := range p.groups[g].chunks {
			c, column := &p.groups[g].chunks[i], &p.schema.Columns[i]
			ew.printf("    %-20s id %-3d %-14s %4d pages at %d, %d bytes of %d, %d nulls, %s, %s\n", column.Name, column.ID, column.Type, len(c.pages),
				c.pages[0].Offset, c.meta.TotalCompressedSize, c.meta.TotalUncompressedSize, c.meta.Statistics.NullCount, c.encodings(), c.bounds(column.Type))
		}
	}
	return ew.err
}

func (c *columnChunk) encodings() (text string) {
	for _, e := range c.meta.EncodingStats {
		kind := "data"
		if e.PageType == format.DictionaryPage {
			kind = "dictionary"
		}
		if text != "" {
			text += " "
		}
		text += fmt.Sprintf("%s:%s*%d", kind, e.Encoding, e.Count)
	}
	return text
}

func (c *columnChunk) bounds(t schema.Type) string {
	lo, hi := c.meta.Statistics.MinValue, c.meta.Statistics.MaxValue
	switch width := max(physicalOf(t).width(), 1); {
	case lo == nil || hi == nil:
		return "no bounds"
	case t.Layout() != schema.Bytes && (len(lo) != width || len(hi) != width):
		return fmt.Sprintf("bounds of %d and %d bytes", len(lo), len(hi))
	case t.Layout() == schema.Bytes:
		return fmt.Sprintf("%q to %q", lo, hi)
	case t.Layout() == schema.Fixed16:
		return fmt.Sprintf("%x to %x", lo, hi)
	case t.Integral():
		return fmt.Sprintf("%s to %s", schema.AppendText(nil, t, schema.Value{Int: plainOrdinal(t, lo)}), schema.AppendText(nil, t, schema.Value{Int: plainOrdinal(t, hi)}))
	}
	return fmt.Sprintf("%x to %x", lo, hi)
}
