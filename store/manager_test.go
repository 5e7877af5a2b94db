package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"nyala/store/batch"
	"nyala/store/vfs"
)

// group is three replicas of tablet 3 on three nodes, and a log that commits at once: the seam that raftlog fills.
type group struct {
	tb       testing.TB
	managers [3]*Manager
	tablets  [3]*Tablet
	turn     chan struct{} // guards what follows
	leader   int
	hang     chan struct{} // proposals wait for it, if not nil
	log      []Entry
	durable  [3]int // calls of Durable
	points   [3][pointCount]atomic.Int32
}

func newGroup(tb testing.TB, o ManagerOptions) *group {
	tb.Helper()
	g := &group{tb: tb, turn: make(chan struct{}, 1)}
	for i := range g.managers {
		o := o
		o.FS, o.Dir, o.Replica = vfs.NewMem(), "d", fmt.Sprint("n", i)
		o.Propose = func(ctx context.Context, _ ID, entry []byte) ([]byte, error) { return g.propose(ctx, i, entry) }
		o.IsLeader = func(ID) bool { return g.leads(i) }
		o.Reached = func(p Point) { g.points[i][p].Add(1) }
		o.Durable = func(ID) {
			g.turn <- struct{}{}
			g.durable[i]++
			<-g.turn
		}
		o.Fetch = func(_ context.Context, id ID, name string, off int64) (io.ReadCloser, error) {
			var errs []error
			for _, m := range g.managers {
				f, err := m.OpenFile(id, name, off)
				if err == nil {
					return f, nil
				}
				errs = append(errs, err)
			}
			return nil, errors.Join(errs...)
		}
		var err error
		if g.managers[i], err = NewManager(o); err != nil {
			tb.Fatal(err)
		}
		if g.tablets[i], err = g.managers[i].Open(Spec{ID: 3, Table: "t", Schema: pairSchema(), History: time.Hour}); err != nil {
			tb.Fatal(err)
		}
	}
	return g
}

// checked tells whether a follower would encode the flush of the next entry.
func (g *group) checked() bool {
	next := uint64(len(g.log) + 1)
	return g.tablets[1].checks(next) || g.tablets[2].checks(next)
}

func (g *group) close() {
	for _, m := range g.managers {
		if err := m.Close(); err != nil {
			g.tb.Error(err)
		}
	}
}

func (g *group) leads(i int) bool {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	return g.leader == i
}

func (g *group) propose(ctx context.Context, from int, entry []byte) (result []byte, err error) {
	g.turn <- struct{}{}
	hang := g.hang
	<-g.turn
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	g.tablets[g.leader].Stamp(entry)
	e := Entry{Index: uint64(len(g.log) + 1), Term: 1, Data: entry}
	g.log = append(g.log, e)
	for i, t := range g.tablets {
		if r := t.Apply([]Entry{e})[0]; i == from {
			result = r
		}
	}
	return result, nil
}

func (g *group) write(values ...int64) Result {
	g.tb.Helper()
	b, err := g.propose(context.Background(), 0, pairs(batch.Upsert, values...))
	if err != nil {
		g.tb.Fatal(err)
	}
	r, err := ParseResult(b)
	if err != nil || r.Outcome != Applied {
		g.tb.Fatalf("got %+v %v", r, err)
	}
	return r
}

// equal waits until all replicas have installed as much and compares them.
func (g *group) equal(rowsets int) {
	g.tb.Helper()
	time.Sleep(time.Second) // of copies that were asked for too early
	synctest.Wait()
	first := g.tablets[0].Status()
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	for i, t := range g.tablets {
		s := t.Status()
		if s.Hash != first.Hash || s.Durable != first.Durable || s.Rows != first.Rows || s.RowSets != rowsets || s.Frozen != 0 || s.Fault != nil {
			g.tb.Fatalf("replica %d: %+v\nreplica 0: %+v", i, s, first)
		}
		if g.durable[i] != rowsets {
			g.tb.Fatalf("replica %d was told of %d installs, want %d", i, g.durable[i], rowsets)
		}
	}
}

func TestFlushBySizeAndAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, ManagerOptions{FlushBytes: 20_000, FlushAge: time.Minute, MemoryBytes: 1 << 30})
		defer g.close()
		var values []int64
		for i := range int64(1500) {
			values = append(values, i, i)
		}
		g.write(values...)
		g.equal(1)
		g.write(1, 5)
		time.Sleep(50 * time.Second)
		g.equal(1)
		time.Sleep(20 * time.Second)
		g.equal(2)
		time.Sleep(2 * time.Hour) // an idle tablet is left alone
		g.equal(2)
		if _, err := g.propose(context.Background(), 0, AdvanceEntry(0)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		before := g.tablets[0].Durable().Index
		time.Sleep(6 * time.Minute) // advances are cut from the log too, if seldom
		if after := g.tablets[0].Durable().Index; after <= before {
			t.Fatalf("durable index stays at %d", after)
		}
		if used := g.managers[1].Budget().Used(); used > 100<<10 {
			t.Fatalf("%d bytes in use", used)
		}
	})
}

// TestFlushesTakeTurns: tablets that begin to fill in the same moment are not full in the same moment, and keep that distance.
func TestFlushesTakeTurns(t *testing.T) {
	const most = 1 << 20
	for _, n := range []int{4, 16, 64} {
		var at []int64
		for id := range n {
			at = append(at, firstFlush(ID(id+5), most))
		}
		slices.Sort(at)
		for i, a := range at {
			next := at[0] + most
			if i+1 < n {
				next = at[i+1]
			}
			if a < most/8 || a > most || next-a < most/int64(4*n) {
				t.Errorf("of %d tablets one is full at %d of %d bytes, and the next at %d", n, a, most, next)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, ManagerOptions{FlushBytes: 20_000, FlushAge: time.Hour, MemoryBytes: 1 << 30})
		defer g.close()
		first, key := firstFlush(3, 20_000), int64(0)
		write := func(rowsets int) {
			t.Helper()
			for g.tablets[0].Status().RowSets < rowsets {
				if key++; key > 10_000 {
					t.Fatalf("no rowset %d", rowsets)
				}
				g.write(key, key)
				synctest.Wait()
			}
			g.equal(rowsets)
		}
		want := func(what string, size int64) {
			t.Helper()
			for i, tb := range g.tablets {
				if got := tb.mu.mem.flushAt; got != size {
					t.Errorf("replica %d, %s: full at %d bytes, want %d", i, what, got, size)
				}
			}
		}
		want("new", first)
		write(1)
		want("after a flush for its size", 20_000)
		write(2)
		want("after another", 20_000)
		g.write(0, 0)
		if err := g.managers[1].Checkpoint(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		want("after a checkpoint", first)
		g.equal(3)
		write(4)
		want("after a flush for its size", 20_000)
		g.write(0, 0)
		time.Sleep(2 * time.Hour)
		g.equal(5)
		want("after a flush for its age", first)
	})
}

func TestCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, ManagerOptions{})
		defer g.close()
		r := g.write(1, 1)
		if err := g.managers[2].Checkpoint(t.Context(), 3); err != nil { // a follower asks
			t.Fatal(err)
		}
		if d := g.tablets[2].Durable(); d.Index <= r.Index {
			t.Fatalf("durable %d", d.Index)
		}
		g.equal(1)
		if err := g.managers[0].Checkpoint(t.Context(), 4); err == nil {
			t.Fatal("checkpoint of a tablet that is not there")
		}
	})
}

// TestNewLeaderInstalls: a Freeze whose leader is gone is installed by the next one; an Install that comes twice does nothing.
func TestNewLeaderInstalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, ManagerOptions{FlushAge: time.Hour})
		defer g.close()
		g.write(1, 1)
		freeze := freezeCommand{}.entry()
		hang := make(chan struct{})
		g.turn <- struct{}{}
		g.hang = hang
		<-g.turn
		e := Entry{Index: uint64(len(g.log) + 1), Term: 1, Data: freeze}
		batch.Stamp(freeze, 5)
		g.log = append(g.log, e)
		for _, tb := range g.tablets {
			tb.Apply([]Entry{e})
		}
		synctest.Wait() // node 0 hangs in its proposal
		g.turn <- struct{}{}
		g.leader, g.hang = 1, nil
		<-g.turn
		time.Sleep(2 * time.Second) // the tick of node 1
		g.equal(1)
		close(hang) // and the old leader's proposal comes after all
		g.equal(1)
	})
}

// TestBackPressure: who wants memory waits until the largest MemRowSet is flushed, which nobody else asked for.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, ManagerOptions{MemoryBytes: 400_000, FlushBytes: 1 << 30, FlushAge: time.Hour})
		defer g.close()
		b := g.managers[0].Budget()
		if err := b.Acquire(t.Context(), 100_000); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Acquire(ctx, 350_000); !errors.Is(err, context.DeadlineExceeded) && err != nil {
			t.Fatal(err)
		} else if err == nil {
			b.Release(350_000)
		}
		var values []int64
		for i := range int64(8000) {
			values = append(values, i, i)
		}
		g.write(values...)
		if err := b.Acquire(t.Context(), 90_000); err != nil {
			t.Fatal(err)
		}
		g.equal(1)
		b.Release(190_000)
		if b.Used() > 100<<10 {
			t.Fatalf("%d bytes in use", b.Used())
		}
	})
}

func TestBudgetIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		if err := b.Acquire(t.Context(), 90); err != nil {
			t.Fatal(err)
		}
		var order []string
		get := func(ctx context.Context, name string, n int64) {
			go func() {
				if b.Acquire(ctx, n) == nil {
					order = append(order, name)
				}
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		get(ctx, "gives up", 20)
		get(t.Context(), "large", 500) // never fits: it is let in alone
		get(t.Context(), "small", 5)
		if len(order) != 0 {
			t.Fatal(order)
		}
		cancel()
		synctest.Wait()
		b.add(usage{rows: 13})
		b.Release(90)
		synctest.Wait()
		if len(order) != 0 || !b.pressed() {
			t.Fatal(order, "with rows that can be flushed")
		}
		b.add(usage{rows: -1})
		synctest.Wait()
		if got := strings.Join(order, ","); got != "large" {
			t.Fatal(got)
		}
		b.Release(500)
		synctest.Wait()
		if got := strings.Join(order, ","); got != "large,small" || b.Used() != 17 {
			t.Fatal(got, b.Used())
		}
	})
}

// TestBudgetBesideDiskRowSets: what DiskRowSets keep in memory counts, and leaves a quarter for work whatever it is.
func TestBudgetBesideDiskRowSets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		b.add(usage{resident: 70})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Acquire(ctx, 31); !errors.Is(err, context.DeadlineExceeded) {
			// More than a quarter, but rows could make room only for as much as is left.
			if err != nil || b.Used() != 101 {
				t.Fatal(err, b.Used())
			}
			b.Release(31)
		}
		b.add(usage{rows: 19})
		if !b.pressed() {
			t.Fatal("rows have more than their share of what is left")
		}
		b.add(usage{rows: -19, resident: 130})
		if u := b.Usage(); !u.Crowded || u.Resident != 200 {
			t.Fatalf("%+v", u)
		}
		if err := b.Acquire(t.Context(), 25); err != nil {
			t.Fatal(err)
		}
		b.Release(25)
	})
}

// TestBudgetAwait: who cannot be refused waits until there is room again.
func TestBudgetAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		if err := b.Await(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.add(usage{rows: 120})
		through := false
		go func() {
			if b.Await(t.Context()) == nil {
				through = true
			}
		}()
		synctest.Wait()
		b.add(usage{rows: -10})
		synctest.Wait()
		if through {
			t.Fatal("110 of 100 bytes are in use")
		}
		b.add(usage{rows: -10})
		synctest.Wait()
		if !through {
			t.Fatal("there is room")
		}
	})
}

// TestCloseDuringWork: closing does not wait for a leader, nor for a scan; dropping leaves nothing.
func TestCloseDuringWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, ManagerOptions{FlushAge: time.Second})
		g.write(1, 1)
		g.turn <- struct{}{}
		g.hang = make(chan struct{})
		<-g.turn
		time.Sleep(3 * time.Second)
		sc, err := g.tablets[0].Scan(ScanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		g.close()
		if b, err := sc.Next(); err != nil || b.Rows != 1 {
			t.Fatal(b, err)
		}
		if err := sc.Close(); err != nil {
			t.Fatal(err)
		}
		for _, m := range g.managers {
			if used := m.Budget().Used(); used != 0 {
				t.Errorf("%d bytes in use after Close", used)
			}
			if _, err := m.Open(Spec{ID: 3, Schema: pairSchema()}); err == nil {
				t.Error("opened a tablet of a closed store")
			}
		}
	})
}

func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, ManagerOptions{})
		defer g.close()
		g.write(1, 1)
		if err := g.managers[0].Checkpoint(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		m := g.managers[0]
		if _, err := m.Open(Spec{ID: 3, Schema: pairSchema()}); err == nil {
			t.Fatal("opened twice")
		}
		if err := m.Drop(3); err != nil {
			t.Fatal(err)
		}
		if names, err := m.options.FS.List("d"); err != nil || len(names) != 0 {
			t.Fatal(names, err)
		}
		if err := errors.Join(m.Drop(3), m.CloseTablet(3)); err != nil {
			t.Fatal(err)
		}
		again, err := m.Open(Spec{ID: 3, Schema: pairSchema()})
		if err != nil || again.Durable().Index != 0 {
			t.Fatal(again, err)
		}
	})
}

// TestOneNodeHangs: a tablet whose disk hangs neither installs nor stops applying and answering.
func TestOneNodeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		faulty := vfs.NewFaulty(mem)
		m, err := NewManager(ManagerOptions{FS: faulty, Dir: "d"})
		if err != nil {
			t.Fatal(err)
		}
		tab, err := m.Open(Spec{ID: 3, Schema: pairSchema()})
		if err != nil {
			t.Fatal(err)
		}
		free := make(chan struct{})
		faulty.Add(vfs.Rule{Op: vfs.OpSync, Hang: free, Count: 1})
		for i, data := range [][]byte{pairs(batch.Upsert, 1, 1), freezeCommand{}.entry(), pairs(batch.Upsert, 1, 2, 2, 2)} {
			tab.Apply([]Entry{{Index: uint64(i + 1), Term: 1, Data: data}})
		}
		synctest.Wait()
		s := &single{tab, t}
		if got := s.rows(ScanOptions{Ordered: true}); got != "1=2 2=2 " {
			t.Fatal(got)
		}
		if st := tab.Status(); st.Frozen != 1 || st.Rows != 2 {
			t.Fatalf("%+v", st)
		}
		close(free)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
