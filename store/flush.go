package store

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
)

// encoded is the DiskRowSet made of a frozen MemRowSet, under temporary names.
type encoded struct {
	added []added  // one, or none if no row was left
	rowOf []uint32 // by row of the MemRowSet: its row in the file, or noRow
}

const noRow = ^uint32(0)

// flushSuffix ends the base name of files that a flush wrote and no Install has named yet.
const flushSuffix = ".flush"

// worker is what encoding needs and keeps between flushes: one goroutine has it at a time.
type worker struct {
	sorter batch.Sorter
	order  []uint32
	of     []uint32     // by row: its batch
	refs   []rowset.Ref // of what is written
	schema *schema.Schema
	writer *rowset.Writer
}

func (w *worker) writerFor(s *schema.Schema, written func(suffix string)) (*rowset.Writer, error) {
	var err error
	switch {
	case w.writer == nil:
		w.writer, err = rowset.NewWriter(s, rowset.Options{Written: written})
	case w.schema != s: // of another tablet, most often: the encoders are dear
		err = w.writer.SetSchema(s)
	}
	w.schema = s
	if err != nil {
		w.writer = nil
	}
	return w.writer, err
}

// fileWritten is told of the files of a flush.
func (m *Manager) fileWritten(suffix string) {
	if suffix == rowset.ParquetSuffix {
		m.reached(ParquetWritten)
	} else {
		m.reached(KeysWritten)
	}
}

// encode writes and syncs the files of a frozen MemRowSet. What is in them follows from the log alone: rows that were
// dead at the Freeze for every reader that is still allowed are left out, later deaths do not count however many
// there are by now. So all replicas write the same bytes.
func (t *Tablet) encode(ctx context.Context, f *frozenRowSet) error {
	w, err := t.manager.takeWorker(ctx)
	if err != nil {
		return err
	}
	defer t.manager.returnWorker(w)
	begin := time.Now()
	rows, rowOf := w.gather(f.schema, f, t.broken == lateImage)
	if len(rows.Refs) == 0 {
		f.encoded = &encoded{rowOf: rowOf}
		return nil
	}
	writer, err := w.writerFor(f.schema, t.manager.fileWritten)
	if err != nil {
		return err
	}
	written, err := writer.Write(t.fs, path.Join(t.dir, baseName(f.freeze)+flushSuffix), rows)
	if err != nil {
		return fmt.Errorf("store: flush: %w", err)
	}
	if t.broken == filesUnsynced {
		err = written.Close()
	} else {
		err = written.Sync()
	}
	if err != nil {
		return fmt.Errorf("store: flush: %w", err)
	}
	t.manager.reached(FilesSynced)
	a := added{id: f.freeze, rows: uint64(written.Rows),
		parquet: file{written.Parquet.Size, written.Parquet.Hash}, keys: file{written.Keys.Size, written.Keys.Hash}}
	f.encoded = &encoded{added: []added{a}, rowOf: rowOf}
	t.log.Info("flush encoded", "job", f.freeze, "rows", written.Rows, "of", f.rows, "bytes", a.parquet.size+a.keys.size,
		"took", time.Since(begin))
	return nil
}

// gather sorts a frozen MemRowSet and picks the rows that go into its file.
func (w *worker) gather(s *schema.Schema, f *frozenRowSet, late bool) (*rowset.Rows, []uint32) {
	rows := &rowset.Rows{}
	w.of = w.of[:0]
	for i := range f.batches {
		b := &f.batches[i]
		rows.Batches = append(rows.Batches, withoutDeletes(s, b.rows))
		rows.Births = append(rows.Births, []int64{b.birth})
		rows.Keys = append(rows.Keys, part(f.keys, int(b.first), b.rows.Rows))
		for range b.rows.Rows {
			w.of = append(w.of, uint32(i))
		}
	}
	w.order = w.sorter.Sort(f.keys, w.order)
	rowOf := make([]uint32, f.rows)
	rows.Refs = slices.Grow(w.refs[:0], int(f.rows))
	for _, row := range w.order {
		b := &f.batches[w.of[row]]
		d := f.deaths.at(row)
		if d != 0 && (d == b.birth || d <= f.manifest.horizon || late) && (d <= f.manifest.timestamp || late) {
			rowOf[row] = noRow
			continue
		}
		rowOf[row] = uint32(len(rows.Refs))
		rows.Refs = append(rows.Refs, rowset.Ref{Batch: w.of[row], Row: row - b.first})
	}
	w.refs = rows.Refs
	return rows, rowOf
}

// part looks at n keys from base on as keys of their own.
func part(k *batch.Keys, base, n int) *batch.Keys {
	if k.Width > 0 {
		return &batch.Keys{Width: k.Width, Data: k.Data[base*k.Width : (base+n)*k.Width]}
	}
	return &batch.Keys{Data: k.Data, Offsets: k.Offsets[base : base+n+1]}
}

// withoutDeletes looks at a batch as if its deletes, which have nulls where a row must not, were no rows of it: none of them is picked.
func withoutDeletes(s *schema.Schema, b *batch.Batch) *batch.Batch {
	out := b
	for i, c := range s.Columns {
		if i == len(b.Columns) {
			break // what is behind was appended later
		}
		if c.Nullable || b.Columns[i].Nulls == 0 {
			continue
		}
		if out == b {
			out = &batch.Batch{Rows: b.Rows, Columns: slices.Clone(b.Columns)}
		}
		out.Columns[i].Nulls, out.Columns[i].Valid = 0, nil
	}
	return out
}
