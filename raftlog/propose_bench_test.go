package raftlog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nyala/store/vfs"
)

// countMachine is a state machine that only counts, so that what is measured is the log. It moves its durable
// index along, so that segments are used again.
type countMachine struct {
	group        atomic.Pointer[Group]
	applied      atomic.Uint64
	mu           sync.Mutex
	durable      Durable
	members      []byte
	membersIndex uint64
}

func (m *countMachine) Stamp([]byte) {}
func (m *countMachine) Apply(entries []Entry) [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	results := make([][]byte, len(entries))
	for _, e := range entries {
		if e.Kind == Membership {
			m.members, m.membersIndex = e.Data, e.Index
		}
		if e.Index%64 == 0 {
			m.durable = Durable{e.Index, e.Term, m.members, m.membersIndex}
			if g := m.group.Load(); g != nil {
				g.Cut()
			}
		}
	}
	m.applied.Store(entries[len(entries)-1].Index)
	return results
}
func (m *countMachine) Durable() Durable {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.durable
}
func (m *countMachine) Manifest() (Durable, []byte, error)             { return m.Durable(), nil, nil }
func (m *countMachine) Prepare(context.Context, []byte, Fetcher) error { return nil }
func (m *countMachine) Restore(d Durable, _ []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.durable = d
	return nil
}

// BenchmarkPropose: three nodes in this process, loopback TCP, real files, every entry synced on two.
func BenchmarkPropose(b *testing.B) {
	for _, c := range []struct{ groups, kib, flight int }{{1, 64, 1}, {1, 64, 4}, {1, 64, 16}, {1, 256, 4}, {1, 256, 16}, {4, 256, 4}, {32, 64, 2}} {
		b.Run(fmt.Sprintf("groups=%d/entry=%dK/inflight=%d", c.groups, c.kib, c.flight), func(b *testing.B) {
			benchPropose(b, c.groups, c.kib<<10, c.flight, false)
		})
	}
	b.Run("groups=1/entry=256K/inflight=16/nopipeline", func(b *testing.B) { benchPropose(b, 1, 256<<10, 16, true) })
}

func benchPropose(b *testing.B, groups, size, flight int, noPipeline bool) {
	dir := b.TempDir()
	if d := os.Getenv("BENCH_DIR"); d != "" {
		dir = filepath.Join(d, fmt.Sprint(time.Now().UnixNano()))
		defer os.RemoveAll(dir)
	}
	addrs, logs := map[string]string{}, map[string]*Log{}
	var listeners []net.Listener
	var members []Member
	for i := range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		name := fmt.Sprintf("n%d", i)
		addrs[name] = ln.Addr().String()
		listeners = append(listeners, ln)
		members = append(members, Member{name, "1", true})
	}
	var dialer net.Dialer
	for i, m := range members {
		fsys, path := vfs.OS(), filepath.Join(dir, m.Node)
		if err := vfs.MakeDir(fsys, path); err != nil {
			b.Fatal(err)
		}
		l, err := Open(Options{Node: m.Node, Incarnation: "1", Cluster: "bench", FS: fsys, Dir: path + "/wal", Listener: listeners[i],
			Dial:    func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) },
			Address: func(node string) string { return addrs[node] }, WriteTimeout: 10 * time.Second,
			Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), test: switches{noPipeline: noPipeline}})
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		logs[m.Node] = l
	}
	for id := range groups {
		for _, m := range members {
			sm := &countMachine{}
			g, err := logs[m.Node].StartGroup(GroupID(id+1), sm, members)
			if err != nil {
				b.Fatal(err)
			}
			sm.group.Store(g)
		}
	}
	leaders := make([]*Group, groups)
	for id := range groups {
		for leaders[id] == nil {
			time.Sleep(10 * time.Millisecond)
			for _, l := range logs {
				if g := l.Group(GroupID(id + 1)); g.IsLeader() {
					leaders[id] = g
				}
			}
		}
	}
	b.SetBytes(int64(size))
	latencies := make(chan []time.Duration, groups*flight)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	for _, g := range leaders {
		for range flight {
			go func() {
				var took []time.Duration
				for left.Add(-1) >= 0 {
					data := make([]byte, size)
					begin := time.Now()
					if _, err := g.Propose(context.Background(), data); err != nil {
						b.Error(err)
						break
					}
					took = append(took, time.Since(begin))
				}
				latencies <- took
			}()
		}
	}
	var all []time.Duration
	for range groups * flight {
		all = append(all, <-latencies...)
	}
	b.StopTimer()
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
}
