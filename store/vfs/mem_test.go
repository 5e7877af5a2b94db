package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// naive is the model of Mem: whole contents, and of each file and each directory every state since
// its last sync. What a crash leaves must be put together from those.
type naive struct {
	files   map[string]*naiveFile // by name in the only directory
	durable map[string]*naiveFile
	pending map[string][]*naiveFile // by name: what it led to after each change; nil for removed
}

type naiveFile struct {
	data     []byte
	versions [][]byte // since the last sync, that one first
}

func (f *naiveFile) change(data []byte) {
	f.data = data
	f.versions = append(f.versions, data)
}

func (n *naive) set(name string, f *naiveFile) {
	if f == nil {
		delete(n.files, name)
	} else {
		n.files[name] = f
	}
	n.pending[name] = append(n.pending[name], f)
}

func (n *naive) syncDir() {
	n.durable = map[string]*naiveFile{}
	for name, f := range n.files {
		n.durable[name] = f
	}
	n.pending = map[string][]*naiveFile{}
}

const naiveDir = "/d"

func TestMemAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewMem()
		must(t, MakeDir(m, naiveDir))
		model := &naive{files: map[string]*naiveFile{}, durable: map[string]*naiveFile{}, pending: map[string][]*naiveFile{}}
		for range rapid.IntRange(1, 4).Draw(t, "lives") {
			for range rapid.IntRange(0, 25).Draw(t, "steps") {
				step(t, m, model)
				compareLiving(t, m, model)
			}
			survive := rapid.SampledFrom([]float64{0, 0.3, 0.7, 1}).Draw(t, "survive")
			rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
			after := m.Crash(rng, survive)
			if _, err := m.List(naiveDir); !errors.Is(err, ErrCrashed) {
				t.Fatalf("the old memory answers %v", err)
			}
			compareCrashed(t, after, model, survive)
			m, model = after, reborn(t, after)
		}
	})
}

func must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func step(t *rapid.T, m *Mem, model *naive) {
	name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
	full, f := path.Join(naiveDir, name), model.files[name]
	switch rapid.SampledFrom([]string{"create", "write", "write", "write", "truncate", "sync", "rename", "remove", "syncdir"}).Draw(t, "op") {
	case "create":
		file, err := m.Create(full)
		must(t, err)
		must(t, file.Close())
		if f == nil {
			model.set(name, &naiveFile{versions: [][]byte{nil}})
		} else {
			f.change(nil)
		}
	case "write":
		writeBoth(t, m, model, name)
	case "truncate", "sync":
		if f == nil {
			return
		}
		file, err := m.OpenFile(full)
		must(t, err)
		if rapid.Bool().Draw(t, "truncate") {
			size := rapid.IntRange(0, 20000).Draw(t, "size")
			must(t, file.Truncate(int64(size)))
			data := make([]byte, size)
			copy(data, f.data)
			f.change(data)
		} else {
			must(t, file.Sync())
			f.versions = [][]byte{f.data}
		}
	case "rename":
		to := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "to")
		err := m.Rename(full, path.Join(naiveDir, to))
		if (err == nil) != (f != nil) {
			t.Fatalf("rename: %v", err)
		}
		if f != nil && to != name {
			model.set(to, f)
			model.set(name, nil)
		}
	case "remove":
		if err := m.Remove(full); (err == nil) != (f != nil) {
			t.Fatalf("remove: %v", err)
		}
		if f != nil {
			model.set(name, nil)
		}
	case "syncdir":
		must(t, m.SyncDir(naiveDir))
		model.syncDir()
	}
}

func writeBoth(t *rapid.T, m *Mem, model *naive, name string) {
	f := model.files[name]
	if f == nil {
		f = &naiveFile{versions: [][]byte{nil}}
		model.set(name, f)
	}
	file, err := m.OpenFile(path.Join(naiveDir, name))
	must(t, err)
	off := rapid.IntRange(0, 12000).Draw(t, "off")
	p := bytes.Repeat([]byte{byte(rapid.IntRange(0, 255).Draw(t, "byte"))}, rapid.IntRange(1, 9000).Draw(t, "len"))
	cut := rapid.IntRange(0, len(p)).Draw(t, "cut")
	if n, err := file.WritevAt([][]byte{p[:cut], p[cut:]}, int64(off)); err != nil || n != len(p) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	data := make([]byte, max(len(f.data), off+len(p)))
	copy(data, f.data)
	copy(data[off:], p)
	f.change(data)
}

func compareLiving(t *rapid.T, m *Mem, model *naive) {
	names, err := m.List(naiveDir)
	must(t, err)
	if len(names) != len(model.files) {
		t.Fatalf("got %q, want %d files", names, len(model.files))
	}
	for _, name := range names {
		got, err := ReadFile(m, path.Join(naiveDir, name))
		must(t, err)
		if model.files[name] == nil || !bytes.Equal(got, model.files[name].data) {
			t.Fatalf("%s: other content", name)
		}
	}
}

// compareCrashed checks that each name leads to a state it had since the last SyncDir, and that
// each sector of a file is one that the file had there since its last Sync, or zero where the
// file grew; and, if all or nothing survived, that it is exactly the newest or the synced state.
func compareCrashed(t *rapid.T, after *Mem, model *naive, survive float64) {
	for _, name := range []string{"a", "b", "c"} {
		candidates := append([]*naiveFile{model.durable[name]}, model.pending[name]...)
		switch survive {
		case 0:
			candidates = candidates[:1]
		case 1:
			candidates = candidates[len(candidates)-1:]
		}
		got, err := ReadFile(after, path.Join(naiveDir, name))
		ok := false
		for _, c := range candidates {
			ok = ok || (err != nil && c == nil) || (err == nil && c != nil && possible(got, c, survive))
		}
		if !ok {
			t.Fatalf("survive %v: %s has a state that it never had (%d bytes, %v)", survive, name, len(got), err)
		}
	}
}

func possible(got []byte, f *naiveFile, survive float64) bool {
	switch survive {
	case 0:
		return bytes.Equal(got, f.versions[0])
	case 1:
		return bytes.Equal(got, f.data)
	}
	low, high := len(f.versions[0]), len(f.data)
	if len(got) < min(low, high) || len(got) > max(low, high) {
		return false
	}
	for at := 0; at < len(got); at += sectorSize {
		end := min(at+sectorSize, len(got))
		ok := false
		for _, v := range f.versions {
			want := make([]byte, end-at)
			if at < len(v) {
				copy(want, v[at:])
			}
			ok = ok || bytes.Equal(got[at:end], want)
		}
		if !ok {
			return false
		}
	}
	return true
}

func reborn(t *rapid.T, m *Mem) *naive {
	model := &naive{files: map[string]*naiveFile{}}
	names, err := m.List(naiveDir)
	must(t, err)
	for _, name := range names {
		data, err := ReadFile(m, path.Join(naiveDir, name))
		must(t, err)
		model.files[name] = &naiveFile{data: data, versions: [][]byte{data}}
	}
	// A file that has two names after the crash is one file: part them, the model knows one each.
	for _, name := range names {
		must(t, ReplaceFile(m, path.Join(naiveDir, name), model.files[name].data))
	}
	model.syncDir()
	return model
}

// TestCrashRepeats pins that a power cut is a function of the state and the seed.
func TestCrashRepeats(t *testing.T) {
	state := func() string {
		m := NewMem()
		check(t, m.MkdirAll("/x/y"))
		for i := range 20 {
			f, err := m.Create(fmt.Sprintf("/x/y/%d", i))
			check(t, err)
			for j := range 40 {
				if _, err := f.WriteAt(bytes.Repeat([]byte{byte(i + j)}, 3000), int64(j)*2900); err != nil {
					t.Fatal(err)
				}
			}
		}
		after := m.Crash(rand.New(rand.NewPCG(7, 7)), 0.9)
		text := ""
		names, _ := after.List("/x/y")
		for _, name := range names {
			data, err := ReadFile(after, "/x/y/"+name)
			check(t, err)
			text += fmt.Sprintf("%s %d %x\n", name, len(data), data)
		}
		return text
	}
	if a, b := state(), state(); a != b || len(a) < 1000 {
		t.Fatal("the same seed left two states")
	}
}

func TestCrashTearsBlocks(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(200) {
		m := NewMem()
		f, err := m.Create("/a")
		check(t, err)
		_, err = f.Write(bytes.Repeat([]byte{'o'}, 2*blockSize))
		check(t, err)
		check(t, f.Sync())
		check(t, m.SyncDir("/"))
		_, err = f.WriteAt(bytes.Repeat([]byte{'n'}, 2*blockSize), 0)
		check(t, err)
		got, err := ReadFile(m.Crash(rand.New(rand.NewPCG(seed, 1)), 0.5), "/a")
		check(t, err)
		var kinds [2]string
		for i := range kinds {
			b := got[i*blockSize:][:blockSize]
			switch bytes.Count(b, []byte("n")) {
			case 0:
				kinds[i] = "old"
			case blockSize:
				kinds[i] = "new"
			default:
				kinds[i] = "torn"
			}
		}
		seen[kinds[0]+" "+kinds[1]] = true
	}
	if len(seen) != 9 {
		t.Fatalf("200 power cuts left only %v", seen)
	}
}

// TestCrashDirectories pins what a synced file in a directory that was not synced comes to.
func TestCrashDirectories(t *testing.T) {
	none := rand.New(rand.NewPCG(1, 1))
	m := NewMem()
	check(t, m.MkdirAll("/a/b"))
	check(t, m.SyncDir("/a"))
	m = m.Crash(none, 0)
	wantList(t, m, "/")

	check(t, MakeDir(m, "/a/b"))
	f, err := m.Create("/a/b/file")
	check(t, err)
	check(t, f.Sync())
	m = m.Crash(none, 0)
	if _, err := f.ReadAt(nil, 0); !errors.Is(err, ErrCrashed) {
		t.Fatalf("a file of the old life answers %v", err)
	}
	wantList(t, m, "/a/b")

	check(t, ReplaceFile(m, "/a/b/file", []byte("one")))
	l, err := m.Lock("/a/b/LOCK")
	check(t, err)
	check(t, m.SyncDir("/a/b"))
	check(t, m.Rename("/a/b/file", "/a/b/other"))
	m = m.Crash(none, 0)
	check(t, l.Close())
	wantList(t, m, "/a/b", "LOCK", "file")
	if _, err := m.Lock("/a/b/LOCK"); err != nil {
		t.Fatalf("the lock outlived the crash: %v", err)
	}
	m = m.Crash(none, 1)
	wantList(t, m, "/a/b", "LOCK", "file")
}

func TestFaulty(t *testing.T) {
	boom := errors.New("boom")
	fsys := NewFaulty(NewMem(), Rule{Op: OpSync, Path: "*.wal", After: 1, Count: 2, Err: boom})
	f, err := fsys.Create("1.wal")
	check(t, err)
	other, err := fsys.Create("other")
	check(t, err)
	var got []bool
	for range 5 {
		check(t, other.Sync())
		err := f.Sync()
		if err != nil && !errors.Is(err, boom) {
			t.Fatal(err)
		}
		got = append(got, err != nil)
	}
	if want := []bool{false, true, true, false, false}; !reflect.DeepEqual(got, want) {
		t.Fatalf("sync 2 and 3 are to fail, got %v", got)
	}

	remove := fsys.Add(Rule{Op: OpWrite, Short: 5, Err: boom})
	if n, err := f.WritevAt([][]byte{[]byte("abc"), []byte("def")}, 0); n != 5 || !errors.Is(err, boom) {
		t.Fatalf("short write: %d, %v", n, err)
	}
	if n, err := f.Write([]byte("ABC")); n != 3 || !errors.Is(err, boom) {
		t.Fatalf("short write: %d, %v", n, err)
	}
	remove()
	if data, err := ReadFile(fsys, "1.wal"); string(data) != "ABCde" || err != nil {
		t.Fatalf("after short writes: %q, %v", data, err)
	}
	fsys.Add(Rule{Err: boom})
	for i, err := range []error{
		errorOf(fsys.Open("1.wal")), errorOf(fsys.Create("x")), errorOf(fsys.OpenFile("x")), fsys.Rename("a", "b"),
		fsys.Remove("1.wal"), fsys.MkdirAll("x"), errorOf(fsys.List("/")), errorOf(fsys.Stat("1.wal")), fsys.SyncDir("/"),
		errorOf(fsys.Lock("L")), errorOf(f.ReadAt(nil, 0)), errorOf(f.WriteAt(nil, 0)), f.Truncate(0), errorOf(f.Size()), f.Close(),
	} {
		if !errors.Is(err, boom) {
			t.Errorf("call %d: got %v", i, err)
		}
	}
}

func TestRecorder(t *testing.T) {
	rec := NewRecorder(NewFaulty(NewMem(), Rule{Op: OpRemove, Err: io.ErrUnexpectedEOF}))
	check(t, MakeDir(rec, "d/e"))
	check(t, ReplaceFile(rec, "d/MANIFEST", []byte("12345")))
	f, err := rec.OpenFile("d/MANIFEST")
	check(t, err)
	_, err = f.WriteAt([]byte("x"), 7)
	check(t, err)
	_, err = f.WritevAt([][]byte{{1}, {2, 3}}, 8)
	check(t, err)
	check(t, f.Truncate(3))
	check(t, f.Close())
	l, err := rec.Lock("d/LOCK")
	check(t, err)
	check(t, l.Close())
	if rec.Remove("d/LOCK") == nil {
		t.Fatal("no fault")
	}
	want := `mkdirall d/e
syncdir d
syncdir .
create d/MANIFEST.tmp
write d/MANIFEST.tmp 0+5
sync d/MANIFEST.tmp
rename d/MANIFEST.tmp d/MANIFEST
syncdir d
openfile d/MANIFEST
write d/MANIFEST 7+1
write d/MANIFEST 8+3
truncate d/MANIFEST 3
lock d/LOCK
remove d/LOCK failed
`
	if got := rec.Take(); got != want {
		t.Fatalf("got\n%swant\n%s", got, want)
	}
	if got := rec.Take(); got != "" {
		t.Fatalf("twice: %s", got)
	}
}
