package wal

import (
	"errors"
	"path"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nyala/store/vfs"
)

// plainFS hides that a file system has direct writes.
type plainFS struct{ vfs.FS }

// TestDirectIsTheSame writes one log past the page cache and one through it. Not a byte differs.
func TestDirectIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		direct, plain := vfs.NewMem(), vfs.NewMem()
		calls := map[*vfs.Mem]string{}
		for mem, fsys := range map[*vfs.Mem]vfs.FS{direct: direct, plain: plainFS{plain}} {
			rec := vfs.NewRecorder(mem)
			fsys = fsysOf(fsys, rec)
			w := open(t, fsys, Options{SegmentBytes: 1 << 20, SpareSegments: 1, Salt: func() uint64 { return 7 }})
			synctest.Wait()
			for i, size := range []int{0, 1, 3000, 4096, 100_000, 700_000, 2 << 20, 5_000_001, 7} {
				check(t, w.Group(1).Append([]Record{entry(1, uint64(i+1), 1, size)}))
				synctest.Wait()
			}
			check(t, w.Close())
			calls[mem] = rec.Take()
		}
		names, err := direct.List("/wal")
		check(t, err)
		for _, name := range names {
			a, err := vfs.ReadFile(direct, path.Join("/wal", name))
			check(t, err)
			b, err := vfs.ReadFile(plain, path.Join("/wal", name))
			check(t, err)
			if string(a) != string(b) {
				t.Errorf("%s differs", name)
			}
		}
		if calls[direct] == calls[plain] {
			t.Error("the largest drain was not written in pieces: was any write direct?")
		}
	})
}

// fsysOf puts a recorder between the log and its memory.
func fsysOf(fsys vfs.FS, rec *vfs.Recorder) vfs.FS {
	if _, ok := fsys.(plainFS); ok {
		return plainFS{rec}
	}
	return rec
}

// TestDisk reads from a real disk, through the page cache, while segments are used again and written
// past it: whoever reads an entry gets what was written last.
func TestDisk(t *testing.T) {
	const groups, rounds, keep = 3, 150, 12
	dir := t.TempDir()
	opts := Options{SegmentBytes: 64 * pageSize, CacheBytes: -1, WriteTimeout: time.Minute}
	w, err := Open(vfs.OS(), dir, opts)
	check(t, err)
	size := func(i uint64) int { return int(i*7919) % 30_000 }
	var wg sync.WaitGroup
	for id := range uint64(groups) {
		g := w.Group(id + 1)
		done := make(chan struct{})
		wg.Go(func() {
			defer close(done)
			for i := uint64(1); i <= rounds; i++ {
				if err := g.Append([]Record{entry(id+1, i, 1, size(i))}); err != nil {
					t.Error(err)
					return
				}
				for j := max(i, keep) - keep + 1; j <= i; j++ {
					if r, err := g.Get(j); err != nil || !same(r, entry(id+1, j, 1, size(j))) {
						t.Errorf("group %d, after %d: get %d: %v", id+1, i, j, err)
						return
					}
				}
				if err := g.CutBelow(max(i+2, keep) - keep); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				// What another goroutine cuts meanwhile is not found; damage is never seen.
				if _, err := g.Get(g.Last()); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	check(t, w.Close())
	if files, lives := w.mu.nextSlot, w.writer.number; files > lives/2 {
		t.Errorf("%d files for %d segments, want them to be used again", files, lives)
	}
	if w, err = Open(vfs.OS(), dir, opts); err != nil {
		t.Fatal(err)
	}
	for id := range uint64(groups) {
		for j := uint64(rounds - keep + 2); j <= rounds; j++ {
			wantEntries(t, w.Group(id+1), []Record{entry(id+1, j, 1, size(j))})
		}
	}
	check(t, w.Close())
}
