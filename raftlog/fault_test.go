package raftlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"nyala/store/vfs"
)

// TestHungLeaderDisk: the disk of the leader hangs; the WAL's deadline costs it the leadership, and the node
// its place until it is restarted.
func TestHungLeaderDisk(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(5)
		free := make(chan struct{})
		l.faults.Add(vfs.Rule{Op: vfs.OpSync, Hang: free})
		begin := time.Now()
		w.wg.Go(func() { w.write(l, 10*time.Second) })
		other := w.otherLeader(l)
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("a new leader after %v", took)
		}
		if err := w.write(other, time.Second); err != nil {
			t.Error(err)
		}
		select {
		case <-l.log.Done():
		case <-time.After(5 * time.Second):
			t.Error("the node with the hung disk does not say so")
		}
		if err := l.log.Err(); err == nil {
			t.Error("no error of the failed node")
		}
		if _, err := l.group().Propose(t.Context(), command("x")); err == nil {
			t.Error("a failed node takes proposals")
		}
		close(free)
		l.crash(1)
		l.up(nil)
		w.writes(1)
		w.finish()
	})
}

// TestFailedTrial: a disk that fails when it is tried before an election ends the node at once, though no group has written.
func TestFailedTrial(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(5)
		f := w.follower(l)
		f.faults.Add(vfs.Rule{Op: vfs.OpSync, Path: "data/wal/*", Err: errors.New("bad sector")})
		f.group().stand(func() bool { return true }, false)
		select {
		case <-f.log.Done():
		case <-time.After(time.Second):
			t.Errorf("the node with the failed disk does not say so: %v", f.log.Err())
		}
		w.writes(5)
		f.crash(1)
		f.up(nil)
		w.finish()
	})
}

// TestUnreadableEntry: an entry that cannot be read stops its group, and not the process, nor the others.
func TestUnreadableEntry(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		w.waitLeader()
		w.writes(200)
		for _, n := range w.nodes {
			n.stop()
		}
		// Nothing is cached after a restart: the replay reads. Alone, a node has no leader and replays nothing yet.
		n := w.nodes[0]
		n.up(nil)
		n.faults.Add(vfs.Rule{Op: vfs.OpRead, Path: "data/wal/*", Err: errors.New("unreadable")})
		for _, other := range w.nodes[1:] {
			other.up(nil)
		}
		g := n.group()
		if !w.until(10*time.Second, func() bool { return g.Err() != nil && g.Status().State == "Shutdown" }) {
			t.Errorf("group goes on: %s", w.describe())
		}
		if err := n.log.Err(); err != nil {
			t.Errorf("the whole node failed: %v", err)
		}
		w.writes(5)
		n.stop()
		n.up(nil)
		w.writes(5)
		w.finish()
	})
}

// TestProposeErrors: what callers are told.
func TestProposeErrors(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(3)
		f := w.follower(l)
		for _, bad := range [][]byte{nil, make([]byte, entryBytesMax+1)} {
			if _, err := l.group().Propose(t.Context(), bad); err == nil {
				t.Errorf("an entry of %d bytes is taken", len(bad))
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.group().Propose(ctx, command("a")); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("propose with a dead context: %v, want ErrUnavailable", err)
		}
		// A leader that is cut off: unknown until its lease ends, unavailable after that.
		w.net.Isolate(l.name)
		if err := w.write(l, 100*ms); !errors.Is(err, ErrUnknown) {
			t.Errorf("write on a cut-off leader: %v, want ErrUnknown", err)
		}
		if err := w.write(l, 5*time.Second); !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrUnavailable) {
			t.Errorf("write on a cut-off leader: %v", err)
		}
		if err := w.write(l, 5*time.Second); !errors.Is(err, ErrUnavailable) {
			t.Errorf("write on a deposed leader: %v, want ErrUnavailable", err)
		}
		w.net.Rejoin(l.name)
		w.writes(1)
		// Forwarded, and the answer does not come.
		l = w.waitLeader()
		if f = w.follower(l); !w.until(5*time.Second, func() bool { name, ok := f.group().Leader(); return ok && name == l.name }) {
			t.Fatal(w.describe())
		}
		w.write(f, time.Second)
		w.net.Block(l.name, f.name)
		if err := w.write(f, 100*ms); !errors.Is(err, ErrUnknown) {
			t.Errorf("forwarded write without an answer: %v, want ErrUnknown", err)
		}
		w.net.Unblock(l.name, f.name)
		g := l.group()
		l.log.StopGroup(7)
		if _, err := g.Propose(t.Context(), command("b")); err == nil {
			t.Error("a stopped group takes proposals")
		}
		w.finish()
	})
}

// TestProposeAgain: memory whose first proposal may still be under way is not stamped in place.
func TestProposeAgain(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(3)
		data := command("again")
		w.net.Isolate(l.name)
		ctx, cancel := context.WithTimeout(t.Context(), 50*ms)
		defer cancel()
		if _, err := l.group().Propose(ctx, data); !errors.Is(err, ErrUnknown) {
			t.Fatalf("propose: %v, want ErrUnknown", err)
		}
		w.net.Rejoin(l.name)
		w.writes(1)
		stamped := bytes.Clone(data)
		if _, err := w.waitLeader().group().Propose(t.Context(), data); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, stamped) {
			t.Error("the second proposal stamped the memory of the first")
		}
		w.truth.mu.Lock()
		delete(w.truth.mu.acked, "again")
		w.truth.mu.Unlock()
		w.finish()
	})
}

// TestBigEntries: over a slow link large entries arrive whole, and do not cost the leadership.
func TestBigEntries(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.net.SetBandwidth(12 << 20) // an entry takes 0.7 s, more than three heartbeat time limits
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		term := l.group().Status().Term
		w.until(time.Minute, func() bool { // the followers have heard of it too
			for _, n := range w.nodes {
				if _, known := n.group().Leader(); !known {
					return false
				}
			}
			return true
		})
		for i := range 3 {
			data := append(command(fmt.Sprintf("big%d", i)), bytes.Repeat([]byte{7}, 8<<20)...)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			result, err := w.nodes[i].group().Propose(ctx, data)
			cancel()
			if err != nil || len(result) != 8 || binary.LittleEndian.Uint64(result) == 0 {
				t.Fatalf("big entry from %s: %x, %v", w.nodes[i].name, result, err)
			}
		}
		if got := l.group().Status().Term; got != term {
			t.Errorf("term went from %d to %d under big entries", term, got)
		}
		if !w.until(30*time.Second, func() bool { return w.nodes[0].caughtUp(l) && w.nodes[1].caughtUp(l) && w.nodes[2].caughtUp(l) }) {
			t.Error(w.describe())
		}
		w.finish()
	})
}

// TestWatchdog: a follower that is in contact and gets nothing, because this leader's log store does not serve it
// (rule 6 taken away), costs the leader its place.
func TestWatchdog(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.test = without(6)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(30)
		l.machine.checkpoint(0)
		w.until(5*time.Second, func() bool { return l.group().Status().First > 20 })
		n := w.add("n4")
		n.up(nil)
		if err := l.group().AddNonvoter(t.Context(), n.member(false)); err != nil {
			t.Fatal(err)
		}
		if !w.until(20*time.Second, func() bool { return n.caughtUp(w.waitLeader()) }) {
			t.Errorf("the follower stays stuck: %s", w.describe())
		}
		if l.log.Stats().Transfers != 1 || w.leader() == l {
			t.Errorf("%d transfers by the watchdog, want 1", l.log.Stats().Transfers)
		}
		w.finish()
	})
}

// TestManyGroups: heartbeats of all groups to a peer share frames, and groups fail over independently.
func TestManyGroups(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.groups = nil
		for id := range GroupID(30) {
			w.groups = append(w.groups, id+1)
		}
		w.boot("n1", "n2", "n3")
		led := func() (count int) {
			for _, n := range w.nodes {
				if n.log != nil {
					count += n.log.Stats().Leaders
				}
			}
			return count
		}
		if !w.until(20*time.Second, func() bool { return led() == 30 }) {
			t.Fatalf("%d groups have a leader", led())
		}
		w.writes(5)
		for _, n := range w.nodes {
			if peers := n.log.Stats().Peers; peers > 2 {
				t.Errorf("%s has %d connections", n.name, peers)
			}
		}
		w.nodes[0].crash(0.5)
		if !w.until(20*time.Second, func() bool { return led() == 30 }) {
			t.Errorf("%d groups have a leader after a crash", led())
		}
		w.nodes[0].up(nil)
		w.writes(1)
		w.finish()
	})
}

// TestSlowDisk: long before the deadline of the log a leader whose disk hangs gives its place away, answers what waits, and has
// none back until its writes are fast.
func TestSlowDisk(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.patience = 20 * time.Second
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(5)
		free := l.hang()
		begin := time.Now()
		answer := make(chan error, 1)
		w.wg.Go(func() { answer <- w.write(l, time.Minute) })
		other := w.otherLeader(l)
		if took := time.Since(begin); took > 1500*ms {
			t.Errorf("a new leader after %v", took)
		}
		if err := w.write(other, time.Second); err != nil {
			t.Error(err)
		}
		if err := <-answer; !errors.Is(err, ErrUnknown) || time.Since(begin) > 3*time.Second {
			t.Errorf("what the hung leader had taken: %v after %v", err, time.Since(begin))
		}
		if l.group().IsLeader() || !l.log.Slow() {
			t.Error("the node with the hung disk leads, or is not slow")
		}
		if err := w.write(l, time.Second); err != nil { // forwarded, though raft here still waits in its write
			t.Errorf("a write on the node with the hung disk: %v", err)
		}
		time.Sleep(3 * time.Second) // until others know by its answers to pings
		if err := other.group().TransferLeadership(t.Context(), l.name); !errors.Is(err, ErrLagging) {
			t.Errorf("leadership back to a slow disk: %v", err)
		}
		free()
		if !w.until(30*time.Second, func() bool {
			return !l.log.Slow() && w.waitLeader().group().TransferLeadership(t.Context(), l.name) == nil
		}) {
			t.Errorf("a disk that is fast again does not lead: slow %t, %s", l.log.Slow(), w.describe())
		}
		w.writes(5)
		w.finish()
	})
}

// TestSlowDiskDeposed: the disk of a leader hangs while another one is elected, as when it hands over in that moment. Raft here waits for the
// disk, and neither votes nor hears of a leader; yet what waits is answered, and what comes goes to whoever leads.
func TestSlowDiskDeposed(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.patience = 20 * time.Second
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(5)
		f := w.follower(l)
		w.until(time.Second, func() bool { return f.caughtUp(l) })
		free := l.hang()
		begin := time.Now()
		answer := make(chan error, 1)
		w.wg.Go(func() { answer <- w.write(l, time.Minute) })
		time.Sleep(10 * ms)
		f.group().stand(func() bool { return true }, false)
		if other := w.otherLeader(l); other != f || time.Since(begin) > 500*ms {
			t.Fatalf("%s leads after %v, want %s at once", other.name, time.Since(begin), f.name)
		}
		if err := <-answer; !errors.Is(err, ErrUnknown) || time.Since(begin) > 3*time.Second {
			t.Errorf("what the hung leader had taken: %v after %v", err, time.Since(begin))
		}
		if node, _ := l.group().Leader(); node != f.name || l.group().IsLeader() {
			t.Errorf("the hung one takes %s for the leader, want %s", node, f.name)
		}
		if err := w.write(l, time.Second); err != nil {
			t.Errorf("a write on the node with the hung disk: %v", err)
		}
		free()
		w.until(5*time.Second, func() bool { return l.caughtUp(f) })
		w.writes(5)
		w.finish()
	})
}

// TestSlowDiskFollower: leadership moves while the disk of a follower hangs. What is proposed there goes to whoever leads.
func TestSlowDiskFollower(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.patience = 20 * time.Second
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(5)
		f := w.follower(l)
		i := slices.IndexFunc(w.nodes, func(n *node) bool { return n != l && n != f })
		next := w.nodes[i]
		w.until(time.Second, func() bool { return f.caughtUp(l) && next.caughtUp(l) })
		free := f.hang()
		w.writes(1)
		if err := l.group().TransferLeadership(t.Context(), next.name); err != nil {
			t.Fatal(err)
		}
		time.Sleep(w.timings.Heartbeat)
		if err := w.write(f, time.Second); err != nil {
			t.Errorf("a write on the node with the hung disk: %v", err)
		}
		free()
		w.writes(5)
		w.finish()
	})
}
