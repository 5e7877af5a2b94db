package raftlog

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"nyala/raftlog/simnet"
	"nyala/store/vfs"
)

var verbose = flag.Bool("trace", false, "log what the nodes log, from debug level on")

const ms = time.Millisecond

// simTimings are shorter than the defaults, so that a run of virtual time holds more events.
func simTimings() Timings {
	return Timings{Heartbeat: 200 * ms, Commit: 50 * ms, Append: 2 * time.Second, Install: time.Minute, Stall: 2 * time.Second,
		PinGrace: time.Second, Retain: time.Second, Transfer: 2 * time.Second, Watchdog: 5 * time.Second}
}

// world is a simulated cluster with one group, or more.
type world struct {
	t         testing.TB
	net       *simnet.Network
	truth     *truth
	timings   Timings
	test      switches
	groups    []GroupID
	preferred func(GroupID) string
	patience  time.Duration // of the log with its disk
	nodes     []*node
	start     time.Time
	serial    atomic.Int64
	wg        sync.WaitGroup // of instances that are being closed
	mu        struct {
		sync.Mutex
		rng *rand.Rand
	}
	run sync.Mutex // guards nodes, and what runs on them: their log, machine and machines
}

// node is a machine: its disk outlives its instances.
type node struct {
	w           *world
	name        string
	incarnation string
	host        *simnet.Host
	mem         *vfs.Mem
	faults      *vfs.Faulty
	log         *Log
	machine     *chainMachine // of the first group
	machines    map[GroupID]*chainMachine
	alive       *atomic.Bool // of the instance
	gone        bool         // removed for good
	test        switches
	room        func(ctx context.Context) error // nil: there always is
	appendMax   int
	gates       map[GroupID]chan struct{} // of machines that do not apply until it is closed
}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{t: t, net: simnet.New(seed), truth: newTruth(), timings: simTimings(), patience: time.Second, groups: []GroupID{7}, start: time.Now()}
	w.mu.rng = rand.New(rand.NewPCG(seed, 1))
	w.net.SetLatency(100*time.Microsecond, 2*ms)
	t.Cleanup(w.closeAll) // inside the bubble, also when the test gave up
	return w
}

func (w *world) intn(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.rng.IntN(n)
}

func (w *world) chance(p float64) bool { return float64(w.intn(1<<20)) < p*(1<<20) }

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.intn(int(d))) }

func (w *world) add(name string) *node {
	n := &node{w: w, name: name, incarnation: fmt.Sprintf("%08x", len(w.nodes)+1), host: w.net.Host(name), mem: vfs.NewMem(), test: w.test}
	w.run.Lock()
	defer w.run.Unlock()
	w.nodes = append(w.nodes, n)
	return n
}

// all is the nodes as they are now.
func (w *world) all() []*node {
	w.run.Lock()
	defer w.run.Unlock()
	return slices.Clone(w.nodes)
}

// instance is what runs on the node, nil if it is down.
func (n *node) instance() (*Log, *chainMachine) {
	n.w.run.Lock()
	defer n.w.run.Unlock()
	return n.log, n.machine
}

func (n *node) member(voter bool) Member { return Member{n.name, n.incarnation, voter} }

func (w *world) members(voter bool, nodes ...*node) []Member {
	var m []Member
	for _, n := range nodes {
		m = append(m, n.member(voter))
	}
	return m
}

// boot makes nodes that are the voters of every group.
func (w *world) boot(names ...string) {
	for _, name := range names {
		w.add(name)
	}
	members := w.members(true, w.nodes...)
	for _, n := range w.nodes {
		n.up(members)
	}
}

// up starts an instance on what the disk holds.
func (n *node) up(bootstrap []Member) {
	if err := n.tryUp(bootstrap); err != nil {
		n.w.truth.fail("%s does not start: %v", n.name, err)
	}
}

func (n *node) tryUp(bootstrap []Member) error {
	n.alive = &atomic.Bool{}
	n.alive.Store(true)
	alive := n.alive
	faults := vfs.NewFaulty(n.mem)
	n.faults = faults
	if err := vfs.MakeDir(n.faults, "data"); err != nil {
		return err
	}
	level := slog.LevelError + 4
	if *verbose {
		level = slog.LevelDebug
	}
	machines := map[GroupID]*chainMachine{}
	options := Options{
		Node: n.name, Incarnation: n.incarnation, Cluster: "test", FS: n.faults, Dir: "data/wal", Listener: n.host.Listen(),
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			if !alive.Load() {
				return nil, errors.New("the node is dead")
			}
			return n.host.Dial(ctx, addr)
		},
		Address:      func(node string) string { return node },
		SegmentBytes: 64 << 10, CacheBytes: 32 << 10, WriteTimeout: n.w.patience,
		Timings: n.w.timings,
		Logger:  slog.New(slog.NewTextHandler(&traceWriter{n.w}, &slog.HandlerOptions{Level: level})).With("node", n.name),
		Files: func(group GroupID, name string, off int64) (io.ReadCloser, error) {
			b, err := vfs.ReadFile(faults, fmt.Sprintf("data/group-%d/%s", group, name))
			if err != nil {
				return nil, err
			}
			return io.NopCloser(&slowReader{b: b[off:]}), nil
		},
		Requests: func(ctx context.Context, from string, method uint8, body []byte) ([]byte, error) {
			return []byte(fmt.Sprintf("%s %d %s", from, method, body)), nil
		},
		Preferred: n.w.preferred, Room: n.room, AppendMax: n.appendMax,
		test: n.test,
	}
	l, err := Open(options)
	if err != nil {
		options.Listener.Close()
		return err
	}
	for i, id := range n.w.groups {
		tr := n.w.truth
		if i > 0 {
			tr = newTruth() // only the first group is checked
		}
		m, err := openMachine(n.name, n.faults, fmt.Sprintf("data/group-%d", id), tr)
		if err == nil {
			m.gate = n.gates[id]
			m.group, err = l.StartGroup(id, m, bootstrap)
		}
		if err != nil {
			return errors.Join(err, l.Close())
		}
		machines[id] = m
	}
	n.w.run.Lock()
	defer n.w.run.Unlock()
	n.log, n.machines, n.machine = l, machines, machines[n.w.groups[0]]
	return nil
}

type slowReader struct{ b []byte }

func (r *slowReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b[:min(len(r.b), 700)])
	r.b = r.b[n:]
	return n, nil
}

type traceWriter struct{ w *world }

func (t *traceWriter) Write(p []byte) (int, error) {
	fmt.Fprintf(os.Stderr, "%10v %s", time.Since(t.w.start), p)
	return len(p), nil
}

// hang makes syncs of the node's log hang until free is called.
func (n *node) hang() (free func()) {
	release := make(chan struct{})
	remove := n.faults.Add(vfs.Rule{Op: vfs.OpSync, Path: "*.wal", Hang: release})
	return func() {
		remove()
		close(release)
	}
}

// crashAll cuts the power of all nodes, and upAll starts them again.
func (w *world) crashAll() {
	for _, n := range w.nodes {
		n.crash(1)
	}
}

func (w *world) upAll() {
	for _, n := range w.nodes {
		n.up(nil)
	}
}

// crash cuts the node's power: unsynced bytes survive with the given probability.
func (n *node) crash(survive float64) {
	if n.log == nil {
		return
	}
	n.w.mu.Lock()
	mem := n.mem.Crash(n.w.mu.rng, survive)
	n.w.mu.Unlock()
	n.mem = mem
	n.end()
}

// end removes the instance; its remains are closed in the background.
func (n *node) end() {
	n.alive.Store(false)
	n.host.Crash()
	for _, m := range n.machines {
		m.kill()
	}
	n.w.run.Lock()
	l := n.log
	n.log = nil
	n.w.run.Unlock()
	n.w.wg.Go(func() { l.Close() }) // its errors are those of a dead disk
}

// stop ends the instance in order.
func (n *node) stop() {
	if n.log == nil {
		return
	}
	n.w.run.Lock()
	l := n.log
	n.log = nil
	n.w.run.Unlock()
	if err := l.Close(); err != nil {
		n.w.truth.fail("%s: close: %v", n.name, err)
	}
}

func (n *node) group() *Group {
	l, _ := n.instance()
	if l == nil {
		return nil
	}
	return l.Group(n.w.groups[0])
}

// leader returns the node that leads the first group with the highest term, or nil.
func (w *world) leader() *node {
	var best *node
	var term uint64
	for _, n := range w.all() {
		if g := n.group(); g != nil && g.IsLeader() {
			if s := g.Status(); s.Term > term {
				best, term = n, s.Term
			}
		}
	}
	return best
}

// until waits for a condition in virtual time.
func (w *world) until(limit time.Duration, f func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * ms) {
		if f() {
			return true
		}
	}
	return f()
}

func (w *world) waitLeader() *node {
	w.t.Helper()
	var l *node
	if !w.until(30*time.Second, func() bool { l = w.leader(); return l != nil }) {
		w.t.Fatalf("no leader: %s", w.describe())
	}
	return l
}

// settledLeader waits until all nodes are up and follow one leader, so that no candidate can take it away.
func (w *world) settledLeader() *node {
	w.t.Helper()
	var l *node
	settled := func() bool {
		if l = w.leader(); l == nil {
			return false
		}
		lead := l.group().Status()
		for _, n := range w.nodes {
			if s := n.group().Status(); n != l && (s.State != "Follower" || s.Leader != l.name || s.Term != lead.Term) {
				return false
			}
		}
		return true
	}
	if !w.until(30*time.Second, settled) {
		w.t.Fatalf("no leader that all follow: %s", w.describe())
	}
	return l
}

// keepAnswers blocks what a follower sends to its leader, and writes, so that the follower has applied what the leader does not know it to have.
// A leader that waits for each answer, as it does after an error, sends no such entries: then it is done again.
func (w *world) keepAnswers(n, l *node) {
	w.t.Helper()
	for range 20 {
		w.net.Block(n.name, l.name)
		w.writes(20)
		time.Sleep(300 * ms)
		applied, _ := n.machine.state()
		for _, p := range l.group().Status().Peers {
			if p.Node == n.name && p.Match < applied.Index {
				return
			}
		}
		w.net.Unblock(n.name, l.name)
		w.writes(20)
		w.until(5*time.Second, func() bool { return n.caughtUp(l) })
		time.Sleep(500 * ms)
	}
	w.t.Fatalf("%s sends %s nothing without an answer: %s", l.name, n.name, w.describe())
}

// otherLeader waits for a leader that is not n.
func (w *world) otherLeader(n *node) *node {
	w.t.Helper()
	var l *node
	if !w.until(30*time.Second, func() bool { l = w.leader(); return l != nil && l != n }) {
		w.t.Fatalf("no other leader: %s", w.describe())
	}
	return l
}

func (w *world) follower(leader *node) *node {
	for _, n := range w.nodes {
		if n != leader && n.log != nil && !n.gone {
			return n
		}
	}
	return nil
}

// write proposes one command on a node and remembers what came of it.
func (w *world) write(n *node, limit time.Duration) error {
	g := n.group()
	if g == nil {
		return ErrUnavailable
	}
	id := fmt.Sprintf("w%d", w.serial.Add(1))
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	result, err := g.Propose(ctx, command(id))
	if err == nil {
		w.truth.ack(id, binary.LittleEndian.Uint64(result))
	} else if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrStopped) {
		w.truth.fail("write on %s: %v", n.name, err)
	}
	return err
}

func (w *world) writes(count int) {
	w.t.Helper()
	for range count {
		ok := w.until(30*time.Second, func() bool { l := w.leader(); return l != nil && w.write(l, time.Second) == nil })
		if !ok {
			w.t.Fatalf("no write succeeds: %s", w.describe())
		}
	}
}

// caughtUp reports whether n has applied all that the leader has.
func (n *node) caughtUp(l *node) bool {
	if n.log == nil || l.log == nil {
		return false
	}
	a, _ := n.machine.state()
	b, _ := l.machine.state()
	return a.Index == b.Index && a.Chain == b.Chain
}

func (w *world) describe() string {
	s := fmt.Sprintf("at %v", time.Since(w.start))
	for _, n := range w.nodes {
		if g := n.group(); g != nil {
			cur, durable := n.machine.state()
			s += fmt.Sprintf("\n  %s: machine %d (%d commands) durable %d restored %d; %+v; err %v", n.name, cur.Index, cur.Commands, durable.Index, n.machine.mu.restored, g.Status(), g.Err())
		} else {
			s += fmt.Sprintf("\n  %s: down", n.name)
		}
	}
	return s
}

// finish closes all and reports.
func (w *world) finish() {
	w.t.Helper()
	w.truth.checkWrites()
	w.closeAll()
	for _, f := range w.truth.failures() {
		w.t.Error(f)
	}
}

func (w *world) closeAll() {
	for _, n := range w.nodes {
		n.stop()
	}
	w.wg.Wait()
}

// sim runs a test in a bubble.
func sim(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
