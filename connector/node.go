package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"nyala/configs"
	"nyala/connector/catalog"
	"nyala/connector/verify"
	"nyala/ingest"
	"nyala/raftlog"
	"nyala/store"
	"nyala/store/vfs"
)

// Options are what a node is made from. All contact with the machine goes through them, so that a
// whole cluster runs in a simulation.
type Options struct {
	Config  *configs.Config
	Node    string // its id in the configuration
	FS      vfs.FS
	Listen  func(addr string) (net.Listener, error)
	Dial    func(ctx context.Context, addr string) (net.Conn, error) // to other nodes and to Kafka
	Entropy io.Reader
	Now     func() time.Time // the clock of what is written down, never of waits and ages; nil means time.Now
	Logger  *slog.Logger
	Version string
	Timings raftlog.Timings // the zero value means the defaults
	Flush   FlushOptions
	Segment int64 // bytes of a segment of the log; 0 means the log's default
	// Freshness is called as rows become readable, with the age of the oldest; nil: only the metric is kept.
	Freshness func(seconds float64, rows int)

	decisionsKept int                // only set by tests: 0 means the constant
	broken        mistake            // likewise
	breakRoom     func(part any)     // likewise: given what this node is made of, before it runs
	reached       func(point string) // likewise: told of each point that a room's Points lists
	rows          int                // likewise: of a chunk and of an entry; 0 means the defaults
	replays       replayBreaks       // likewise
}

// diskPatience is how long a write of the log and its fsync may take. A disk that hangs longer costs the node:
// it ends, and others lead. Much less would end nodes on a machine that is merely busy.
const diskPatience = 8 * time.Second

// FlushOptions say when a tablet's MemRowSet becomes files, and what of these stays in memory; zero means the store's defaults.
type FlushOptions struct {
	Bytes int64
	Age   time.Duration
	Keys  int64 // bytes of the keys of files that stay in memory
}

// Node is one running node. Start opens what is on disk and returns; joining the cluster, opening
// tablets and reading Kafka go on in goroutines that Close waits for.
//
// Its goroutines: watch (for what ends it), join (until the system group runs and the node is registered; starts the replicas that it knows), reconcile (runs the
// replicas that the catalog places here), duties (what the leader of a group does for it), connectors
// (one supervisor), the catalog's saver, and the HTTP server's.
type Node struct {
	options  Options
	self     configs.ClusterNode
	identity Identity
	log      *slog.Logger
	wanted   catalog.Wanted
	changes  map[string]*progress // of connectors' settings; of systemDuties

	raft    *raftlog.Log
	tablets *store.Manager
	catalog *catalog.Catalog
	http    *http.Client // to other nodes
	server  *http.Server
	metrics *metrics
	router  *router
	sender  *ingest.Sender

	ctx    context.Context
	cancel context.CancelCauseFunc
	work   sync.WaitGroup
	lock   io.Closer
	opened chan struct{} // closed when all parts above are there
	ready  chan struct{} // closed when the node is registered
	ended  chan struct{} // closed when the node cannot go on
	moved  chan struct{} // one element when replicas need a look
	asked  atomic.Uint32 // which replica is asked first for a file

	catalogLost atomic.Pointer[error] // why the catalog must come from another node; nil: it is here
	leftovers   []catalog.TabletID    // of reconcile: what is on disk from before the start
	phase       atomic.Pointer[string]

	verifying atomic.Bool // a verification runs here

	mu struct {
		sync.Mutex
		system   *raftlog.Group
		replicas map[catalog.TabletID]*replica
		feeds    map[string]*feed // running connectors by name
		stopping bool             // no connector is started any more
		notReady map[string]string
		repairs  map[catalog.TabletID]*repair
		end      error // why the node cannot go on
	}
}

// Start opens a node and begins to join its cluster.
func Start(o Options) (*Node, error) {
	self, err := nodeConfig(o.Config, o.Node)
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	n := &Node{options: o, self: self, log: o.Logger.With("node", o.Node), opened: make(chan struct{}), ready: make(chan struct{}),
		ended: make(chan struct{}), moved: make(chan struct{}, 1)}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	n.mu.replicas = map[catalog.TabletID]*replica{}
	n.mu.feeds = map[string]*feed{}
	n.mu.notReady = map[string]string{}
	n.mu.repairs = map[catalog.TabletID]*repair{}
	n.changes = map[string]*progress{}
	if n.wanted.Tables, err = tableSpecs(o.Config); err != nil {
		return nil, err
	}
	if n.wanted.Connectors, err = connectorSpecs(o.Config); err != nil {
		return nil, err
	}
	n.http = &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, addr string) (net.Conn, error) { return o.Dial(ctx, addr) },
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     time.Minute,
	}}
	n.metrics = newMetrics(n)
	n.router = &router{n: n}
	sender := ingest.SenderOptions{Write: n.writeRows, EntryRows: o.rows, Logger: n.log, Reached: reached[ingest.Point](o.reached)}
	n.breaks(&sender)
	n.sender = ingest.NewSender(sender)
	if err := n.open(); err != nil {
		n.cancel(err)
		return nil, errors.Join(err, n.closeParts())
	}
	close(n.opened)
	n.setPhase("joining the cluster")
	n.goes(n.watch)
	n.goes(n.join)
	n.goes(n.saveCatalog)
	return n, nil
}

// open takes the data directory, the two addresses and everything on disk, in the order in which a
// person's mistakes are found soonest.
func (n *Node) open() (err error) {
	o := n.options
	if n.identity, n.lock, err = openIdentity(o.FS, n.self.Data, o.Config.Cluster.Name, o.Node, o.Entropy); err != nil {
		return n.refused(err)
	}
	if err := verify.Clean(o.FS, path.Join(n.self.Data, verifyDir)); err != nil {
		return err
	}
	peers, err := o.Listen(n.self.Peer)
	if err != nil {
		return fmt.Errorf("connector: peer address %s of node %s: %w", n.self.Peer, o.Node, err)
	}
	web, err := o.Listen(n.self.HTTP)
	if err != nil {
		return errors.Join(fmt.Errorf("connector: http address %s of node %s: %w", n.self.HTTP, o.Node, err), peers.Close())
	}
	n.serveHTTP(web)
	used, err := n.used()
	if err == nil {
		err = n.openCatalog()
	}
	if err != nil {
		return errors.Join(err, peers.Close())
	}
	n.breaks(n.catalog)
	parts := divide(o.Config.Node.MemoryBytes)
	n.tablets, err = store.NewManager(store.ManagerOptions{
		FS: o.FS, Dir: path.Join(n.self.Data, tabletsDir), Replica: o.Node, MemoryBytes: parts.rows,
		KeysBytes: o.Flush.Keys, FlushBytes: o.Flush.Bytes, FlushAge: o.Flush.Age, Now: o.Now,
		Propose: n.proposeTo, IsLeader: n.isLeaderOf, Fetch: n.fetchFile, Manifest: n.fetchManifest, Durable: n.cutLog,
		Failed: func(store.ID) { n.wakeReplicas() }, Logger: n.log, Reached: reached[store.Point](o.reached),
	})
	if err != nil {
		return errors.Join(err, peers.Close())
	}
	n.raft, err = raftlog.Open(raftlog.Options{
		Node: o.Node, Incarnation: n.identity.Incarnation, Cluster: o.Config.Cluster.Name,
		FS: o.FS, Dir: path.Join(n.self.Data, walDir), Used: used, PageCache: o.Config.Node.Durability == configs.PageCache,
		Listener: peers, Dial: o.Dial, Address: n.peerAddress, Preferred: n.preferred, Files: n.openFile, Requests: n.answer,
		SegmentBytes: o.Segment, CacheBytes: parts.cache, AppendMax: parts.appends, Room: n.tablets.Budget().Await, WriteTimeout: diskPatience, Timings: o.Timings, OnSync: n.metrics.observeSync, Logger: n.log, Reached: reached[raftlog.Point](o.reached),
	})
	if err != nil {
		return errors.Join(n.refused(err), peers.Close())
	}
	return n.compareAges()
}

// breaks lets a test break the rules of a part.
func (n *Node) breaks(part any) {
	if n.options.breakRoom != nil {
		n.options.breakRoom(part)
	}
}

// reached gives the points of a room their names; nil when nobody asks.
func reached[P fmt.Stringer](tell func(point string)) func(P) {
	if tell == nil {
		return nil
	}
	return func(p P) { tell(p.String()) }
}

// goes runs f in a goroutine that Close waits for.
func (n *Node) goes(f func(ctx context.Context)) { n.work.Go(func() { f(n.ctx) }) }

// setPhase says what a node that is not ready is doing; GET /ready shows it.
func (n *Node) setPhase(s string) {
	n.phase.Store(&s)
	n.log.Info("node phase", "phase", s)
}

func (n *Node) peerAddress(node string) string {
	c, err := nodeConfig(n.options.Config, node)
	if err != nil {
		return ""
	}
	return c.Peer
}

func (n *Node) system() *raftlog.Group {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.system
}

func (n *Node) replica(id catalog.TabletID) *replica {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.replicas[id]
}

func (n *Node) member() catalog.Member {
	return catalog.Member{Node: n.options.Node, Incarnation: n.identity.Incarnation}
}

// saveCatalog writes the catalog from time to time. A disk that fails here fails the log too, which
// tells the node; so it is said and tried again, never given up.
func (n *Node) saveCatalog(ctx context.Context) {
	for ctx.Err() == nil {
		err := n.catalog.Run(ctx, func() {
			if g := n.system(); g != nil {
				g.Cut()
			}
		})
		if err != nil && ctx.Err() == nil {
			n.log.Error("catalog not saved", "error", err)
			sleep(ctx, time.Second)
		}
	}
}

// sleep waits for d or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Done is closed when the node cannot go on, as after a failed fsync; Close says why.
func (n *Node) Done() <-chan struct{} { return n.ended }

// watch closes ended when the log of the node has failed, or that of the system group could not be read: without the
// catalog a node is none, and what it has in memory of it cannot be made anew but by a start.
func (n *Node) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-n.raft.Done():
			close(n.ended)
			return
		case <-tick.C:
			if err := n.broken(); err != nil {
				n.log.Error("the node cannot go on", "error", err)
				close(n.ended)
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// broken says why the node cannot go on, beside a log that cannot be written.
func (n *Node) broken() error {
	if g := n.system(); g != nil && g.Err() != nil {
		return fmt.Errorf("connector: system group: %w", g.Err())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.end
}

// stopLimit is how long a graceful stop may take before it becomes a plain one.
const stopLimit = 25 * time.Second

// Stop drains the node: its connectors checkpoint and leave their groups, its leaders are handed over;
// then it closes. What is not done within the limit is cut short, which costs others a moment and
// nobody a row.
func (n *Node) Stop(ctx context.Context) error {
	n.setPhase("stopping")
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	n.stopFeeds(ctx)
	n.handOver(ctx)
	if err := n.catalog.Save(ctx); err != nil {
		n.log.Warn("catalog not saved at the stop, the log has it", "error", err)
	}
	return n.Close()
}

// closeLimit is how long the end of a node may take whose log has failed: where that hangs, a flush may hang, too.
const closeLimit = 3 * diskPatience

// Close stops the node at once. What was acknowledged is safe. It waits for all that the node began, unless its log has failed: then
// for closeLimit at most.
func (n *Node) Close() error {
	n.cancel(errors.New("connector: the node is closing"))
	closed := make(chan error, 1)
	go func() {
		n.work.Wait()
		n.sender.Close()
		closed <- n.closeParts()
	}()
	var limit <-chan time.Time
	if n.raft != nil && n.raft.Err() != nil {
		timer := time.NewTimer(closeLimit)
		defer timer.Stop()
		limit = timer.C
	}
	select {
	case err := <-closed:
		return err
	case <-limit:
		return fmt.Errorf("connector: some of its work did not end within %s, for its disk hangs: %w", closeLimit, n.raft.Err())
	}
}

func (n *Node) closeParts() error {
	var errs []error
	if n.server != nil {
		errs = append(errs, n.server.Close())
	}
	if n.raft != nil {
		errs = append(errs, n.raft.Close())
	}
	if n.tablets != nil {
		errs = append(errs, n.tablets.Close())
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	n.http.CloseIdleConnections()
	return errors.Join(errs...)
}
