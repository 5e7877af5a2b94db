package raftlog

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"nyala/store/vfs"
)

// TestRule12 is the wedge of hashicorp/raft's own transports: while entries flow, the log of a follower fails
// for 30 ms. Replication to it must go on. One run in a few wedged there; here there are fifty faults.
func TestRule12(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.timings.Watchdog = time.Hour // it must not be what helps
		var until atomic.Int64         // the victim's log fails before this time
		fail := func(GroupID) error {
			time.Sleep(ms)
			if time.Now().UnixNano() < until.Load() {
				return errors.New("the log fails for 30 ms")
			}
			return nil
		}
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		n := w.follower(l)
		n.stop()
		n.test.storeLogs = fail
		n.up(nil)
		var over atomic.Bool
		for range 8 {
			w.wg.Go(func() {
				for !over.Load() {
					w.write(l, time.Second)
				}
			})
		}
		time.Sleep(time.Second)
		term := l.group().Status().Term
		for round := range 50 {
			until.Store(time.Now().Add(30 * ms).UnixNano())
			time.Sleep(100 * ms)
			want := l.group().Applied()
			if !w.until(10*time.Second, func() bool { return n.group().Applied() >= want }) {
				t.Fatalf("round %d: the follower gets nothing more: %s", round, w.describe())
			}
		}
		if got := l.group().Status().Term; got != term {
			t.Errorf("term went from %d to %d", term, got)
		}
		over.Store(true)
		time.Sleep(2 * time.Second)
		w.finish()
	})
}

// TestPipelineBreaks: a sender that waits for a slot is woken by the first refusal, nothing is lost, and a
// reader that is gone blocks nobody.
func TestPipelineBreaks(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2")
		l := w.waitLeader()
		w.writes(3)
		n := w.follower(l)
		tr := l.group().tr
		p, err := tr.AppendEntriesPipeline(n.member(true).id(), "")
		if err != nil {
			t.Fatal(err)
		}
		refused := func() *raft.AppendEntriesRequest {
			return &raft.AppendEntriesRequest{Term: l.group().Status().Term, PrevLogEntry: 1 << 30, PrevLogTerm: 1}
		}
		errs := make(chan error, 10)
		for range 10 { // nobody reads p.Consumer()
			w.wg.Go(func() {
				_, err := p.AppendEntries(refused(), new(raft.AppendEntriesResponse))
				errs <- err
			})
		}
		shut := 0
		for range 10 {
			if err := <-errs; errors.Is(err, raft.ErrPipelineShutdown) {
				shut++
			} else if err != nil {
				t.Error(err)
			}
		}
		if shut != 10-pipelineDepth {
			t.Errorf("%d senders were refused, want all but %d", shut, pipelineDepth)
		}
		f := <-p.Consumer()
		if f.Error() != nil || f.Response().Success {
			t.Errorf("answer: %v, %+v", f.Error(), f.Response())
		}
		p.Close()
		w.finish()
	})
}

// TestPipelineTimeLimit: a follower that answers nothing while its connection lives.
func TestPipelineTimeLimit(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		l := w.waitLeader()
		w.writes(3)
		n := w.follower(l)
		hang := make(chan struct{})
		n.stop()
		n.test.storeLogs = func(GroupID) error { <-hang; return nil }
		n.up(nil)
		time.Sleep(200 * ms)
		w.writes(3) // by the other follower
		time.Sleep(10 * time.Second)
		if w.leader() != l {
			t.Errorf("the leader changed: %s", w.describe())
		}
		w.writes(3)
		close(hang)
		if !w.until(20*time.Second, func() bool { return n.caughtUp(w.waitLeader()) }) {
			t.Errorf("not caught up: %s", w.describe())
		}
		w.finish()
	})
}

func TestCutAppend(t *testing.T) {
	q := &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 10, PrevLogTerm: 2, LeaderCommitIndex: 9}
	for i := range 20 {
		q.Entries = append(q.Entries, &raft.Log{Index: uint64(11 + i), Term: 3, Data: make([]byte, appendBytesMax/4)})
	}
	q.Entries[7].Data = make([]byte, 2*appendBytesMax)
	prev, prevTerm, next := q.PrevLogEntry, q.PrevLogTerm, q.PrevLogEntry+1
	for _, part := range cutAppend(q) {
		if part.PrevLogEntry != prev || part.PrevLogTerm != prevTerm {
			t.Errorf("part follows (%d, %d), want (%d, %d)", part.PrevLogEntry, part.PrevLogTerm, prev, prevTerm)
		}
		size := 0
		for _, l := range part.Entries {
			if l.Index != next {
				t.Errorf("entry %d, want %d", l.Index, next)
			}
			next++
			prev, prevTerm = l.Index, l.Term
			size += len(l.Data)
		}
		if size > appendBytesMax && len(part.Entries) > 1 {
			t.Errorf("part of %d entries has %d bytes", len(part.Entries), size)
		}
	}
	if next != 31 {
		t.Errorf("parts end at %d, want 31", next)
	}
	if parts := cutAppend(&raft.AppendEntriesRequest{Term: 1}); len(parts) != 1 {
		t.Errorf("%d parts of an empty request", len(parts))
	}
}

// TestPipelineIdle: a follower is behind when writes stop. raft sends it one request a commit timeout from then on, of so many
// entries as one takes; it must get all the others at once.
func TestPipelineIdle(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.timings.Commit = time.Second
		for _, name := range []string{"n1", "n2", "n3"} {
			w.add(name).appendMax = 4
		}
		members := w.members(true, w.nodes...)
		for _, n := range w.nodes {
			n.up(members)
		}
		l := w.waitLeader()
		f := w.follower(l)
		quick := f.faults.Add(vfs.Rule{Op: vfs.OpSync, Delay: 100 * ms})
		w.writes(400)
		quick()
		behind := l.group().Status().Last - f.group().Status().Last
		if behind < 100 {
			t.Fatalf("the follower is only %d entries behind", behind)
		}
		begin := time.Now()
		if !w.until(5*time.Second, func() bool { return f.caughtUp(l) }) {
			t.Errorf("the follower was %d entries behind, and is after %v: %s", behind, time.Since(begin), w.describe())
		}
		w.writes(5)
		w.finish()
	})
}
