package rowset

import (
	"errors"
	"fmt"
	"strings"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// ParquetSuffix and KeysSuffix end the names of a DiskRowSet's two files.
const (
	ParquetSuffix = ".parquet"
	KeysSuffix    = ".keys"
)

// Rows are the rows of a DiskRowSet, gathered from batches.
type Rows struct {
	Batches []*batch.Batch
	Refs    []Ref         // in the order of (encoded key, birth); at least one
	Births  [][]int64     // by batch: one for all its rows, or one a row
	Keys    []*batch.Keys // by batch, where the caller has them; nil: encoded again
}

// Written is a DiskRowSet whose bytes are written and not yet safe.
type Written struct {
	Parquet, Keys FileInfo
	Rows          int
	files         [2]vfs.File // nil after Sync or Close
}

// Sync makes both files durable and closes them. The caller syncs the directory.
func (w *Written) Sync() error {
	var errs []error
	for i, f := range w.files {
		if f == nil {
			continue
		}
		if err := f.Sync(); err != nil {
			errs = append(errs, fmt.Errorf("rowset: sync: %w", err))
		}
		errs = append(errs, f.Close())
		w.files[i] = nil
	}
	return errors.Join(errs...)
}

// Close closes the files without making them durable.
func (w *Written) Close() error {
	var errs []error
	for i, f := range w.files {
		if f != nil {
			errs = append(errs, f.Close())
			w.files[i] = nil
		}
	}
	return errors.Join(errs...)
}

// Writer writes DiskRowSets, one after the other, and keeps its buffers between them: some MiB. Those of a row of one
// schema come after one SetSchema. It belongs to one goroutine.
type Writer struct {
	parquet *parquetWriter
	keys    *keysWriter
	options Options
}

// NewWriter makes a Writer. Replicas must be given the same options.
func NewWriter(s *schema.Schema, o Options) (*Writer, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	p, err := newParquetWriter(o.Level)
	if err != nil {
		return nil, err
	}
	w := &Writer{parquet: p, keys: &keysWriter{out: p.out}, options: o}
	if err := w.SetSchema(s); err != nil {
		return nil, err
	}
	return w, nil
}

// SetSchema makes the next file one of another schema; buffers, tables and encoders are kept.
func (w *Writer) SetSchema(s *schema.Schema) error {
	if len(keyWidths(s)) > keyPartsMax {
		return fmt.Errorf("rowset: a primary key of %d parts, want at most %d", len(keyWidths(s)), keyPartsMax)
	}
	w.keys.schema, w.keys.widths, w.keys.encoded = s, keyWidths(s), nil
	return w.parquet.setSchema(s, w.options.Footer)
}

// Create opens a new file that will have the given final name, under a temporary one. Columns go past the page cache: they are read by scans only,
// and memory for them is dear. Keys do not: the next upserts look them up, here and there.
func Create(fsys vfs.FS, temp, final string) (vfs.File, error) {
	if strings.HasSuffix(final, ParquetSuffix) {
		return vfs.CreateDirect(fsys, temp)
	}
	return fsys.Create(temp)
}

// Write writes base.parquet and base.keys; files of these names are replaced. After an error both may be there in part.
func (w *Writer) Write(fsys vfs.FS, base string, rows *Rows) (*Written, error) {
	if err := rows.check(); err != nil {
		return nil, err
	}
	out := &Written{Rows: len(rows.Refs)}
	for i, name := range []string{base + ParquetSuffix, base + KeysSuffix} {
		f, err := Create(fsys, name, name)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("rowset: %w", err), out.Close())
		}
		out.files[i] = f
	}
	if err := w.write(out, rows); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", base, err), out.Close())
	}
	return out, nil
}

func (r *Rows) check() error {
	if len(r.Refs) == 0 {
		return errors.New("rowset: a DiskRowSet without rows")
	}
	if len(r.Births) != len(r.Batches) {
		return fmt.Errorf("rowset: got births of %d batches, want %d", len(r.Births), len(r.Batches))
	}
	for i, b := range r.Births {
		if len(b) != 1 && len(b) != r.Batches[i].Rows {
			return fmt.Errorf("rowset: batch %d: got %d births, want 1 or %d", i, len(b), r.Batches[i].Rows)
		}
	}
	return checkRefs(r.Batches, r.Refs)
}

func (o *Options) written(suffix string) {
	if o.Written != nil {
		o.Written(suffix)
	}
}

func (w *Writer) write(out *Written, rows *Rows) (err error) {
	p := w.parquet
	p.begin(out.files[0], w.options.SHA256)
	for refs := rows.Refs; len(refs) > 0; {
		n := min(len(refs), w.options.GroupRows)
		if err := p.writeGroup(rows.Batches, refs[:n]); err != nil {
			return err
		}
		refs = refs[n:]
	}
	tail := p.out.size()
	if out.Parquet, err = p.end(); err != nil {
		return err
	}
	w.options.written(ParquetSuffix)
	out.Keys, err = w.keys.write(out.files[1], rows, out.Parquet, tail, p.sums)
	if err == nil {
		w.options.written(KeysSuffix)
	}
	return err
}

// Stream writes one Parquet file from batches whose rows come in their order, without a keys file: an export.
// It keeps at most a row group of rows.
type Stream struct {
	parquet *parquetWriter
	file    vfs.File
	options Options
	batches []*batch.Batch
	refs    []Ref
	bytes   int64
}

// NewStream creates the file, or empties it.
func NewStream(fsys vfs.FS, name string, s *schema.Schema, o Options) (*Stream, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	p, err := newParquetWriter(o.Level)
	if err == nil {
		err = p.setSchema(s, o.Footer)
	}
	if err != nil {
		return nil, err
	}
	f, err := fsys.Create(name)
	if err != nil {
		return nil, fmt.Errorf("rowset: %w", err)
	}
	p.begin(f, o.SHA256)
	return &Stream{parquet: p, file: f, options: o}, nil
}

// Append adds rows of b: those listed, or all where rows is nil. The Stream keeps b until the row group is
// full: b must not change. Row groups are cut by rows alone, so equal rows in other batches make an equal file.
func (s *Stream) Append(b *batch.Batch, rows []uint32) error {
	n := len(rows)
	if rows == nil {
		n = b.Rows
	}
	if n == 0 {
		return nil
	}
	s.batches = append(s.batches, b)
	for i := range n {
		row := uint32(i)
		if rows != nil {
			row = rows[i]
		}
		if int(row) >= b.Rows {
			return fmt.Errorf("rowset: row %d of a batch of %d", row, b.Rows)
		}
		s.refs = append(s.refs, Ref{Batch: uint32(len(s.batches) - 1), Row: row})
		s.bytes += rowBytes(b, int(row))
		if len(s.refs) >= s.options.GroupRows || s.bytes >= s.options.GroupBytes {
			if err := s.flush(); err != nil {
				return err
			}
			s.batches = append(s.batches, b)
		}
	}
	return nil
}

// rowBytes is what a row takes in memory, without its bits.
func rowBytes(b *batch.Batch, row int) (n int64) {
	for i := range b.Columns {
		c := &b.Columns[i]
		if c.Offsets != nil {
			n += int64(c.Offsets[row+1]-c.Offsets[row]) + 4
		} else {
			n += int64(c.Type.Width())
		}
	}
	return n
}

func (s *Stream) flush() error {
	if len(s.refs) == 0 {
		return nil
	}
	err := s.parquet.writeGroup(s.batches, s.refs)
	s.batches, s.refs, s.bytes = nil, s.refs[:0], 0
	return err
}

// Rows is the number of rows appended.
func (s *Stream) Rows() int64 { return s.parquet.rows + int64(len(s.refs)) }

// Finish writes what is left and the footer, makes the file durable and closes it. The caller syncs the
// directory. A file without rows is valid.
func (s *Stream) Finish(footer ...Pair) (FileInfo, error) {
	s.parquet.footer = append(s.parquet.footer, footer...)
	err := s.flush()
	var info FileInfo
	if err == nil {
		info, err = s.parquet.end()
	}
	if err == nil {
		err = s.file.Sync()
	}
	if cerr := s.file.Close(); err == nil {
		err = cerr
	}
	return info, err
}

// Abort closes the file, which is left in part.
func (s *Stream) Abort() error { return s.file.Close() }
