package raftlog

import (
	"errors"
	"strings"
	"testing"

	"nyala/raftlog/wal"
	"nyala/store/vfs"
)

// TestForeignLog: a log of another node or incarnation is refused, and an empty one where there must be one.
func TestForeignLog(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		n := w.add("n1")
		n.up(w.members(true, n))
		w.waitLeader()
		w.writes(3)
		n.stop()
		owner, spans, err := Inspect(n.mem, "data/wal")
		if s := spans[w.groups[0]]; err != nil || owner != "n1#00000001" || s.First != 1 || s.Next < 5 {
			t.Errorf("inspected: %q, %+v, %v", owner, spans, err)
		}
		n.incarnation = "0000000f"
		if err := n.tryUp(nil); !errors.Is(err, ErrNotOurs) || !strings.Contains(err.Error(), "n1#00000001, want n1#0000000f") {
			t.Errorf("opened the log of another incarnation: %v", err)
		}
		for _, used := range []bool{true, false} {
			l, err := Open(Options{Node: "n1", Incarnation: "a", Cluster: "c", FS: vfs.NewMem(), Dir: "d", Used: used,
				Listener: w.net.Host("other").Listen(), Dial: w.net.Host("other").Dial, Address: func(string) string { return "" }})
			if used && !errors.Is(err, ErrNotOurs) || !used && err != nil {
				t.Errorf("an empty log, used %t: %v", used, err)
			}
			if err == nil {
				l.Close()
			}
			w.net.Host("other").Crash()
		}
	})
}

// TestLostManifest: a log whose entries are all in a manifest does not begin again at the first index when that is gone: the
// replica would vote as one that has less than it acknowledged.
func TestLostManifest(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		n := w.add("n1")
		n.up(w.members(true, n))
		g := n.group()
		if err := g.store.wal.Reset(40); err != nil { // as after an install of a manifest of index 39
			t.Fatal(err)
		}
		if err := g.store.recover(); err == nil || !strings.Contains(err.Error(), "log begins at 40, want at most") {
			t.Errorf("a log that begins at 40 fits a manifest of index %d: %v", n.machine.Durable().Index, err)
		}
		if _, err := g.store.wal.Get(39); err != wal.ErrNotFound {
			t.Error(err)
		}
		if got := n.log.Begin(w.groups[0]); got != 40 {
			t.Errorf("begins at %d", got)
		}
	})
}
