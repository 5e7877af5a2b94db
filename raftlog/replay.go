package raftlog

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// After a start each replica applies again what its log has above the manifest. A node with many rows in memory is busy with that for
// seconds, and its cores are what limits it. Reads and writes wait for nobody but the leaders, and for raft's main loop on one follower.
// So what a node leads is applied first, and then the others, a few groups at a time: a follower with a long log is told that its entries are committed
// when it is its turn, and step by step, for raft reads all that it is told of before it looks at anything else.
//
// raft allows that at any time. A commit index that is too low is one that has not arrived yet; one that comes later without an append of the
// leader is an append that came twice. Entries are written and acknowledged all the while, and whoever is elected applies what it has at once.
const (
	longLog    = 8 << 20               // bytes: a shorter log is applied in no time
	replayStep = 1 << 20               // bytes of entries that a follower is told of at a time
	replayWait = time.Second           // a step that is not applied by then is left alone, and the rest comes as it comes
	replayPoll = 2 * time.Millisecond  // between two looks whether it is
	leaderPoll = 10 * time.Millisecond // between two looks whether what is led is applied
	holdLimit  = 20                    // heartbeats' time limits after the start: then others are applied, whoever leads what
)

// replay is what a group's log has above the manifest at the start, and how far raft was told of it as a follower.
type replay struct {
	to      atomic.Uint64 // the last command; 0: none
	over    atomic.Bool   // nothing is held back any more
	granted atomic.Uint64 // commit index that raft may hear of
	said    atomic.Pointer[said]
	heard   chan struct{} // capacity 1: said has changed
}

// said is what a leader said of its commit index.
type said struct {
	append raft.AppendEntriesRequest // without entries: behind the last one
	at     time.Time
}

// beginReplay looks at the log before raft runs.
func (g *Group) beginReplay() {
	w := g.store.wal
	g.replay.to.Store(g.lastCommand(w.Last()))
	g.replay.heard = make(chan struct{}, 1)
	long := w.Bytes(g.sm.Durable().Index+1) >= longLog || invariants
	g.replay.over.Store(!long || g.replay.to.Load() == 0)
}

// endReplay is told that the log ends at last now: what was behind is not applied any more.
func (g *Group) endReplay(last uint64) {
	if g.replay.to.Load() > last {
		g.replay.to.Store(g.lastCommand(last))
	}
}

// lastCommand is the last entry up to last that the state machine will see and has not; 0: none.
func (g *Group) lastCommand(last uint64) uint64 {
	for d := g.sm.Durable().Index; last > d; last-- {
		if kind, ok := g.store.wal.Kind(last); ok && raft.LogType(kind) == raft.LogCommand {
			return last
		}
	}
	return 0
}

// Replaying tells whether this replica has still to apply some of what its log had at the start.
func (g *Group) Replaying() bool { return g.machine.applied.Load() < g.replay.to.Load() }

// catchingUp is Replaying for a log that is long.
func (g *Group) catchingUp() bool { return !g.replay.over.Load() && g.Replaying() }

// leadsReplaying tells whether a group with a long log that this node leads has to.
func (l *Log) leadsReplaying() bool {
	if time.Since(l.opened) > holdLimit*l.o.Timings.Heartbeat {
		return false
	}
	for _, g := range l.Groups() {
		if g.catchingUp() && g.IsLeader() {
			return true
		}
	}
	return false
}

// holdBack keeps from raft that entries are committed, until it is this group's turn.
func (t *transport) holdBack(q *raft.AppendEntriesRequest) {
	p := &t.group.replay
	if p.over.Load() {
		return
	}
	s := &said{*q, time.Now()}
	if n := len(q.Entries); n > 0 {
		s.append.PrevLogEntry, s.append.PrevLogTerm, s.append.Entries = q.Entries[n-1].Index, q.Entries[n-1].Term, nil
	}
	p.said.Store(s)
	q.LeaderCommitIndex = min(q.LeaderCommitIndex, p.granted.Load())
	select {
	case p.heard <- struct{}{}:
	default:
	}
}

// catchUp is the goroutine of a group that starts with a long log. It tells raft of what was held back, and returns when all of it is
// applied; stop waits for it.
func (g *Group) catchUp() {
	defer g.replay.over.Store(true)
	select {
	case <-g.replay.heard:
	case <-g.stopping:
		return
	}
	for g.log.leadsReplaying() {
		if !g.pause(leaderPoll) {
			return
		}
	}
	select {
	case g.log.replays <- struct{}{}:
		defer func() { <-g.log.replays }()
	case <-g.stopping:
		return
	}
	for g.Replaying() && !g.IsLeader() {
		next := g.store.wal.Reach(max(g.replay.granted.Load(), g.Applied())+1, g.replayStep())
		g.replay.granted.Store(next)
		if !g.tell(next) && !g.awaitAppend() || !g.awaitApplied(g.lastCommand(next)) {
			return
		}
	}
}

// replayStep is how many bytes of entries raft is told of at a time.
func (g *Group) replayStep() int64 {
	if invariants {
		return 1 << 10
	}
	return replayStep
}

// awaitAppend waits for the next append of a leader, if there is one soon: others wait for their turn meanwhile.
func (g *Group) awaitAppend() bool {
	timer := time.NewTimer(replayWait)
	defer timer.Stop()
	select {
	case <-g.replay.heard:
		return true
	case <-timer.C:
	case <-g.stopping:
	}
	return false
}

// tell repeats what the leader said last, as far as it is granted, and reports whether raft knows all that is. What was said long ago is not
// repeated: raft would take the leader for one that lives.
func (g *Group) tell(granted uint64) bool {
	s := g.replay.said.Load()
	if time.Since(s.at) > g.log.o.Timings.Heartbeat {
		return false
	}
	q := s.append
	q.LeaderCommitIndex = min(q.LeaderCommitIndex, granted)
	done := make(chan struct{})
	again := &repeated{q: &q}
	g.tr.queue(&received{rpc: again, reply: func([]byte) { close(done) }})
	select {
	case <-done:
		return again.taken && q.LeaderCommitIndex == granted
	case <-g.stopping:
		return false
	}
}

// repeated is an append that a group repeats for itself.
type repeated struct {
	q     *raft.AppendEntriesRequest
	taken bool
}

func (t *transport) repeat(r *repeated) {
	answer, err := t.pass(r.q, nil)
	if a, ok := answer.(*raft.AppendEntriesResponse); ok && err == nil {
		r.taken = a.Success
	}
}

// awaitApplied waits until the state machine has seen an entry, or nothing of it has come for a while, and reports whether it has.
func (g *Group) awaitApplied(index uint64) bool {
	at := g.Applied()
	for since := time.Now(); g.Applied() < index && time.Since(since) < replayWait; {
		if now := g.Applied(); now != at {
			at, since = now, time.Now()
		}
		if !g.pause(replayPoll) {
			return false
		}
	}
	return g.Applied() >= index
}
