package raftlog

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/raft"
)

// stall holds raft's main loop of the next leader that has written entries, before it goes on: at that place the library calls nothing
// of ours, but it measures how long the writing took.
type stall struct {
	metrics.BlackholeSink
	armed atomic.Bool
}

func newStall(t *testing.T) *stall {
	measure := func(sink metrics.MetricSink) {
		if _, err := metrics.NewGlobal(&metrics.Config{FilterDefault: true, TimerGranularity: time.Millisecond}, sink); err != nil {
			t.Fatal(err)
		}
	}
	s := &stall{}
	measure(s)
	t.Cleanup(func() { measure(&metrics.BlackholeSink{}) })
	return s
}

// AddSampleWithLabels implements metrics.MetricSink.
func (s *stall) AddSampleWithLabels(key []string, _ float32, _ []metrics.Label) {
	if slices.Contains(key, "dispatchLog") && s.armed.CompareAndSwap(true, false) {
		time.Sleep(20 * ms)
	}
}

// TestPromoteAcknowledgedEarly: who is made a voter acknowledges the entry that says so before raft here counts its vote, and the old
// voters do so afterwards, but for one that is lost. Nothing else is written, and without the first acknowledgement there is no majority.
func TestPromoteAcknowledgedEarly(t *testing.T) {
	s := newStall(t)
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(5)
		lost := w.follower(l)
		lost.crash(1)
		lost.gone = true
		n := w.add("n4")
		n.up(nil)
		if err := l.group().AddNonvoter(t.Context(), n.member(false)); err != nil {
			t.Fatal(err)
		}
		if !w.until(10*time.Second, func() bool { return n.caughtUp(l) && l.group().near(n.member(true).id(), 0) == nil }) {
			t.Fatalf("not caught up: %s", w.describe())
		}
		old := w.nodes[slices.IndexFunc(w.nodes, func(o *node) bool { return o != l && o != lost && o != n })]
		w.net.SetDistance(l.name, old.name, 60*ms)
		s.armed.Store(true)
		if err := l.group().Promote(t.Context(), n.member(true)); err != nil || s.armed.Load() {
			t.Errorf("promote: %v; %s", err, w.describe())
		}
		if err := l.group().Remove(t.Context(), lost.member(true)); err != nil {
			t.Errorf("remove of the one that it replaces: %v; %s", err, w.describe())
		}
		w.finish()
	})
}

// TestRequestAtStop: a request that arrives behind the group's last look at what waits is answered all the same. The leader of a replica
// that stops while a manifest comes would else wait for the answer for as long as an install may take.
func TestRequestAtStop(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		n := w.add("n1")
		n.up(w.members(true, n))
		w.waitLeader()
		g := n.group()
		if err := n.log.StopGroup(7); err != nil {
			t.Fatal(err)
		}
		answered := false
		g.tr.queue(&received{rpc: &raft.InstallSnapshotRequest{}, reply: func([]byte) { answered = true }})
		if !answered {
			t.Error("a request for a stopped group has no answer")
		}
		w.finish()
	})
}
