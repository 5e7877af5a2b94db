package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"nyala/connector/api"
	"nyala/connector/export"
	"nyala/connector/query"
	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
	"nyala/store/vfs"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", file, got, want)
	}
}

// result is what a user sees of a command.
type result struct {
	status         int
	stdout, stderr string
}

// nyala runs a command as a shell does. Of the environment it sees only env, pairs of name and value.
func nyala(env []string, args ...string) result {
	var stdout, stderr bytes.Buffer
	lookup := func(name string) (string, bool) {
		for i := 0; i+1 < len(env); i += 2 {
			if env[i] == name {
				return env[i+1], true
			}
		}
		return "", false
	}
	status := Main(args, strings.NewReader(""), &stdout, &stderr, lookup)
	return result{status, stdout.String(), stderr.String()}
}

// want checks a status, that stdout has a text, and that stderr has another; "" is nothing at all.
func (r result) want(t *testing.T, status int, stdout, stderr string) {
	t.Helper()
	has := func(got, want string) bool {
		return got == "" && want == "" || want != "" && strings.Contains(got, want)
	}
	if r.status != status || !has(r.stdout, stdout) || !has(r.stderr, stderr) {
		t.Errorf("got status %d, stdout %q, stderr %q; want %d, %q, %q", r.status, r.stdout, r.stderr, status, stdout, stderr)
	}
}

func TestHelp(t *testing.T) {
	var pages strings.Builder
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		r := nyala(nil, args...)
		if r.status != exitDone || r.stderr != "" {
			t.Errorf("%s --help: status %d, stderr %q", c.CommandPath(), r.status, r.stderr)
		}
		if c.Hidden {
			return
		}
		fmt.Fprintf(&pages, "$ %s --help\n%s\n", c.CommandPath(), r.stdout)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&program{}))
	golden(t, "help", pages.String())
}

func TestVersion(t *testing.T) {
	nyala(nil, "version").want(t, exitDone, "nyala "+Version(), "")
	nyala(nil, "--version").want(t, exitDone, "nyala "+Version(), "")
}

func TestWrongUse(t *testing.T) {
	for _, c := range []struct {
		args, stderr string
	}{
		{"cofnig", `no command "cofnig", did you mean config?`},
		{"config chek", `no command "chek", did you mean check?`},
		{"config check", "needs FILE"},
		{"version x", "takes no arguments"},
		{"scan", "nyala scan needs TABLE"},
		{"scan a b", `takes TABLE only, got ["b"]`},
		{"scan a --bogus", "unknown flag: --bogus\nsee: nyala scan --help"},
		{"scan a --limit x", "--limit"},
		{"scan a --limit -1", "want a number of rows"},
		{"scan a --order x", `--order "x": want key`},
		{"scan a --format xml", "want one of table, csv, ndjson, parquet"},
		{"scan a --at yesterday", "want RFC 3339"},
		{"scan a --where tenant", `condition "tenant"`},
		{"scan a --count --limit 3", "count"},
		{"scan a --server nohost", "want host:port"},
		{"scan a --server h:1 --config f", "server"},
		{"export a", "give --to DIR"},
		{"verify", "nyala verify needs TABLE"},
		{"verify a --limit 1001", "want a number from 0 to 1000"},
		{"run", "give --config FILE, or NYALA_CONFIG"},
		{"run --config f", "give --node ID, or NYALA_NODE"},
		{"run --config f --node n --log-level loud", "--log-level"},
		{"run --config f --node n --log-format xml", "--log-format"},
		{"dump wal", "needs a path"},
		{"check", "needs DATA_DIR"},
	} {
		r := nyala(nil, strings.Fields(c.args)...)
		r.want(t, exitWrongUse, "", c.stderr)
		if !strings.HasPrefix(r.stderr, "nyala: ") || strings.Count(r.stderr, "\n") != 2 || !strings.Contains(r.stderr, "\nsee: nyala ") {
			t.Errorf("%s: got %q, want a line and where to look", c.args, r.stderr)
		}
	}
}

// A command of another package may end with a status of its own, and say all by itself.
func TestExitCodeOfAnError(t *testing.T) {
	p := &program{began: true}
	for err, want := range map[error]int{
		&exitError{code: 3}:                                3,
		fmt.Errorf("a: %w", &exitError{3, io.EOF}):         3,
		errors.New("x"):                                    1,
		&api.RemoteError{Status: 400}:                      2,
		fmt.Errorf("a: %w", &api.RemoteError{Status: 404}): 1,
	} {
		if got := p.status(err); got != want {
			t.Errorf("%v: got %d, want %d", err, got, want)
		}
	}
	if got := p.message(&exitError{code: 3}); got != "" {
		t.Errorf("got %q", got)
	}
	if got := p.message(errors.Join(errors.New("a"), errors.New("b"))); got != "nyala: a ; b" {
		t.Errorf("got %q", got)
	}
	if got := p.message(fmt.Errorf("get: %w", context.Canceled)); got != "nyala: interrupted" {
		t.Errorf("got %q", got)
	}
}

const configText = `cluster:
  name: tracking
  nodes:
    - {id: n1, peer: 127.0.0.1:1, http: 127.0.0.1:1, data: data/n1}
    - {id: n2, peer: 127.0.0.1:1, http: %q, data: data/n2}
    - {id: n3, peer: 127.0.0.1:1, http: 127.0.0.1:1, data: data/n3}
  replicas: 3
`

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "cluster.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestConfig(t *testing.T) {
	good := writeConfig(t, strings.ReplaceAll(fmt.Sprintf(configText, "127.0.0.1:2"), "peer: 127.0.0.1:1,", "peer: 127.0.0.1:9,"))
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for i, port := range []string{"11", "12", "13"} { // addresses differ
		text = bytes.Replace(text, []byte("127.0.0.1:9,"), []byte("127.0.0.1:"+port+","), 1)
		text = bytes.Replace(text, []byte("http: 127.0.0.1:1,"), fmt.Appendf(nil, "http: 127.0.0.1:2%d,", i), 1)
	}
	if err := os.WriteFile(good, text, 0o600); err != nil {
		t.Fatal(err)
	}
	nyala(nil, "config", "check", good).want(t, exitDone, "", "is right: cluster tracking of 3 nodes, 0 tables, 0 connectors")
	nyala(nil, "config", "print", good).want(t, exitDone, "durability: fsync", "")
	bad := writeConfig(t, "cluster:\n  nmae: x\n")
	r := nyala(nil, "config", "check", bad)
	r.want(t, exitWrongUse, "", bad+":2:3: ")
	if !strings.Contains(r.stderr, `"name"`) || strings.Contains(r.stderr, "see:") {
		t.Errorf("got %q", r.stderr)
	}
	nyala(nil, "config", "print", bad).want(t, exitWrongUse, "", bad+":2:3: ")
	nyala(nil, "run", "--config", bad, "--node", "n1").want(t, exitWrongUse, "", bad+":2:3: ")
	nyala(nil, "status", "--config", bad).want(t, exitWrongUse, "", bad+":2:3: ")
	nyala([]string{"NYALA_CONFIG", good, "NYALA_NODE", "n9"}, "run").want(t, exitWrongUse, "", `node "n9" is not in `+good+", want one of n1, n2, n3")
	nyala([]string{"NYALA_CONFIG", good}, "run", "--node", "n1", "--memory", "4").want(t, exitWrongUse, "", "--memory: ")
	nyala([]string{"NYALA_CONFIG", good}, "status").want(t, exitFailed, "", "no node of cluster tracking answers ; n1: ")
}

// cluster is a node's HTTP interface with canned answers. It refuses what it does not expect.
type cluster struct {
	*httptest.Server
	t        *testing.T
	schema   *schema.Schema
	rows     map[string][]*batch.Batch // by tablet; "" is the whole table
	fail     error                     // ends the rows
	requests []string
	status   api.Status
	system   map[string]*systemRows
	replays  []api.Replay // what a replay answers
	verify   []api.VerifyEvent
	broken   string // the trailer of a verification
}

// systemRows is what a system table has.
type systemRows struct {
	schema *schema.Schema
	rows   []*batch.Batch
}

const at = 1_795_168_800_123_456 // 2026-11-20T10:00:00.123456Z

func newCluster(t *testing.T) *cluster {
	s := &schema.Schema{
		Version: 1,
		Columns: []schema.Column{
			{ID: 1, Name: "tenant", Type: schema.Type{Kind: schema.Int32}},
			{ID: 2, Name: "event_id", Type: schema.Type{Kind: schema.Int64}},
			{ID: 3, Name: "url", Type: schema.Type{Kind: schema.String}, Nullable: true},
		},
		Key: []int{0, 1}, Hash: []int{1}, Buckets: 2,
	}
	c := &cluster{t: t, schema: s, rows: map[string][]*batch.Batch{"": {eventRows(s.Columns, 1, 3), eventRows(s.Columns, 4, 2)},
		"7": {eventRows(s.Columns, 1, 3)}, "8": {eventRows(s.Columns, 4, 2)}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "alive\n") })
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) { c.json(w, c.status) })
	mux.HandleFunc("GET /api/v1/tables/events", func(w http.ResponseWriter, _ *http.Request) {
		c.json(w, api.TableDetail{Name: "events", Schema: export.Schema(s)})
	})
	c.system = map[string]*systemRows{
		schema.DeadLettersTable: {schema: schema.DeadLetters()}, schema.GapsTable: {schema: schema.Gaps()}, schema.ReplaysTable: {schema: schema.Replays()},
	}
	for name, system := range c.system {
		mux.HandleFunc("GET /api/v1/tables/"+name, func(w http.ResponseWriter, _ *http.Request) {
			c.json(w, api.TableDetail{Name: name, Schema: export.Schema(system.schema)})
		})
	}
	mux.HandleFunc("POST /api/v1/dead-letters/replay", func(w http.ResponseWriter, r *http.Request) {
		c.requests = append(c.requests, r.URL.RawQuery)
		for _, p := range c.replays {
			c.json(w, p)
		}
	})
	mux.HandleFunc("GET /api/v1/tables/events/snapshot", func(w http.ResponseWriter, r *http.Request) {
		c.requests = append(c.requests, r.URL.RawQuery)
		c.json(w, export.Snapshot{Cluster: "tracking", Table: "events", Schema: s, Timestamp: at, Tablets: []export.Tablet{{ID: 7}, {ID: 8}},
			Sources: []api.ExportSource{{Connector: "app-events", Topic: "app-events", TopicID: "0", Partition: 3, CompleteBelow: 40, NothingFrom: 42}}})
	})
	mux.HandleFunc("GET /api/v1/tables/{table}/rows", c.getRows)
	mux.HandleFunc("GET /api/v1/tables/events/verify", c.getVerification)
	mux.HandleFunc("GET /api/v1/offsets", func(w http.ResponseWriter, _ *http.Request) { c.json(w, cannedOffsets) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		c.json(w, api.Error{Error: api.ErrorBody{Code: "table_not_found", Message: "there is no table; `nyala status` lists them"}})
	})
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return c
}

func (c *cluster) json(w io.Writer, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		c.t.Error(err)
	}
}

// getRows gives the columns asked for, by the names in the request.
func (c *cluster) getRows(w http.ResponseWriter, r *http.Request) {
	c.requests = append(c.requests, r.URL.RawQuery)
	q := r.URL.Query()
	if q.Get("count") == "true" {
		io.WriteString(w, "5\n")
		return
	}
	if q.Get("where") == "tenant = 400" {
		w.WriteHeader(http.StatusBadRequest)
		c.json(w, api.Error{Error: api.ErrorBody{Code: "bad_request", Message: "the node does not like this"}})
		return
	}
	w.Header().Set(api.TimestampHeader, fmt.Sprint(int64(at)))
	out := query.NewStreamWriter(w)
	rows, s := c.rows[q.Get("tablet")], c.schema
	if system, ok := c.system[r.PathValue("table")]; ok {
		rows, s = system.rows, system.schema
	}
	for _, b := range rows {
		part := *b
		part.Columns = nil
		for _, name := range strings.Split(q.Get("columns"), ",") {
			if i := s.Position(name); i >= 0 {
				part.Columns = append(part.Columns, b.Columns[i])
			}
		}
		if err := out.Write(&part); err != nil {
			c.t.Error(err)
		}
	}
	end := out.End
	if c.fail != nil {
		end = func() error { return out.Fail(c.fail) }
	}
	if err := end(); err != nil {
		c.t.Error(err)
	}
}

func (c *cluster) run(args ...string) result {
	return nyala([]string{"NYALA_SERVER", strings.TrimPrefix(c.URL, "http://")}, args...)
}

func eventRows(columns []schema.Column, first, n int64) *batch.Batch {
	b := batch.NewBuilder(columns, int(n))
	for id := first; id < first+n; id++ {
		b.Columns[0].AppendInt(7)
		b.Columns[1].AppendInt(id)
		if id == 2 {
			b.Columns[2].AppendNull()
		} else {
			b.Columns[2].AppendBytes(fmt.Appendf(nil, "/p/%d", id))
		}
	}
	view := b.View()
	return &view
}

func TestScan(t *testing.T) {
	c := newCluster(t)
	r := c.run("scan", "events")
	r.want(t, exitDone, "tenant", "5 rows at 2026-11-20T10:00:00.123456Z")
	golden(t, "scan_table", r.stdout)
	c.run("scan", "events", "--format", "csv", "--columns", "url,event_id").want(t, exitDone, "url,event_id\n/p/1,1\n,2\n/p/3,3\n/p/4,4\n/p/5,5\n", "")
	c.run("scan", "events", "--format", "ndjson", "--columns", "event_id,url").want(t, exitDone, `{"event_id":2,"url":null}`+"\n", "")
	c.run("scan", "events", "--count").want(t, exitDone, "5\n", "")
	c.requests = nil
	c.run("scan", "events", "--where", "tenant = 7", "--where", "url is not null", "--at", "2026-11-20T10:00:00Z", "--limit", "3", "--order", "key", "--format", "csv")
	want := "at=1795168800000000&columns=tenant%2Cevent_id%2Curl&format=batches&limit=3&order=key&where=tenant+%3D+7&where=url+is+not+null"
	if len(c.requests) != 1 || c.requests[0] != want {
		t.Errorf("got %q, want %q", c.requests, want)
	}
	// A configuration leads to the first node that answers.
	config := writeConfig(t, strings.NewReplacer(
		"peer: 127.0.0.1:1, http: 127.0.0.1:1, data: data/n1", "peer: 127.0.0.1:2, http: 127.0.0.1:3, data: data/n1",
		"peer: 127.0.0.1:1, http: 127.0.0.1:1, data: data/n3", "peer: 127.0.0.1:4, http: 127.0.0.1:5, data: data/n3",
	).Replace(fmt.Sprintf(configText, strings.TrimPrefix(c.URL, "http://"))))
	nyala(nil, "scan", "events", "--count", "--config", config).want(t, exitDone, "5\n", "")
	nyala([]string{"NYALA_CONFIG", config}, "scan", "events", "--count").want(t, exitDone, "5\n", "")
}

func TestScanParquet(t *testing.T) {
	c := newCluster(t)
	fsys := vfs.NewMem()
	for _, args := range [][]string{{"--order", "key"}, {"--order", "key", "--columns", "event_id,url,tenant"}} {
		r := c.run(append([]string{"scan", "events", "--format", "parquet"}, args...)...)
		if r.status != exitDone || r.stderr != "" {
			t.Fatalf("got %d, %q", r.status, r.stderr)
		}
		if err := vfs.ReplaceFile(fsys, "x.parquet", []byte(r.stdout)); err != nil {
			t.Fatal(err)
		}
		if err := rowset.VerifyFile(fsys, "x.parquet"); err != nil {
			t.Error(err)
		}
		f, err := rowset.OpenFile(fsys, "x.parquet")
		if err != nil {
			t.Fatal(err)
		}
		if f.Rows() != 5 || len(f.Schema().Columns) != 3 {
			t.Errorf("got %d rows of %+v", f.Rows(), f.Schema())
		}
		f.Close()
	}
	// Without the order, nothing may claim that the rows are sorted.
	if r := c.run("scan", "events", "--format", "parquet"); !strings.HasPrefix(r.stdout, "PAR1") || !strings.Contains(r.stdout, `"key":null`) {
		t.Errorf("got %d, %q", r.status, r.stderr)
	}
}

func TestScanFails(t *testing.T) {
	c := newCluster(t)
	c.run("scan", "nosuch").want(t, exitFailed, "", "nyala: there is no table; `nyala status` lists them\n")
	c.run("scan", "events", "--columns", "tenant,ulr").want(t, exitWrongUse, "", `table events has no column "ulr", want one of tenant, event_id, url`)
	c.run("scan", "events", "--where", "tenant = seven").want(t, exitWrongUse, "", "tenant")
	c.run("scan", "events", "--where", "tenant = 400").want(t, exitWrongUse, "", "the node does not like this")
	c.run("scan", "events", "--where", "nope = 1", "--count").want(t, exitWrongUse, "", "nope")
	c.fail = errors.New("tablet 8 went away")
	for _, format := range scanFormats {
		r := c.run("scan", "events", "--format", format)
		if r.status != exitFailed || !strings.Contains(r.stderr, "tablet 8 went away (after 5 rows, which are not all)") {
			t.Errorf("%s: got %+v", format, r)
		}
		if format == "table" || format == formatParquet { // they cannot be taken for the whole in part
			if r.stdout != "" {
				t.Errorf("%s: got %q on stdout", format, r.stdout)
			}
		}
	}
	c.fail = nil
	for _, b := range c.rows[""] {
		b.Columns[1].ID = 9 // the table was made anew meanwhile
	}
	c.run("scan", "events").want(t, exitFailed, "", "was the table changed meanwhile?")
	c.Close()
	c.run("scan", "events").want(t, exitFailed, "", "nyala: no nyala node answers at 127.0.0.1:")
}

func TestExport(t *testing.T) {
	c := newCluster(t)
	dir := t.TempDir()
	r := c.run("export", "events", "--to", dir, "--at", "2026-11-20T10:00:00.123456Z")
	r.want(t, exitDone, "Exported events of cluster tracking as of 2026-11-20T10:00:00.123456Z", "")
	for _, want := range []string{"to     " + dir + "/events", "rows   5", "files  2, ", "app-events  app-events          3              40            42"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s", want, r.stdout)
		}
	}
	if want := []string{"at=1795168800123456",
		"at=1795168800123456&columns=tenant%2Cevent_id%2Curl&format=batches&order=key&tablet=7",
		"at=1795168800123456&columns=tenant%2Cevent_id%2Curl&format=batches&order=key&tablet=8"}; strings.Join(c.requests, " ") != strings.Join(want, " ") {
		t.Errorf("got %q, want %q", c.requests, want)
	}
	text, err := os.ReadFile(filepath.Join(dir, "events/_manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m api.ExportManifest
	if err := json.Unmarshal(text, &m); err != nil || m.Rows != 5 || len(m.Files) != 2 {
		t.Fatalf("got %+v, %v", m, err)
	}
	nyala(nil, "dump", "rowset", filepath.Join(dir, "events", m.Files[0].Path)).want(t, exitDone, "3 rows, 1 row groups", "")
	c.run("export", "events", "--to", dir).want(t, exitFailed, "", "holds an export already")
	c.fail = errors.New("gone")
	c.run("export", "events", "--to", filepath.Join(dir, "other")).want(t, exitFailed, "", "gone")
	c.run("export", "nosuch", "--to", dir).want(t, exitFailed, "", "no table")
}
