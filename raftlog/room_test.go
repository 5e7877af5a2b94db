package raftlog

import (
	"bytes"
	"context"
	"testing"
	"time"
)

// shortage is memory that may be short.
type shortage struct{ over chan struct{} } // closed: there is room

func (s *shortage) await(ctx context.Context) error {
	select {
	case <-s.over:
		return nil
	default:
	}
	select {
	case <-s.over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestFollowerWithoutRoom: a follower whose memory is short takes large entries slowly, and small ones at once. It neither
// stands for election nor holds up the others, and has everything soon after memory is back.
func TestFollowerWithoutRoom(t *testing.T) {
	const appendMax = 4
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		for _, n := range w.nodes {
			n.stop()
			n.appendMax = appendMax
			n.up(nil)
		}
		l := w.waitLeader()
		w.writes(1)
		var f *node
		for _, n := range w.nodes {
			if n != l {
				f = n
			}
		}
		f.stop()
		short := &shortage{make(chan struct{})}
		f.room = short.await
		f.up(nil)
		if !w.until(10*time.Second, func() bool { return f.caughtUp(l) }) {
			t.Fatal(w.describe())
		}
		small := f.group().Applied()
		w.writes(5)
		if !w.until(time.Second, func() bool { return f.group().Applied() >= small+5 }) {
			t.Errorf("small entries wait: %s", w.describe())
		}
		term := l.group().Status().Term
		before := f.group().Applied()
		const entries, size, seconds = 80, 512 << 10, 10
		for range entries {
			if _, err := l.group().Propose(t.Context(), command(string(bytes.Repeat([]byte{'x'}, size)))); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(seconds * time.Second)
		if got := f.group().Applied() - before; got == 0 || got > (seconds+pipelineDepth)*appendMax {
			t.Errorf("%d large entries applied in %d s without room", got, seconds)
		}
		if f.log.Stats().Squeezed == 0 {
			t.Error("nothing was squeezed in")
		}
		close(short.over)
		if !w.until(5*time.Second, func() bool { return f.caughtUp(l) }) {
			t.Errorf("not caught up: %s", w.describe())
		}
		if now := l.group().Status().Term; now != term || !l.group().IsLeader() {
			t.Errorf("term %d, was %d: %s", now, term, w.describe())
		}
		w.finish()
	})
}

// TestForwardedWithoutRoom: what another node proposes to a leader whose memory is short waits, and is taken in the end.
func TestForwardedWithoutRoom(t *testing.T) {
	sim(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot("n1", "n2", "n3")
		short := &shortage{make(chan struct{})}
		for _, n := range w.nodes {
			n.stop()
			n.room = short.await
			n.up(nil)
		}
		l := w.waitLeader()
		f := w.nodes[0]
		if f == l {
			f = w.nodes[1]
		}
		if !w.until(10*time.Second, func() bool { _, known := f.group().Leader(); return known }) {
			t.Fatal(w.describe())
		}
		begin := time.Now()
		if _, err := f.group().Propose(t.Context(), command(string(make([]byte, 256<<10)))); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < time.Second || took > 10*time.Second { // a second at the leader, a second at a follower
			t.Errorf("took %v without room", took)
		}
		close(short.over)
		begin = time.Now()
		if _, err := f.group().Propose(t.Context(), command(string(make([]byte, 256<<10)))); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("took %v with room", took)
		}
		w.finish()
	})
}
