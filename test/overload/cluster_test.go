//go:build linux && overload

package overload

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"nyala/connector/api"
)

const configuration = `
cluster:
  name: overload
  replicas: %d
  nodes:
%s
node: {memory: %s}
kafka: {brokers: ['%s']}
tables:
  - name: events
    columns:
      - {name: tenant, type: int32}
      - {name: id, type: int64}
      - {name: payload, type: string}
    primary_key: [tenant, id]
    hash: {columns: [tenant], buckets: %d}
connectors:
  - {name: events, topics: [events], table: events, format: json}
`

// world is a broker and the nodes of a cluster, each a process.
type world struct {
	t      *testing.T
	dir    string
	broker *brokerProcess
	nodes  []*nodeProcess
}

type setting struct {
	nodes, partitions, buckets int
	memory                     string
	args                       []string // of the last node
}

func newWorld(t *testing.T, s setting) *world {
	w := &world{t: t, dir: t.TempDir()}
	if keep := os.Getenv("NYALA_OVERLOAD_DIR"); keep != "" {
		w.dir = keep
	}
	t.Cleanup(w.close)
	var err error
	if w.broker, err = startBroker(s.partitions); err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	var web []string
	for i := range s.nodes {
		a, b := freePort(t), freePort(t)
		web = append(web, b)
		fmt.Fprintf(&list, "    - {id: n%d, peer: '%s', http: '%s', data: '%s'}\n", i+1, a, b, filepath.Join(w.dir, "data", fmt.Sprintf("n%d", i+1)))
	}
	text := fmt.Sprintf(configuration, s.nodes, list.String(), s.memory, w.broker.address, s.buckets)
	if err := os.WriteFile(filepath.Join(w.dir, "nyala.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range s.nodes {
		var args []string
		if i == s.nodes-1 {
			args = s.args
		}
		n, err := startNode(w.dir, fmt.Sprintf("n%d", i+1), web[i], args...)
		if err != nil {
			t.Fatal(err)
		}
		w.nodes = append(w.nodes, n)
	}
	return w
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (w *world) close() {
	for _, n := range w.nodes {
		n.kill()
	}
	if w.broker != nil {
		w.broker.close()
	}
}

func (w *world) client(node int) *api.Client {
	return &api.Client{Server: w.nodes[node].http, HTTP: &http.Client{Timeout: 5 * time.Minute}}
}

// await looks at the status every half second until ok says so. A node that has ended fails the test.
func (w *world) await(what string, limit time.Duration, ok func(s *api.Status) bool) {
	w.t.Helper()
	end := time.Now().Add(limit)
	for tick := 0; ; tick++ {
		for _, n := range w.nodes {
			select {
			case <-n.done:
				w.t.Fatalf("node %s ended while the test waited for %s: %v\n%s", n.id, what, n.err, w.tail(n))
			default:
			}
		}
		var s api.Status
		ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
		err := w.client(0).Get(ctx, "/api/v1/status", nil, &s)
		cancel()
		if err == nil && ok(&s) {
			return
		}
		if tick%10 == 0 {
			w.t.Logf("%s: %s", what, w.figures(&s, err))
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: not within %s: %s\n%s", what, limit, w.figures(&s, err), w.tail(w.nodes[0]))
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func (w *world) figures(s *api.Status, err error) string {
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "%v; ", err)
	}
	for _, c := range s.Connectors {
		fmt.Fprintf(&b, "%s %s %d partitions lag %d; ", c.State, c.Reason, len(c.Partitions), c.LagRecords)
	}
	for i, n := range w.nodes {
		rss, _ := memoryOf(n.cmd.Process.Pid, "VmRSS")
		peak, _ := memoryOf(n.cmd.Process.Pid, "VmHWM")
		fmt.Fprintf(&b, "%s %d MiB, peak %d", n.id, rss>>20, peak>>20)
		if i < len(s.Nodes) {
			fmt.Fprintf(&b, ", used %d of %d; ", s.Nodes[i].MemoryUsed>>20, s.Nodes[i].MemoryLimit>>20)
		}
	}
	return b.String()
}

func (w *world) tail(n *nodeProcess) string {
	text, _ := os.ReadFile(filepath.Join(w.dir, n.id+".log"))
	lines := strings.Split(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

func lag(s *api.Status) (n int64) {
	for _, c := range s.Connectors {
		n += c.LagRecords
		for _, p := range c.Partitions {
			if p.End < 0 { // nobody knows yet
				n++
			}
		}
	}
	return n
}

func partitions(s *api.Status) (n int) {
	for _, c := range s.Connectors {
		n += len(c.Partitions)
	}
	return n
}

// checkRows reads the table: every id below count is there once and nothing else.
func (w *world) checkRows(count int64) {
	w.t.Helper()
	res, err := w.client(0).Do(w.t.Context(), http.MethodGet, "/api/v1/tables/events/rows", url.Values{"columns": {"id"}, "format": {"csv"}}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	seen, rows := make([]bool, count), int64(0)
	lines := bufio.NewScanner(res.Body)
	lines.Scan() // the columns' names
	for lines.Scan() {
		id, err := strconv.ParseInt(lines.Text(), 10, 64)
		switch {
		case err != nil || id < 0 || id >= count:
			w.t.Fatalf("row %q, want an id below %d", lines.Text(), count)
		case seen[id]:
			w.t.Fatalf("id %d is there twice", id)
		}
		seen[id] = true
		rows++
	}
	if err := errors.Join(lines.Err(), failure(res)); err != nil {
		w.t.Fatalf("after %d rows: %v", rows, err)
	}
	if rows != count {
		w.t.Fatalf("got %d rows, want %d", rows, count)
	}
}

func failure(res *http.Response) error {
	if text := res.Trailer.Get(api.ErrorTrailer); text != "" {
		return errors.New(text)
	}
	return nil
}

// checkMemory compares each node's largest size ever with limit and a tenth more.
func (w *world) checkMemory(limit int64) {
	w.t.Helper()
	for _, n := range w.nodes {
		peak, err := memoryOf(n.cmd.Process.Pid, "VmHWM")
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Logf("%s: at most %d MiB resident, want %d MiB or less", n.id, peak>>20, (limit+limit/10)>>20)
		if peak > limit+limit/10 {
			w.t.Errorf("%s: %d bytes were resident, want %d or less", n.id, peak, limit+limit/10)
		}
	}
}
