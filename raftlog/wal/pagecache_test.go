package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"nyala/store/vfs"
)

// TestPageCache cuts the power of a log that does not sync. It opens again, and what it has is what
// it had after one of the operations: a part of the end may be gone, never something in the middle.
// What a Close or an Open saw stays.
func TestPageCache(t *testing.T) {
	lost, kept := 0, 0
	for i := range uint64(*seeds) {
		seed := *seed0 + i
		s := &simulation{t: t, rng: rand.New(rand.NewPCG(seed, 3)), mem: vfs.NewMem(), groups: map[uint64]*modelGroup{}}
		s.opts = small()
		s.opts.DrainBytes = 1 << 20 // so that each operation is one drain, and there or not
		s.opts.PageCache, s.opts.SpareSegments, s.opts.WriteTimeout = true, s.rng.IntN(4)-1, time.Minute
		for id := range uint64(3) {
			s.groups[id+1] = newModelGroup()
		}
		history := []map[uint64]*modelGroup{s.cloned()}
		for life := range 6 {
			s.note("seed %d, life %d: open", seed, life)
			var err error
			if s.wal, err = Open(s.mem, "/wal", s.opts); err != nil {
				s.fail("open: %v", err)
			}
			at := s.findIn(history)
			if at < 0 {
				s.fail("the log has what it never had, of %d states", len(history))
			}
			lost, kept = lost+len(history)-1-at, kept+at
			s.groups = history[at]
			for id, m := range s.groups {
				m.low, m.first = s.wal.Group(id).first, s.wal.Group(id).first
			}
			history = []map[uint64]*modelGroup{s.cloned()}
			for range s.rng.IntN(60) {
				history = append(history, s.one())
			}
			if s.rng.IntN(3) == 0 {
				s.note("close")
				if err := s.wal.Close(); err != nil {
					s.fail("close: %v", err)
				}
				history = history[len(history)-1:]
			}
			s.note("power cut")
			s.mem = s.mem.Crash(s.rng, []float64{0, 0.3, 0.8, 0.99, 1}[s.rng.IntN(5)])
			s.wal.Close() // of the dead memory
		}
	}
	if lost == 0 || kept == 0 {
		t.Fatalf("%d operations were lost, %d were kept", lost, kept)
	}
}

func (s *simulation) cloned() map[uint64]*modelGroup {
	c := map[uint64]*modelGroup{}
	for id, m := range s.groups {
		c[id] = m.clone()
	}
	return c
}

// one does one thing and returns the state after it.
func (s *simulation) one() map[uint64]*modelGroup {
	id := 1 + s.rng.Uint64N(uint64(len(s.groups)))
	w := s.wish(id)
	s.note("%s", w.text)
	if err := w.do(); err != nil {
		s.fail("%s: %v", w.text, err)
	}
	s.groups[id] = w.states[len(w.states)-1]
	return s.cloned()
}

// findIn returns the newest state in which all groups of the log are, -1 for none.
func (s *simulation) findIn(history []map[uint64]*modelGroup) int {
	for i := len(history) - 1; i >= 0; i-- {
		whole := true
		for id, m := range history[i] {
			err := m.matches(s.wal.Group(id), true)
			if err != nil {
				s.note("state %d, group %d: %v", i, id, err)
			}
			whole = whole && err == nil
		}
		if whole {
			return i
		}
	}
	return -1
}

// TestPageCacheSyncs pins that drains are not synced, and Close is.
func TestPageCacheSyncs(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	opts := small()
	opts.PageCache, opts.SpareSegments = true, -1
	w := open(t, faulty, opts)
	remove := faulty.Add(vfs.Rule{Op: vfs.OpSync, Err: errFault})
	for i := uint64(1); i < 30; i++ {
		check(t, w.Group(1).Append(entries(1, i, i, 1, 3000)))
	}
	if err := w.Close(); !errors.Is(err, errFault) {
		t.Fatalf("close: %v", err)
	}
	remove()
	w, err := Open(faulty, "/wal", opts)
	check(t, err)
	wantRange(t, w.Group(1), 1, 29)
	check(t, w.Close())
	if got := fmt.Sprint(w.Err()); got != "<nil>" {
		t.Fatal(got)
	}
}
