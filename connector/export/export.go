package export

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"nyala/connector/api"
	"nyala/connector/query"
	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// FileBytes is the size at which an export goes on in another file, when not told otherwise.
const FileBytes = 256 << 20

const manifestName = "_manifest.json"

// Snapshot is a table as of one timestamp, ready to be read tablet by tablet.
type Snapshot struct {
	Cluster   string             `json:"cluster"`
	Table     string             `json:"table"`
	Schema    *schema.Schema     `json:"schema"`
	Timestamp int64              `json:"timestamp"`
	Tablets   []Tablet           `json:"tablets"`
	Sources   []api.ExportSource `json:"sources"`
}

// Tablet is one to read. Low is the lower bound of its range.
type Tablet struct {
	ID  uint64 `json:"id"`
	Low int64  `json:"low"`
}

// Options of an export.
type Options struct {
	FS        vfs.FS
	Dir       string
	FileBytes int64                                                          // 0 means FileBytes
	Open      func(ctx context.Context, tablet uint64) (query.Stream, error) // a tablet's rows, by primary key, as of the snapshot
	Progress  func(rows int64)                                               // rows written so far; nil: nobody asks
}

// Run writes the snapshot under Dir/TABLE. A directory that is not empty is refused: an export is never
// mixed with another one, nor with what is left of one that did not end.
func Run(ctx context.Context, s *Snapshot, o Options) (*api.ExportManifest, error) {
	if o.FileBytes == 0 {
		o.FileBytes = FileBytes
	}
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	r := &run{s: s, o: o, root: path.Join(o.Dir, s.Table), directories: map[string]bool{}}
	if _, err := o.FS.Stat(path.Join(r.root, manifestName)); err == nil {
		return nil, fmt.Errorf("export: %s holds an export already: give another directory, or remove that one", r.root)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("export: %s: %w", r.root, err)
	}
	if names, err := o.FS.List(r.root); err == nil && len(names) > 0 {
		return nil, fmt.Errorf("export: %s is not empty, as after an export that did not end: readers of the whole directory would find those rows, too: give another directory, or remove that one", r.root)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("export: %s: %w", r.root, err)
	}
	if err := r.directory(r.root); err != nil {
		return nil, err
	}
	for _, t := range s.Tablets {
		if err := r.tablet(ctx, t); err != nil {
			return nil, fmt.Errorf("export: table %s: tablet %d: %w", s.Table, t.ID, err)
		}
	}
	return r.manifest()
}

type run struct {
	s           *Snapshot
	o           Options
	root        string
	directories map[string]bool
	files       []api.ExportFile
	rows        int64
	number      int
}

func (r *run) directory(dir string) error {
	if r.directories[dir] {
		return nil
	}
	r.directories[dir] = true
	if err := vfs.MakeDir(r.o.FS, dir); err != nil {
		return fmt.Errorf("export: directory %s: %w", dir, err)
	}
	return nil
}

// partition is the Hive-style directory of a range, "" without ranges.
func (r *run) partition(low int64) string {
	g := r.s.Schema.Range
	if g == nil {
		return ""
	}
	c := r.s.Schema.Columns[g.Column]
	text := string(schema.AppendText(nil, c.Type, schema.Value{Int: low}))
	if c.Type.Kind == schema.Timestamp {
		t := time.UnixMicro(low).UTC()
		if text = t.Format("2006-01-02"); g.Every%(24*time.Hour).Microseconds() != 0 {
			text = t.Format("2006-01-02T15-04-05")
		}
	}
	return c.Name + "=" + text
}

// tablet writes one tablet's rows, into as many files as their size asks for.
func (r *run) tablet(ctx context.Context, t Tablet) error {
	in, err := r.o.Open(ctx, t.ID)
	if err != nil {
		return err
	}
	defer in.Close()
	var out *writer
	for {
		b, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return errors.Join(err, out.abort())
		}
		if b.Rows == 0 {
			continue
		}
		if out == nil {
			if out, err = r.create(r.partition(t.Low)); err != nil {
				return err
			}
		}
		if err := out.add(b); err != nil {
			return errors.Join(err, out.abort())
		}
		r.rows += int64(b.Rows)
		r.o.Progress(r.rows)
		if out.bytes >= r.o.FileBytes {
			if err := r.finish(out); err != nil {
				return err
			}
			out = nil
		}
	}
	if out == nil {
		return nil
	}
	return r.finish(out)
}

// writer is a file being written under a temporary name: its own has its hash.
type writer struct {
	stream    *rowset.Stream
	partition string
	temp      string
	keys      *batch.Keys
	min, max  []byte
	rows      int64
	bytes     int64 // of rows, before encoding
}

func (r *run) create(partition string) (*writer, error) {
	r.number++
	dir := path.Join(r.root, partition)
	if err := r.directory(dir); err != nil {
		return nil, err
	}
	w := &writer{partition: partition, temp: path.Join(dir, fmt.Sprintf("%04d.tmp", r.number)), keys: batch.NewKeys(r.s.Schema)}
	var err error
	w.stream, err = rowset.NewStream(r.o.FS, w.temp, r.s.Schema, rowset.Options{Level: rowset.Default, SHA256: true})
	return w, err
}

func (w *writer) add(b *batch.Batch) error {
	w.keys.Reset()
	w.keys.Append(b, 0, b.Rows)
	if w.min == nil {
		w.min = append([]byte{}, w.keys.At(0)...)
	}
	w.max = append(w.max[:0], w.keys.At(b.Rows-1)...)
	w.rows += int64(b.Rows)
	for i := range b.Columns {
		w.bytes += int64(len(b.Columns[i].Values) + 4*len(b.Columns[i].Offsets))
	}
	return w.stream.Append(b, nil)
}

func (w *writer) abort() error {
	if w == nil {
		return nil
	}
	return w.stream.Abort()
}

func (r *run) finish(w *writer) error {
	share, err := json.Marshal(r.s.Sources)
	if err != nil {
		return err
	}
	info, err := w.stream.Finish(
		rowset.Pair{Key: "nyala.cluster", Value: r.s.Cluster},
		rowset.Pair{Key: "nyala.table", Value: r.s.Table},
		rowset.Pair{Key: "nyala.timestamp", Value: fmt.Sprint(r.s.Timestamp)},
		rowset.Pair{Key: "nyala.rows", Value: fmt.Sprint(w.rows)},
		rowset.Pair{Key: "nyala.min_key", Value: hex.EncodeToString(w.min)},
		rowset.Pair{Key: "nyala.max_key", Value: hex.EncodeToString(w.max)},
		rowset.Pair{Key: "nyala.sources", Value: string(share)},
	)
	if err != nil {
		return err
	}
	sum := hex.EncodeToString(info.SHA256[:])
	name := fmt.Sprintf("%s-%s.parquet", strings.TrimSuffix(path.Base(w.temp), ".tmp"), sum[:16])
	dir := path.Dir(w.temp)
	if err := r.o.FS.Rename(w.temp, path.Join(dir, name)); err != nil {
		return err
	}
	if err := r.o.FS.SyncDir(dir); err != nil {
		return err
	}
	r.files = append(r.files, api.ExportFile{
		Path: path.Join(w.partition, name), Rows: w.rows, Bytes: info.Size, SHA256: sum,
		MinKey: hex.EncodeToString(w.min), MaxKey: hex.EncodeToString(w.max),
	})
	return nil
}

func (r *run) manifest() (*api.ExportManifest, error) {
	m := &api.ExportManifest{
		Format: api.ExportFormat, Cluster: r.s.Cluster, Table: r.s.Table, Schema: Schema(r.s.Schema),
		Timestamp: r.s.Timestamp, Rows: r.rows, Files: r.files, Sources: r.s.Sources,
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	name := path.Join(r.root, manifestName)
	if err := vfs.ReplaceFile(r.o.FS, name, append(text, '\n')); err != nil {
		return nil, fmt.Errorf("export: %s: %w", name, err)
	}
	return m, nil
}

// Schema is a schema as manifests and the HTTP interface show it.
func Schema(s *schema.Schema) api.ExportSchema {
	out := api.ExportSchema{Version: s.Version}
	for _, c := range s.Columns {
		out.Columns = append(out.Columns, api.ExportColumn{ID: uint32(c.ID), Name: c.Name, Type: c.Type.String(), Nullable: c.Nullable})
	}
	for _, k := range s.Key {
		out.PrimaryKey = append(out.PrimaryKey, s.Columns[k].Name)
	}
	return out
}
