package raftlog

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"nyala/store/vfs"
)

func TestThreeNodes(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(20)
		f := w.follower(l)
		if err := w.write(f, time.Second); err != nil { // forwarded
			t.Errorf("write on a follower: %v", err)
		}
		if !w.until(5*time.Second, func() bool { return f.caughtUp(l) }) {
			t.Errorf("follower is behind: %s", w.describe())
		}
		w.finish()
	})
}

func TestRestart(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(20)
		l.machine.checkpoint(0)
		w.writes(20)
		for _, n := range w.nodes {
			n.crash(0)
		}
		w.upAll()
		l = w.waitLeader()
		w.writes(1)
		if !w.until(5*time.Second, func() bool { return w.nodes[0].caughtUp(l) && w.nodes[1].caughtUp(l) && w.nodes[2].caughtUp(l) }) {
			t.Errorf("not caught up: %s", w.describe())
		}
		if cur, _ := l.machine.state(); cur.Commands != 41 {
			t.Errorf("%d commands after the restart, want 41", cur.Commands)
		}
		w.finish()
	})
}

func TestFailover(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.timings = Timings{} // the defaults
		w.boot("n1", "n2", "n3")
		var times []time.Duration
		const rounds = 60
		for range rounds {
			l := w.waitLeader()
			w.writes(3)
			l.crash(0.5)
			at := time.Now()
			w.writes(1)
			times = append(times, time.Since(at))
			l.up(nil)
			time.Sleep(time.Second)
		}
		slices.Sort(times)
		worst := times[rounds-1]
		t.Logf("time without a leader, the default timings: p50 %v, p90 %v, worst of %d %v", times[rounds/2], times[rounds*9/10], rounds, worst)
		if worst > 2500*ms {
			t.Errorf("a failover took %v", worst)
		}
		w.finish()
	})
}

func TestJoin(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(50)
		l.machine.checkpoint(0)
		w.writes(10)
		if !w.until(5*time.Second, func() bool { return l.group().Status().First > 40 }) {
			t.Fatalf("log is not cut: %s", w.describe())
		}
		n := w.add("n4")
		n.up(nil)
		if err := l.group().AddNonvoter(t.Context(), n.member(false)); err != nil {
			t.Fatal(err)
		}
		if !w.until(10*time.Second, func() bool { return n.caughtUp(l) }) {
			t.Fatalf("joiner is behind: %s", w.describe())
		}
		if n.machine.mu.restored != 1 || n.machine.mu.prepared != 1 {
			t.Errorf("joiner restored %d, prepared %d manifests, want 1", n.machine.mu.restored, n.machine.mu.prepared)
		}
		if err := l.group().Promote(t.Context(), n.member(true)); err != nil {
			t.Errorf("promote: %v", err)
		}
		if err := l.group().TransferLeadership(t.Context(), "n4"); err != nil {
			t.Errorf("transfer: %v", err)
		}
		w.until(time.Second, func() bool { return w.leader() == n })
		if err := n.group().Remove(t.Context(), l.member(true)); err != nil {
			t.Errorf("remove: %v: %s", err, w.describe())
		}
		if err := w.write(n, time.Second); err != nil {
			t.Errorf("write: %v", err)
		}
		if got := len(n.group().Members()); got != 3 {
			t.Errorf("%d members, want 3", got)
		}
		w.finish()
	})
}

// TestTransferCutShort loses the leadership in the midst of handing it over, a few times: the nodes lead again afterwards, and
// take writes.
func TestTransferCutShort(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		for round := range 5 {
			l := w.waitLeader()
			w.writes(5)
			time.Sleep(time.Second)
			to := w.follower(l)
			for _, n := range w.all() {
				if n != l {
					n.crash(1)
				}
			}
			for range 3 {
				w.write(l, 10*ms) // what the target lacks
			}
			time.Sleep(time.Duration(round) * 40 * ms)
			if err := l.group().TransferLeadership(t.Context(), to.name); err == nil {
				t.Errorf("round %d: leadership went to a node that cannot be reached", round)
			}
			if !w.until(5*time.Second, func() bool { return !l.group().IsLeader() }) {
				t.Errorf("round %d: a leader that hears nobody leads", round)
			}
			for _, n := range w.all() {
				if n != l {
					n.up(nil)
				}
			}
			w.writes(5)
			time.Sleep(2 * time.Second)
			if err := w.waitLeader().group().TransferLeadership(t.Context(), l.name); err != nil {
				t.Errorf("round %d: transfer: %v", round, err)
			}
			if err := w.write(l, time.Second); err != nil {
				t.Errorf("round %d: write to a leader that lost its leadership before: %v", round, err)
			}
		}
		w.finish()
	})
}

func TestCallAndFetch(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		w.waitLeader()
		got, err := w.nodes[0].log.Call(t.Context(), "n2", 9, []byte("hello"))
		if err != nil || string(got) != "n1 9 hello" {
			t.Errorf("call: %q, %v", got, err)
		}
		if _, err := w.nodes[0].log.Call(t.Context(), "n9", 9, nil); !errors.Is(err, ErrUnavailable) {
			t.Errorf("call of an unknown node: %v, want ErrUnavailable", err)
		}
		data := make([]byte, 3<<20)
		for i := range data {
			data[i] = byte(i * i >> 3)
		}
		if err := vfs.ReplaceFile(w.nodes[1].mem, "data/group-7/big", data); err != nil {
			t.Fatal(err)
		}
		f, err := w.nodes[0].log.Fetch(t.Context(), "n2", 7, "big", 1000)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(b, data[1000:]) {
			t.Errorf("fetch: %d bytes, %v", len(b), err)
		}
		f.Close()
		if _, err := w.nodes[0].log.Fetch(t.Context(), "n2", 7, "none", 0); err == nil {
			t.Error("fetch of a missing file succeeds")
		}
		w.finish()
	})
}

func TestOtherCluster(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2")
		conn, err := w.net.Host("n9").Dial(t.Context(), "n1")
		if err != nil {
			t.Fatal(err)
		}
		_, err = greet(conn, hello{purposeMessages, "prod", "n9", "1", "n1"})
		if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), `cluster of n9 is "prod", cluster of n1 is "test"`) {
			t.Errorf("greeting of another cluster: %v", err)
		}
		conn.Close()
		w.finish()
	})
}
