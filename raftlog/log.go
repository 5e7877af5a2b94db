package raftlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"nyala/raftlog/wal"
)

// StateMachine is what a group replicates: a tablet's replica, or the catalog. Stamp, Apply and Restore are
// called by one goroutine each; Durable and Manifest by any.
type StateMachine interface {
	// Stamp is called on the leader, in log order, just before an entry of this node is proposed. It changes
	// data in place. An entry that was stamped may still fail to be committed.
	Stamp(data []byte)
	// Apply applies committed entries in log order, in memory only, and returns one small result for each.
	Apply(entries []Entry) [][]byte
	// Durable returns what is durable. It never goes back.
	Durable() Durable
	// Manifest returns the durable state as bytes: small and self-contained.
	Manifest() (Durable, []byte, error)
	// Prepare fetches the files that a manifest needs and that are not here. Nothing visible changes. It may
	// be called again for a manifest whose Restore never came, and while entries are applied.
	Prepare(ctx context.Context, manifest []byte, fetch Fetcher) error
	// Restore makes a prepared manifest the state, durably. It must be short: the group waits.
	Restore(d Durable, manifest []byte) error
}

// Fetcher opens a file at an offset on the peer that sends a manifest.
type Fetcher func(ctx context.Context, name string, off int64) (io.ReadCloser, error)

// Log is a node's WAL and all the groups on it.
type Log struct {
	o      Options
	self   raft.ServerID
	logger *slog.Logger
	wal    *wal.WAL
	opened time.Time

	ctx       context.Context // done when Close has stopped the groups
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	done      chan struct{} // closed when the node must stop
	nudge     chan struct{} // capacity 1: a group wants its log cut
	inbounds  chan struct{} // semaphores
	calls     chan struct{}
	sending   chan struct{}
	replays   chan struct{} // likewise, of followers that apply their logs again
	stuck     chan struct{} // capacity 1: the disk became slow
	slowness  slowness
	uncertain uncertain
	counters  struct{ shifted, installed, sent, transfers, squeezed atomic.Int64 }
	mu        struct {
		sync.RWMutex // never held across I/O, a callback, or raft
		groups       map[GroupID]*Group
		starting     map[GroupID]bool
		begun        map[GroupID]bool // have been started since Open
		peers        map[string]*peer
		closed       bool
		err          error
	}
}

// Open opens the WAL and begins to listen. Groups are started one by one with StartGroup.
func Open(o Options) (*Log, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.Timings = o.Timings.withDefaults()
	if o.SlowWrite == 0 {
		o.SlowWrite = time.Second
	}
	l := &Log{o: o, self: serverID(o.Node, o.Incarnation), logger: o.Logger, done: make(chan struct{}), nudge: make(chan struct{}, 1), stuck: make(chan struct{}, 1),
		inbounds: make(chan struct{}, inboundMax), calls: make(chan struct{}, callsMax), sending: make(chan struct{}, filesMax), replays: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	if l.logger == nil {
		l.logger = slog.New(slog.DiscardHandler)
	}
	l.mu.groups, l.mu.starting, l.mu.begun, l.mu.peers = map[GroupID]*Group{}, map[GroupID]bool{}, map[GroupID]bool{}, map[string]*peer{}
	w, err := wal.Open(o.FS, o.Dir, wal.Options{SegmentBytes: o.SegmentBytes, CacheBytes: o.CacheBytes, WriteTimeout: o.WriteTimeout, PageCache: o.PageCache, OnSync: l.wrote, SlowWrite: o.SlowWrite, OnSlow: l.hangs, OnFailed: l.fail, Reached: o.walReached()})
	if err != nil {
		return nil, fmt.Errorf("raftlog: open %s: %w", o.Dir, err)
	}
	l.wal, l.opened = w, time.Now()
	if err := l.own(); err != nil {
		return nil, errors.Join(fmt.Errorf("raftlog: open %s: %w", o.Dir, err), w.Close())
	}
	l.logger.Info("log opened", "node", string(l.self), "cluster", o.Cluster, "dir", o.Dir, "listen", o.Listener.Addr(), "page_cache", o.PageCache,
		"segment_bytes", o.SegmentBytes, "cache_bytes", o.CacheBytes, "write_timeout", o.WriteTimeout, "timings", o.Timings)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wg.Go(l.accept)
	l.wg.Go(l.keep)
	l.wg.Go(func() { l.giveAll(l.ctx) })
	return l, nil
}

// Close stops the groups, the connections and the WAL, and waits for every goroutine.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.mu.closed {
		l.mu.Unlock()
		return ErrStopped
	}
	l.mu.closed = true
	l.mu.Unlock()
	l.stopGroups()
	l.cancel()
	err := l.o.Listener.Close()
	l.wg.Wait()
	if werr := l.wal.Close(); werr != nil {
		err = werr
	}
	if err != nil {
		return fmt.Errorf("raftlog: close: %w", err)
	}
	return nil
}

func (l *Log) stopGroups() {
	var wg sync.WaitGroup
	for _, g := range l.Groups() {
		wg.Go(g.stop)
	}
	wg.Wait()
}

// StartGroup runs this node's replica of a group. bootstrap names the first members, the same on each of them;
// it is ignored if the replica has any state. A replica that is to join gets nil, and is added by the leader.
func (l *Log) StartGroup(id GroupID, sm StateMachine, bootstrap []Member) (*Group, error) {
	again, err := l.reserveGroup(id)
	if err != nil {
		return nil, err
	}
	g := newGroup(l, id, sm)
	g.again = again
	err = g.start(bootstrap)
	l.mu.Lock()
	delete(l.mu.starting, id)
	closed := l.mu.closed || l.mu.err != nil
	if err == nil {
		l.mu.groups[id] = g
	}
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if closed { // Close has not seen the group, or may not have
		g.stop()
		return nil, fmt.Errorf("raftlog: start group %d: %w", id, ErrStopped)
	}
	return g, nil
}

// reserveGroup tells whether the group was started before, since Open.
func (l *Log) reserveGroup(id GroupID) (again bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.mu.closed:
		return false, fmt.Errorf("raftlog: start group %d: %w", id, ErrStopped)
	case l.mu.err != nil:
		return false, fmt.Errorf("raftlog: start group %d: %w", id, l.mu.err)
	case l.mu.groups[id] != nil || l.mu.starting[id]:
		return false, fmt.Errorf("raftlog: start group %d: it is started already", id)
	}
	again = l.mu.begun[id]
	l.mu.starting[id], l.mu.begun[id] = true, true
	return again, nil
}

// StopGroup stops this node's replica and waits for it. Its log stays.
func (l *Log) StopGroup(id GroupID) error {
	g := l.group(id)
	if g == nil {
		return fmt.Errorf("raftlog: stop group %d: it is not started", id)
	}
	g.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.groups[id] == g {
		delete(l.mu.groups, id)
	}
	return nil
}

// DropGroup stops this node's replica, if it runs, and forgets its log for good.
func (l *Log) DropGroup(id GroupID) error {
	if l.group(id) != nil {
		if err := l.StopGroup(id); err != nil {
			return err
		}
	}
	if err := l.wal.Drop(uint64(id)); err != nil {
		return fmt.Errorf("raftlog: drop group %d: %w", id, err)
	}
	return nil
}

func (l *Log) group(id GroupID) *Group {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.groups[id]
}

// Group returns a started group, or nil.
func (l *Log) Group(id GroupID) *Group { return l.group(id) }

// Groups returns the started groups by id.
func (l *Log) Groups() []*Group {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var groups []*Group
	for _, g := range l.mu.groups {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *Group) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return groups
}

// peer returns the connection to a node. Its goroutine starts with the first use.
func (l *Log) peer(node string) (*peer, error) {
	if p := l.known(node); p != nil {
		return p, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.mu.peers[node]; p != nil {
		return p, nil
	}
	if l.ctx.Err() != nil || l.mu.closed {
		return nil, fmt.Errorf("raftlog: node %s: %w", node, ErrStopped)
	}
	p := newPeer(l, node)
	l.mu.peers[node] = p
	l.wg.Go(p.run)
	return p, nil
}

// known is the peer of a node, if there was ever a request to it.
func (l *Log) known(node string) *peer {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.peers[node]
}

// fail ends the node's part in all groups, for the WAL failed: nothing can be promised any more. The owner hears of it by Done.
func (l *Log) fail(err error) {
	err = fmt.Errorf("raftlog: the WAL of node %s failed: %w", l.o.Node, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil || l.mu.closed {
		return
	}
	l.mu.err = err
	close(l.done)
	l.wg.Go(func() {
		l.logger.Error("node failed", "err", err)
		l.stopGroups()
	})
}

// failed stops one group whose log cannot be read.
func (l *Log) failed(g *Group, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil || l.mu.closed {
		return // all are being stopped, or StartGroup stops this one
	}
	l.wg.Go(func() {
		l.logger.Error("group failed", "group", g.id, "err", err)
		g.stop()
	})
}

// Done is closed when the node must stop: its WAL failed. Err says why.
func (l *Log) Done() <-chan struct{} { return l.done }

// Err returns why the node must stop, nil if it need not.
func (l *Log) Err() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.err
}

// Pin is a group that keeps a segment of the WAL from being used again.
type Pin = wal.Pin

// Pins returns what each group needs of the WAL, oldest first.
func (l *Log) Pins() []Pin { return l.wal.Pins() }

// Stats are counters since Open.
type Stats struct {
	WAL       wal.Stats
	Groups    int
	Leaders   int
	Peers     int
	Sent      int64 // manifests opened for sending
	Installed int64 // manifests that raft was given
	Shifted   int64 // appends made to begin at the durable index
	Transfers int64 // leaderships given up by the watchdog
	Squeezed  int64 // times that entries of others were taken without room for them
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	s := Stats{WAL: l.wal.Stats(), Sent: l.counters.sent.Load(), Installed: l.counters.installed.Load(),
		Shifted: l.counters.shifted.Load(), Transfers: l.counters.transfers.Load(), Squeezed: l.counters.squeezed.Load()}
	for _, g := range l.Groups() {
		s.Groups++
		if g.IsLeader() {
			s.Leaders++
		}
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	s.Peers = len(l.mu.peers)
	return s
}
