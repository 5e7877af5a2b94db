package vfs

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"path"
	"testing"
)

func TestDirect(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, "a")
		if err := errorOf(OpenDirect(fsys, name)); err == nil {
			t.Fatal("a missing file was opened")
		}
		f, err := fsys.Create(name)
		check(t, err)
		d, err := OpenDirect(fsys, name)
		check(t, err)
		want := make([]byte, 4*DirectAlignment)
		got := make([]byte, len(want))
		for round := range 20 {
			p := AlignedBytes(2 * DirectAlignment)
			for i := range p {
				p[i] = byte(round + i*7)
			}
			off := round % 3 * DirectAlignment
			copy(want[off:], p)
			if n, err := d.WriteAt(p, int64(off)); n != len(p) || err != nil {
				t.Fatalf("write: %d, %v", n, err)
			}
			if round%2 == 0 {
				check(t, d.Sync())
			}
			size, err := d.Size()
			check(t, err)
			if n, err := f.ReadAt(got[:size], 0); err != nil || !bytes.Equal(got[:n], want[:size]) {
				t.Fatalf("round %d: read of %d through the page cache: %v", round, n, err)
			}
		}
		check(t, d.Close())
		check(t, f.Close())
	})
}

// TestCreateDirect writes a file in pieces as a flush does, aligned or not, reads it back, and cuts the power: after
// a Sync all of it is there, whichever way it went.
func TestCreateDirect(t *testing.T) {
	page := AlignedBytes(2*directLeast + 100)
	for i := range page {
		page[i] = byte(i*7 + i>>12)
	}
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		var want []byte
		name := path.Join(dir, "a")
		for _, sizes := range [][]int{{100}, {2 * directLeast, 100}, {directLeast - 1, directLeast}, {directLeast, directLeast, 2*directLeast + 100}, {len(page), len(page)}} {
			f, err := CreateDirect(fsys, name)
			check(t, err)
			want = want[:0]
			for _, n := range sizes {
				if k, err := f.WriteAt(page[:n], int64(len(want))); k != n || err != nil {
					t.Fatalf("%d: wrote %d of %d: %v", sizes, k, n, err)
				}
				want = append(want, page[:n]...)
			}
			check(t, f.Sync())
			check(t, f.Close())
			got, err := ReadFile(fsys, name)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d: %d bytes, want %d: %v", sizes, len(got), len(want), err)
			}
		}
		if m, ok := fsys.(*Mem); ok {
			check(t, errors.Join(m.SyncDir("/"), m.SyncDir(dir)))
			got, err := ReadFile(m.Crash(rand.New(rand.NewPCG(1, 1)), 0), name)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("after a crash: %v", err)
			}
		}
	})
}

// TestCreateDirectFails has the direct part fail, and the rest: what was written before is told.
func TestCreateDirectFails(t *testing.T) {
	if err := errorOf(CreateDirect(NewFaulty(NewMem(), Rule{Op: OpOpenFile, Err: ErrLocked}), "/a")); !errors.Is(err, ErrLocked) {
		t.Errorf("open: %v", err)
	}
	page := AlignedBytes(directLeast + 100)
	for after, want := range []int{0, directLeast} {
		f, err := CreateDirect(NewFaulty(NewMem(), Rule{Op: OpWrite, After: after, Err: ErrLocked}), "/a")
		check(t, err)
		if n, err := f.WriteAt(page, 0); n != want || !errors.Is(err, ErrLocked) {
			t.Errorf("write %d fails: %d bytes, want %d, %v", after, n, want, err)
		}
		check(t, f.Close())
	}
}

// TestDirectUnaligned has a memory refuse what a disk may refuse, and the disk get over it.
func TestDirectUnaligned(t *testing.T) {
	m := NewMem()
	name := path.Join(t.TempDir(), "a")
	for where, fsys := range map[string]FS{"/a": m, name: OS()} {
		f, err := fsys.Create(where)
		check(t, err)
		d, err := OpenDirect(fsys, where)
		check(t, err)
		page := AlignedBytes(2 * DirectAlignment)
		page[1] = 'x'
		for _, bad := range []error{
			errorOf(d.WriteAt(page[:100], 0)),
			errorOf(d.WriteAt(page[1:1+DirectAlignment], 0)),
			errorOf(d.WriteAt(page[:DirectAlignment], 100)),
		} {
			if (bad != nil) != (fsys == FS(m)) {
				t.Errorf("%s: %v", where, bad)
			}
		}
		check(t, d.Close())
		check(t, f.Close())
	}
	if b, err := ReadFile(OS(), name); err != nil || len(b) != 100+DirectAlignment || b[0] != 'x' || b[101] != 'x' {
		t.Fatalf("%v, %d bytes", err, len(b))
	}
}

// TestFaultyDirect writes only whole pages before a fault.
func TestFaultyDirect(t *testing.T) {
	m := NewMem()
	f, err := m.Create("/a")
	check(t, err)
	fsys := NewFaulty(m, Rule{Op: OpWrite, Short: DirectAlignment + 5, Err: ErrLocked})
	d, err := OpenDirect(fsys, "/a")
	check(t, err)
	if n, err := d.WriteAt(AlignedBytes(2*DirectAlignment), 0); n != DirectAlignment || err == nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	if size, err := f.Size(); size != DirectAlignment || err != nil {
		t.Fatalf("size %d, %v", size, err)
	}
}
