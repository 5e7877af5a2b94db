package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/vfs"
)

// TestOrderOfCalls pins what is durable before what: files written and synced, named, the directory synced, the manifest appended and
// synced. Sizes are left out: they are the business of package rowset.
func TestOrderOfCalls(t *testing.T) {
	rec := vfs.NewRecorder(vfs.NewMem())
	calls := func() string {
		var out strings.Builder
		last := ""
		for _, line := range strings.SplitAfter(rec.Take(), "\n") {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "write" {
				line = "write " + f[1] + "\n"
			}
			if line != last {
				out.WriteString(line)
			}
			last = line
		}
		return out.String()
	}
	s := newSingle(t, rec)
	golden := func(what, want string) {
		t.Helper()
		if got := calls(); got != strings.TrimLeft(want, "\n") {
			t.Errorf("%s:\n%s", what, got)
		}
	}
	golden("a new tablet", `
mkdirall d
syncdir .
mkdirall d/3
syncdir d
syncdir .
create d/3/manifest.tmp
write d/3/manifest.tmp
sync d/3/manifest.tmp
rename d/3/manifest.tmp d/3/manifest
syncdir d/3
openfile d/3/manifest
`)
	s.apply(pairs(batch.Upsert, 1, 1), 100)
	s.flush(0)
	golden("a flush", `
create d/3/0000000000000002.flush.parquet
create d/3/0000000000000002.flush.keys
write d/3/0000000000000002.flush.parquet
write d/3/0000000000000002.flush.keys
sync d/3/0000000000000002.flush.parquet
sync d/3/0000000000000002.flush.keys
rename d/3/0000000000000002.flush.parquet d/3/0000000000000002.parquet
rename d/3/0000000000000002.flush.keys d/3/0000000000000002.keys
syncdir d/3
write d/3/manifest
sync d/3/manifest
`)
	s.apply(AdvanceEntry(200), 0)
	s.flush(0)
	golden("a flush of nothing", `
write d/3/manifest
sync d/3/manifest
`)
	d, body, _ := s.Manifest()
	other := newSingle(t, rec)
	rec.Take()
	_ = other
	empty := vfs.NewRecorder(vfs.NewMem())
	o := newSingle(t, empty)
	empty.Take()
	rec = empty
	if err := o.Prepare(context.Background(), body, func(_ context.Context, name string, off int64) (io.ReadCloser, error) {
		return s.OpenFile(name, off)
	}); err != nil {
		t.Fatal(err)
	}
	prepared := strings.ReplaceAll(calls(), "\n", "|")
	if err := o.Restore(d, body); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"sync d/3/0000000000000002.parquet.", "sync d/3/0000000000000002.keys."} {
		if !strings.Contains(prepared, part) {
			t.Errorf("prepare: %s lacks %s", prepared, part)
		}
	}
	restored := calls()
	if i, j := strings.LastIndex(restored, ".fetch "), strings.Index(restored, "syncdir d/3\ncreate d/3/manifest.tmp\nwrite d/3/manifest.tmp\nsync d/3/manifest.tmp\nrename d/3/manifest.tmp d/3/manifest\nsyncdir d/3\n"); i < 0 || j < i {
		t.Errorf("restore:\n%s", restored)
	}
}

// TestFaultyDisk: work whose files or manifest could not be made durable is done again, and nothing is told to be durable before.
func TestFaultyDisk(t *testing.T) {
	broken := errors.New("broken disk")
	for _, rule := range []vfs.Rule{
		{Op: vfs.OpCreate, Path: "*.parquet"}, {Op: vfs.OpWrite, Path: "*.keys", Short: 10}, {Op: vfs.OpSync, Path: "*.parquet"},
		{Op: vfs.OpSync, Path: "*.keys"}, {Op: vfs.OpRename, Path: "*.parquet"}, {Op: vfs.OpRename, Path: "*.keys"}, {Op: vfs.OpSyncDir, Path: "3"},
		{Op: vfs.OpOpen, Path: "*.keys"}, {Op: vfs.OpRead, Path: "*.keys"}, {Op: vfs.OpWrite, Path: "manifest", Short: 30}, {Op: vfs.OpSync, Path: "manifest"},
	} {
		t.Run(string(rule.Op)+" "+rule.Path, func(t *testing.T) {
			mem := vfs.NewMem()
			faulty := vfs.NewFaulty(mem)
			s := newSingle(t, faulty)
			s.apply(pairs(batch.Upsert, 1, 1, 2, 2), 100)
			s.flush(0)
			s.apply(pairs(batch.Upsert, 1, 3), 200)
			s.apply(freezeCommand{after: s.mu.lastFreeze}.entry(), 0)
			rule.Err, rule.Count = broken, 2
			faulty.Add(rule)
			var failures int
			for range 10 {
				if len(s.mu.frozen) == 1 && s.mu.frozen[0].encoded != nil && len(s.mu.waiting) == 0 {
					f := s.mu.frozen[0]
					s.apply(s.installOf(f).entry(), 0)
				}
				before := s.Durable().Index
				if err := s.work(); err != nil {
					failures++
					if !errors.Is(err, broken) || s.Durable().Index != before {
						t.Fatalf("got %v, durable %d after %d", err, s.Durable().Index, before)
					}
				}
			}
			if failures == 0 || len(s.mu.frozen) > 0 {
				t.Fatalf("%d failures, %d frozen", failures, len(s.mu.frozen))
			}
			s.want(100, "1=1 2=2 ")
			s.want(0, "1=3 2=2 ")
			durable := s.Durable()
			after := newSingle(t, mem.Crash(rand.New(rand.NewPCG(1, 1)), 0))
			if after.Durable().Index != durable.Index {
				t.Fatalf("durable %d after a crash, want %d", after.Durable().Index, durable.Index)
			}
			after.want(0, "1=3 2=2 ")
		})
	}
}

// TestOtherBytes: a replica whose flush came out differently takes the files of the others, and finds the rows that died meanwhile
// by their keys.
func TestOtherBytes(t *testing.T) {
	a, b := newSingle(t, vfs.NewMem()), newSingle(t, vfs.NewMem())
	b.broken = lateImage
	both := func(data []byte) {
		for _, s := range []*single{a, b} {
			if r := s.apply(bytes.Clone(data), 0); r.Outcome != Applied {
				t.Fatalf("got %+v", r)
			}
		}
	}
	both(pairs(batch.Upsert, 1, 1, 2, 2, 3, 3, 4, 4))
	both(pairs(batch.Upsert, 2, 5))
	both(freezeCommand{}.entry())
	both(pairs(batch.Upsert, 1, 6))
	both(pairs(batch.Delete, 3, 0))
	if err := errors.Join(a.work(), b.work()); err != nil {
		t.Fatal(err)
	}
	f := a.mu.frozen[0]
	both(a.installOf(f).entry())
	both(pairs(batch.Delete, 4, 0))
	cut := 0
	b.manager.options.Fetch = func(_ context.Context, _ ID, name string, off int64) (io.ReadCloser, error) {
		in, err := a.OpenFile(name, off)
		if cut++; cut%2 == 1 && err == nil { // every other stream breaks off
			return struct {
				io.Reader
				io.Closer
			}{io.LimitReader(in, 100), in}, nil
		}
		return in, err
	}
	if err := errors.Join(a.work(), b.work()); err != nil {
		t.Fatal(err)
	}
	for at := a.mu.last - 7; at <= a.mu.last; at++ {
		if got, want := b.rows(ScanOptions{At: at, Ordered: true}), a.rows(ScanOptions{At: at, Ordered: true}); got != want {
			t.Errorf("at %d: got %q, want %q", at, got, want)
		}
	}
	if a.Status().Hash != b.Status().Hash {
		t.Error("manifests differ")
	}
	if err := b.Status().Differs; err == nil || !strings.Contains(err.Error(), "flush 3: files differ from the leader's: got [3 rows 2 parquet ") || a.Status().Differs != nil {
		t.Errorf("noticed %v", err)
	}
}

func TestCheck(t *testing.T) {
	mem := vfs.NewMem()
	s := newSingle(t, mem)
	s.apply(pairs(batch.Upsert, 1, 1, 2, 2), 100)
	s.flush(0)
	s.apply(pairs(batch.Upsert, 1, 3), 200)
	s.flush(0)
	if p := Check(mem, "d"); len(p) != 0 {
		t.Fatal(p)
	}
	if p := Check(mem, "nowhere"); len(p) != 0 {
		t.Fatal(p)
	}
	var dump strings.Builder
	if err := DumpManifestFile(mem, "d/3/manifest", &dump); err != nil || strings.Count(dump.String(), "record ") != 3 || !strings.Contains(dump.String(), "rows 2 dead 1") {
		t.Fatalf("%v\n%s", err, dump.String())
	}
	for _, name := range []string{parquetName(2), keysName(2), manifestName} {
		f, err := mem.OpenFile(path.Join("d/3", name))
		if err != nil {
			t.Fatal(err)
		}
		var was [1]byte
		if _, err := f.ReadAt(was[:], 60); err != nil {
			t.Fatal(err)
		}
		flip := func(b byte) {
			if _, err := f.WriteAt([]byte{b}, 60); err != nil {
				t.Fatal(err)
			}
		}
		flip(was[0] ^ 4)
		p := Check(mem, "d")
		if len(p) != 1 || !errors.Is(p[0], rowset.ErrCorrupt) && !errors.Is(p[0], batch.ErrCorrupt) {
			t.Errorf("%s with a flipped bit: %v", name, p)
		}
		flip(was[0])
	}
	if err := mem.Remove(path.Join("d/3", keysName(2))); err != nil {
		t.Fatal(err)
	}
	if p := Check(mem, "d"); len(p) != 1 {
		t.Errorf("a missing file: %v", p)
	}
}

// TestManifestFileGrows: a long file is replaced by one of one record, and a torn tail is left out and replaced.
func TestManifestFileGrows(t *testing.T) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll("d"); err != nil {
		t.Fatal(err)
	}
	f := &manifestFile{fs: mem, name: "d/manifest", reached: func(Point) {}}
	m := emptyManifest(Spec{ID: 3, Schema: pairSchema()})
	most := int64(0)
	for i := range 3000 {
		m.durable.Index = uint64(i)
		if err := f.add(m.appendTo(nil), false); err != nil {
			t.Fatal(err)
		}
		most = max(most, f.size)
	}
	if most > 2*manifestGrowth || most < manifestGrowth/2 {
		t.Errorf("the file grew to %d bytes", most)
	}
	h, err := mem.OpenFile("d/manifest")
	if err != nil {
		t.Fatal(err)
	}
	torn := manifestRecord(manifestMagic, f.seq+1, m.appendTo(nil))
	if _, err := h.WriteAt(torn[:len(torn)-20], f.size); err != nil {
		t.Fatal(err)
	}
	g, got, err := openManifest(mem, "d")
	if err != nil || got.durable.Index != 2999 {
		t.Fatal(got, err)
	}
	m.durable.Index = 5000
	if err := g.add(m.appendTo(nil), false); err != nil {
		t.Fatal(err)
	}
	if _, got, err = openManifest(mem, "d"); err != nil || got.durable.Index != 5000 {
		t.Fatal(got, err)
	}
}
