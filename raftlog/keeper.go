package raftlog

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// watch is what the housekeeper remembers of a group.
type watch struct {
	held     time.Time // since when a follower has kept the log from being cut, zero: none does
	transfer time.Time // when the watchdog last gave up the leadership
	behind   map[raft.ServerID]behind
}

// behind is a follower that lacks entries.
type behind struct {
	match uint64
	since time.Time // when match last changed, or it began to lack some
}

// keep is the housekeeper: one goroutine for all groups. It cuts logs and watches over followers.
func (l *Log) keep() {
	ticker := time.NewTicker(l.o.Timings.Heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			for _, g := range l.Groups() {
				g.cutLog(time.Now())
				g.watchFollowers(time.Now())
				g.adaptElections()
			}
		case <-l.nudge:
			for _, g := range l.Groups() {
				g.cutLog(time.Now())
			}
		case <-l.ctx.Done():
			return
		}
	}
}

func (l *Log) nudgeKeeper() {
	select {
	case l.nudge <- struct{}{}:
	default:
	}
}

// cutLog removes entries below the durable index, if that is wanted and nothing forbids it: not while a manifest
// is being sent (rule 5), and not what a living follower of ours still lacks, for at most Timings.Retain: to
// send it entries is far cheaper than to send it a manifest.
func (g *Group) cutLog(now time.Time) {
	if !g.cut.Swap(false) {
		return
	}
	if g.snaps.pinned() {
		g.cut.Store(true)
		return
	}
	d := g.sm.Durable()
	index := g.retained(now, d.Index)
	if err := g.store.cutBelow(index); err != nil {
		g.log.logger.Warn("log not cut", "group", g.id, "index", index, "err", err)
	}
	if index < d.Index {
		g.cut.Store(true)
	} else {
		g.watch.held = time.Time{}
	}
}

// retained lowers index to what a living follower has.
func (g *Group) retained(now time.Time, index uint64) uint64 {
	r := g.running()
	if r == nil || r.State() != raft.Leader {
		return index
	}
	if !g.watch.held.IsZero() && now.Sub(g.watch.held) > g.log.o.Timings.Retain {
		return index
	}
	low := index
	for _, m := range g.Members() {
		if m.id() == g.log.self {
			continue
		}
		p := g.tr.progressOf(m.id(), r.CurrentTerm())
		if p.match < low && now.Sub(later(p.beaten, p.appended)) < 4*g.log.o.Timings.Heartbeat {
			low = p.match
		}
	}
	if low < index && g.watch.held.IsZero() {
		g.watch.held = now
	}
	return low
}

// watchFollowers is the watchdog against what we do not know: a follower that answers heartbeats but gets no
// entries, because replication here is stuck (Timings.Watchdog), or gets them in vain for six times as long.
// Another leader may have more luck.
func (g *Group) watchFollowers(now time.Time) {
	r := g.running()
	if r == nil || r.State() != raft.Leader {
		g.watch.behind = nil
		return
	}
	if g.watch.behind == nil {
		g.watch.behind = map[raft.ServerID]behind{}
	}
	limit, last, term := g.log.o.Timings.Watchdog, r.LastIndex(), r.CurrentTerm()
	for _, m := range g.Members() {
		id := m.id()
		if id == g.log.self {
			continue
		}
		p := g.tr.progressOf(id, term)
		b, known := g.watch.behind[id]
		if !known || p.match >= last || p.match != b.match || p.installing > 0 || now.Sub(p.beaten) > 2*g.log.o.Timings.Heartbeat {
			g.watch.behind[id] = behind{p.match, now}
			continue
		}
		idle := now.Sub(later(later(p.attempted, p.since), b.since))
		if idle > limit || now.Sub(b.since) > 6*limit {
			g.giveUp(now, id, p.match, last)
		}
	}
}

// giveUp transfers the leadership to the voter that is closest to us, unless that was tried lately.
func (g *Group) giveUp(now time.Time, stuck raft.ServerID, match, last uint64) {
	if !g.watch.transfer.IsZero() && now.Sub(g.watch.transfer) < 8*g.log.o.Timings.Watchdog {
		return
	}
	g.watch.transfer = now
	var best Member
	var bestMatch uint64
	for _, m := range g.Members() {
		if m.id() == g.log.self || m.id() == stuck || !m.Voter {
			continue
		}
		p := g.tr.progressOf(m.id(), g.running().CurrentTerm())
		if p.match >= bestMatch && now.Sub(p.beaten) < 2*g.log.o.Timings.Heartbeat {
			best, bestMatch = m, p.match
		}
	}
	if best.Node == "" {
		g.log.logger.Error("follower is stuck, and no other voter can lead", "group", g.id, "follower", string(stuck), "match", match, "last", last)
		return
	}
	g.log.logger.Error("follower is stuck, leadership is given up", "group", g.id, "follower", string(stuck), "match", match, "last", last, "to", best.Node)
	g.log.counters.transfers.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.stopping {
		return
	}
	g.wg.Go(func() {
		if err := g.TransferLeadership(context.Background(), best.Node); err != nil {
			g.log.logger.Error("leadership could not be given up", "group", g.id, "err", err)
		}
	})
}
