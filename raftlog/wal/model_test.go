package wal

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"nyala/store/vfs"
)

var (
	seeds = flag.Int("seeds", 100, "how many seeds the model tests run")
	seed0 = flag.Uint64("seed", 0, "the first seed")
)

// modelGroup is what a group must have.
type modelGroup struct {
	first, next uint64            // next 0: never had an entry
	low         uint64            // a crash may bring back cut entries down to this one
	records     map[uint64]Record // also those that were cut but may be back
	values      map[string]string
}

func (m *modelGroup) clone() *modelGroup {
	c := *m
	c.records, c.values = maps.Clone(m.records), maps.Clone(m.values)
	return &c
}

func newModelGroup() *modelGroup {
	return &modelGroup{records: map[uint64]Record{}, values: map[string]string{}}
}

// wish is an operation of one group, and the states that it may leave behind if it is not
// acknowledged; the last one is the state if it is.
type wish struct {
	text   string
	do     func() error
	states []*modelGroup
}

// simulation drives one log through many lives.
type simulation struct {
	t      *testing.T
	rng    *rand.Rand
	opts   Options
	mem    *vfs.Mem
	faulty *vfs.Faulty
	wal    *WAL
	groups map[uint64]*modelGroup
	term   uint64
	trace  []string
}

func (s *simulation) fail(format string, args ...any) {
	s.t.Helper()
	tail := s.trace[max(0, len(s.trace)-75):]
	for _, line := range tail {
		s.t.Log(line)
	}
	s.t.Fatalf(format, args...)
}

func (s *simulation) note(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf(format, args...))
}

func (s *simulation) wish(id uint64) wish {
	m, g := s.groups[id], s.wal.Group(id)
	after := m.clone()
	s.term++
	switch s.rng.IntN(20) {
	default:
		return s.appendWish(g, m)
	case 0, 1:
		if m.next == 0 {
			return s.appendWish(g, m)
		}
		index := m.next - 1 - min(m.next-1, s.rng.Uint64N(12))
		if index+1 < m.next {
			after.truncate(index + 1)
		}
		return wish{fmt.Sprintf("group %d truncate after %d", id, index), func() error { return g.TruncateAfter(index) }, []*modelGroup{m, after}}
	case 2:
		first := 1 + s.rng.Uint64N(300)
		*after = *newModelGroup()
		after.values = m.values
		after.first, after.next, after.low = first, first, first
		return wish{fmt.Sprintf("group %d reset %d", id, first), func() error { return g.Reset(first) }, []*modelGroup{m, after}}
	case 3, 4:
		key, value := fmt.Sprint("key", s.rng.IntN(3)), fmt.Sprint(s.rng.Uint64())
		after.values[key] = value
		return wish{fmt.Sprintf("group %d set %s", id, key), func() error { return g.Set(key, []byte(value)) }, []*modelGroup{m, after}}
	case 5:
		if s.rng.IntN(4) > 0 {
			return s.appendWish(g, m)
		}
		return wish{fmt.Sprintf("group %d drop", id), func() error { return s.wal.Drop(id) }, []*modelGroup{m, newModelGroup()}}
	case 6, 7, 8, 9:
		if m.next == 0 {
			return s.appendWish(g, m)
		}
		index := m.first + s.rng.Uint64N(m.next-m.first+2)
		after.first = max(m.first, min(index, m.next))
		return wish{fmt.Sprintf("group %d cut below %d", id, index), func() error { return g.CutBelow(index) }, []*modelGroup{after}}
	}
}

func (s *simulation) appendWish(g *GroupLog, m *modelGroup) wish {
	from := m.next
	if from == 0 {
		from = 1 + s.rng.Uint64N(50)
	}
	size := []int{0, 10, 300, 3000, 6000}[s.rng.IntN(5)]
	if s.rng.IntN(60) == 0 {
		size = 40000 // more than a segment
	}
	records := entries(g.id, from, from+s.rng.Uint64N(6), s.term, size)
	states := []*modelGroup{m}
	for _, r := range records {
		after := states[len(states)-1].clone()
		if after.next == 0 {
			after.first, after.low = r.Index, r.Index
		}
		after.records[r.Index] = r
		after.next = r.Index + 1
		states = append(states, after)
	}
	return wish{fmt.Sprintf("group %d append %d to %d of %d", g.id, from, from+uint64(len(records))-1, size),
		func() error { return g.Append(records) }, states}
}

func (m *modelGroup) truncate(next uint64) {
	for i := next; i < m.next; i++ {
		delete(m.records, i)
	}
	m.next, m.first, m.low = next, min(m.first, next), min(m.low, next)
}

// matches tells whether the group in the log is in this state; exactly if no crash came between.
func (m *modelGroup) matches(g *GroupLog, crashed bool) error {
	first, next := g.first, g.next
	if next != m.next || first > m.first || first < m.low || (!crashed && first != m.first) {
		return fmt.Errorf("it has [%d, %d), want [%d, %d), cut from %d", first, next, m.first, m.next, m.low)
	}
	for i := first; i < next; i++ {
		if r, err := g.Get(i); err != nil || !same(r, m.records[i]) {
			return fmt.Errorf("entry %d is term %d with %d bytes, want %d with %d: %v",
				i, r.Term, len(r.Data), m.records[i].Term, len(m.records[i].Data), err)
		}
	}
	if _, err := g.Get(next); err != ErrNotFound {
		return fmt.Errorf("entry %d behind the last: %v", next, err)
	}
	if first > 0 {
		if _, err := g.Get(first - 1); err != ErrNotFound {
			return fmt.Errorf("entry %d before the first: %v", first-1, err)
		}
	}
	for _, key := range []string{"key0", "key1", "key2"} {
		if got, want := string(g.Value(key)), m.values[key]; got != want {
			return fmt.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	return nil
}

// round lets every group do one thing, all at once.
func (s *simulation) round() (open map[uint64][]*modelGroup) {
	wishes := map[uint64]wish{}
	errs := map[uint64]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		if s.rng.IntN(3) > 0 {
			wishes[id] = s.wish(id)
			s.note("%s", wishes[id].text)
		}
	}
	for id, w := range wishes {
		wg.Add(1)
		go func() {
			defer wg.Done()
			err := w.do()
			mu.Lock()
			defer mu.Unlock()
			errs[id] = err
		}()
	}
	wg.Wait()
	open = map[uint64][]*modelGroup{}
	for id, w := range wishes {
		switch err := errs[id]; {
		case err == nil:
			s.groups[id] = w.states[len(w.states)-1]
		case s.wal.Err() == nil || !errors.Is(err, s.wal.Err()):
			s.fail("%s: %v", w.text, err)
		default:
			open[id] = w.states
		}
	}
	return open
}

var errFault = errors.New("fault")

// life opens the log, checks it, works until a fault or for a while, and ends it in one of the ways
// in which a process ends.
func (s *simulation) life(open map[uint64][]*modelGroup, crashed bool) (map[uint64][]*modelGroup, bool) {
	s.faulty = vfs.NewFaulty(s.mem)
	s.note("open")
	var fsys vfs.FS = s.faulty
	if s.rng.IntN(3) == 0 {
		fsys = plainFS{s.faulty}
	}
	w, err := Open(fsys, "/wal", s.opts)
	if err != nil {
		var out bytes.Buffer
		Dump(s.mem, "/wal", &out)
		s.fail("open: %v\n%s", err, out.String())
	}
	s.wal = w
	for id, m := range s.groups {
		s.settle(id, m, open[id], crashed)
	}
	if s.rng.IntN(3) > 0 {
		op := []vfs.Op{vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir, vfs.OpCreate}[s.rng.IntN(4)]
		s.faulty.Add(vfs.Rule{Op: op, After: s.rng.IntN(60), Count: 1 + s.rng.IntN(2), Err: errFault, Short: s.rng.IntN(20000)})
	}
	open = nil
	for range s.rng.IntN(40) {
		if open = s.round(); w.Err() != nil {
			break
		}
		for id, m := range s.groups {
			if err := m.matches(w.Group(id), false); err != nil {
				s.fail("group %d: %v", id, err)
			}
		}
	}
	return s.end(open)
}

func (s *simulation) end(open map[uint64][]*modelGroup) (map[uint64][]*modelGroup, bool) {
	clean := s.rng.IntN(4) == 0
	survive := []float64{0, 0.1, 0.5, 0.9, 1}[s.rng.IntN(5)]
	if clean {
		err := s.wal.Close()
		s.note("close: %v", err)
		if s.rng.IntN(2) == 0 {
			return open, true
		}
	}
	s.note("power cut, %v survives", survive)
	old := s.mem
	s.mem = old.Crash(s.rng, survive)
	if !clean {
		s.wal.Close()
	}
	return open, true
}

// settle finds which of the possible states a group is in, and makes it the model's.
func (s *simulation) settle(id uint64, m *modelGroup, states []*modelGroup, crashed bool) {
	if states == nil {
		states = []*modelGroup{m}
	}
	g := s.wal.Group(id)
	var first error
	for _, state := range slices.Backward(states) {
		err := state.matches(g, crashed)
		if err == nil {
			state.first, state.low = g.first, g.first
			s.groups[id] = state
			return
		}
		first = err
	}
	s.fail("group %d after the crash, %d states: %v", id, len(states), first)
}

func TestAgainstModel(t *testing.T) {
	count := *seeds
	if testing.Short() {
		count = min(count, 20)
	}
	for i := range uint64(count) {
		seed := *seed0 + i
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			s := &simulation{t: t, rng: rand.New(rand.NewPCG(seed, 1)), mem: vfs.NewMem(), groups: map[uint64]*modelGroup{}}
			s.opts = small()
			s.opts.SpareSegments = s.rng.IntN(4) - 1
			s.opts.WriteTimeout = time.Minute
			for id := range uint64(5) {
				s.groups[id+1] = newModelGroup()
			}
			var open map[uint64][]*modelGroup
			crashed := false
			for range 8 {
				open, crashed = s.life(open, crashed)
			}
			s.checkFiles()
		})
	}
}

// checkFiles closes the log of a last life and has Check and Dump read it.
func (s *simulation) checkFiles() {
	w, err := Open(s.mem, "/wal", s.opts)
	if err != nil {
		s.fail("open: %v", err)
	}
	if err := w.Close(); err != nil {
		s.fail("close: %v", err)
	}
	problems, err := Check(s.mem, "/wal")
	if err != nil || len(problems) > 0 {
		s.fail("check: %v, %v", problems, err)
	}
	var out bytes.Buffer
	if err := Dump(s.mem, "/wal", &out); err != nil {
		s.fail("dump: %v", err)
	}
}
