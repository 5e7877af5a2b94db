package raftlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// A leader whose disk hangs is the worst place for a group: raft's main loop waits in the write, so it neither commits nor steps
// down, while its heartbeats go on and keep everybody from electing another. Long before the log's deadline ends such a node it
// therefore gives its groups away: it tells the best follower to stand for election, which raft allows at any time and which
// needs nothing from the disk here, and answers its callers that the fate of what they proposed is unknown. Raft itself notices when
// the write returns. Until writes are fast again the node stands for no election and nobody hands leadership to it.
//
// Leadership may also have gone already, or go from one to another of the others, while raft here waits: it was being handed over when the
// disk hung, as is common soon after the groups were made. Nobody is left then who would take it, and raft here believes in a leader of the past. So
// the heartbeats that come in say who leads (claim); nobody waits for raft to look at them.

const (
	slowMemory   = 10 * time.Second // a disk is slow for so long after its last slow write
	slowPatience = 10 * time.Second // without any leader for so long a node with a slow disk stands, too: all may be slow
	giveUpAgain  = time.Second      // before another follower is asked

	electWrites = 12               // as long as so many writes a candidate waits for votes: it makes three, then a voter three, and each may wait for another
	electMemory = 30 * time.Second // so long a slow write counts for that
	electMost   = time.Minute      // and no longer than this it waits
)

var errSlow = errors.New("raftlog: the disk of this node is slow")

// slowness is what is known of this node's disk.
type slowness struct {
	sync.Mutex
	until time.Time     // it is slow until then, if no more slow write comes
	worst time.Duration // the slowest write of late, here or of a voter
	worse time.Time     // when that was
}

// saw is told how long a write took.
func (s *slowness) saw(took time.Duration) {
	if took >= s.worst || time.Since(s.worse) > electMemory {
		s.worst, s.worse = took, time.Now()
	}
}

// electionTimeout is how long a candidate waits. With slow disks everywhere, elections that are begun anew sooner than votes
// can be written would never end.
func (l *Log) electionTimeout() time.Duration {
	l.slowness.Lock()
	defer l.slowness.Unlock()
	t := l.o.Timings.Heartbeat
	if w := l.slowness.ofLate(); w > t/(2*electWrites) {
		t = min(t+electWrites*w, electMost)
	}
	return t
}

// ofLate is the slowest write of late.
func (s *slowness) ofLate() time.Duration {
	if time.Since(s.worse) > electMemory {
		return 0
	}
	return s.worst
}

// SlowestWrite is how long the slowest write of late took, here or where a voter wrote: what goes through a log takes a few of them.
func (l *Log) SlowestWrite() time.Duration {
	l.slowness.Lock()
	defer l.slowness.Unlock()
	return l.slowness.ofLate()
}

// voted is told how long a voter took to answer, which is three writes.
func (l *Log) voted(took time.Duration) {
	l.slowness.Lock()
	l.slowness.saw(took / 3)
	l.slowness.Unlock()
}

// adaptElections has raft wait for votes as long as disks of late want it.
func (g *Group) adaptElections() {
	r := g.running()
	if r == nil {
		return
	}
	c, want := r.ReloadableConfig(), g.log.electionTimeout()
	if want == c.ElectionTimeout || want < c.ElectionTimeout && want > c.ElectionTimeout/2 && want > g.log.o.Timings.Heartbeat {
		return
	}
	c.ElectionTimeout = max(want, c.HeartbeatTimeout)
	if err := r.ReloadConfig(c); err != nil {
		g.log.logger.Warn("election timeout not changed", "group", g.id, "to", want, "err", err)
	}
}

// wrote is told of each write of the WAL.
func (l *Log) wrote(took time.Duration, bytes int64) {
	l.slowness.Lock()
	l.slowness.saw(took)
	if took >= l.o.SlowWrite {
		l.slowness.until = time.Now().Add(slowMemory)
	}
	l.slowness.Unlock()
	if l.o.OnSync != nil {
		l.o.OnSync(took, bytes)
	}
}

// hangs is told of a write of the WAL that is under way for SlowWrite. It may end just now; one that hangs for longer than slowMemory
// has ended the node by then.
func (l *Log) hangs() {
	l.slowness.Lock()
	l.slowness.until = time.Now().Add(slowMemory)
	l.slowness.Unlock()
	select {
	case l.stuck <- struct{}{}:
	default:
	}
}

// Slow tells whether this node's disk is too slow to lead.
func (l *Log) Slow() bool {
	l.slowness.Lock()
	defer l.slowness.Unlock()
	return time.Now().Before(l.slowness.until)
}

// gift is a leadership that was given away without raft's knowledge.
type gift struct {
	term uint64
	to   Member
	at   time.Time
}

// claim is what a heartbeat says: who leads, and in which term.
type claim struct {
	term   uint64
	leader string      // its node
	told   atomic.Bool // it was logged that raft here does not know
}

// claimed remembers the leader of the newest term.
func (g *Group) claimed(c *claim) {
	for {
		old := g.heard.Load()
		if old != nil && old.term >= c.term || g.heard.CompareAndSwap(old, c) {
			return
		}
	}
}

// successor is who leads in a term later than the one that raft here is in; nil: nobody, as far as is known.
func (g *Group) successor(r *raft.Raft) *claim {
	if c := g.heard.Load(); c != nil && c.term > r.CurrentTerm() {
		return c
	}
	return nil
}

// elsewhere says who leads this group if raft here believes in somebody else: a successor, or who was given the leadership. A gift
// counts for as long as the disk is slow: if nobody took it, the leader goes on.
func (g *Group) elsewhere() (node string, ok bool) {
	r := g.running()
	if r == nil {
		return "", false
	}
	if c := g.successor(r); c != nil {
		return c.leader, true
	}
	p := g.given.Load()
	if p == nil {
		return "", false
	}
	if r.State() != raft.Leader || r.CurrentTerm() != p.term || !g.log.Slow() {
		g.given.CompareAndSwap(p, nil)
		return "", false
	}
	return p.to.Node, true
}

// likelyLeader guesses who leads while raft here does not know: its main loop may be in one slow write after the other.
func (g *Group) likelyLeader() (node string, known bool) {
	if p := g.gave.Load(); p != nil && time.Since(p.at) < 3*slowMemory {
		return p.to.Node, true
	}
	return "", false
}

// giveAway is called while the disk is slow: it has another member stand for election if this one leads.
func (g *Group) giveAway(now time.Time) {
	r := g.running()
	if r == nil || r.State() != raft.Leader {
		return
	}
	if c := g.successor(r); c != nil {
		if !c.told.Swap(true) {
			g.log.logger.Warn("disk is slow, and another leads already", "group", g.id, "leader", c.leader, "term", c.term)
		}
		g.abandon()
		return
	}
	term := r.CurrentTerm()
	before := g.offered.Load()
	if before != nil && before.term == term && now.Sub(before.at) < giveUpAgain {
		return
	}
	var best Member
	var bestMatch uint64
	for _, m := range g.Members() {
		p := g.tr.progressOf(m.id(), term)
		if m.id() == g.log.self || !m.Voter || now.Sub(later(p.beaten, p.appended)) > 2*g.log.o.Timings.Heartbeat || g.log.peerSlow(m.Node) {
			continue
		}
		again := before != nil && before.term == term && before.to == m
		if best.Node == "" || p.match > bestMatch || p.match == bestMatch && !again {
			best, bestMatch = m, p.match
		}
	}
	if best.Node == "" {
		g.log.logger.Warn("disk is slow, and no other voter can lead", "group", g.id)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.stopping {
		return
	}
	offer := &gift{term, best, now}
	g.offered.Store(offer)
	g.wg.Go(func() {
		if err := g.tr.TimeoutNow(best.id(), raft.ServerAddress(best.id()), nil, &raft.TimeoutNowResponse{}); err != nil {
			g.log.logger.Warn("disk is slow, but leadership was not taken", "group", g.id, "by", best.Node, "err", err)
			return
		}
		g.log.logger.Warn("disk is slow, leadership is given away", "group", g.id, "to", best.Node)
		g.log.counters.transfers.Add(1)
		g.given.Store(offer)
		g.gave.Store(offer)
		g.abandon()
	})
}

// accept is asked before this node stands for election because a leader wants it to: it tries the disk, which an election needs
// at once. If all disks are slow, whoever leads had better go on; and also if this replica applies its log again after a start, for which
// all who write would wait.
func (t *transport) accept(r *received) {
	if r.still == nil && t.group.catchingUp() {
		r.fail(statusUnavailable, fmt.Sprintf("group %d is applying its log again", t.group.id))
		return
	}
	t.group.mu.Lock()
	defer t.group.mu.Unlock()
	if t.group.mu.stopping {
		r.fail(statusUnavailable, errGroupClosed.Error())
		return
	}
	t.group.wg.Go(func() {
		begin := time.Now()
		err := t.log.wal.Group(ownerGroup).Set(ownerKey, []byte(t.log.self))
		if err == nil && (t.log.Slow() && !r.must || time.Since(begin) > t.log.o.Timings.Heartbeat) {
			err = errSlow
		}
		if err != nil {
			r.fail(statusUnavailable, err.Error())
			return
		}
		t.queue(r)
	})
}

// abandon answers all proposals of the group: raft does not, as long as its main loop waits for the disk.
func (g *Group) abandon() {
	g.mu.Lock()
	var all []*proposal
	for p := range g.mu.open {
		all = append(all, p)
	}
	g.mu.Unlock()
	for _, p := range all {
		if p.state.CompareAndSwap(proposalWaits, proposalWithdrawn) {
			g.finish(p, nil, fmt.Errorf("raftlog: group %d: %w: %w", g.id, ErrUnavailable, errSlow))
			continue
		}
		<-p.stamped
		g.log.uncertain.add(p.data)
		g.finish(p, nil, fmt.Errorf("raftlog: group %d: %w: %w", g.id, ErrUnknown, errSlow))
	}
}

// mayStand refuses to stand for election with a slow disk, unless nobody has led for long.
func (t *transport) mayStand() error {
	r := t.group.running()
	if r == nil || !t.log.Slow() || time.Since(r.LastContact()) > slowPatience {
		return nil
	}
	return errSlow
}

// peerSlow tells whether another node said that its disk is slow.
func (l *Log) peerSlow(node string) bool {
	p := l.known(node)
	return p != nil && p.slow.Load()
}

// giveAll gives away what this node leads, again and again while its disk is slow.
func (l *Log) giveAll(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-l.stuck:
		case <-ctx.Done():
			return
		}
		for l.Slow() && ctx.Err() == nil {
			for _, g := range l.Groups() {
				g.giveAway(time.Now())
			}
			timer := time.NewTimer(giveUpAgain / 2)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
		}
	}
}
