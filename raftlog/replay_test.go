package raftlog

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestReplayLeadersFirst: all nodes start again. What a node leads is applied before what it follows, which is held back no longer than a
// limit, and not held up: entries are written, and others commit with them.
func TestReplayLeadersFirst(t *testing.T) {
	if !invariants {
		t.Skip("logs of tests are long with the build tag invariants only")
	}
	for _, ends := range []bool{true, false} {
		sim(t, func(t *testing.T) {
			w := newWorld(t, 1)
			w.groups = []GroupID{7, 8}
			w.preferred = func(id GroupID) string { return map[GroupID]string{7: "n1", 8: "n2"}[id] }
			w.boot("n1", "n2", "n3")
			w.waitLeader()
			w.writes(10)
			write := func() bool { // on group 8
				_, err := w.nodes[1].log.Group(8).Propose(t.Context(), command("other"))
				return err == nil
			}
			for range 10 {
				if !w.until(5*time.Second, write) {
					t.Fatalf("no write succeeds: %s", w.describe())
				}
			}
			w.crashAll()
			first, other := w.nodes[0], w.nodes[2]
			gate := make(chan struct{})
			first.gates = map[GroupID]chan struct{}{7: gate}
			first.up(nil)
			other.up(nil)
			if !w.until(time.Second, func() bool { return w.leader() == first }) {
				t.Fatalf("%s does not lead: %s", first.name, w.describe())
			}
			w.nodes[1].up(nil)
			held, free := first.log.Group(8), other.log.Group(8)
			if !held.Replaying() || !free.Replaying() {
				t.Fatalf("nothing is to be applied again: %d, %d", held.replay.to.Load(), free.replay.to.Load())
			}
			if !w.until(time.Second, func() bool { return w.leader() == first && !free.Replaying() && !w.nodes[1].log.Group(8).Replaying() }) {
				t.Fatalf("%s does not lead, or others do not apply: %s", first.name, w.describe())
			}
			time.Sleep(w.timings.Heartbeat)
			for range 2 {
				if !write() {
					t.Errorf("writes fail while a follower is held back")
				}
			}
			if g := held.Applied(); g > 1 {
				t.Errorf("%s has applied %d of a group that it follows, before what it leads", first.name, g)
			}
			limit := w.timings.Heartbeat + 2*w.timings.Commit
			if ends {
				close(gate)
			} else {
				limit += holdLimit * w.timings.Heartbeat
			}
			if !w.until(limit, func() bool { return !held.Replaying() && held.Applied() == free.Applied() }) {
				t.Errorf("group 8 is held back after %v: %d, want %d", limit, held.Applied(), free.Applied())
			}
			if !ends {
				close(gate)
			}
			w.writes(3)
			w.finish()
		})
	}
}

// TestReplayShortened: a node has entries in its log that never were committed, and are removed. It does not wait to apply them.
func TestReplayShortened(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(3)
		w.net.Isolate(l.name)
		for range 5 {
			if w.write(l, 20*ms) == nil {
				t.Fatal("a leader alone commits")
			}
		}
		l.crash(1)
		w.net.Rejoin(l.name)
		w.otherLeader(l)
		l.up(nil)
		g := l.group()
		if !w.until(5*time.Second, func() bool { return !g.Replaying() && l.caughtUp(w.leader()) }) {
			t.Errorf("entry %d is waited for, %d applied: %s", g.replay.to.Load(), g.Applied(), w.describe())
		}
		w.writes(1)
		w.finish()
	})
}

// TestReplaySteps: a follower that is told of its log in steps applies all of it, also when the leader ends meanwhile.
func TestReplaySteps(t *testing.T) {
	if !invariants {
		t.Skip("logs of tests are long, and steps short, with the build tag invariants only")
	}
	for _, kill := range []bool{false, true} {
		sim(t, func(t *testing.T) {
			w := newWorld(t, 1)
			w.preferred = func(GroupID) string { return "n1" }
			w.boot("n1", "n2", "n3")
			w.waitLeader()
			w.writes(200)
			w.crashAll()
			w.upAll()
			var f *node
			for begin := time.Now(); f == nil && time.Since(begin) < time.Second; time.Sleep(ms) {
				for _, n := range w.nodes {
					if at := n.group().Applied(); at > 20 && n.group().Replaying() && !n.group().IsLeader() {
						f = n
					}
				}
			}
			if f == nil {
				t.Fatalf("no step was seen: %s", w.describe())
			}
			l := w.waitLeader()
			if kill {
				l.crash(1)
				l = w.otherLeader(l)
			}
			w.writes(1) // although followers are at it
			if !w.until(5*time.Second, func() bool { return f.caughtUp(l) && f.group().replay.over.Load() }) {
				t.Errorf("%s is behind: %s", f.name, w.describe())
			}
			w.finish()
		})
	}
}

// TestReplayTransfer: leadership is not handed to a replica that applies its log again, and the leader is told so at once.
func TestReplayTransfer(t *testing.T) {
	if !invariants {
		t.Skip("logs of tests are long with the build tag invariants only")
	}
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.preferred = func(GroupID) string { return "n1" }
		w.boot("n1", "n2", "n3")
		w.waitLeader()
		w.writes(10)
		w.crashAll()
		gate := make(chan struct{})
		w.nodes[1].gates = map[GroupID]chan struct{}{w.groups[0]: gate}
		w.upAll()
		l := w.waitLeader()
		w.writes(1)
		begin := time.Now()
		if err := l.group().TransferLeadership(t.Context(), "n2"); err == nil || time.Since(begin) > w.timings.Heartbeat {
			t.Errorf("handing over took %v: %v", time.Since(begin), err)
		}
		if err := w.write(l, w.timings.Heartbeat); err != nil {
			t.Errorf("the leader does not go on: %v", err)
		}
		close(gate)
		if !w.until(5*time.Second, func() bool { return !w.nodes[1].group().Replaying() }) {
			t.Errorf("not applied: %s", w.describe())
		}
		if err := l.group().TransferLeadership(t.Context(), "n2"); err != nil {
			t.Errorf("handing over: %v", err)
		}
		w.writes(1)
		w.finish()
	})
}

// TestReplayTurns: groups whose leader falls silent in the midst of it do not keep the turns for themselves.
func TestReplayTurns(t *testing.T) {
	if !invariants {
		t.Skip("logs of tests are long with the build tag invariants only")
	}
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.groups = nil
		for id := GroupID(7); id < 15+GroupID(runtime.GOMAXPROCS(0)); id++ {
			w.groups = append(w.groups, id)
		}
		last := w.groups[len(w.groups)-1]
		w.preferred = func(id GroupID) string {
			if id == last {
				return "n2"
			}
			return "n1"
		}
		w.boot("n1", "n2", "n3")
		for _, id := range w.groups {
			for range 40 {
				write := func() bool {
					_, err := w.nodes[0].log.Group(id).Propose(t.Context(), command(strings.Repeat("x", 100)))
					return err == nil
				}
				if !w.until(5*time.Second, write) {
					t.Fatalf("no write succeeds: %s", w.describe())
				}
			}
		}
		w.crashAll()
		w.upAll()
		n := w.nodes[2]
		if !w.until(time.Second, func() bool { return n.log.Group(w.groups[0]).replay.said.Load() != nil }) {
			t.Fatalf("nobody leads: %s", w.describe())
		}
		w.net.Block("n1", "n3")
		limit := time.Duration(len(w.groups))*replayWait + time.Second
		if g := n.log.Group(last); !w.until(limit, func() bool { return !g.Replaying() }) {
			t.Errorf("group %d has applied %d of %d after %v", last, g.Applied(), g.replay.to.Load(), limit)
		}
		w.net.Unblock("n1", "n3")
		all := func() bool {
			for _, id := range w.groups {
				if n.log.Group(id).Replaying() {
					return false
				}
			}
			return true
		}
		if !w.until(5*time.Second, all) {
			t.Errorf("not all is applied: %s", w.describe())
		}
		w.finish()
	})
}
