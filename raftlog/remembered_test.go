package raftlog

import (
	"fmt"
	"testing"
	"time"
)

// TestRule13: a manifest replaces the last entry of a follower's log at the very index where that ends.
func TestRule13(t *testing.T) {
	both(t, 13, func(t *testing.T, w *world) error {
		w.boot("n1", "n2", "n3")
		old, l := w.makeTail(8)
		end := old.group().Status().Last
		for cur, _ := l.machine.state(); cur.Index < end; cur, _ = l.machine.state() {
			w.writes(1)
		}
		if cur, _ := l.machine.state(); cur.Index != end {
			t.Fatalf("leader stands at %d, the stale log ends at %d", cur.Index, end)
		}
		l.machine.checkpoint(0)
		if !w.until(5*time.Second, func() bool { w.writes(1); return l.group().Status().First >= end }) {
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
