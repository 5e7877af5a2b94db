package raftlog

import (
	"testing"

	"github.com/hashicorp/raft"
)

// TestStartScan: raft's search for members at its start gets no more than the kinds of commands, finds the members, and is over when the
// group runs: then each entry is whole.
func TestStartScan(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		w.waitLeader()
		w.writes(20)
		n := w.nodes[0]
		n.crash(1)
		n.up(nil)
		s := n.group().store
		if at := s.scan.Load(); at != 0 {
			t.Errorf("the search goes on at %d", at)
		}
		if members := n.group().Members(); len(members) != 3 {
			t.Errorf("members %v, want 3", members)
		}
		commands := 0
		for i := s.wal.First(); i <= s.wal.Last(); i++ {
			var l raft.Log
			if err := s.GetLog(i, &l); err != nil || l.Index != i || l.Term == 0 {
				t.Errorf("entry %d: %+v, %v", i, l, err)
			}
			if l.Type == raft.LogCommand {
				if commands++; len(l.Data) == 0 {
					t.Errorf("command %d has no data", i)
				}
			}
		}
		if commands < 20 {
			t.Errorf("%d commands, want 20", commands)
		}
		// The search itself: kinds only, in order, and the last entry whole.
		s.beginScan()
		var l raft.Log
		for i := s.wal.First(); i < s.wal.Last(); i++ {
			if err := s.GetLog(i, &l); err != nil || l.Index != i || l.Type == raft.LogCommand && l.Data != nil || l.Type == raft.LogConfiguration && len(l.Data) == 0 {
				t.Errorf("searched entry %d: %+v, %v", i, l, err)
			}
		}
		if err := s.GetLog(s.wal.Last(), &l); err != nil || l.Term == 0 {
			t.Errorf("last entry: %+v, %v", l, err)
		}
		s.endScan()
		w.finish()
	})
}
