package raftlog

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// A leader whose process has ended is noticed long before its heartbeats are missed: the kernel closes its connections, and where it
// listened a new connection is refused. What it led is an orphan then, and needs no doubt, no waiting and no asking around whether
// others see a leader: one of the others stands for election as if the leader had asked for it. A machine that lost its power or its
// network refuses nothing, so heartbeats remain the way to notice these.
//
// An election can do no harm to what is written, whoever begins it and when; what could be lost is a leader that is alive. So
// nobody stands because a connection broke, or because a dial failed in another way.
//
//   - The voters have an order in each group. The first stands at once; the next ones, after orphanPatience each, only if they have not been
//     asked for a vote by then: two candidates at a time take the votes from each other.
//   - A voter that refuses a candidate because its own log has more stands itself (overtake). It alone can win, and would
//     otherwise wait until the candidate, and then it, has lost its patience.
//   - A leader that is silent does not count when a candidate asks (discount). This helps where nothing is refused, and where the
//     kernel takes long to end a process with much memory: its connections stay open for so long.

// orphanPatience is how long a voter waits for the one before it: twice what an election takes, or what the slowest disks of late need
// for the writes of one.
func (l *Log) orphanPatience() time.Duration {
	return l.o.Timings.Heartbeat/4 + l.electionTimeout() - l.o.Timings.Heartbeat
}

// refused tells whether a dial found the other machine there, and nobody that listens.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// orphaned is told of a node whose process has ended. It does not block.
func (l *Log) orphaned(node string) {
	type orphan struct {
		g     *Group
		place int
	}
	var orphans []orphan
	for _, g := range l.Groups() {
		if place := g.placeAfter(node); place >= 0 && g.orphanOf(node) {
			orphans = append(orphans, orphan{g, place})
		}
	}
	if len(orphans) == 0 {
		return
	}
	slices.SortStableFunc(orphans, func(a, b orphan) int { return a.place - b.place })
	l.wg.Go(func() {
		waited := 0
		for _, o := range orphans {
			for ; waited < o.place; waited++ {
				if !l.sleep(l.orphanPatience()) {
					return
				}
			}
			if o.g.orphanOf(node) {
				l.logger.Info("leader's process has ended, standing for election", "group", o.g.id, "leader", node)
				o.g.stand(func() bool { return o.g.orphanOf(node) }, false)
			}
		}
	})
}

// sleep waits for d and reports whether the log goes on.
func (l *Log) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// orphanOf tells whether this replica follows the node. Whoever was asked for a vote in a newer term follows nobody.
func (g *Group) orphanOf(node string) bool {
	r := g.running()
	if r == nil || r.State() != raft.Follower {
		return false
	}
	_, id := r.LeaderWithID()
	leader, _ := splitServerID(id)
	return leader == node
}

// placeAfter is this node's place among the voters that are left without a node; -1: it is no voter. It differs from group to
// group, so that not one node gets all that another led.
func (g *Group) placeAfter(node string) int {
	var voters []string
	for _, m := range g.Members() {
		if m.Voter && m.Node != node {
			voters = append(voters, m.Node)
		}
	}
	slices.Sort(voters)
	at := slices.Index(voters, g.log.o.Node)
	if at < 0 {
		return -1
	}
	return (at + int(uint64(g.id)%uint64(len(voters)))) % len(voters)
}

// stand makes this replica a candidate, if its disk is quick and the reason still holds when it is its turn behind other requests: one of
// these may be that of a candidate who wins. Where it must, because a candidate has less, its disk may have been slow of late, if only it
// is quick now: when all disks stood still for two seconds, nobody else can win.
func (g *Group) stand(still func() bool, must bool) {
	if g.log.Slow() && !must {
		return
	}
	from := hello{node: g.log.o.Node, incarnation: g.log.o.Incarnation}
	g.tr.receive(&received{rpc: &raft.TimeoutNowRequest{}, from: from, reply: func([]byte) {}, still: still, must: must})
}

// silent tells whether this replica stands for election, or follows a leader whose process has ended, or that it has not heard for most of
// a heartbeat's time limit: whoever asks for a vote has waited for all of it, and the leader may have reached the one a little later than the other. What a leader sent
// before its end may still be on its way into the log here, and looks as if it lived.
func (t *transport) silent() bool {
	r := t.group.running()
	if r == nil {
		return false
	}
	switch r.State() {
	case raft.Follower:
	case raft.Candidate: // it has given its leader up, and may name it still: a heartbeat that came in that very moment is dealt with beside raft's main loop
		return true
	default:
		return false
	}
	_, id := r.LeaderWithID()
	leader, _ := splitServerID(id)
	if p := t.log.known(leader); p != nil && p.ended.Load() {
		return true
	}
	return time.Since(r.LastContact()) > t.log.o.Timings.Heartbeat*3/4
}

// discount has raft answer a candidate as if this replica had no leader, if that is silent. By itself raft refuses all candidates until its
// own timer has found the leader gone, up to three time limits after its last heartbeat; and who was refused waits for another one or two.
func (t *transport) discount(q any) {
	if !t.silent() {
		return
	}
	switch q := q.(type) {
	case *raft.RequestVoteRequest:
		q.LeadershipTransfer = true // the only thing that raft does with it is not to ask whether there is a leader
	case *raft.RequestPreVoteRequest:
		if leader, _ := t.group.running().LeaderWithID(); leader != "" {
			q.RPCHeader.Addr = []byte(leader) // compared with the leader, and nothing else: a leader itself may ask; members are known by ID
		}
	}
}

// overtake is told of each vote that raft here was asked for, and its answer: it stands for election if this replica refused because it has
// more, and knows no leader that lives.
func (t *transport) overtake(q, answer any) {
	var asked entryID
	switch q := q.(type) {
	case *raft.RequestVoteRequest:
		if a, ok := answer.(*raft.RequestVoteResponse); !ok || a.Granted || a.Term != q.Term {
			return
		}
		asked = entryID{q.LastLogIndex, q.LastLogTerm}
	case *raft.RequestPreVoteRequest:
		if a, ok := answer.(*raft.RequestPreVoteResponse); !ok || a.Granted || a.Term != q.Term {
			return
		}
		asked = entryID{q.LastLogIndex, q.LastLogTerm}
	}
	r := t.group.running()
	if r == nil || !t.group.votes() {
		return
	}
	term := r.CurrentTerm()
	alone := func() bool {
		leader, _ := r.LeaderWithID()
		return r.State() == raft.Follower && r.CurrentTerm() == term && (leader == "" || t.silent())
	}
	last, ok := t.group.store.lastEntry()
	more := last.term > asked.term || last.term == asked.term && last.index > asked.index
	if ok && more && alone() {
		t.log.logger.Info("candidate has less than this node, standing for election", "group", t.group.id, "last", last.index, "candidate_last", asked.index)
		t.group.stand(alone, true)
	}
}

// votes tells whether this replica is a voter.
func (g *Group) votes() bool {
	for _, m := range g.Members() {
		if m.id() == g.log.self {
			return m.Voter
		}
	}
	return false
}
