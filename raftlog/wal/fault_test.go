package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nyala/store/vfs"
)

// TestOrder pins the calls that make things durable, and their order.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := vfs.NewRecorder(vfs.NewMem())
		opts := Options{SegmentBytes: 4 * pageSize, SpareSegments: 1, Salt: salts()}
		var got strings.Builder
		step := func(title string, do func() error) {
			t.Helper()
			check(t, do())
			synctest.Wait() // for the tidier
			fmt.Fprintf(&got, "-- %s\n%s", title, byGoroutine(rec.Take()))
		}
		var w *WAL
		reopen := func() (err error) { w, err = Open(rec, "/wal", opts); return err }
		add := func(i uint64) func() error {
			return func() error { return w.Group(1).Append(entries(1, i, i, 1, 3000)) }
		}
		step("a new log: the tidier prepares a file", reopen)
		step("the first append begins a segment in it; the next file is prepared", add(1))
		step("an append", add(2))
		step("a value", func() error { return w.Group(1).Set("term", []byte{1}) })
		step("nothing to truncate", func() error { return w.Group(1).TruncateAfter(2) })
		step("an append that does not fit", add(3))
		step("a cut", func() error { return w.Group(1).CutBelow(4) })
		step("an append that carries the cut", add(4))
		step("truncate", func() error { return w.Group(1).TruncateAfter(3) })
		step("reset: the next segment frees the older ones", func() error { return w.Group(1).Reset(9) })
		step("close", func() error { return w.Close() })
		step("open: the last drain and the newest header again, then all is synced", reopen)
		step("close when nothing was written", func() error { return w.Close() })
		if got.String() != orderGolden {
			t.Fatalf("got:\n%s", got.String())
		}
	})
}

// byGoroutine puts what the writer did in a step before what the tidier did beside it, each in its order: the
// tidier's calls are those from a create on, but for the writer's on files that exist.
func byGoroutine(calls string) string {
	var writer, tidier strings.Builder
	created := ""
	for _, line := range strings.SplitAfter(calls, "\n") {
		op, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ = strings.Cut(name, " ")
		if op == "create" {
			created = name
		}
		if created != "" && (name == created || op == "syncdir") {
			tidier.WriteString(line)
		} else {
			writer.WriteString(line)
		}
	}
	return writer.String() + tidier.String()
}

const orderGolden = `-- a new log: the tidier prepares a file
mkdirall /wal
syncdir /
syncdir /wal
create /wal/00000001.wal
write /wal/00000001.wal 0+4096
write /wal/00000001.wal 4096+12288
sync /wal/00000001.wal
syncdir /wal
-- the first append begins a segment in it; the next file is prepared
write /wal/00000001.wal 0+8192
sync /wal/00000001.wal
create /wal/00000002.wal
write /wal/00000002.wal 0+4096
write /wal/00000002.wal 4096+12288
sync /wal/00000002.wal
syncdir /wal
-- an append
write /wal/00000001.wal 8192+4096
sync /wal/00000001.wal
-- a value
write /wal/00000001.wal 12288+4096
sync /wal/00000001.wal
-- nothing to truncate
-- an append that does not fit
write /wal/00000002.wal 0+8192
sync /wal/00000002.wal
create /wal/00000003.wal
write /wal/00000003.wal 0+4096
write /wal/00000003.wal 4096+12288
sync /wal/00000003.wal
syncdir /wal
-- a cut
-- an append that carries the cut
write /wal/00000002.wal 8192+4096
sync /wal/00000002.wal
-- truncate
write /wal/00000002.wal 12288+4096
sync /wal/00000002.wal
-- reset: the next segment frees the older ones
write /wal/00000003.wal 0+8192
sync /wal/00000003.wal
-- close
write /wal/00000003.wal 8192+4096
sync /wal/00000003.wal
-- open: the last drain and the newest header again, then all is synced
mkdirall /wal
syncdir /
openfile /wal/00000001.wal
openfile /wal/00000002.wal
openfile /wal/00000003.wal
write /wal/00000003.wal 0+4096
write /wal/00000003.wal 8192+4096
sync /wal/00000002.wal
sync /wal/00000003.wal
syncdir /wal
-- close when nothing was written
`

// TestPoison fails one sync: the log refuses everything from then on and never writes again.
func TestPoison(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpSync} {
		rec := vfs.NewRecorder(vfs.NewMem())
		faulty := vfs.NewFaulty(rec)
		opts := small()
		opts.SpareSegments, opts.CacheBytes = -1, -1
		w := open(t, faulty, opts)
		g := w.Group(1)
		check(t, g.Append(entries(1, 1, 2, 1, 100)))
		faulty.Add(vfs.Rule{Op: op, Count: 1, Err: errFault, Short: 70})
		rec.Take()
		first := g.Append(entries(1, 3, 3, 1, 100))
		if !errors.Is(first, errFault) || w.Err() == nil {
			t.Fatalf("%s: %v, %v", op, first, w.Err())
		}
		if calls := rec.Take(); strings.Contains(calls, "sync") {
			t.Fatalf("%s: synced after the fault: %s", op, calls)
		}
		for i, err := range []error{
			g.Append(entries(1, 3, 3, 1, 100)), g.Set("a", nil), g.TruncateAfter(1), g.Reset(9), w.Drop(1), g.CutBelow(2), w.Close(),
		} {
			if err == nil || err.Error() != first.Error() {
				t.Errorf("%s, call %d: %v", op, i, err)
			}
		}
		if calls := rec.Take(); calls != "" {
			t.Fatalf("%s: poisoned, but: %s", op, calls)
		}
		wantRange(t, g, 1, 2)
	}
}

// TestPoisonedReads serves what is durable after the poisoning, also from the file.
func TestPoisonedReads(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	opts := small()
	opts.CacheBytes = -1
	w := open(t, faulty, opts)
	check(t, w.Group(1).Append(entries(1, 1, 2, 1, 100)))
	faulty.Add(vfs.Rule{Op: vfs.OpSync, Err: errFault})
	if w.Group(1).Append(entries(1, 3, 3, 1, 100)) == nil {
		t.Fatal("appended")
	}
	wantEntries(t, w.Group(1), entries(1, 1, 2, 1, 100))
	if _, err := w.Group(1).Get(3); err != ErrNotFound {
		t.Fatalf("get 3: %v", err)
	}
	if err := w.Close(); !errors.Is(err, errFault) {
		t.Fatal(err)
	}
}

// TestDeadline hangs the disk: who waits is answered after WriteTimeout, and so is Close.
func TestDeadline(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpSync} {
		synctest.Test(t, func(t *testing.T) {
			faulty := vfs.NewFaulty(vfs.NewMem())
			w := open(t, faulty, Options{SegmentBytes: 1 << 20, WriteTimeout: 700 * time.Millisecond})
			check(t, w.Group(1).Append(entries(1, 1, 1, 1, 100)))
			synctest.Wait()
			release := make(chan struct{})
			faulty.Add(vfs.Rule{Op: op, Hang: release})
			start := time.Now()
			var wg sync.WaitGroup
			for id := range uint64(3) {
				wg.Go(func() {
					time.Sleep(time.Duration(id) * 100 * time.Millisecond)
					if err := w.Group(id + 1).Append(entries(id+1, 2, 2, 1, 100)); !errors.Is(err, ErrDeadline) {
						t.Errorf("group %d: %v", id+1, err)
					}
				})
			}
			wg.Wait()
			if took := time.Since(start); took != 700*time.Millisecond {
				t.Errorf("answered after %v", took)
			}
			if err := w.Group(5).Set("a", nil); !errors.Is(err, ErrDeadline) || !errors.Is(w.Err(), ErrDeadline) {
				t.Errorf("afterwards: %v", err)
			}
			if err := w.Close(); !errors.Is(err, ErrDeadline) {
				t.Errorf("close: %v", err)
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("closed after %v", took)
			}
			close(release)
			synctest.Wait()
			wantRange(t, w.Group(1), 1, 1)
		})
	}
}

// TestSlowButInTime is not a hang.
func TestSlowButInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faulty := vfs.NewFaulty(vfs.NewMem(), vfs.Rule{Op: vfs.OpSync, Delay: 900 * time.Millisecond})
		w := open(t, faulty, small())
		var told time.Duration
		w.opts.OnSync = func(took time.Duration, _ int64) { told = took }
		check(t, w.Group(1).Append(entries(1, 1, 1, 1, 100)))
		if told != 900*time.Millisecond {
			t.Fatalf("told of %v", told)
		}
		check(t, w.Close())
	})
}

// TestGroupCommit has many groups append at once on a slow disk: they share its syncs.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faulty := vfs.NewFaulty(vfs.NewMem(), vfs.Rule{Op: vfs.OpSync, Delay: 10 * time.Millisecond})
		w := open(t, faulty, Options{SegmentBytes: 8 << 20, SpareSegments: -1})
		start := time.Now()
		var wg sync.WaitGroup
		for id := range uint64(100) {
			wg.Go(func() {
				for i := range uint64(20) {
					if err := w.Group(id).Append(entries(id, i+1, i+1, 1, 1000)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		s := w.Stats()
		if s.Records != 2000 || s.Syncs > 42 || time.Since(start) > 420*time.Millisecond {
			t.Fatalf("%d records in %d syncs and %v", s.Records, s.Syncs, time.Since(start))
		}
		check(t, w.Close())
	})
}

// TestLargeAppend splits what is more than a drain, and writes what is more than a segment.
func TestLargeAppend(t *testing.T) {
	m := vfs.NewMem()
	w := open(t, m, small())
	rs := slices.Concat(entries(1, 1, 30, 1, 4000), entries(1, 31, 31, 1, 100_000), entries(1, 32, 40, 1, 1))
	check(t, w.Group(1).Append(rs))
	if n := w.Stats().Syncs; n < 10 {
		t.Fatalf("%d syncs", n)
	}
	m = m.Crash(rand.New(rand.NewPCG(1, 1)), 0)
	w.Close()
	w = open(t, m, small())
	wantRange(t, w.Group(1), 1, 40)
	wantEntries(t, w.Group(1), rs)
	check(t, w.Close())
}

// TestCache bounds the bytes in memory, keeps the newest, and serves the rest from the files.
func TestCache(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	opts := small()
	w := open(t, faulty, opts)
	for i := uint64(1); i <= 60; i++ {
		check(t, w.Group(i%3).Append(entries(i%3, i/3+1, i/3+1, 1, 1000)))
		if n := w.Stats().CacheBytes; n > opts.CacheBytes {
			t.Fatalf("%d bytes are cached", n)
		}
	}
	remove := faulty.Add(vfs.Rule{Op: vfs.OpRead, Err: errFault})
	for i := uint64(60); i > 45; i-- {
		if _, err := w.Group(i % 3).Get(i/3 + 1); err != nil {
			t.Fatalf("entry %d from the end: %v", 61-i, err)
		}
	}
	if _, err := w.Group(1).Get(1); !errors.Is(err, errFault) {
		t.Fatalf("an old entry: %v", err)
	}
	remove()
	for id := range uint64(3) {
		wantEntries(t, w.Group(id), entries(id, w.Group(id).First(), w.Group(id).Last(), 1, 1000))
		check(t, w.Group(id).CutBelow(1000))
	}
	if n := w.Stats().CacheBytes; n != 0 {
		t.Fatalf("%d bytes of cut entries are cached", n)
	}
	check(t, w.Close())
}

// TestPins says who holds what, and that segments go when nobody does.
func TestPins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		w := open(t, m, small())
		check(t, w.Group(3).Append(entries(3, 5, 5, 1, 10)))
		check(t, w.Group(4).Set("vote", []byte("n2")))
		for i := uint64(1); i <= 200; i++ {
			check(t, w.Group(1).Append(entries(1, i, i, 1, 3000)))
			check(t, w.Group(1).CutBelow(i))
		}
		pins := w.Pins()
		if len(pins) != 2 || pins[0].Group != 3 || pins[0].Segment != 1 || pins[0].First != 5 || pins[1].Group != 1 || pins[1].First != 200 {
			t.Fatalf("pins %v", pins)
		}
		// Group 3's one entry holds its segment, but not those behind it.
		if s := w.Stats(); s.Segments > 5 || s.LogBytes > 5*8*pageSize {
			t.Fatalf("%d segments of %d bytes", s.Segments, s.LogBytes)
		}
		synctest.Wait()
		if names, _ := m.List("/wal"); len(names) > 12 {
			t.Fatalf("files %v", names)
		}
		check(t, w.Close())
		w = open(t, m, small())
		wantEntries(t, w.Group(3), entries(3, 5, 5, 1, 10))
		if got := w.Group(4).Value("vote"); string(got) != "n2" {
			t.Fatalf("the vote of long ago is %q", got)
		}
		check(t, w.Close())
	})
}

// TestDump pins the print of a small log.
func TestDump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		opts := Options{SegmentBytes: 4 * pageSize, SpareSegments: 1, Salt: salts()}
		w := open(t, m, opts)
		synctest.Wait()
		check(t, w.Group(1).Append(entries(1, 3, 4, 2, 20)))
		check(t, w.Group(2).Set("vote", []byte("n1")))
		synctest.Wait() // until the next file is ready
		check(t, w.Group(2).Append(entries(2, 1, 1, 1, 5000)))
		synctest.Wait()
		check(t, w.Drop(2))
		synctest.Wait()
		check(t, w.Close())
		var out bytes.Buffer
		check(t, Dump(m, "/wal", &out))
		if out.String() != dumpGolden {
			t.Fatalf("got:\n%s", out.String())
		}
	})
}

const dumpGolden = `00000001.wal: 16384 bytes, segment 1, live, salt 9e3779b97f4a7c15, created 2000-01-01T00:00:00.000000Z, first drain 1, synced 0
        4096 drain 1, 232 bytes, synced 0, written 2000-01-01T00:00:00.000000Z
        4160   group 1 entry 3 term 2 kind 0, 20 bytes
        4240   group 1 entry 4 term 2 kind 1, 20 bytes and 6
        8192 drain 2, 144 bytes, synced 1, written 2000-01-01T00:00:00.000000Z
        8256   group 2 state, entries [0, 0), "vote"=6e31
       12288 end: no drain
00000002.wal: 16384 bytes, segment 2, live, salt 3c6ef372fe94f82a, created 2000-01-01T00:00:00.000000Z, first drain 3, synced 2
  needs segment 1 to 12288, drain 2
        4096 drain 3, 5120 bytes, synced 2, written 2000-01-01T00:00:00.000000Z
        4160   group 2 entry 1 term 1 kind 1, 5000 bytes
       12288 drain 4, 128 bytes, synced 3, written 2000-01-01T00:00:00.000000Z
       12352   group 2 dropped
       16384 end: no drain
00000003.wal: 16384 bytes, segment 3, current, salt daa66d2c7ddf743f, created 2000-01-01T00:00:00.000000Z, first drain 5, synced 4
  needs segment 1 to 12288, drain 2
  needs segment 2 to 16384, drain 4
        4096 drain 5, 128 bytes, synced 4, written 2000-01-01T00:00:00.000000Z, closes the log
        4160   group 2 dropped
        8192 end: no drain
`

func TestOptions(t *testing.T) {
	_, err := Open(vfs.NewMem(), "/wal", Options{SegmentBytes: 5000, DrainBytes: -1})
	if err == nil || !strings.Contains(err.Error(), "segment bytes") || !strings.Contains(err.Error(), "drain bytes") {
		t.Fatal(err)
	}
}
