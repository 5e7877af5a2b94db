package raftlog

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// GroupID names a replicated group: a tablet, or the system group.
type GroupID uint64

// Kind says what an entry is.
type Kind uint8

const (
	Command    Kind = 1 // what was proposed
	Membership Kind = 2 // a change of the group's members; Data is opaque, DecodeMembers reads it
)

// Entry is a committed entry. Data may be kept for ever by the receiver; it is never used again.
type Entry struct {
	Index, Term uint64
	Kind        Kind
	Data        []byte
}

// Durable is what a state machine has made durable. Index 0: nothing.
type Durable struct {
	Index, Term  uint64
	Members      []byte // Data of the newest Membership entry at or below Index
	MembersIndex uint64 // its index
}

// Member is a server of a group.
type Member struct {
	Node, Incarnation string
	Voter             bool
}

func (m Member) id() raft.ServerID { return serverID(m.Node, m.Incarnation) }

func serverID(node, incarnation string) raft.ServerID { return raft.ServerID(node + "#" + incarnation) }

func splitServerID(id raft.ServerID) (node, incarnation string) {
	node, incarnation, _ = strings.Cut(string(id), "#")
	return node, incarnation
}

// configuration is what raft stores for members. Address and id are the same: a vote is remembered by the
// candidate's address, and must not count for a later incarnation of the same node.
func configuration(members []Member) raft.Configuration {
	var c raft.Configuration
	for _, m := range members {
		s := raft.Server{Suffrage: raft.Nonvoter, ID: m.id(), Address: raft.ServerAddress(m.id())}
		if m.Voter {
			s.Suffrage = raft.Voter
		}
		c.Servers = append(c.Servers, s)
	}
	return c
}

func membersOf(c raft.Configuration) []Member {
	var members []Member
	for _, s := range c.Servers {
		node, incarnation := splitServerID(s.ID)
		members = append(members, Member{node, incarnation, s.Suffrage == raft.Voter})
	}
	return members
}

func decodeConfiguration(b []byte) (c raft.Configuration, err error) {
	defer func() { // the only decoder that the library exports panics on bytes that are not its own
		if r := recover(); r != nil {
			err = fmt.Errorf("raftlog: members: %v", r)
		}
	}()
	return raft.DecodeConfiguration(b), nil
}

// DecodeMembers reads the Data of a Membership entry.
func DecodeMembers(data []byte) ([]Member, error) {
	c, err := decodeConfiguration(data)
	if err != nil {
		return nil, err
	}
	return membersOf(c), nil
}

// Group is one replica of a replicated group.
//
// Besides raft's own goroutines it has three: the pump gives other nodes' requests to raft (receive.go), the
// proposer stamps and proposes in log order, the completer waits for what was proposed (propose.go). A fourth lives
// from the start until there is a leader (first.go). stop ends them all.
type Group struct {
	log     *Log
	id      GroupID
	sm      StateMachine
	again   bool // it was started before, in this process
	replay  replay
	store   *logStore
	snaps   *snapshotStore
	machine *machine
	tr      *transport
	raft    atomic.Pointer[raft.Raft] // nil until it runs

	proposals chan *proposal
	futures   chan *proposal
	stopping  chan struct{}
	stopped   chan struct{}
	wg        sync.WaitGroup
	asking    atomic.Bool           // whether it would be voted for, after a start
	cut       atomic.Bool           // the housekeeper is to cut the log
	gave      atomic.Pointer[gift]  // the last leadership that was given away
	offered   atomic.Pointer[gift]  // the last attempt to give the leadership away
	given     atomic.Pointer[gift]  // the leadership that raft here does not know to be given away
	heard     atomic.Pointer[claim] // the newest leader whose heartbeat raft here may not have seen
	handing   atomic.Bool           // leadership is being handed over: nothing new is proposed
	watch     watch                 // only the housekeeper uses it
	mu        struct {
		sync.Mutex
		running  bool // start has come to its end
		stopping bool
		err      error              // why it stopped by itself
		open     map[*proposal]bool // that wait for an answer
	}
}

func newGroup(l *Log, id GroupID, sm StateMachine) *Group {
	g := &Group{log: l, id: id, sm: sm, proposals: make(chan *proposal, proposalsMax), futures: make(chan *proposal, proposalsMax),
		stopping: make(chan struct{}), stopped: make(chan struct{})}
	g.mu.open = map[*proposal]bool{}
	g.store = newLogStore(g, l.wal.Group(uint64(id)))
	g.snaps = newSnapshotStore(g)
	g.machine = &machine{g: g}
	g.tr = newTransport(g)
	return g
}

// start checks the log against the manifest and runs raft.
func (g *Group) start(bootstrap []Member) error {
	if err := g.store.recover(); err != nil {
		return err
	}
	if len(bootstrap) > 0 {
		if err := g.store.bootstrap(bootstrap); err != nil {
			return err
		}
	}
	g.beginReplay()
	g.machine.began(g.sm.Durable())
	g.store.beginScan()
	r, err := raft.NewRaft(g.config(), g.machine, g.store, g.store, g.snaps, g.tr)
	g.store.endScan()
	if err != nil {
		return fmt.Errorf("raftlog: group %d: %w", g.id, err)
	}
	g.mu.Lock()
	failed := g.mu.err
	if failed == nil {
		g.mu.running = true
		g.raft.Store(r)
		g.wg.Go(g.tr.pump)
		g.wg.Go(g.propose)
		g.wg.Go(g.complete)
		g.wg.Go(g.first)
		if !g.replay.over.Load() {
			g.wg.Go(g.catchUp)
		}
	}
	g.mu.Unlock()
	if failed != nil { // halt has closed the transport
		return errors.Join(failed, r.Shutdown().Error())
	}
	return nil
}

// config: raft takes no snapshot and cuts no log by itself, and starts from the manifest (machine.Snapshot).
func (g *Group) config() *raft.Config {
	t := g.log.o.Timings
	c := raft.DefaultConfig()
	c.LocalID = g.log.self
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = t.Heartbeat, t.Heartbeat, t.Heartbeat
	c.CommitTimeout = t.Commit
	c.MaxAppendEntries = g.log.appendMax()
	c.BatchApplyCh = true
	c.ShutdownOnRemove = false // the catalog stops a removed replica
	c.TrailingLogs, c.SnapshotThreshold = math.MaxUint64, math.MaxUint64
	c.SnapshotInterval = 1000 * time.Hour
	c.NoSnapshotRestoreOnStart = true
	c.NoLegacyTelemetry = true
	c.Logger = newHCLogger(g.log.logger.With("group", uint64(g.id)))
	return c
}

// appendMax is how many entries one append takes.
func (l *Log) appendMax() int { return cmp.Or(l.o.AppendMax, appendEntriesMax) }

// running returns raft, or nil before it runs.
func (g *Group) running() *raft.Raft { return g.raft.Load() }

// stop ends the group and waits for all its goroutines. It may be called more than once.
//
// raft leaves proposals that it has not looked at without an answer for ever when it is shut down. So the
// intake is closed first; with the transport closed, too, raft answers all the rest: it picks them up in every
// state, and a leader that hears from nobody steps down within its lease. Only then is it shut down.
func (g *Group) stop() {
	g.mu.Lock()
	first := !g.mu.stopping
	g.mu.stopping = true
	g.mu.Unlock()
	if !first {
		<-g.stopped
		return
	}
	close(g.stopping)
	g.tr.close()
	g.wg.Wait()
	if r := g.running(); r != nil {
		if err := r.Shutdown().Error(); err != nil {
			g.log.logger.Warn("raft shutdown failed", "group", g.id, "err", err)
		}
	}
	close(g.stopped)
}

// halt is where raft's goroutines end up when the group's log fails: raft would take the process down. It makes
// somebody stop the group, and returns when nothing that raft says leaves this node any more.
func (g *Group) halt(err error) {
	g.mu.Lock()
	if g.mu.err == nil {
		g.mu.err = err
	}
	running := g.mu.running
	g.mu.Unlock()
	if !running { // start is under way, sees the error and ends what it has begun
		g.tr.close()
		return
	}
	g.log.failed(g, err)
	<-g.tr.closed
}

// Err says why the group stopped by itself: its log could not be read or written.
func (g *Group) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.err
}

// ID returns the group's id.
func (g *Group) ID() GroupID { return g.id }

// Leader returns the leader's node as far as this replica knows.
func (g *Group) Leader() (node string, known bool) {
	r := g.running()
	if r == nil {
		return "", false
	}
	if node, ok := g.elsewhere(); ok {
		return node, true
	}
	_, id := r.LeaderWithID()
	node, _ = splitServerID(id)
	return node, id != ""
}

// IsLeader reports whether this replica thinks that it leads. Another may already have been elected.
func (g *Group) IsLeader() bool {
	r := g.running()
	if r == nil || r.State() != raft.Leader {
		return false
	}
	_, other := g.elsewhere()
	return !other
}

// Applied returns the index of the last entry that the state machine has seen here.
func (g *Group) Applied() uint64 { return g.machine.applied.Load() }

// Members returns the newest members that this replica knows of, committed or not.
func (g *Group) Members() []Member {
	r := g.running()
	if r == nil {
		return nil
	}
	return membersOf(r.GetConfiguration().Configuration())
}

// Cut says that the state machine became durable further: the entries below may go. It does not wait for that.
func (g *Group) Cut() {
	g.cut.Store(true)
	g.log.nudgeKeeper()
}

// GroupStatus is a picture of one replica.
type GroupStatus struct {
	Group           GroupID
	State           string // Follower, Candidate, Leader, Shutdown
	Leader          string // node
	Term            uint64
	First, Last     uint64 // of the log on disk, 0 when it is empty
	Commit, Applied uint64 // Applied: of what the state machine sees
	Handled         uint64 // of all entries, those too that no state machine sees; the last ones may still be on their way to it
	Durable         uint64
	Peers           []PeerStatus // on the leader
}

// PeerStatus is what a leader knows about another member.
type PeerStatus struct {
	Member
	Match      uint64        // it holds the log up to here
	Lag        uint64        // entries it lacks
	Contact    time.Duration // since it last answered a heartbeat or an append
	Stalled    time.Duration // since it last accepted an append, 0 when it has all
	Installing bool          // it is being sent a manifest
}

// Status describes the replica.
func (g *Group) Status() GroupStatus {
	s := GroupStatus{Group: g.id, State: "Shutdown", Durable: g.sm.Durable().Index, Applied: g.Applied()}
	r := g.running()
	if r == nil {
		return s
	}
	s.State, s.Term, s.Commit, s.Handled = r.State().String(), r.CurrentTerm(), r.CommitIndex(), r.AppliedIndex()
	s.First, s.Last = g.store.wal.First(), g.store.wal.Last()
	s.Leader, _ = g.Leader()
	if r.State() != raft.Leader {
		return s
	}
	now := time.Now()
	for _, m := range g.Members() {
		if m.id() == g.log.self {
			continue
		}
		p := g.tr.progressOf(m.id(), s.Term)
		status := PeerStatus{Member: m, Match: p.match, Installing: p.installing > 0}
		if contact := later(p.beaten, p.appended); !contact.IsZero() {
			status.Contact = now.Sub(contact)
		}
		if last := r.LastIndex(); p.match < last {
			status.Lag, status.Stalled = last-p.match, now.Sub(later(p.appended, p.since))
		}
		s.Peers = append(s.Peers, status)
	}
	return s
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

var (
	// ErrUnavailable says that a proposal surely was not and will not be applied: try again, elsewhere or later.
	ErrUnavailable = errors.New("raftlog: unavailable")
	// ErrUnknown says that a proposal may or may not have been applied, or may be later.
	ErrUnknown = errors.New("raftlog: fate unknown")
	// ErrStopped says that the group or the log is stopped; as ErrUnavailable, nothing was applied.
	ErrStopped = errors.New("raftlog: stopped")
)
