package raftlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// A target of a transfer may lack so many entries: the old leader refuses proposals until it has them.
	transferLagMax = 64
	// A non-voter may lack so many to be made a voter: until it has them it counts for the majority and
	// cannot acknowledge.
	promoteLagMax = 256
)

// ErrLagging says that a member is not close enough to the leader for what was asked.
var ErrLagging = errors.New("raftlog: member lags")

// AddNonvoter adds a member that gets the log and does not vote. Its node must have started the group. Only the
// leader can change members; it does one change at a time.
func (g *Group) AddNonvoter(ctx context.Context, m Member) error {
	return g.change(ctx, "add "+m.Node, func(r *raft.Raft, limit time.Duration) raft.Future {
		return r.AddNonvoter(m.id(), raft.ServerAddress(m.id()), 0, limit)
	})
}

// Promote makes a non-voter a voter, if it is close to the leader (ErrLagging).
//
// Raft sends the entry that says so before it counts the new voter. One that acknowledges faster than raft gets there counts as if it had
// nothing, until it acknowledges another entry; where its voice is needed nothing is committed until then, and as long as that is
// so raft takes no other change of the members. In a group that nobody writes to that would be for ever. So there always is another entry: a
// barrier, which raft takes up when it is done with the change, and which no state machine sees.
func (g *Group) Promote(ctx context.Context, m Member) error {
	if err := g.near(m.id(), promoteLagMax); err != nil {
		return err
	}
	return g.change(ctx, "promote "+m.Node, func(r *raft.Raft, limit time.Duration) raft.Future {
		f := r.AddVoter(m.id(), raft.ServerAddress(m.id()), 0, limit)
		r.Barrier(limit) // whether it is committed is of no interest: the change is what is waited for
		return f
	})
}

// Remove removes a member. A removed follower never learns of it: its node must be told to drop the group
// (rule 11). A leader that removes itself steps down.
func (g *Group) Remove(ctx context.Context, m Member) error {
	return g.change(ctx, "remove "+m.Node, func(r *raft.Raft, limit time.Duration) raft.Future {
		return r.RemoveServer(m.id(), 0, limit)
	})
}

// change carries out one change of the members, within Timings.Transfer.
func (g *Group) change(ctx context.Context, what string, f func(*raft.Raft, time.Duration) raft.Future) error {
	r := g.running()
	if r == nil || r.State() != raft.Leader {
		return fmt.Errorf("raftlog: group %d: %s: not the leader: %w", g.id, what, ErrUnavailable)
	}
	limit := g.log.o.Timings.Transfer
	ch := make(chan error, 1)
	g.mu.Lock()
	if g.mu.stopping {
		g.mu.Unlock()
		return fmt.Errorf("raftlog: group %d: %s: %w", g.id, what, ErrStopped)
	}
	g.wg.Go(func() { ch <- f(r, limit).Error() }) // raft answers at the latest when it steps down, see stop
	g.mu.Unlock()
	timer := time.NewTimer(2 * limit)
	defer timer.Stop()
	var err error
	select {
	case err = <-ch:
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	case <-timer.C:
		err = fmt.Errorf("%w: no majority within %v", ErrUnknown, 2*limit)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("raftlog: group %d: %s: %w: %w", g.id, what, ErrUnavailable, err)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
		return fmt.Errorf("raftlog: group %d: %s: %w: %w", g.id, what, ErrUnknown, err)
	}
	return fmt.Errorf("raftlog: group %d: %s: %w", g.id, what, err)
}

// near reports ErrLagging unless a member is in contact and lacks at most lagMax entries.
func (g *Group) near(id raft.ServerID, lagMax uint64) error {
	r := g.running()
	if r == nil || r.State() != raft.Leader {
		return fmt.Errorf("raftlog: group %d: not the leader: %w", g.id, ErrUnavailable)
	}
	if g.log.o.test.without(10) {
		return nil
	}
	t := g.log.o.Timings
	p, last := g.tr.progressOf(id, r.CurrentTerm()), r.LastIndex()
	if node, _ := splitServerID(id); g.log.peerSlow(node) {
		return fmt.Errorf("raftlog: group %d: the disk of %s is slow: %w", g.id, node, ErrLagging)
	}
	if quiet := time.Since(p.appended); p.appended.IsZero() || p.installing > 0 || quiet > 4*t.Heartbeat+2*t.Commit {
		return fmt.Errorf("raftlog: group %d: %s accepts no entries: %w", g.id, id, ErrLagging)
	}
	if p.match+lagMax < last {
		return fmt.Errorf("raftlog: group %d: %s has entries up to %d, last is %d: %w", g.id, id, p.match, last, ErrLagging)
	}
	return nil
}

// TransferLeadership makes the voter on another node the leader, if it is close to this one (rule 10). It returns
// when this node has seen that leader, or another one in a later term, at the latest after Timings.Transfer.
//
// It does not use raft's own transfer: a leader that steps down in the midst of one waits for ever for a goroutine that has
// ended, and refuses every write when it leads again, because it still believes in that transfer. Here the proposer
// refuses them, for as long as this call lasts.
func (g *Group) TransferLeadership(ctx context.Context, node string) error {
	r := g.running()
	if r == nil || r.State() != raft.Leader {
		return fmt.Errorf("raftlog: group %d: not the leader: %w", g.id, ErrUnavailable)
	}
	var target *Member
	for _, m := range g.Members() {
		if m.Node == node && (m.Voter || g.log.o.test.without(10)) {
			target = &m
		}
	}
	if target == nil {
		return fmt.Errorf("raftlog: group %d: transfer to %s: it is no voter", g.id, node)
	}
	if target.id() == g.log.self {
		return nil
	}
	if err := g.near(target.id(), transferLagMax); err != nil {
		return err
	}
	if !g.handing.CompareAndSwap(false, true) {
		return fmt.Errorf("raftlog: group %d: transfer to %s: another one is under way: %w", g.id, node, ErrUnavailable)
	}
	defer g.handing.Store(false)
	ctx, cancel := context.WithTimeout(ctx, min(g.log.o.Timings.Transfer, 6*g.log.o.Timings.Heartbeat))
	defer cancel()
	term, leader := r.CurrentTerm(), raft.ServerID("")
	slow := func() bool { return g.log.peerSlow(node) && !g.log.o.test.without(10) } // it would take as long as its disk does, and nobody could write meanwhile
	err := g.waitUntil(ctx, func() bool {
		return g.tr.progressOf(target.id(), r.CurrentTerm()).match >= r.LastIndex() || r.State() != raft.Leader || slow()
	})
	if err == nil && r.State() == raft.Leader && !slow() {
		err = g.tr.TimeoutNow(target.id(), raft.ServerAddress(target.id()), nil, &raft.TimeoutNowResponse{})
	}
	if err == nil {
		err = g.waitUntil(ctx, func() bool {
			_, leader = r.LeaderWithID()
			return leader == target.id() || leader != "" && r.CurrentTerm() > term || slow()
		})
	}
	switch {
	case err != nil || leader == target.id():
	case leader != "" && r.CurrentTerm() > term:
		err = fmt.Errorf("%s was elected: %w", leader, ErrUnavailable)
	default:
		err = fmt.Errorf("its disk is slow: %w", ErrLagging)
	}
	if err != nil {
		return fmt.Errorf("raftlog: group %d: transfer to %s: %w", g.id, node, err)
	}
	return nil
}

// waitUntil waits until done, ctx or the group ends it.
func (g *Group) waitUntil(ctx context.Context, done func() bool) error {
	ticker := time.NewTicker(g.log.o.Timings.tick())
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-g.stopping:
			return ErrStopped
		}
	}
	return nil
}
