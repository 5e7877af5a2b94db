package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"reflect"
	"strings"
	"testing"
)

// everyFS runs a test on each file system, in an empty directory.
func everyFS(t *testing.T, test func(t *testing.T, fsys FS, dir string)) {
	t.Run("os", func(t *testing.T) { test(t, OS(), t.TempDir()) })
	t.Run("mem", func(t *testing.T) {
		m := NewMem()
		check(t, m.MkdirAll("/data"))
		test(t, m, "/data")
	})
	t.Run("faulty without rules, recorded", func(t *testing.T) {
		test(t, NewRecorder(NewFaulty(OS())), t.TempDir())
	})
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, "a")
		f, err := fsys.Create(name)
		check(t, err)
		for _, part := range []string{"hello ", "world"} {
			n, err := f.Write([]byte(part))
			check(t, err)
			if n != len(part) {
				t.Fatalf("wrote %d", n)
			}
		}
		if _, err := f.WriteAt([]byte("W"), 6); err != nil {
			t.Fatal(err)
		}
		if n, err := f.WritevAt([][]byte{[]byte("x"), nil, []byte("yz")}, 13); n != 3 || err != nil {
			t.Fatalf("writev: %d, %v", n, err)
		}
		check(t, f.Sync())
		if size, err := f.Size(); size != 16 || err != nil {
			t.Fatalf("size %d, %v", size, err)
		}
		check(t, f.Truncate(15))
		check(t, f.Truncate(17))
		check(t, f.Close())
		got, err := ReadFile(fsys, name)
		check(t, err)
		if want := "hello World\x00\x00xy\x00\x00"; string(got) != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if size, err := fsys.Stat(name); size != 17 || err != nil {
			t.Fatalf("stat: %d, %v", size, err)
		}
		testReading(t, fsys, name)
	})
}

func testReading(t *testing.T, fsys FS, name string) {
	f, err := fsys.Open(name)
	check(t, err)
	p := make([]byte, 5)
	if n, err := f.ReadAt(p, 15); n != 2 || err != io.EOF {
		t.Fatalf("read over the end: %d, %v", n, err)
	}
	if n, err := f.ReadAt(p, 99); n != 0 || err != io.EOF {
		t.Fatalf("read behind the end: %d, %v", n, err)
	}
	if n, err := f.ReadAt(p, 6); n != 5 || err != nil || string(p) != "World" {
		t.Fatalf("read: %d, %v, %q", n, err, p)
	}
	if _, err := f.ReadAt(p, -1); err == nil {
		t.Fatal("a negative offset can be read")
	}
	if _, err := f.WriteAt(p, 0); err == nil {
		t.Fatal("a file opened for reading can be written")
	}
	check(t, f.Close())
	if _, err := f.ReadAt(p, 0); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("read after close: %v", err)
	}
}

func TestOpening(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, "a")
		for _, err := range []error{
			errorOf(fsys.Open(name)),
			errorOf(fsys.Stat(name)),
			errorOf(fsys.Create(path.Join(dir, "none", "a"))),
			errorOf(fsys.List(path.Join(dir, "none"))),
			fsys.Remove(name), fsys.Rename(name, name+"b"), fsys.SyncDir(name),
		} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v, want ErrNotExist", err)
			}
		}
		f, err := fsys.OpenFile(name)
		check(t, err)
		if _, err := f.WriteAt([]byte("abc"), 0); err != nil {
			t.Fatal(err)
		}
		check(t, f.Close())
		f, err = fsys.OpenFile(name)
		check(t, err)
		if size, err := f.Size(); size != 3 || err != nil {
			t.Fatalf("opened again: %d, %v", size, err)
		}
		check(t, f.Close())
		f, err = fsys.Create(name)
		check(t, err)
		if size, err := f.Size(); size != 0 || err != nil {
			t.Fatalf("created again: %d, %v", size, err)
		}
		check(t, f.Close())
	})
}

func errorOf[T any](_ T, err error) error { return err }

func TestDirectories(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		check(t, MakeDir(fsys, path.Join(dir, "d/e")))
		check(t, fsys.MkdirAll(path.Join(dir, "d/e")))
		for _, name := range []string{"d/z", "d/b"} {
			check(t, ReplaceFile(fsys, path.Join(dir, name), []byte(name)))
		}
		check(t, fsys.SyncDir(path.Join(dir, "d")))
		wantList(t, fsys, path.Join(dir, "d"), "b", "e", "z")
		if err := fsys.MkdirAll(path.Join(dir, "d/b/c")); err == nil {
			t.Fatal("a directory in a file")
		}
		if err := fsys.Remove(path.Join(dir, "d")); err == nil {
			t.Fatal("a directory that is not empty was removed")
		}
		if err := fsys.Rename(path.Join(dir, "d/b"), path.Join(dir, "d/e")); err == nil {
			t.Fatal("a file replaced a directory")
		}
		if err := fsys.Rename(path.Join(dir, "d/e"), path.Join(dir, "d/b")); err == nil {
			t.Fatal("a directory replaced a file")
		}
		if err := fsys.Rename(path.Join(dir, "d"), path.Join(dir, "d/e/f")); err == nil {
			t.Fatal("a directory moved into itself")
		}
		check(t, fsys.Rename(path.Join(dir, "d/b"), path.Join(dir, "d/z")))
		check(t, fsys.Rename(path.Join(dir, "d/z"), path.Join(dir, "d/z")))
		got, err := ReadFile(fsys, path.Join(dir, "d/z"))
		check(t, err)
		if string(got) != "d/b" {
			t.Fatalf("got %q after the rename", got)
		}
		check(t, fsys.Rename(path.Join(dir, "d"), path.Join(dir, "g")))
		wantList(t, fsys, dir, "g")
		check(t, fsys.Remove(path.Join(dir, "g/e")))
		check(t, fsys.Remove(path.Join(dir, "g/z")))
		check(t, fsys.Remove(path.Join(dir, "g")))
		wantList(t, fsys, dir)
	})
}

func wantList(t *testing.T, fsys FS, dir string, want ...string) {
	t.Helper()
	got, err := fsys.List(dir)
	check(t, err)
	if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: got %q, want %q", dir, got, want)
	}
}

func TestRemovedFileStaysOpen(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, "a")
		f, err := fsys.Create(name)
		check(t, err)
		check(t, fsys.Remove(name))
		_, err = f.Write([]byte("x"))
		check(t, err)
		check(t, f.Sync())
		p := make([]byte, 1)
		if _, err := f.ReadAt(p, 0); err != nil || p[0] != 'x' {
			t.Fatalf("got %q, %v", p, err)
		}
		check(t, f.Close())
	})
}

func TestLock(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, "LOCK")
		l, err := fsys.Lock(name)
		check(t, err)
		if _, err := fsys.Lock(name); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), name) {
			t.Fatalf("second lock: %v", err)
		}
		wantList(t, fsys, dir, "LOCK")
		check(t, l.Close())
		l, err = fsys.Lock(name)
		check(t, err)
		check(t, l.Close())
	})
}

// TestManyBuffers writes more buffers, and more bytes, than one system call takes or a block holds.
func TestManyBuffers(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		var bufs [][]byte
		var want []byte
		for i := range 5000 {
			b := bytes.Repeat([]byte{byte(i)}, i%37)
			bufs, want = append(bufs, b), append(want, b...)
		}
		f, err := fsys.Create(path.Join(dir, "a"))
		check(t, err)
		n, err := f.WritevAt(bufs, 100)
		check(t, err)
		if n != len(want) {
			t.Fatalf("wrote %d of %d", n, len(want))
		}
		check(t, f.Close())
		got, err := ReadFile(fsys, path.Join(dir, "a"))
		check(t, err)
		if !bytes.Equal(got[100:], want) {
			t.Fatal("other bytes came back")
		}
	})
}
