package raftlog

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestOrphan: the process of a leader ends; what it led has another leader before any follower would have missed a heartbeat.
func TestOrphan(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.groups = []GroupID{7, 8, 9, 10, 11, 12}
		w.boot("n1", "n2", "n3")
		led := func(n *node) (groups []GroupID) {
			for id := range n.machines {
				if g := n.log.Group(id); g != nil && g.IsLeader() {
					groups = append(groups, id)
				}
			}
			return groups
		}
		for range 3 {
			if !w.until(30*time.Second, func() bool { return len(led(w.nodes[0]))+len(led(w.nodes[1]))+len(led(w.nodes[2])) == len(w.groups) }) {
				t.Fatalf("not all groups have a leader: %s", w.describe())
			}
			w.writes(3)
			victim := w.nodes[0]
			for _, n := range w.nodes {
				if len(led(n)) > len(led(victim)) {
					victim = n
				}
			}
			time.Sleep(3 * w.timings.Heartbeat) // connections that lived so long are dialled again without a long pause
			victim.crash(1)
			all := func() bool {
				count := 0
				for _, n := range w.nodes {
					if n.log != nil {
						count += len(led(n))
					}
				}
				return count == len(w.groups)
			}
			if begin := time.Now(); !w.until(w.timings.Heartbeat, all) {
				t.Errorf("not all groups have a leader %v after the end of %s", time.Since(begin), victim.name)
			}
			victim.up(nil)
			w.writes(3)
		}
		w.finish()
	})
}

// TestOrphanOvertakes: the voter whose turn it is lacks entries that the other one has acknowledged. That one stands, and
// does not wait for its own turn.
func TestOrphanOvertakes(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(3)
		var first, second *node
		for _, n := range w.nodes {
			if n == l {
				continue
			}
			if n.group().placeAfter(l.name) == 0 {
				first = n
			} else {
				second = n
			}
		}
		if !w.until(time.Second, func() bool { return first.caughtUp(l) && second.caughtUp(l) }) {
			t.Fatalf("followers lag: %s", w.describe())
		}
		w.net.Block(l.name, first.name)
		w.writes(1)
		l.crash(1)
		w.net.Unblock(l.name, first.name)
		begin := time.Now()
		other := w.otherLeader(l)
		if took := time.Since(begin); other != second || took > w.timings.Heartbeat {
			t.Errorf("%s leads after %v, want %s within %v", other.name, took, second.name, w.timings.Heartbeat)
		}
		w.writes(1)
		l.up(nil)
		w.finish()
	})
}

// TestOrphanLives: connections to a leader break again and again, but it listens. Nobody stands for election.
func TestOrphanLives(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(3)
		term := l.group().Status().Term
		for range 10 {
			for _, n := range w.nodes {
				if n != l {
					w.net.Reset(l.name, n.name)
				}
			}
			time.Sleep(3 * w.timings.Heartbeat) // so that the pause before it is dialled again does not grow
		}
		w.writes(1)
		if s := l.group().Status(); s.State != "Leader" || s.Term != term {
			t.Errorf("%s is %s in term %d, want leader in term %d", l.name, s.State, s.Term, term)
		}
		w.finish()
	})
}

// TestSilentLeader: a leader is cut off, so that nothing is refused, and only one of its followers can win. That one leads when
// the two have found the leader silent, and not another election timeout later, whoever found it first.
func TestSilentLeader(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		for round := range 12 {
			l := w.settledLeader()
			w.writes(1)
			behind, ahead := w.nodes[0], w.nodes[1]
			switch l {
			case w.nodes[0]:
				behind = w.nodes[2]
			case w.nodes[1]:
				ahead = w.nodes[2]
			}
			if !w.until(5*time.Second, func() bool { return behind.caughtUp(l) && ahead.caughtUp(l) }) {
				t.Fatalf("followers lag: %s", w.describe())
			}
			w.net.Block(l.name, behind.name)
			w.writes(1)
			w.net.Isolate(l.name)
			begin := time.Now()
			other := w.otherLeader(l)
			if took := time.Since(begin); other != ahead || took > 3*w.timings.Heartbeat+50*ms {
				t.Errorf("round %d: %s leads after %v, want %s within %v", round, other.name, took, ahead.name, 3*w.timings.Heartbeat)
			}
			w.net.Rejoin(l.name)
			w.until(5*time.Second, func() bool { return !l.group().IsLeader() })
		}
		w.finish()
	})
}

// TestCandidateNamesLeader: a replica stands for election and still names the leader that it gave up, which has gone for good. It must not refuse
// whom alone the others would elect: it has less itself.
func TestCandidateNamesLeader(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(3)
		f := w.follower(l)
		w.net.Isolate(f.name)
		w.writes(3) // which f does not get
		r := f.group().running()
		f.group().stand(func() bool { return true }, false)
		if !w.until(5*time.Second, func() bool { return r.State() == raft.Candidate }) {
			t.Fatal(w.describe())
		}
		answer := make(chan raft.RPCResponse, 1)
		(*f.group().tr.beat.Load())(raft.RPC{RespChan: answer, Command: &raft.AppendEntriesRequest{RPCHeader: header(l.group().log.self), Term: r.CurrentTerm()}})
		if leader, _ := r.LeaderWithID(); leader == "" || r.State() != raft.Candidate {
			t.Fatalf("%s is a %s and names %q, want a candidate that names a leader", f.name, r.State(), leader)
		}
		l.crash(1)
		w.net.Rejoin(f.name)
		other := w.otherLeader(l)
		if other == f {
			t.Errorf("%s leads, which has less", f.name)
		}
		if err := w.write(other, time.Second); err != nil {
			t.Error(err)
		}
		l.up(nil)
		w.finish()
	})
}
