package raftlog

import (
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"nyala/store/vfs"
)

// haveGroups makes it so many groups, before the nodes start.
func (w *world) haveGroups(count int) {
	w.groups = nil
	for id := range GroupID(count) {
		w.groups = append(w.groups, 7+id)
	}
}

// terms is the highest term of each group.
func (w *world) terms() map[GroupID]uint64 {
	terms := map[GroupID]uint64{}
	for _, n := range w.nodes {
		for _, id := range w.groups {
			terms[id] = max(terms[id], n.log.Group(id).Status().Term)
		}
	}
	return terms
}

// checkOneElection wants no group to be more than one term further.
func (w *world) checkOneElection(seed uint64, before map[GroupID]uint64) {
	w.t.Helper()
	for id, term := range w.terms() {
		if term > before[id]+1 {
			w.t.Errorf("seed %d: group %d is in term %d, want %d", seed, id, term, before[id]+1)
		}
	}
}

// TestFirstElections: all nodes start again at once, or one some time after the others. All groups have leaders before raft's timers are
// over anywhere, and no votes were split: each group is one term further.
func TestFirstElections(t *testing.T) {
	seeds := uint64(10)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		sim(t, func(t *testing.T) {
			w := newWorld(t, seed)
			w.haveGroups(24)
			w.boot("n1", "n2", "n3")
			led := func() (count int, most int) {
				for _, n := range w.nodes {
					here := 0
					for id := range n.machines {
						if n.log != nil && n.log.Group(id).IsLeader() {
							here++
						}
					}
					count, most = count+here, max(most, here)
				}
				return count, most
			}
			all := func() bool { count, _ := led(); return count == len(w.groups) }
			if !w.until(30*time.Second, all) {
				t.Fatalf("not all groups have a leader: %s", w.describe())
			}
			w.writes(3)
			time.Sleep(3 * w.timings.Heartbeat)
			terms := w.terms()
			w.crashAll()
			for _, n := range w.nodes {
				time.Sleep(w.upTo(w.timings.Heartbeat / 2))
				n.up(nil)
			}
			if begin := time.Now(); !w.until(w.timings.Heartbeat, all) {
				count, _ := led()
				t.Errorf("seed %d: %d of %d groups have leaders %v after the start", seed, count, len(w.groups), time.Since(begin))
			}
			if _, most := led(); most > len(w.groups)*3/4 {
				t.Errorf("seed %d: one node leads %d of %d groups", seed, most, len(w.groups))
			}
			w.checkOneElection(seed, terms)
			w.writes(3)
			w.finish()
		})
	}
}

// TestFirstElectionsSlowDisks: the same where a sync takes 50 ms, and an election half a second: raft's timers are over before, and
// nobody whom they wake takes votes from whom the others would vote for.
func TestFirstElectionsSlowDisks(t *testing.T) {
	seeds := uint64(10)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		sim(t, func(t *testing.T) {
			w := newWorld(t, seed)
			w.haveGroups(12)
			w.boot("n1", "n2", "n3")
			w.writes(3)
			time.Sleep(10 * time.Second)
			terms := w.terms()
			w.crashAll()
			for _, n := range w.nodes {
				n.up(nil)
				n.faults.Add(vfs.Rule{Op: vfs.OpSync, Delay: 50 * ms})
			}
			begin := time.Now()
			leaderless := func() (ids []GroupID) {
				for _, id := range w.groups {
					if !slices.ContainsFunc(w.nodes, func(n *node) bool { return n.log.Group(id).IsLeader() }) {
						ids = append(ids, id)
					}
				}
				return ids
			}
			if !w.until(5*w.timings.Heartbeat, func() bool { return len(leaderless()) == 0 }) {
				t.Errorf("seed %d: groups %v have no leader %v after the start", seed, leaderless(), time.Since(begin))
			}
			w.checkOneElection(seed, terms)
			w.writes(3)
			w.finish()
		})
	}
}

// TestCrossedQuestions: of two that ask each other at the same time the second one promises, and the first one does not. Each would wait for the other else.
func TestCrossedQuestions(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		w.writes(1)
		for _, n := range w.nodes {
			for _, other := range w.nodes {
				g := n.group()
				term := g.running().CurrentTerm() + 10 + uint64(g.firstPlace(other.name))
				ask := func(asking bool) bool {
					g.asking.Store(asking)
					defer g.asking.Store(false)
					g.tr.promised.Store(nil)
					g.tr.promise(&raft.RequestPreVoteRequest{RPCHeader: header(other.member(true).id()), Term: term}, &raft.RequestPreVoteResponse{Granted: true})
					return g.tr.keeps(term)
				}
				if n != other && (!ask(false) || ask(true) != (g.firstPlace(other.name) < g.firstPlace(n.name))) {
					t.Errorf("%s, place %d, asked by %s, place %d: promises %v, asking itself %v", n.name, g.firstPlace(n.name), other.name, g.firstPlace(other.name), ask(false), ask(true))
				}
				g.tr.promised.Store(nil)
			}
		}
		w.finish()
	})
}

// TestFirstElectionAlone: one node starts again while the others go on. It asks, and is refused: the leader stays, in its term.
func TestFirstElectionAlone(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		for range 10 {
			l := w.waitLeader()
			w.writes(2)
			for _, n := range w.nodes {
				if !w.until(5*time.Second, func() bool { return n.caughtUp(l) }) {
					t.Fatalf("%s is behind: %s", n.name, w.describe())
				}
			}
			term := l.group().Status().Term
			f := w.follower(l)
			f.crash(1)
			w.net.Block(l.name, f.name) // so that it hears nothing of the leader, and only asks
			f.up(nil)
			time.Sleep(w.timings.Heartbeat * 3 / 4)
			w.net.Unblock(l.name, f.name)
			if !w.until(5*time.Second, func() bool { leader, known := f.group().Leader(); return known && leader == l.name }) {
				t.Errorf("%s does not follow: %s", f.name, w.describe())
			}
			if s := l.group().Status(); s.State != "Leader" || s.Term != term {
				t.Fatalf("%s is %s in term %d, want leader in term %d", l.name, s.State, s.Term, term)
			}
		}
		w.finish()
	})
}

// TestFirstElectionPreferred: who should lead does, when all start at once; when that node is not there another one leads, as soon.
func TestFirstElectionPreferred(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.groups = []GroupID{7, 8, 9, 10, 11, 12}
		prefers := func(id GroupID) string { return []string{"n3", "n1", "nobody"}[id%3] }
		w.preferred = prefers
		w.boot("n1", "n2", "n3")
		up := func(name string) bool {
			return slices.ContainsFunc(w.nodes, func(n *node) bool { return n.name == name && n.log != nil })
		}
		leaders := func() (count int) {
			for _, id := range w.groups {
				for _, n := range w.nodes {
					if n.log != nil && n.log.Group(id).IsLeader() {
						count++
						if want := prefers(id); n.name != want && want != "nobody" && up(want) {
							t.Errorf("%s leads group %d, want %s", n.name, id, want)
						}
					}
				}
			}
			return count
		}
		all := func() bool { return leaders() == len(w.groups) }
		if !w.until(w.timings.Heartbeat, all) {
			t.Fatalf("not all groups have a leader: %s", w.describe())
		}
		w.writes(3)
		w.crashAll()
		for _, n := range w.nodes[1:] {
			n.up(nil)
		}
		if !w.until(2*w.timings.Heartbeat, all) {
			t.Fatalf("not all groups have a leader without %s: %s", w.nodes[0].name, w.describe())
		}
		w.writes(3)
		w.finish()
	})
}
