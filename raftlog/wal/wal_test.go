package wal

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"unsafe"

	"nyala/store/vfs"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// small are options with which a few records fill segments and caches.
func small() Options {
	return Options{SegmentBytes: 8 * pageSize, CacheBytes: 20_000, DrainBytes: 10_000, Salt: salts()}
}

func salts() func() uint64 {
	n := uint64(0)
	return func() uint64 { n++; return n * 0x9e3779b97f4a7c15 }
}

func open(t testing.TB, fsys vfs.FS, opts Options) *WAL {
	t.Helper()
	w, err := Open(fsys, "/wal", opts)
	check(t, err)
	return w
}

// entry makes a record whose bytes tell which one it is.
func entry(group, index, term uint64, size int) Record {
	text := fmt.Appendf(nil, "%d/%d/%d ", group, index, term)
	r := Record{Index: index, Term: term, Kind: uint8(index % 3), AppendedAt: int64(index * 1000)}
	r.Data = bytes.Repeat(text, size/len(text)+1)[:size]
	if index%4 == 0 {
		r.Extensions = text
	}
	return r
}

func entries(group, from, to, term uint64, size int) []Record {
	var rs []Record
	for i := from; i <= to; i++ {
		rs = append(rs, entry(group, i, term, size))
	}
	return rs
}

func same(a, b Record) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Kind == b.Kind && a.AppendedAt == b.AppendedAt &&
		bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Extensions, b.Extensions)
}

func wantRange(t testing.TB, g *GroupLog, first, last uint64) {
	t.Helper()
	if g.First() != first || g.Last() != last {
		t.Fatalf("group %d has [%d, %d], want [%d, %d]", g.id, g.First(), g.Last(), first, last)
	}
}

func wantEntries(t testing.TB, g *GroupLog, want []Record) {
	t.Helper()
	for _, r := range want {
		got, err := g.Get(r.Index)
		if err != nil || !same(got, r) {
			t.Fatalf("group %d: get %d: %v, term %d, %d bytes", g.id, r.Index, err, got.Term, len(got.Data))
		}
	}
}

func TestLife(t *testing.T) {
	fsys := vfs.NewMem()
	w := open(t, fsys, small())
	a, b := w.Group(1), w.Group(7)
	wantRange(t, a, 0, 0)
	if _, err := a.Get(1); err != ErrNotFound {
		t.Fatalf("empty: %v", err)
	}
	check(t, a.Append(entries(1, 1, 20, 1, 1500)))
	check(t, b.Append(entries(7, 100, 110, 2, 9000)))
	check(t, a.Set("term", []byte{5}))
	check(t, a.TruncateAfter(15))
	check(t, a.Append(entries(1, 16, 18, 2, 10)))
	check(t, b.CutBelow(105))
	if a.Append(entries(1, 20, 20, 2, 10)) == nil || a.Append(entries(1, 18, 18, 2, 10)) == nil || w.Group(9).Append(entries(9, 0, 0, 1, 1)) == nil {
		t.Fatal("an entry that does not follow was taken")
	}
	for range 2 {
		wantRange(t, a, 1, 18)
		wantRange(t, b, 105, 110)
		wantEntries(t, a, entries(1, 1, 15, 1, 1500))
		wantEntries(t, a, entries(1, 16, 18, 2, 10))
		wantEntries(t, b, entries(7, 105, 110, 2, 9000))
		if _, err := b.Get(104); err != ErrNotFound {
			t.Fatalf("cut: %v", err)
		}
		if got := a.Value("term"); !bytes.Equal(got, []byte{5}) || b.Value("term") != nil {
			t.Fatalf("value %v", got)
		}
		check(t, w.Close())
		if err := a.Append(entries(1, 19, 19, 2, 10)); err != ErrClosed {
			t.Fatalf("closed: %v", err)
		}
		w = open(t, fsys, small())
		a, b = w.Group(1), w.Group(7)
	}
	check(t, b.Reset(500))
	wantRange(t, b, 0, 0)
	if b.Append(entries(7, 111, 111, 3, 10)) == nil {
		t.Fatal("an entry that does not follow the reset was taken")
	}
	check(t, b.Append(entries(7, 500, 501, 3, 10)))
	check(t, w.Drop(1))
	check(t, w.Close())
	w = open(t, fsys, small())
	wantRange(t, w.Group(7), 500, 501)
	wantRange(t, w.Group(1), 0, 0)
	if w.Group(1).Value("term") != nil || len(w.Groups()) != 1 {
		t.Fatalf("dropped, but there: %v", w.Groups())
	}
	check(t, w.Group(1).Append(entries(1, 3, 4, 9, 10)))
	check(t, w.Close())
	w = open(t, fsys, small())
	wantRange(t, w.Group(1), 3, 4)
	check(t, w.Close())
}

// TestAlignment checks that payloads begin at multiples of 8 in the file and in memory.
func TestAlignment(t *testing.T) {
	fsys := vfs.NewMem()
	opts := small()
	opts.CacheBytes = -1
	w := open(t, fsys, opts)
	for i := range uint64(40) {
		check(t, w.Group(1).Append([]Record{entry(1, i+1, 1, int(i*31)%97)}))
		r, err := w.Group(1).Get(i + 1)
		check(t, err)
		if len(r.Data) > 0 && uintptr(unsafe.Pointer(&r.Data[0]))%8 != 0 {
			t.Fatalf("entry %d is at %p", i+1, &r.Data[0])
		}
	}
	for _, p := range w.Group(1).entries {
		if p.offset%8 != 0 {
			t.Fatalf("an entry begins at %d in its file", p.offset)
		}
	}
	check(t, w.Close())
}

// TestOnDisk has several goroutines use a log on the machine's own file system, with cuts that let
// its files be used again.
func TestOnDisk(t *testing.T) {
	dir := t.TempDir()
	opts := Options{SegmentBytes: 1 << 18, CacheBytes: 1 << 16}
	for life := range uint64(3) {
		w, err := Open(vfs.OS(), dir, opts)
		check(t, err)
		var wg sync.WaitGroup
		for id := range uint64(4) {
			wg.Go(func() {
				g := w.Group(id)
				if life > 0 && g.Last() != life*50 {
					t.Errorf("group %d ends with %d", id, g.Last())
				}
				for i := life*50 + 1; i <= life*50+50; i++ {
					r := entry(id, i, 1, 7000)
					if err := g.Append([]Record{r}); err != nil {
						t.Error(err)
					}
					if err := g.CutBelow(i - min(i, 10)); err != nil {
						t.Error(err)
					}
					for j := g.First(); j <= i; j++ {
						if got, err := g.Get(j); err != nil || !same(got, entry(id, j, 1, 7000)) {
							t.Errorf("group %d: get %d: %v", id, j, err)
						}
					}
				}
			})
		}
		wg.Wait()
		check(t, w.Close())
	}
	problems, err := Check(vfs.OS(), dir)
	if err != nil || len(problems) > 0 {
		t.Fatalf("%v, %v", problems, err)
	}
}
