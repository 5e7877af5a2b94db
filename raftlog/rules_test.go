package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"nyala/raftlog/wal"
	"nyala/store/vfs"
)

// The rules of doc.go. Where a rule can be taken away, its test also shows that it is needed: the run
// without it must go wrong.

// without returns the switches that take rules away.
func without(rules ...int) (s switches) {
	for _, r := range rules {
		s.rules |= 1 << r
	}
	return s
}

// both runs a scenario with the rule and without it. The scenario returns what went wrong, nil for nothing.
func both(t *testing.T, rule int, scenario func(t *testing.T, w *world) error) {
	t.Helper()
	for _, s := range []switches{{}, without(rule)} {
		name := "kept"
		if s.rules != 0 {
			name = "taken away"
		}
		t.Run(name, func(t *testing.T) {
			sim(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.test = s
				w.timings.Watchdog = time.Hour // it heals some of what goes wrong
				err := scenario(t, w)
				if s.rules != 0 {
					if err == nil {
						t.Errorf("without rule %d nothing goes wrong", rule)
					}
					t.Logf("without rule %d: %v", rule, err)
					w.truth = newTruth() // what the run did wrong is wanted
				} else if err != nil {
					t.Error(err)
				}
				w.finish()
			})
		})
	}
}

// broken returns the truth's first complaint.
func (w *world) broken() error {
	if f := w.truth.failures(); len(f) > 0 {
		return errors.New(f[0])
	}
	return nil
}

// makeTail isolates the leader with a tail of entries that nobody else gets, and waits for another leader.
func (w *world) makeTail(entries int) (old, leader *node) {
	w.t.Helper()
	old = w.waitLeader()
	w.writes(10)
	time.Sleep(200 * ms)
	w.net.Isolate(old.name)
	for range entries {
		w.wg.Go(func() { w.write(old, 50*ms) })
	}
	leader = w.otherLeader(old)
	time.Sleep(time.Second)
	return old, leader
}

func TestRule01(t *testing.T) {
	both(t, 1, func(t *testing.T, w *world) error {
		w.boot("n1", "n2", "n3")
		old, l := w.makeTail(40)
		w.writes(20)
		l.machine.checkpoint(0) // F lies inside the old leader's tail
		w.writes(50)
		if !w.until(5*time.Second, func() bool { return l.group().Status().First > 20 }) {
			t.Fatalf("log is not cut: %s", w.describe())
		}
		time.Sleep(10 * time.Second) // until nothing is under way that was sent before the cut
		w.net.Rejoin(old.name)
		if !w.until(20*time.Second, func() bool { return old.caughtUp(w.waitLeader()) }) {
			return fmt.Errorf("old leader never catches up: %d manifests sent", l.log.Stats().Sent)
		}
		return w.broken()
	})
}

// TestRule01Restart: a crash between an install's two steps leaves entries of another history below F.
func TestRule01Restart(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		n := w.add("n1")
		n.up(w.members(true, n))
		w.waitLeader()
		w.writes(30)
		cur, _ := n.machine.state()
		n.stop()
		m, err := openMachine("n1", n.mem, "data/group-7", newTruth())
		if err != nil {
			t.Fatal(err)
		}
		cur.Index, cur.Term = cur.Index-5, cur.Term+3 // as if installed from a later leader
		m.mu.cur = cur
		if err := m.checkpoint(0); err != nil {
			t.Fatal(err)
		}
		w.truth = newTruth()
		n.up(nil)
		w.waitLeader()
		if first := n.group().Status().First; first != cur.Index+1 {
			t.Errorf("log begins at %d, want %d", first, cur.Index+1)
		}
		var l raft.Log
		if err := n.group().store.GetLog(cur.Index, &l); err != nil || l.Term != cur.Term {
			t.Errorf("entry at F: %+v, %v", l, err)
		}
		w.truth = newTruth() // its history is an invention
		w.finish()
	})
}

func TestRule02(t *testing.T) {
	both(t, 2, func(t *testing.T, w *world) error {
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(20)
		l.machine.checkpoint(0) // and the leader's F stays there
		n := w.follower(l)
		w.writes(20)
		time.Sleep(500 * ms)
		w.keepAnswers(n, l)
		n.machine.checkpoint(0) // above what the leader knows it to have
		if !w.until(time.Second, func() bool { return n.group().Status().First > 30 }) {
			t.Fatalf("log is not cut: %s", w.describe())
		}
		time.Sleep(3 * time.Second) // the connection is given up
		w.net.Unblock(n.name, l.name)
		w.writes(20)
		if !w.until(20*time.Second, func() bool { return n.caughtUp(w.waitLeader()) }) {
			return errors.New("follower never catches up")
		}
		for _, m := range w.nodes {
			if sent := m.log.Stats().Sent; sent > 0 {
				return fmt.Errorf("%s sent %d manifests, older than what was applied", m.name, sent)
			}
		}
		return w.broken()
	})
}

func TestRule03(t *testing.T) {
	both(t, 3, func(t *testing.T, w *world) error {
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(10)
		l.machine.checkpoint(0)
		w.writes(20)
		n := w.follower(l)
		w.until(5*time.Second, func() bool { return n.caughtUp(l) })
		// The manifest arrives late, from a leader that raft accepts.
		d, manifest, err := l.machine.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		stream := appendStream(d, manifest)
		q := &raft.InstallSnapshotRequest{Term: l.group().Status().Term, LastLogIndex: d.Index, LastLogTerm: d.Term,
			Configuration: d.Members, ConfigurationIndex: d.MembersIndex, Size: int64(len(stream))}
		var resp raft.InstallSnapshotResponse
		if err := l.group().tr.InstallSnapshot(n.member(true).id(), "", q, &resp, bytes.NewReader(stream)); err != nil || !resp.Success {
			t.Errorf("install: %+v, %v", resp, err)
		}
		if _, err := n.group().snaps.Create(1, d.Index, d.Term, raft.Configuration{}, 1, nil); err == nil {
			n.machine.checkpoint(0)
			if _, err := n.group().snaps.Create(1, d.Index, d.Term, raft.Configuration{}, 1, nil); err == nil {
				return errors.New("a manifest below the durable index is taken")
			}
		}
		return w.broken()
	})
}

func TestRule04(t *testing.T) {
	both(t, 4, func(t *testing.T, w *world) error {
		w.boot("n1", "n2", "n3")
		old := w.waitLeader()
		w.writes(5)
		time.Sleep(200 * ms)
		prev := old.group().Status().Last
		old, l := w.makeTail(20)
		before, _ := old.machine.state()
		w.truth.mu.Lock()
		w.truth.mu.acked = map[string]uint64{} // the old leader's state may be spoilt now
		w.truth.mu.Unlock()
		var e raft.Log
		if err := l.group().store.GetLog(prev, &e); err != nil {
			t.Fatal(err)
		}
		// The old leader hears again, but only of the commit index.
		for _, n := range w.nodes {
			if n != l {
				w.net.Heal(old.name, n.name)
			}
		}
		q := &raft.AppendEntriesRequest{Term: l.group().Status().Term, PrevLogEntry: prev, PrevLogTerm: e.Term, LeaderCommitIndex: old.group().Status().Last}
		setSender(q, l.log.self)
		old.group().tr.shiftAppend(q)
		if _, err := old.group().tr.pass(q, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * ms)
		if after, _ := old.machine.state(); after.Index > before.Index && after.Index > q.PrevLogEntry+10 {
			return fmt.Errorf("the old leader applied its stale tail, from %d to %d", before.Index, after.Index)
		}
		w.net.Rejoin(old.name)
		if !w.until(10*time.Second, func() bool { return old.caughtUp(w.waitLeader()) }) {
			return errors.New("old leader never catches up")
		}
		return w.broken()
	})
}

func TestRule05(t *testing.T) {
	both(t, 5, func(t *testing.T, w *world) error {
		w.timings.Retain = 1
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(30)
		l.machine.checkpoint(0)
		n := w.add("n4")
		n.up(nil)
		n.machine.delay = time.Second
		if err := l.group().AddNonvoter(t.Context(), n.member(false)); err != nil {
			t.Fatal(err)
		}
		for range 300 {
			w.write(l, time.Second)
			l.machine.checkpoint(0)
			time.Sleep(50 * ms)
		}
		if sent := l.log.Stats().Sent; sent > 2 {
			return fmt.Errorf("%d manifests sent in 15s, and the joiner lacks %d entries", sent, l.group().Applied()-n.group().Applied())
		}
		return w.broken()
	})
}

func TestRule06(t *testing.T) {
	both(t, 6, func(t *testing.T, w *world) error {
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(30)
		l.machine.checkpoint(0)
		w.writes(3)
		w.until(5*time.Second, func() bool { return l.group().Status().First > 20 })
		n := w.add("n4")
		n.up(nil)
		if err := l.group().AddNonvoter(t.Context(), n.member(false)); err != nil {
			t.Fatal(err)
		}
		if !w.until(20*time.Second, func() bool { return n.caughtUp(l) }) {
			return errors.New("an empty joiner never gets a manifest")
		}
		return w.broken()
	})
}

func TestRule07(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		n := w.add("n1")
		n.up(w.members(true, n))
		w.waitLeader()
		if metas, err := n.group().snaps.List(); len(metas) != 0 || err != nil {
			t.Errorf("with nothing durable List returns %v, %v", metas, err)
		}
		w.writes(30)
		n.machine.checkpoint(0)
		_, d := n.machine.state()
		w.writes(10)
		metas, err := n.group().snaps.List()
		if err != nil || len(metas) != 1 || metas[0].Index != d.Index || metas[0].Term != d.Term || metas[0].ConfigurationIndex != 1 {
			t.Errorf("List: %+v, %v", metas, err)
		}
		last := n.group().Status().Last
		err = n.group().store.StoreLogs([]*raft.Log{{Index: last + 2, Term: 9}})
		if err == nil {
			t.Error("a gap in the log is taken")
		}
		n.stop()
		// A log that begins above F+1: raft would panic.
		lw, err := wal.Open(n.mem, "data/wal", wal.Options{SegmentBytes: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		if err := lw.Group(7).CutBelow(d.Index + 3); err != nil {
			t.Fatal(err)
		}
		if err := lw.Group(7).Set("x", []byte("the cut is durable with the next write")); err != nil {
			t.Fatal(err)
		}
		lw.Close()
		if err := n.tryUp(nil); err == nil {
			t.Error("a log with a hole behind the manifest starts")
		} else {
			t.Log(err)
		}
		w.wg.Wait()
	})
}

// TestRule07Gap: the first entry behind an installed manifest, with an older log, and an empty one.
func TestRule07Gap(t *testing.T) {
	for _, empty := range []bool{false, true} {
		sim(t, func(t *testing.T) {
			w := newWorld(t, 1)
			w.boot("n1", "n2", "n3")
			l := w.waitLeader()
			w.writes(10)
			n := w.follower(l)
			time.Sleep(200 * ms)
			n.crash(1)
			if empty {
				n.mem = vfs.NewMem() // keeps its id: here nobody is to vote
			}
			w.writes(60)
			l.machine.checkpoint(0)
			w.writes(5)
			w.until(5*time.Second, func() bool { return l.group().Status().First > 50 })
			n.up(nil)
			if !w.until(10*time.Second, func() bool { return n.caughtUp(w.waitLeader()) }) {
				t.Fatalf("not caught up: %s", w.describe())
			}
			_, d := n.machine.state()
			if first := n.group().Status().First; first != d.Index+1 || n.machine.mu.restored != 1 {
				t.Errorf("log begins at %d, durable %d, %d restores", first, d.Index, n.machine.mu.restored)
			}
			n.crash(0)
			n.up(nil)
			w.writes(3)
			if !w.until(10*time.Second, func() bool { return n.caughtUp(w.waitLeader()) }) {
				t.Errorf("not caught up after a crash: %s", w.describe())
			}
			w.finish()
		})
	}
}

func TestRule08(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(5)
		n := w.add("n4")
		n.up(nil)
		if err := l.group().AddNonvoter(t.Context(), n.member(false)); err != nil {
			t.Fatal(err)
		}
		w.writes(5)
		l.machine.mu.Lock()
		seen := l.machine.mu.seen
		l.machine.mu.Unlock()
		var memberships int
		for i, e := range seen {
			if e.Kind == Membership {
				memberships++
				if m, err := DecodeMembers(e.Data); err != nil || len(m) != 2+memberships {
					t.Errorf("members of %d: %v, %v", e.Index, m, err)
				}
			}
			if e.Term == 0 || i > 0 && e.Index <= seen[i-1].Index {
				t.Errorf("entry %+v after %+v", e, seen[max(i-1, 0)])
			}
		}
		if memberships != 2 {
			t.Errorf("%d memberships seen, want 2", memberships)
		}
		// The no-op of the term is not among them, and raft counts it.
		if seen[1].Index != 3 {
			t.Errorf("second entry has index %d, want 3: the no-op at 2 is no entry for a state machine", seen[1].Index)
		}
		if _, err := l.group().machine.Snapshot(); err != raft.ErrNothingNewToSnapshot {
			t.Errorf("snapshot: %v", err)
		}
		l.machine.checkpoint(0) // truth compares the members as of F
		if d := l.machine.Durable(); d.MembersIndex == 1 {
			t.Errorf("durable %d names the members of %d", d.Index, d.MembersIndex)
		}
		w.finish()
	})
}

// TestRule09: a restore, and the fetching before it, may take longer than any other time limit.
func TestRule09(t *testing.T) {
	for _, limit := range []time.Duration{time.Minute, 10 * time.Second} {
		sim(t, func(t *testing.T) {
			w := newWorld(t, 1)
			w.timings.Install = limit
			w.boot("n1", "n2", "n3")
			l := w.waitLeader()
			w.writes(30)
			l.machine.checkpoint(0)
			term := l.group().Status().Term
			n := w.add("n4")
			n.up(nil)
			n.machine.delay = 30 * time.Second
			if err := l.group().AddNonvoter(t.Context(), n.member(false)); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			w.until(45*time.Second, func() bool { w.write(l, time.Second); return n.group().Applied() > 0 })
			sent, took := l.log.Stats().Sent, time.Since(begin)
			if limit < n.machine.delay {
				if sent == 1 {
					t.Error("an install whose answer nobody waits for is not tried again")
				}
			} else if sent != 1 || took < n.machine.delay {
				t.Errorf("%d manifests sent in %v, want 1", sent, took)
			}
			if got := l.group().Status().Term; got != term {
				t.Errorf("term went from %d to %d during an install", term, got)
			}
			n.machine.delay = 0
			if !w.until(60*time.Second, func() bool { return n.caughtUp(l) }) {
				t.Errorf("not caught up: %s", w.describe())
			}
			w.finish()
		})
	}
}

// TestRule09Staged: a manifest that was received and not restored is not the state.
func TestRule09Staged(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		n := w.add("n1")
		n.up(w.members(true, n))
		w.waitLeader()
		w.writes(10)
		n.machine.checkpoint(0)
		_, d := n.machine.state()
		g := n.group()
		later := d.Durable
		later.Index += 100
		stream := appendStream(later, []byte("{}"))
		s, err := g.snaps.Create(1, later.Index, later.Term, raft.Configuration{}, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Write(stream)
		s.Close()
		if got := n.machine.Durable().Index; got != d.Index {
			t.Errorf("durable %d after a manifest was staged, want %d", got, d.Index)
		}
		m, r, err := g.snaps.Open(s.ID())
		if err != nil || m.Index != later.Index {
			t.Fatalf("open: %+v, %v", m, err)
		}
		r.Close()
		if metas, _ := g.snaps.List(); metas[0].Index != d.Index {
			t.Errorf("List names %d, want %d", metas[0].Index, d.Index)
		}
		w.finish()
	})
}

func TestRule10(t *testing.T) {
	both(t, 10, func(t *testing.T, w *world) error {
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(30)
		l.machine.checkpoint(0)
		w.until(5*time.Second, func() bool { return l.group().Status().First > 20 })
		n := w.add("n4")
		n.up(nil)
		n.machine.delay = 30 * time.Second // so it lags
		if err := l.group().AddNonvoter(t.Context(), n.member(false)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * ms)
		term := l.group().Status().Term
		if err := l.group().Promote(t.Context(), n.member(true)); err == nil {
			return errors.New("a member without any entry becomes a voter")
		} else if !errors.Is(err, ErrLagging) {
			t.Errorf("promote: %v, want ErrLagging", err)
		}
		if err := l.group().TransferLeadership(t.Context(), "n4"); err == nil {
			t.Error("leadership goes to a non-voter")
		}
		far := w.follower(l)
		w.net.Partition(l.name, far.name)
		time.Sleep(3 * time.Second)
		if err := l.group().TransferLeadership(t.Context(), far.name); !errors.Is(err, ErrLagging) {
			t.Errorf("transfer to a voter that cannot be reached: %v, want ErrLagging", err)
		}
		if err := w.write(l, 500*ms); err != nil {
			t.Errorf("write after refused transfers: %v", err)
		}
		if got := l.group().Status().Term; got != term {
			t.Errorf("term went from %d to %d", term, got)
		}
		w.net.Heal(l.name, far.name)
		return w.broken()
	})
}

// TestRule11: a voter that lost its disk must not vote as its old self. The run under the old id shows why.
func TestRule11(t *testing.T) {
	for _, same := range []bool{false, true} {
		t.Run(fmt.Sprintf("same id %v", same), func(t *testing.T) {
			sim(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.boot("n1", "n2", "n3")
				l := w.waitLeader()
				w.writes(5)
				time.Sleep(500 * ms)
				var others []*node
				for _, n := range w.nodes {
					if n != l {
						others = append(others, n)
					}
				}
				w.net.Isolate(others[1].name)
				if err := w.write(l, time.Second); err != nil { // l and others[0] have it
					t.Fatal(err)
				}
				l.crash(0)
				others[0].crash(0)
				others[0].mem = vfs.NewMem()
				if !same {
					others[0].incarnation = "ffff"
				}
				others[0].up(nil)
				w.net.Rejoin(others[1].name)
				elected := w.until(10*time.Second, func() bool { return w.leader() != nil })
				if same && !elected {
					t.Error("under the old id the wiped voter elects nobody")
				}
				if !same && elected {
					t.Errorf("a leader that lacks an acknowledged write: %s", w.describe())
				}
				l.up(nil)
				if !same {
					w.writes(1)
				} else {
					time.Sleep(time.Second)
					w.truth = newTruth()
				}
				w.finish()
			})
		})
	}
}

// TestRule11Removed: a removed follower goes on as one, disturbs nobody, and can be dropped.
func TestRule11Removed(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3", "n4")
		l := w.waitLeader()
		w.writes(5)
		n := w.follower(l)
		if err := l.group().Remove(t.Context(), n.member(true)); err != nil {
			t.Fatal(err)
		}
		term := l.group().Status().Term
		time.Sleep(20 * time.Second)
		if got := l.group().Status().Term; got != term || w.leader() != l {
			t.Errorf("term went from %d to %d after a removal", term, got)
		}
		if err := n.log.DropGroup(7); err != nil {
			t.Error(err)
		}
		m, err := openMachine("n", vfs.NewMem(), "x", newTruth())
		if err != nil {
			t.Fatal(err)
		}
		if g, err := n.log.StartGroup(7, m, nil); err != nil || g.Status().Last != 0 || len(g.Members()) != 0 {
			t.Errorf("a dropped group has state: %v", err)
		}
		w.writes(3)
		w.finish()
	})
}
