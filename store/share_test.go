package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nyala/store/batch"
	"nyala/store/vfs"
)

// TestOneEncodes: of each flush the leader makes the files and the others copy them, but for those that they check.
func TestOneEncodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, ManagerOptions{FlushAge: time.Hour})
		defer g.close()
		const flushes = 64
		checks := [3]int{flushes, 0, 0}
		both := 0
		for i := range int64(flushes) {
			g.write(1, i, 2, i, 100+i, i)
			if err := g.managers[0].Checkpoint(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
			g.equal(int(i) + 1)
			n := 0
			for i, tb := range g.tablets[1:] {
				if tb.checks(g.tablets[0].Durable().Index) {
					checks[1+i]++
					n++
				}
			}
			both += n / 2
		}
		for i := range g.points {
			encoded, copied := int(g.points[i][FilesSynced].Load()), int(g.points[i][Copied].Load())
			if encoded != checks[i] || copied != flushes-checks[i] {
				t.Errorf("node %d encoded %d and copied %d of %d flushes, want %d encoded", i, encoded, copied, flushes, checks[i])
			}
		}
		if least := min(checks[1], checks[2]); least == 0 || max(checks[1], checks[2]) > flushes/4 || both > least {
			t.Errorf("of %d flushes the followers check %d, both of them %d", flushes, checks[1:], both)
		}
		if both == checks[1] && both == checks[2] {
			t.Errorf("both followers check the same %d flushes", both)
		}
	})
}

// TestEncodesWhatCannotBeCopied: a replica that reaches nobody, or whose peers send other bytes or hang, has the files all the same.
func TestEncodesWhatCannotBeCopied(t *testing.T) {
	for name, fetch := range map[string]func(ctx context.Context) (io.ReadCloser, error){
		"nobody there": func(context.Context) (io.ReadCloser, error) { return nil, errors.New("no route to host") },
		"hangs": func(ctx context.Context) (io.ReadCloser, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"other bytes": func(context.Context) (io.ReadCloser, error) {
			time.Sleep(100 * time.Millisecond)
			return io.NopCloser(strings.NewReader("rubbish")), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGroup(t, ManagerOptions{FlushAge: time.Hour})
				defer g.close()
				g.managers[2].options.Fetch = func(ctx context.Context, _ ID, _ string, _ int64) (io.ReadCloser, error) { return fetch(ctx) }
				g.write(1, 1, 2, 2)
				for g.checked() {
					g.write(1, 1)
				}
				if err := g.managers[0].Checkpoint(t.Context(), 3); err != nil {
					t.Fatal(err)
				}
				g.write(2, 3) // dies while node 2 waits
				time.Sleep(copyLimit + time.Second)
				g.equal(1)
				if n := g.points[2][CopyFailed].Load(); n != 1 || g.points[2][FilesSynced].Load() != 1 || g.points[1][Copied].Load() != 1 {
					t.Errorf("gave up copying %d times", n)
				}
				if names, err := g.managers[2].options.FS.List("d/3"); err != nil || len(names) != 3 {
					t.Errorf("left %v %v", names, err)
				}
			})
		})
	}
}

// TestNextLeaderHasFiles: when no Install comes for long the followers encode, so that the next leader can propose at once.
func TestNextLeaderHasFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, ManagerOptions{FlushAge: time.Hour})
		defer g.close()
		g.write(1, 1)
		for g.checked() {
			g.write(1, 1)
		}
		freeze := freezeCommand{}.entry()
		hang := make(chan struct{})
		g.turn <- struct{}{}
		g.hang = hang
		e := Entry{Index: uint64(len(g.log) + 1), Term: 1, Data: freeze}
		batch.Stamp(freeze, 5)
		g.log = append(g.log, e)
		<-g.turn
		for _, tb := range g.tablets {
			tb.Apply([]Entry{e})
		}
		time.Sleep(encodePatience - 2*time.Second)
		if n := g.points[1][FilesSynced].Load(); n != 0 {
			t.Errorf("a follower encoded %d times at once", n)
		}
		time.Sleep(4 * time.Second)
		if n := g.points[1][FilesSynced].Load(); n != 1 {
			t.Errorf("a follower encoded %d times after %v", n, encodePatience)
		}
		g.turn <- struct{}{}
		g.leader, g.hang = 1, nil
		<-g.turn
		time.Sleep(2 * time.Second)
		g.equal(1)
		close(hang)
		g.equal(1)
	})
}

// TestDifferenceIsNoticed: a replica that was not given what the leader was says so when it copies files, and in what it differs.
func TestDifferenceIsNoticed(t *testing.T) {
	for what, other := range map[string]func(s *single){
		"entries": func(s *single) { s.apply(pairs(batch.Upsert, 1, 1, 2, 99), 100) },
		"deaths": func(s *single) {
			s.apply(pairs(batch.Upsert, 1, 1, 2, 2), 100)
			s.mu.mem.deaths.set(1, 100)
		},
		"manifest before": func(s *single) {
			s.apply(pairs(batch.Upsert, 1, 1, 2, 2), 100)
			s.mu.horizon++ // what only a manifest tells
		},
	} {
		good, bad := newSingle(t, vfs.NewMem()), newSingle(t, vfs.NewMem())
		bad.manager.options.Fetch = func(_ context.Context, _ ID, name string, off int64) (io.ReadCloser, error) {
			return good.OpenFile(name, off)
		}
		good.apply(pairs(batch.Upsert, 1, 1, 2, 2), 100)
		other(bad)
		for flush := range 2 {
			both := func(data []byte) {
				good.apply(bytes.Clone(data), 0)
				bad.apply(bytes.Clone(data), 0)
			}
			for both(pairs(batch.Upsert, 3, int64(flush))); bad.checks(good.mu.applied + 1); {
				both(pairs(batch.Upsert, 3, int64(flush)))
			}
			both(freezeCommand{after: good.mu.lastFreeze}.entry())
			if err := errors.Join(good.work(), bad.work()); err != nil {
				t.Fatal(err)
			}
			if bad.mu.frozen[0].encoded != nil {
				t.Fatal("both encode")
			}
			both(good.installOf(good.mu.frozen[0]).entry())
			if err := errors.Join(good.work(), bad.work()); err != nil {
				t.Fatal(err)
			}
		}
		err := bad.Status().Differs
		if err == nil || !strings.Contains(err.Error(), ": "+what+" differ from the leader's") || !strings.Contains(err.Error(), "tablet 3: flush ") || good.Status().Differs != nil {
			t.Errorf("%s: got %v, the leader %v", what, err, good.Status().Differs)
		}
		good.apply(AdvanceEntry(0), 0)
		good.flush(0)
		d, body, _ := good.Manifest()
		if err := errors.Join(bad.Prepare(t.Context(), body, peerOf(good)), bad.Restore(d, body)); err != nil {
			t.Fatal(err)
		}
		if err := bad.Status().Differs; err != nil {
			t.Errorf("after a restore: %v", err)
		}
	}
}

// TestCopyKeepsLastOfEntry: of two rows of a key in one entry the first dies at its birth, which is the birth of the second, too. Where the
// file was copied and its rows are looked up by key and birth, that death is not the second one's.
func TestCopyKeepsLastOfEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, ManagerOptions{FlushAge: time.Hour})
		defer g.close()
		rows := []int64{7, 1, 7, 2}
		for k := range int64(4 * sortShare) { // few deaths, so that rows are not sorted again
			rows = append(rows, 100+k, k)
		}
		for g.write(rows...); g.checked(); {
			g.write(200, 1)
		}
		if err := g.managers[0].Checkpoint(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		g.equal(1)
		if g.points[1][Copied].Load() != 1 {
			t.Fatal("nothing was copied")
		}
		if alive := int64(len(rows)/2 - 1); g.tablets[1].Status().Rows < alive {
			t.Errorf("%d rows where the file was copied, want %d", g.tablets[1].Status().Rows, alive)
		}
	})
}
