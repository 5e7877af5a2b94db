package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"nyala/offsets"
	"nyala/store/vfs"
)

// raise is a command that always changes something.
func raise(next int64) Command {
	return RaiseCheckpoints{[]Checkpoint{{offsets.Source{Connector: "app"}, next}}}
}

func TestOrderOfFileCalls(t *testing.T) {
	rec := vfs.NewRecorder(vfs.NewMem())
	r := newReplica(t, rec)
	text := "open\n" + rec.Take()
	r.initialise(3)
	for range 2 { // the second has nothing to do
		if err := r.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	text += "save\n" + rec.Take()
	d, manifest, _ := r.Manifest()
	other := newReplica(t, rec)
	text += "reopen\n" + rec.Take()
	if err := other.Restore(d, manifest); err != nil {
		t.Fatal(err)
	}
	text += "restore\n" + rec.Take()
	golden(t, "calls", text)
}

// restart opens what survived and applies the log above the file.
func (r *replica) restart(t testing.TB, fsys vfs.FS) *replica {
	t.Helper()
	if faults := Check(fsys, "node/system"); len(faults) > 0 {
		t.Fatal(faults)
	}
	next := newReplica(t, fsys)
	next.log = r.log
	d := next.Durable()
	if d.Index < r.Durable().Index {
		t.Fatalf("durable index went from %d to %d", r.Durable().Index, d.Index)
	}
	next.Apply(r.log[d.Index:])
	return next
}

// bytesOf is a catalog's state as a file would have it.
func bytesOf(t rapid.TB, c *Catalog) []byte {
	t.Helper()
	c.mu.Lock()
	now := image{durable: c.mu.applied, state: c.view.Load(), checkpoints: c.mu.checkpoints}
	c.mu.Unlock()
	b, err := now.encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCrashes fails each call of a second save in turn, cuts the power there, and restarts.
func TestCrashes(t *testing.T) {
	cut := errors.New("cut")
	for _, op := range []vfs.Op{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpClose, vfs.OpRename, vfs.OpSyncDir, ""} {
		for seed := range uint64(40) {
			rng := rand.New(rand.NewPCG(seed, 1))
			mem := vfs.NewMem()
			faulty := vfs.NewFaulty(mem)
			r := newReplica(t, faulty)
			r.initialise(3)
			if err := r.Save(t.Context()); err != nil {
				t.Fatal(err)
			}
			saved := r.Durable().Index
			r.want(Done, CreateTable{events("events", 4, 1)})
			r.want(Done, raise(100))
			if op != "" {
				faulty.Add(vfs.Rule{Op: op, Err: cut, Short: rng.IntN(200)})
				if err := r.Save(t.Context()); !errors.Is(err, cut) {
					t.Fatalf("%s: got %v", op, err)
				}
				if got := r.Durable().Index; got != saved {
					t.Fatalf("%s: durable at %d after a failed save, want %d", op, got, saved)
				}
			} else if err := r.Save(t.Context()); err != nil {
				t.Fatal(err)
			}
			after := r.restart(t, mem.Crash(rng, rng.Float64()))
			if !bytes.Equal(bytesOf(t, after.Catalog), bytesOf(t, r.Catalog)) {
				t.Fatalf("%s, seed %d: another state after the crash", op, seed)
			}
			// The file that the crash left may have two names: the next save must not go through the other.
			after.want(Done, raise(101))
			if err := after.Save(t.Context()); err != nil {
				t.Fatal(err)
			}
			again := after.restart(t, after.options.FS.(*vfs.Mem).Crash(rng, rng.Float64()))
			if !bytes.Equal(bytesOf(t, again.Catalog), bytesOf(t, after.Catalog)) {
				t.Fatalf("%s, seed %d: another state after the second crash", op, seed)
			}
		}
	}
}

func TestSaveAfterAFailedOne(t *testing.T) {
	full := errors.New("no space left")
	faulty := vfs.NewFaulty(vfs.NewMem())
	r := newReplica(t, faulty)
	r.initialise(3)
	remove := faulty.Add(vfs.Rule{Op: vfs.OpWrite, Err: full})
	if err := r.Save(t.Context()); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	remove()
	if err := r.Save(t.Context()); err != nil || r.Durable().Index != 4 {
		t.Errorf("got %v, durable at %d", err, r.Durable().Index)
	}
}

func TestCorruptFilesAreRefused(t *testing.T) {
	mem := vfs.NewMem()
	r := newReplica(t, mem)
	r.initialise(3)
	r.want(Done, raise(7))
	if err := r.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, good, _ := r.Manifest()
	refused := func(what string, b []byte) {
		t.Helper()
		if err := vfs.ReplaceFile(mem, "node/system/catalog", b); err != nil {
			t.Fatal(err)
		}
		if faults := Check(mem, "node/system"); len(faults) != 1 || !errors.Is(faults[0], ErrCorrupt) {
			t.Errorf("%s: check: got %v", what, faults)
		}
		if _, err := Open(Options{FS: mem, Dir: "node/system"}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: open: got %v", what, err)
		}
		if err := r.Prepare(t.Context(), b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: prepare: got %v", what, err)
		}
		if err := r.Restore(d, b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: restore: got %v", what, err)
		}
	}
	for i := range good {
		if i%7 == 0 || i < imageHeader {
			b := bytes.Clone(good)
			b[i] ^= 0x20
			refused(fmt.Sprintf("byte %d", i), b)
		}
	}
	refused("empty", nil)
	refused("cut", good[:len(good)-1])
	refused("longer", append(bytes.Clone(good), 0))

	// A state that its checksum vouches for, but that no log gives.
	bad, err := parseImage(good)
	if err != nil {
		t.Fatal(err)
	}
	bad.state.NextTablet = 1
	b, err := bad.encode()
	if err != nil {
		t.Fatal(err)
	}
	refused("invariant", b)
}

func TestRestoreNeverGoesBack(t *testing.T) {
	a, b := newReplica(t, vfs.NewMem()), newReplica(t, vfs.NewMem())
	a.initialise(3)
	if d, manifest, err := a.Manifest(); d.Index != 0 || manifest != nil || err != nil {
		t.Errorf("manifest before the first save: %v, %q, %v", d, manifest, err)
	}
	if err := a.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, manifest, _ := a.Manifest()
	wrong := d
	wrong.Term++
	if err := b.Restore(wrong, manifest); err == nil {
		t.Error("a manifest of another term was taken")
	}
	view := b.Snapshot()
	if err := b.Restore(d, manifest); err != nil {
		t.Fatal(err)
	}
	select {
	case <-view.Superseded():
	default:
		t.Error("readers were not told of the restore")
	}
	if !bytes.Equal(bytesOf(t, a.Catalog), bytesOf(t, b.Catalog)) || b.Applied() != d.Index || b.Durable().Index != d.Index {
		t.Error("another state after the restore")
	}
	a.want(Done, register(4, 4))
	if err := a.Restore(d, manifest); err == nil || a.Applied() != 5 {
		t.Errorf("an older manifest was taken: %v", err)
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		c, err := Open(Options{FS: mem, Dir: "d", SaveEntries: 10, SaveAge: time.Minute, SaveSoon: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		r := &replica{Catalog: c, t: t}
		cuts := make(chan uint64, 10)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx, func() { cuts <- c.Durable().Index }) }()
		r.initialise(3)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if len(cuts) != 0 {
			t.Errorf("saved %d times before its time", len(cuts))
		}
		time.Sleep(10 * time.Minute) // by age, and then there is nothing more
		for i := range 12 {
			r.propose(raise(int64(i)))
		}
		synctest.Wait()
		r.propose(raise(12))
		tell(c.due) // by an entry that came while the last save had begun and not ended
		synctest.Wait()
		if len(cuts) != 2 {
			t.Errorf("saved %d times, want 2", len(cuts))
		}
		if byAge, byCount := <-cuts, <-cuts; byAge != 4 || byCount < 14 {
			t.Errorf("saved at %d and %d, want 4 and then 14 or more", byAge, byCount)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestRunSoon: what a start begins with is in the file soon; checkpoints, which move every second, are not.
func TestRunSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t, vfs.NewMem())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		saves := 0
		go func() { done <- r.Run(ctx, func() { saves++ }) }()
		step := func(want int) {
			t.Helper()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if saves != want {
				t.Fatalf("saved %d times, want %d", saves, want)
			}
		}
		r.initialise(3)
		r.want(Done, CreateTable{events("events", 4, 1)})
		step(1)
		r.want(Done, raise(100))
		step(1)
		r.want(Done, register(4, 4))
		step(2)
		step(2)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestRunEnds: Run ends although the disk does not answer, which only the end of the process helps against.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		faulty := vfs.NewFaulty(vfs.NewMem())
		r := newReplica(t, faulty)
		r.initialise(3)
		faulty.Add(vfs.Rule{Op: vfs.OpSync, Hang: hang})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx, func() {}) }()
		time.Sleep(time.Minute)
		cancel()
		begin := time.Now()
		if err := <-done; err != nil || time.Since(begin) > hangLimit {
			t.Errorf("ended after %v with %v", time.Since(begin), err)
		}
		close(hang)
	})
}

func TestRunReportsErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		faulty := vfs.NewFaulty(vfs.NewMem())
		r := newReplica(t, faulty)
		r.initialise(3)
		faulty.Add(vfs.Rule{Op: vfs.OpSync, Err: broken})
		if err := r.Run(t.Context(), func() { t.Error("told of a save that failed") }); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	})
}

// TestSlowDisk checks that nobody waits for a file but those who write it.
func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		faulty := vfs.NewFaulty(vfs.NewMem())
		r := newReplica(t, faulty)
		r.initialise(3)
		faulty.Add(vfs.Rule{Op: vfs.OpSync, Hang: hang})
		done := make(chan error)
		go func() { done <- r.Save(t.Context()) }()
		synctest.Wait()
		r.want(Done, register(4, 4))
		if r.Applied() != 5 || len(r.Snapshot().Nodes) != 4 {
			t.Error("apply waited for the disk")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Save(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second save: got %v", err)
		}
		close(hang)
		if err := <-done; err != nil || r.Durable().Index != 4 {
			t.Errorf("got %v, durable at %d", err, r.Durable().Index)
		}
	})
}

func TestOptions(t *testing.T) {
	_, err := Open(Options{SaveEntries: -1})
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("got %v, want two faults", err)
	}
}
