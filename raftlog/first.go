package raftlog

import (
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// When all nodes start again at once no group has a leader, and by itself raft lets nobody stand for election before its timer is over, one
// to two heartbeats' time limits later. All nodes begin to wait in the same moment, so in one group of four two stand at a time, take the
// votes from each other, and wait once more.
//
// So a voter that starts asks the others, before that, whether they would vote for it (raft's pre-vote), and stands for election when a majority
// would. It asks again and again, for the others may still be reading their logs.
//
//   - To be asked changes nothing, and who hears a leader says no. A node that starts alone disturbs nobody; it is over when it hears the leader.
//   - The voters ask in an order, orphanPatience apart: one stands. First comes who should lead the group (Options.Preferred); where that is all
//     the same the order differs from group to group, so that leaders are spread.
//   - Once for each group and process: a replica that failed here and is started again leaves the first place to others, for it may fail again.
//   - raft's timer goes on beside it. Where nobody wins in this way, all is as if nobody had asked.
//   - Who has just told another that it would vote for it does not ask for itself (promise). Questions may cross on their way, and each would wait
//     for the others then: who is asking promises nothing to those who come after it in the order. Timers are over while the other still writes
//     what an election takes, and where disks are slow everybody stood, had its own vote, and waited for many slow writes until the next election.

const (
	firstRounds = 100 // so often a voter asks; from then on it leaves the matter to raft's timer
	firstPause  = 5   // rounds in a heartbeat's time limit
)

// first is the goroutine of a group that has just started. It returns when there is a leader; stop waits for it.
func (g *Group) first() {
	r, pause, place := g.running(), g.log.o.Timings.Heartbeat/firstPause, g.firstPlace(g.log.o.Node)
	if g.again || place < 0 {
		return
	}
	if place > 0 && !g.pause(time.Duration(place)*g.log.orphanPatience()) { // a timer of nothing crashes Go's race detector in a bubble
		return
	}
	g.asking.Store(true)
	defer g.asking.Store(false)
	last := g.lastEntry()
	for range firstRounds {
		if leader, _ := r.LeaderWithID(); leader != "" {
			return
		}
		term := r.CurrentTerm()
		leaderless := func() bool { // nobody leads, nobody stands, and whom this replica voted for has had time to be heard
			leader, _ := r.LeaderWithID()
			return r.State() == raft.Follower && r.CurrentTerm() == term && leader == "" && !g.tr.keeps(term+1) && time.Since(r.LastContact()) > g.log.o.Timings.Heartbeat/2
		}
		if leaderless() && g.wanted(&raft.RequestPreVoteRequest{Term: term + 1, LastLogIndex: last.index, LastLogTerm: last.term}) && leaderless() {
			g.log.logger.Debug("no leader after the start, standing for election", "group", g.id, "term", term)
			g.stand(leaderless, false)
		}
		if !g.pause(pause) {
			return
		}
	}
}

// firstPlace is a node's place among the voters that ask; -1: it is no voter.
func (g *Group) firstPlace(node string) int {
	var voters []string
	for _, m := range g.Members() {
		if m.Voter {
			voters = append(voters, m.Node)
		}
	}
	slices.Sort(voters)
	at := slices.Index(voters, node)
	if at < 0 {
		return -1
	}
	first := int(uint64(g.id) % uint64(len(voters)))
	if f := g.log.o.Preferred; f != nil {
		if i := slices.Index(voters, f(g.id)); i >= 0 {
			first = i
		}
	}
	return (at - first + len(voters)) % len(voters)
}

// wanted asks the other voters whether they would vote for this replica, and tells whether it would have a majority.
func (g *Group) wanted(q *raft.RequestPreVoteRequest) bool {
	var voters []Member
	for _, m := range g.Members() {
		if m.Voter {
			voters = append(voters, m)
		}
	}
	answers := make(chan bool, len(voters))
	for _, m := range voters {
		if m.id() == g.log.self {
			answers <- true
			continue
		}
		g.wg.Go(func() {
			var a raft.RequestPreVoteResponse
			err := g.tr.call(m.id(), encodePreVote(g.id, q), true, g.log.o.Timings.Heartbeat, &a)
			answers <- err == nil && a.Granted
		})
	}
	granted := 0
	for range voters {
		if <-answers {
			granted++
		}
		if 2*granted > len(voters) {
			return true
		}
	}
	return false
}

// lastEntry names the last entry that this replica has, in its log or in its manifest.
func (g *Group) lastEntry() entryID {
	if e, ok := g.store.lastEntry(); ok {
		return e
	}
	d := g.sm.Durable()
	return entryID{d.Index, d.Term}
}

// pause waits for d and reports whether the group goes on.
func (g *Group) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-g.stopping:
		return false
	}
}

// promise is that this replica told another that it would vote for it.
type promise struct {
	term uint64 // of the election to come
	at   time.Time
}

var errPromised = errors.New("raftlog: this replica has told another that it would vote for it")

// promise notes an answer to a pre-vote. The first of a term counts: who asks again and again, for it does not hear the answers, holds
// up nobody for longer.
func (t *transport) promise(q, answer any) {
	asked, ok := q.(*raft.RequestPreVoteRequest)
	a, granted := answer.(*raft.RequestPreVoteResponse)
	if !ok || !granted || !a.Granted {
		return
	}
	if asker, _ := splitServerID(raft.ServerID(asked.RPCHeader.ID)); t.group.asking.Load() && t.group.firstPlace(asker) > t.group.firstPlace(t.log.o.Node) {
		return
	}
	if p := t.promised.Load(); p == nil || p.term < asked.Term {
		t.promised.Store(&promise{asked.Term, time.Now()})
	}
}

// keeps tells whether this replica should let another stand in a term: for as long as that may take to write what it must, and to ask for
// votes. Here nothing is known of its disk, and after a start nothing of any.
func (t *transport) keeps(term uint64) bool {
	p := t.promised.Load()
	return p != nil && p.term >= term && time.Since(p.at) < 2*t.log.o.Timings.Heartbeat+t.log.orphanPatience()
}
