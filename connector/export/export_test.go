package export

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"nyala/connector/api"
	"nyala/connector/query"
	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
	"nyala/store/vfs"
)

const day = int64(24 * time.Hour / time.Microsecond)

var november20 = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC).UnixMicro()

func eventSchema(every int64) *schema.Schema {
	return &schema.Schema{
		Version: 1,
		Columns: []schema.Column{
			{ID: 1, Name: "event_time", Type: schema.Type{Kind: schema.Timestamp}},
			{ID: 2, Name: "event_id", Type: schema.Type{Kind: schema.Int64}},
			{ID: 3, Name: "url", Type: schema.Type{Kind: schema.String}, Nullable: true},
		},
		Key: []int{0, 1}, Hash: []int{1}, Buckets: 1, Range: &schema.Range{Column: 0, Every: every},
	}
}

// canned is a tablet's rows, in batches; failure ends it instead of io.EOF.
type canned struct {
	batches []*batch.Batch
	failure error
	closed  *int
}

func (c *canned) Next() (*batch.Batch, error) {
	if len(c.batches) == 0 {
		if c.failure != nil {
			return nil, c.failure
		}
		return nil, io.EOF
	}
	b := c.batches[0]
	c.batches = c.batches[1:]
	return b, nil
}

func (c *canned) Close() error { *c.closed++; return nil }

// tabletRows makes batches of n rows each, from a range's lower bound on.
func tabletRows(s *schema.Schema, low int64, batches, n int) (out []*batch.Batch) {
	id := int64(0)
	for range batches {
		b := batch.NewBuilder(s.Columns, n)
		for range n {
			b.Columns[0].AppendInt(low + id)
			b.Columns[1].AppendInt(id)
			if id%3 == 0 {
				b.Columns[2].AppendNull()
			} else {
				b.Columns[2].AppendBytes(fmt.Appendf(nil, "/p/%d", id))
			}
			id++
		}
		view := b.View()
		out = append(out, &view)
	}
	return out
}

// world is a snapshot of tablets 7 (a day earlier), 8 and 9 (empty).
type world struct {
	snapshot *Snapshot
	options  Options
	opened   int
	closed   int
	failure  error // of tablet 8
	progress []int64
}

func newWorld(fsys vfs.FS) *world {
	s := eventSchema(day)
	w := &world{snapshot: &Snapshot{
		Cluster: "tracking", Table: "events", Schema: s, Timestamp: november20 + 5,
		Tablets: []Tablet{{7, november20 - day}, {8, november20}, {9, november20 + day}},
		Sources: []api.ExportSource{{Connector: "app", Topic: "app", TopicID: "0", Partition: 1, CompleteBelow: 10, NothingFrom: 12}},
	}}
	w.options = Options{FS: fsys, Dir: "out", FileBytes: 2000, Progress: func(n int64) { w.progress = append(w.progress, n) },
		Open: func(_ context.Context, tablet uint64) (query.Stream, error) {
			w.opened++
			switch tablet {
			case 7:
				return &canned{tabletRows(s, november20-day, 1, 10), nil, &w.closed}, nil
			case 8:
				return &canned{tabletRows(s, november20, 5, 60), w.failure, &w.closed}, nil
			}
			return &canned{nil, nil, &w.closed}, nil
		}}
	return w
}

func TestExport(t *testing.T) {
	fsys := vfs.NewMem()
	w := newWorld(fsys)
	m, err := Run(context.Background(), w.snapshot, w.options)
	if err != nil {
		t.Fatal(err)
	}
	if w.opened != 3 || w.closed != 3 || !slices.Equal(w.progress, []int64{10, 70, 130, 190, 250, 310}) {
		t.Errorf("opened %d, closed %d, progress %v", w.opened, w.closed, w.progress)
	}
	text, err := vfs.ReadFile(fsys, "out/events/_manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	var onDisk api.ExportManifest
	if err := json.Unmarshal(text, &onDisk); err != nil || !reflect.DeepEqual(&onDisk, m) {
		t.Fatalf("got %+v, %v, want %+v", onDisk, err, m)
	}
	if m.Format != api.ExportFormat || m.Cluster != "tracking" || m.Table != "events" || m.Timestamp != november20+5 || m.Rows != 310 ||
		!slices.Equal(m.Sources, w.snapshot.Sources) || !slices.Equal(m.Schema.PrimaryKey, []string{"event_time", "event_id"}) {
		t.Errorf("got %+v", m)
	}
	if got := m.Schema.Columns[2]; got != (api.ExportColumn{ID: 3, Name: "url", Type: "string", Nullable: true}) {
		t.Errorf("got %+v", got)
	}
	if len(m.Files) < 3 {
		t.Fatalf("got %d files, want several of tablet 8", len(m.Files))
	}
	rows := map[string]int64{} // by directory
	last := ""
	for _, f := range m.Files {
		checkFile(t, fsys, m, f)
		rows[path.Dir(f.Path)] += f.Rows
		if f.MinKey > f.MaxKey || f.MinKey <= last {
			t.Errorf("%s: bounds %s to %s, after %s", f.Path, f.MinKey, f.MaxKey, last)
		}
		last = f.MaxKey
	}
	if want := map[string]int64{"event_time=2026-11-19": 10, "event_time=2026-11-20": 300}; !reflect.DeepEqual(rows, want) {
		t.Errorf("got %v, want %v", rows, want)
	}
}

// checkFile compares a file with what the manifest says of it, and its rows with what was put in.
func checkFile(t *testing.T, fsys vfs.FS, m *api.ExportManifest, f api.ExportFile) {
	t.Helper()
	name := path.Join("out/events", f.Path)
	content, err := vfs.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	if hash := hex.EncodeToString(sum[:]); int64(len(content)) != f.Bytes || hash != f.SHA256 || !strings.HasSuffix(name, "-"+hash[:16]+".parquet") {
		t.Errorf("%s: %d bytes of sha256 %s, manifest %+v", name, len(content), hash, f)
	}
	if err := rowset.VerifyFile(fsys, name); err != nil {
		t.Error(err)
	}
	file, err := rowset.OpenFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	footer := map[string]string{}
	for _, p := range file.Footer() {
		footer[p.Key] = p.Value
	}
	for key, want := range map[string]string{
		"nyala.cluster": m.Cluster, "nyala.table": m.Table, "nyala.timestamp": fmt.Sprint(m.Timestamp), "nyala.rows": fmt.Sprint(f.Rows),
		"nyala.min_key": f.MinKey, "nyala.max_key": f.MaxKey,
		"nyala.sources": `[{"connector":"app","topic":"app","topic_id":"0","partition":1,"complete_below":10,"nothing_from":12}]`,
	} {
		if footer[key] != want {
			t.Errorf("%s: footer %s: got %q, want %q", name, key, footer[key], want)
		}
	}
	scan, err := file.Scan(rowset.ScanOptions{Columns: file.Schema().Columns})
	if err != nil {
		t.Fatal(err)
	}
	defer scan.Close()
	rows := int64(0)
	for {
		c, err := scan.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for r := range c.Rows {
			id := c.Columns[1].Int(r)
			low := november20
			if strings.Contains(f.Path, "2026-11-19") {
				low -= day
			}
			url := c.Columns[2].Value(r)
			if c.Columns[0].Int(r) != low+id || url.Null != (id%3 == 0) || !url.Null && string(url.Bytes) != fmt.Sprintf("/p/%d", id) {
				t.Fatalf("%s: row %d: %d, %d, %q", name, r, c.Columns[0].Int(r), id, url.Bytes)
			}
		}
		rows += int64(c.Rows)
	}
	if rows != f.Rows || int64(file.Rows()) != rows {
		t.Errorf("%s: %d rows, want %d", name, rows, f.Rows)
	}
}

// An export that exists is whole, at whatever moment the power goes: each file is synced before it gets its
// name, and all names are synced before the manifest gets its own.
func TestManifestComesLast(t *testing.T) {
	recorder := vfs.NewRecorder(vfs.NewMem())
	w := newWorld(recorder)
	m, err := Run(context.Background(), w.snapshot, w.options)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(recorder.Take()), "\n")
	at := func(prefix string) int {
		return slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, prefix) })
	}
	manifest := at("create out/events/_manifest.json")
	if manifest < 0 {
		t.Fatalf("no manifest in\n%s", strings.Join(lines, "\n"))
	}
	for i, f := range m.Files {
		dir := path.Join("out/events", path.Dir(f.Path))
		temp := fmt.Sprintf("%s/%04d.tmp", dir, i+1)
		sync, rename := at("sync "+temp), at("rename "+temp+" out/events/"+f.Path)
		if sync < 0 || rename < sync || lines[rename+1] != "syncdir "+dir || rename > manifest {
			t.Errorf("%s: synced at %d, renamed at %d, then %q; manifest at %d", f.Path, sync, rename, lines[rename+1], manifest)
		}
	}
	var end []string
	for _, l := range lines[manifest:] {
		verb, _, _ := strings.Cut(l, " ")
		end = append(end, verb)
	}
	if want := []string{"create", "write", "sync", "rename", "syncdir"}; !slices.Equal(end, want) {
		t.Errorf("the manifest: got %q, want %q", end, want)
	}
}

func TestExportIsNeverMixed(t *testing.T) {
	fsys := vfs.NewMem()
	w := newWorld(fsys)
	broken := errors.New("the stream of rows was cut")
	w.failure = broken
	if _, err := Run(context.Background(), w.snapshot, w.options); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if _, err := fsys.Stat("out/events/_manifest.json"); err == nil {
		t.Fatal("a failed export has a manifest")
	}
	w.failure = nil
	if _, err := Run(context.Background(), w.snapshot, w.options); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Fatalf("over a failed export: got %v", err)
	}
	w.options.Dir = "other"
	if _, err := Run(context.Background(), w.snapshot, w.options); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), w.snapshot, w.options); err == nil || !strings.Contains(err.Error(), "holds an export already") {
		t.Fatalf("over an export: got %v", err)
	}
	if w.opened != w.closed {
		t.Errorf("opened %d streams, closed %d", w.opened, w.closed)
	}
}

// The same snapshot gives the same bytes, so two exports of it can be compared by their hashes.
func TestExportIsDeterministic(t *testing.T) {
	var texts []string
	for range 2 {
		fsys := vfs.NewMem()
		w := newWorld(fsys)
		if _, err := Run(context.Background(), w.snapshot, w.options); err != nil {
			t.Fatal(err)
		}
		text, err := vfs.ReadFile(fsys, "out/events/_manifest.json")
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	if texts[0] != texts[1] {
		t.Errorf("got\n%s\nand\n%s", texts[0], texts[1])
	}
}

func TestPartitionNames(t *testing.T) {
	for _, c := range []struct {
		kind  schema.Kind
		every int64
		low   int64
		want  string
	}{
		{schema.Timestamp, day, november20, "event_time=2026-11-20"},
		{schema.Timestamp, 7 * day, november20, "event_time=2026-11-20"},
		{schema.Timestamp, day / 24, november20 + day/24, "event_time=2026-11-20T01-00-00"},
		{schema.Date, 1, 20777, "event_time=2026-11-20"},
		{schema.Int64, 1000, -1000, "event_time=-1000"},
	} {
		s := eventSchema(c.every)
		s.Columns[0].Type.Kind = c.kind
		r := &run{s: &Snapshot{Schema: s}}
		if got := r.partition(c.low); got != c.want {
			t.Errorf("%s every %d from %d: got %s, want %s", s.Columns[0].Type, c.every, c.low, got, c.want)
		}
	}
	if got := (&run{s: &Snapshot{Schema: &schema.Schema{}}}).partition(0); got != "" {
		t.Errorf("without ranges: got %q", got)
	}
}
