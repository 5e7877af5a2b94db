package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// parquetWriter collects rows in a temporary file, since a Parquet file is made durable and whole before
// anybody may read it, and copies that to out at the end.
type parquetWriter struct {
	dir, name string
	stream    *rowset.Stream
	out       io.Writer
}

// newParquetWriter makes a writer for some columns of a table. Only rows that come in the order of the
// primary key, with all of it, are marked as sorted.
func newParquetWriter(s *schema.Schema, columns []schema.Column, sorted bool, out io.Writer) (*parquetWriter, error) {
	dir, err := os.MkdirTemp("", "nyala-scan-")
	if err != nil {
		return nil, fmt.Errorf("parquet: temporary directory: %w", err)
	}
	w := &parquetWriter{dir: dir, name: filepath.ToSlash(filepath.Join(dir, "rows.parquet")), out: out}
	part := &schema.Schema{Version: s.Version, Columns: columns, Buckets: 1}
	for _, k := range s.Key {
		i := slices.IndexFunc(columns, func(c schema.Column) bool { return c.ID == s.Columns[k].ID })
		if i < 0 || !sorted {
			part.Key = nil
			break
		}
		part.Key = append(part.Key, i)
	}
	if w.stream, err = rowset.NewStream(vfs.OS(), w.name, part, rowset.Options{Level: rowset.Default}); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return w, nil
}

// Write implements query.RowWriter.
func (w *parquetWriter) Write(b *batch.Batch) error { return w.stream.Append(b, nil) }

// Abort leaves out as it is.
func (w *parquetWriter) Abort() error { return errors.Join(w.stream.Abort(), os.RemoveAll(w.dir)) }

// Close implements query.RowWriter.
func (w *parquetWriter) Close() error {
	_, err := w.stream.Finish()
	if err == nil {
		err = w.copy()
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

func (w *parquetWriter) copy() error {
	f, err := os.Open(w.name)
	if err != nil {
		return err
	}
	_, err = io.Copy(w.out, f)
	return errors.Join(err, f.Close())
}
