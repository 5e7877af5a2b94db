package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// damageKinds are the ways in which a file can be wrong. older is what the same file held before, or what another of its kind holds.
var damageKinds = []struct {
	name string
	do   func(rng *rand.Rand, data, older []byte) []byte // nil: the file is gone
}{
	{"flipped bit", func(rng *rand.Rand, data, _ []byte) []byte {
		data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		return data
	}},
	{"truncated", func(rng *rand.Rand, data, _ []byte) []byte { return data[:rng.IntN(len(data))] }},
	{"removed", func(*rand.Rand, []byte, []byte) []byte { return nil }},
	{"empty", func(*rand.Rand, []byte, []byte) []byte { return []byte{} }},
	{"older copy", func(_ *rand.Rand, _, older []byte) []byte { return older }},
	{"zeroed page", func(rng *rand.Rand, data, _ []byte) []byte {
		at := rng.IntN((len(data)+511)/512) * 512
		clear(data[at:min(at+512, len(data))])
		return data
	}},
	{"trailing garbage", func(rng *rand.Rand, data, older []byte) []byte {
		for range rng.IntN(300) + 1 {
			data = append(data, byte(rng.Uint32()))
		}
		return append(data, older...)
	}},
}

// worn is a tablet with two rowsets and deaths, as files, with what each file held before or what its like holds.
type worn struct {
	good         *single
	files, older map[string][]byte
	first        uint64 // of a log that was cut as far as it may be
}

const wornRows = "1=100 2=2 4=4 5=5 6=6 7=7 "

func newWorn(t *testing.T) *worn {
	mem := vfs.NewMem()
	w := &worn{good: newSingle(t, mem), files: map[string][]byte{}, older: map[string][]byte{}}
	read := func(name string) []byte {
		data, err := vfs.ReadFile(mem, path.Join(w.good.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	w.good.apply(pairs(batch.Upsert, 1, 1, 2, 2, 3, 3, 4, 4), 100)
	w.good.flush(0)
	w.older["manifest"] = bytes.Clone(read("manifest"))
	w.good.apply(pairs(batch.Upsert, 1, 100, 5, 5, 6, 6, 7, 7), 200)
	w.good.apply(pairs(batch.Delete, 3, 0), 300)
	w.good.flush(0)
	names, err := mem.List(w.good.dir)
	if err != nil || len(names) != 5 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		w.files[name] = read(name)
		for _, other := range names {
			if other != name && path.Ext(other) == path.Ext(name) {
				w.older[name] = read(other)
			}
		}
	}
	w.first = w.good.Durable().Index + 1
	return w
}

// disk is the files with one changed.
func (w *worn) disk(t *testing.T, name string, data []byte) *vfs.Mem {
	m := vfs.NewMem()
	if err := vfs.MakeDir(m, w.good.dir); err != nil {
		t.Fatal(err)
	}
	for n, d := range w.files {
		if n == name {
			d = data
		}
		if d == nil {
			continue
		}
		f, err := m.Create(path.Join(w.good.dir, n))
		if err == nil {
			_, err = f.Write(d)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (w *worn) manager(t *testing.T, m *vfs.Mem, alone bool) *Manager {
	o := ManagerOptions{FS: m, Dir: path.Dir(w.good.dir), FlushBytes: 1 << 40}
	if !alone {
		o.Fetch = func(_ context.Context, _ ID, name string, off int64) (io.ReadCloser, error) {
			return w.good.OpenFile(name, off)
		}
		o.Manifest = func(context.Context, ID, uint64) ([]byte, error) {
			_, body, err := w.good.Manifest()
			return body, err
		}
	}
	out, err := NewManager(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	return out
}

var namedOffset = regexp.MustCompile(` at \d+|(missing|not exist|bytes of hash)`)

// TestDamage is the matrix of a tablet's files and what may happen to them, while the log has nothing that the files have: Check
// names what counts; Open refuses it by file, or scans give an error, never other rows; with a peer they give the right
// rows at once; and a repair makes the very files again.
func TestDamage(t *testing.T) {
	w := newWorn(t)
	if got := w.good.rows(ScanOptions{Ordered: true}); got != wornRows {
		t.Fatal(got)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	tries := map[string]int{"flipped bit": 150, "truncated": 15, "zeroed page": 10, "trailing garbage": 3}
	found, share, enough := map[string]int{}, 1, 30
	if testing.Short() {
		share, enough = 10, 3
	}
	for name, data := range w.files {
		for _, kind := range damageKinds {
			for range max(1, tries[kind.name]/share) {
				bad := kind.do(rng, slices.Clone(data), slices.Clone(w.older[name]))
				if bad != nil && bytes.Equal(bad, data) {
					continue
				}
				w.one(t, name, kind.name, bad, found)
			}
		}
	}
	t.Log(found)
	for _, what := range []string{"checked", "refused", "scan failed", "healed"} {
		if found[what] < enough {
			t.Errorf("%s: only %d times", what, found[what])
		}
	}
}

func (w *worn) one(t *testing.T, name, kind string, bad []byte, found map[string]int) {
	what := fmt.Sprintf("%s of %s", kind, name)
	spec := w.good.Spec()
	problems := Check(w.disk(t, name, bad), path.Dir(w.good.dir))
	if len(problems) > 0 {
		found["checked"]++
		if text := errors.Join(problems...).Error(); !strings.Contains(text, strings.TrimSuffix(name, path.Ext(name))) || !namedOffset.MatchString(text) {
			t.Fatalf("%s: Check says %s", what, text)
		}
	}
	m := w.manager(t, w.disk(t, name, bad), true)
	tablet, err := m.OpenAbove(spec, w.first)
	switch {
	case err != nil:
		found["refused"]++
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name) || !namedOffset.MatchString(err.Error()) {
			t.Fatalf("%s: Open says %v", what, err)
		}
		if err := m.Repair(t.Context(), spec, w.first); err == nil {
			t.Fatalf("%s: repaired without a peer", what)
		}
	default:
		for _, ordered := range []bool{false, true} {
			got, err := tabletRows(tablet, ordered)
			if err != nil && (!strings.Contains(err.Error(), name) || !namedOffset.MatchString(err.Error())) {
				t.Fatalf("%s: scan says %v", what, err)
			}
			if err == nil && sorted(got) != wornRows {
				t.Fatalf("%s: got %s, want %s", what, got, wornRows)
			}
			if err == nil && len(problems) > 0 && !strings.HasSuffix(name, "parquet") && name != "manifest" {
				t.Fatalf("%s: in order, but Check says %v", what, problems)
			}
			if err != nil {
				found["scan failed"]++
				if len(problems) == 0 {
					t.Fatalf("%s: Check finds nothing, but %v", what, err)
				}
			}
		}
		w.heal(t, what, name, bad, found)
	}
	mem := w.disk(t, name, bad)
	m = w.manager(t, mem, false)
	if err := m.Repair(t.Context(), spec, w.first); err != nil {
		t.Fatalf("%s: repair: %v", what, err)
	}
	if tablet, err = m.OpenAbove(spec, w.first); err != nil {
		t.Fatalf("%s: after the repair: %v", what, err)
	}
	if got, err := tabletRows(tablet, true); err != nil || got != wornRows || tablet.Status().Hash != w.good.Status().Hash {
		t.Fatalf("%s: after the repair: got %s, %v", what, got, err)
	}
	if p := Check(mem, path.Dir(w.good.dir)); len(p) > 0 {
		t.Fatalf("%s: after the repair: %v", what, p)
	}
}

// heal scans the damaged tablet with a peer: the rows are right the first time, and the file is whole when the tablet has worked.
func (w *worn) heal(t *testing.T, what, name string, bad []byte, found map[string]int) {
	mem := w.disk(t, name, bad)
	m := w.manager(t, mem, false)
	tablet, err := m.load(w.good.Spec(), w.first)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for _, ordered := range []bool{false, true} {
		if got, err := tabletRows(tablet, ordered); err != nil || sorted(got) != wornRows {
			t.Fatalf("%s: with a peer: got %s, %v", what, got, err)
		}
	}
	if tablet.Status().Damage == nil {
		return
	}
	found["healed"]++
	if _, err := tablet.step(t.Context()); err != nil || tablet.Status().Damage != nil {
		t.Fatalf("%s: not mended: %v, %v", what, err, tablet.Status().Damage)
	}
	if data, err := vfs.ReadFile(mem, path.Join(w.good.dir, name)); err != nil || !bytes.Equal(data, w.files[name]) {
		t.Fatalf("%s: the copy differs, %v", what, err)
	}
	if got, err := tabletRows(tablet, true); err != nil || got != wornRows || tablet.Status().Damage != nil {
		t.Fatalf("%s: after it was mended: got %s, %v", what, got, err)
	}
}

func tabletRows(t *Tablet, ordered bool) (string, error) {
	sc, err := t.Scan(ScanOptions{Columns: []schema.ColumnID{1, 2}, Ordered: ordered})
	if err != nil {
		return "", err
	}
	defer sc.Close()
	out := ""
	for {
		b, err := sc.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return "", err
		}
		for i := range b.Rows {
			out += fmt.Sprintf("%d=%d ", b.Columns[0].Int(i), b.Columns[1].Int(i))
		}
	}
}

func sorted(rows string) string {
	s := strings.Fields(rows)
	slices.Sort(s)
	return strings.Join(s, " ") + " "
}

// TestManifestLost: without a manifest a tablet is new only if the log has all of it. Nothing is deleted otherwise.
func TestManifestLost(t *testing.T) {
	w := newWorn(t)
	mem := w.disk(t, "manifest", nil)
	m := w.manager(t, mem, true)
	if _, err := m.OpenAbove(w.good.Spec(), 2); !errors.Is(err, ErrDamaged) {
		t.Fatalf("opened over a log that begins at 2: %v", err)
	}
	if names, err := mem.List(w.good.dir); err != nil || len(names) != 4 {
		t.Fatalf("left %v, %v", names, err)
	}
	tablet, err := m.OpenAbove(w.good.Spec(), 1)
	if err != nil || tablet.Durable().Index != 0 {
		t.Fatal(err)
	}
	peer := w.manager(t, w.disk(t, "manifest", nil), false)
	if err := peer.Repair(t.Context(), w.good.Spec(), w.first+1); err == nil {
		t.Fatal("took a manifest that ends before the log begins")
	}
}

// TestFlushFileLost: a file that was encoded and is gone or damaged before its Install is written again.
func TestFlushFileLost(t *testing.T) {
	for _, suffix := range []string{".parquet", ".keys"} {
		for _, lost := range []bool{true, false} {
			mem := vfs.NewMem()
			s := newSingle(t, mem)
			s.apply(pairs(batch.Upsert, 1, 1, 2, 2), 100)
			s.apply(freezeCommand{after: s.mu.lastFreeze}.entry(), 0)
			if err := s.work(); err != nil {
				t.Fatal(err)
			}
			f := s.mu.frozen[0]
			install := s.installOf(f)
			name := path.Join(s.dir, baseName(f.freeze)+flushSuffix+suffix)
			if lost {
				if err := mem.Remove(name); err != nil {
					t.Fatal(err)
				}
			} else if h, err := mem.Create(name); err != nil {
				t.Fatal(err)
			} else if _, err := h.Write([]byte("rubbish")); err != nil {
				t.Fatal(err)
			}
			s.apply(install.entry(), 0)
			for range 3 {
				_ = s.work()
			}
			s.want(0, "1=1 2=2 ")
			if s.Durable().Index != f.freeze || s.Err() != nil {
				t.Fatalf("%s, lost %t: durable to %d, %v", suffix, lost, s.Durable().Index, s.Err())
			}
		}
	}
}

// TestScrub: files that nobody reads are read once a day, and what is damaged is copied.
func TestScrub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, ManagerOptions{FlushBytes: 1 << 30, FlushAge: time.Hour})
		if _, err := g.propose(t.Context(), 0, pairs(batch.Upsert, 1, 1, 2, 2)); err != nil {
			t.Fatal(err)
		}
		if err := g.managers[0].Checkpoint(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		mem := g.managers[1].options.FS
		want := map[string][]byte{}
		for name := range g.tablets[1].installedFiles() {
			data, err := vfs.ReadFile(mem, path.Join(g.tablets[1].dir, name))
			if err != nil {
				t.Fatal(err)
			}
			want[name] = bytes.Clone(data)
			data[len(data)/2] ^= 1
			if err := vfs.ReplaceFile(mem, path.Join(g.tablets[1].dir, name), data); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(scrubFirst + time.Minute)
		for name, data := range want {
			if got, err := vfs.ReadFile(mem, path.Join(g.tablets[1].dir, name)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s is still damaged, %v", name, err)
			}
		}
		if len(want) != 2 || g.tablets[1].Status().Damage != nil {
			t.Errorf("%d files, %v", len(want), g.tablets[1].Status().Damage)
		}
		for _, m := range g.managers {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
