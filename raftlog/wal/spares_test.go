package wal

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"nyala/store/vfs"
)

// TestSparesFollow: the files of a log that was cut are kept for as long as it needed as many of late. It then grows without a new file; when it has
// been smaller for long they go.
func TestSparesFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		w := open(t, fsys, small())
		g, next := w.Group(1), uint64(1)
		grow := func(segments int) {
			t.Helper()
			for w.Stats().Segments < segments {
				check(t, g.Append(entries(1, next, next, 1, 9000)))
				next++
			}
			synctest.Wait()
		}
		cut := func() {
			t.Helper()
			check(t, g.CutBelow(next))
			for at := w.Stats().Segments; w.Stats().Segments >= at; { // what is not needed any more is seen when a segment begins
				check(t, g.Append(entries(1, next, next, 1, 9000)))
				check(t, g.CutBelow(next))
				next++
			}
			check(t, g.Append(entries(1, next, next, 1, 10))) // which proves the new segment's header
			next++
			synctest.Wait()
		}
		files := func() []string {
			t.Helper()
			names, err := fsys.List("/wal")
			check(t, err)
			return names
		}
		const peak = 20
		grow(peak)
		cut()
		before := files()
		if s := w.Stats(); s.Spares+s.Segments < peak {
			t.Fatalf("%d segments and %d free files, want %d together", s.Segments, s.Spares, peak)
		}
		for range 3 {
			grow(peak)
			cut()
		}
		if after := files(); !slices.Equal(after, before) {
			t.Errorf("got files %v, want those that were there, %v", after, before)
		}
		check(t, w.Close())
		w = open(t, fsys, small())
		g = w.Group(1)
		synctest.Wait()
		grow(peak)
		cut()
		if after := files(); !slices.Equal(after, before) {
			t.Errorf("after a restart: got files %v, want those that were there, %v", after, before)
		}
		for range 3 {
			time.Sleep(usageWindow)
			grow(6)
			cut()
		}
		if s := w.Stats(); s.Spares+s.Segments > 8 {
			t.Errorf("%d segments and %d free files long after there were many", s.Segments, s.Spares)
		}
		check(t, w.Close())
	})
}
