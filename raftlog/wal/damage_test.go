package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"nyala/store/vfs"
)

// snapshot is the content of a log's directory.
type snapshot map[string][]byte

func take(t testing.TB, fsys vfs.FS) snapshot {
	t.Helper()
	names, err := fsys.List("/wal")
	check(t, err)
	s := snapshot{}
	for _, name := range names {
		s[name], err = vfs.ReadFile(fsys, path.Join("/wal", name))
		check(t, err)
	}
	return s
}

// restore makes a file system of a snapshot, with one file replaced.
func (s snapshot) restore(t testing.TB, name string, data []byte) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem()
	check(t, vfs.MakeDir(m, "/wal"))
	for n, d := range s {
		if n == name {
			d = data
		}
		if d == nil {
			continue
		}
		f, err := m.Create(path.Join("/wal", n))
		check(t, err)
		_, err = f.WriteAt(d, 0)
		check(t, err)
		check(t, f.Sync())
	}
	check(t, m.SyncDir("/wal"))
	return m
}

// wornLog makes a closed log of several segments in recycled slots, and returns it with what each
// group has.
func wornLog(t testing.TB) (snapshot, map[uint64][]Record, Options) {
	t.Helper()
	return wornLogOf(t, 30)
}

func wornLogOf(t testing.TB, entries uint64) (snapshot, map[uint64][]Record, Options) {
	t.Helper()
	opts := Options{SegmentBytes: 5 * pageSize, SpareSegments: 2, Salt: salts()}
	m := vfs.NewMem()
	w := open(t, m, opts)
	have := map[uint64][]Record{}
	for i := uint64(1); i <= entries; i++ {
		for id := uint64(1); id <= 2; id++ {
			r := entry(id, i, 1, int(100*i%1300))
			check(t, w.Group(id).Append([]Record{r}))
			have[id] = append(have[id], r)
		}
		if i == 20 {
			check(t, w.Group(2).Set("vote", []byte("n1")))
			for id := uint64(1); id <= 2; id++ {
				check(t, w.Group(id).CutBelow(19))
				have[id] = have[id][18:]
			}
		}
	}
	check(t, w.Close())
	return take(t, m), have, opts
}

func readsAs(t testing.TB, w *WAL, have map[uint64][]Record) {
	t.Helper()
	for id, rs := range have {
		wantRange(t, w.Group(id), rs[0].Index, rs[len(rs)-1].Index)
		wantEntries(t, w.Group(id), rs)
	}
	if got := w.Group(2).Value("vote"); string(got) != "n1" {
		t.Fatalf("the vote is %q", got)
	}
}

// region is a part of a file whose damage must be found, and named by its offset.
type region struct{ from, to, named int64 }

// vital returns the regions of each file on which the log depends.
func vital(t testing.TB, s snapshot) map[string][]region {
	t.Helper()
	m := s.restore(t, "", nil)
	images, err := openImages(m, "/wal", m.Open)
	check(t, err)
	defer closeImages(images)
	c, problem := newChain(images, math.MaxUint64)
	if problem != nil {
		t.Fatal(problem)
	}
	regions := map[string][]region{}
	for _, l := range c.live {
		regions[l.img.name] = append(regions[l.img.name], region{0, l.img.header.size(), 0})
	}
	_, err = c.walk(func(l link, d *drainImage) error {
		if d.flags&flagClose != 0 {
			return nil // it is only the proof of the others
		}
		add := func(from, to, named int64) {
			regions[l.img.name] = append(regions[l.img.name], region{from, to, named})
		}
		add(d.offset, d.offset+drainHeaderSize, d.offset)
		for _, r := range d.records {
			data := r.offset + recordHeaderSize
			extensions := data + int64(aligned(len(r.Data)))
			add(r.offset, data+int64(len(r.Data)), r.offset)
			add(extensions, extensions+int64(len(r.Extensions)), r.offset)
		}
		return nil
	})
	check(t, err)
	return regions
}

// TestFlippedBits flips a bit at many places of a log. Where the log depends on it Open names the
// place; elsewhere nothing changes. Never does it open a log that has something else.
func TestFlippedBits(t *testing.T) {
	s, have, opts := wornLog(t)
	regions := vital(t, s)
	if len(regions) < 4 || len(s) < 6 {
		t.Fatalf("%d live segments, %d files: the log is too young", len(regions), len(s))
	}
	found, stride, enough := 0, int64(59), 1000
	if testing.Short() {
		stride, enough = 599, 100
	}
	for name, data := range s {
		for at := int64(0); at < int64(len(data)); at += 1 + at%stride {
			var in *region
			for _, r := range regions[name] {
				if r.from <= at && at < r.to {
					in = &r
				}
			}
			data[at] ^= 1 << (at % 8)
			w, err := Open(s.restore(t, "", nil), "/wal", opts)
			data[at] ^= 1 << (at % 8)
			var p Problem
			switch {
			case err == nil && in != nil:
				t.Fatalf("%s at %d: not found", name, at)
			case err == nil:
				readsAs(t, w, have)
				check(t, w.Close())
			case in == nil:
				t.Fatalf("%s at %d, which is nothing: %v", name, at, err)
			case at >= 8 && at < 12 && errors.Is(err, errVersion):
			case !errors.Is(err, ErrCorrupt) || !errors.As(err, &p) || p.File != name || p.Offset != in.named:
				t.Fatalf("%s at %d, in what begins at %d: %v", name, at, in.named, err)
			default:
				found++
			}
		}
	}
	if found < enough {
		t.Fatalf("only %d places were tried", found)
	}
}

// TestMissingFiles removes files, or cuts their ends off.
func TestMissingFiles(t *testing.T) {
	s, have, opts := wornLog(t)
	regions := vital(t, s)
	newest := strings.Fields(lineWith(dump(t, s.restore(t, "", nil)), ", current,"))[0]
	for name, data := range s {
		for _, rest := range [][]byte{nil, data[:len(data)/2], data[:100]} {
			needed := regions[name] != nil && regions[name][len(regions[name])-1].to > int64(len(rest))
			w, err := Open(s.restore(t, name, rest), "/wal", opts)
			switch {
			case name+":" == newest && err == nil:
				check(t, w.Close()) // the newest segment, or its end, can go without a trace
			case needed && !errors.Is(err, ErrCorrupt):
				t.Fatalf("%s cut to %d: %v", name, len(rest), err)
			case !needed:
				check(t, err)
				readsAs(t, w, have)
				check(t, w.Close())
			}
		}
	}
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}

func dump(t testing.TB, fsys vfs.FS) string {
	t.Helper()
	var out bytes.Buffer
	check(t, Dump(fsys, "/wal", &out))
	return out.String()
}

// TestTornTail cuts the power in the middle of a drain: it is there as a whole or not at all, and
// the log goes on from there.
func TestTornTail(t *testing.T) {
	seen := map[uint64]int{}
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2))
		m := vfs.NewMem()
		faulty := vfs.NewFaulty(m)
		w := open(t, faulty, small())
		check(t, w.Group(1).Append(entries(1, 1, 3, 1, 500)))
		faulty.Add(vfs.Rule{Op: vfs.OpSync, Path: "*.wal", Err: errFault})
		if err := w.Group(1).Append(entries(1, 4, 6, 1, 900)); !errors.Is(err, errFault) {
			t.Fatalf("append: %v", err)
		}
		m = m.Crash(rng, []float64{0.6, 0.9, 1}[seed%3])
		if err := w.Close(); !errors.Is(err, errFault) {
			t.Fatalf("close: %v", err)
		}
		w = open(t, m, small())
		last := w.Group(1).Last()
		if last != 3 && last != 6 {
			t.Fatalf("seed %d: a part of a drain survived, up to %d", seed, last)
		}
		seen[last]++
		check(t, w.Group(1).Append(entries(1, last+1, 7, 2, 100)))
		m = m.Crash(rng, 0)
		w.Close()
		w = open(t, m, small())
		wantRange(t, w.Group(1), 1, 7)
		wantEntries(t, w.Group(1), entries(1, 1, 3, 1, 500))
		wantEntries(t, w.Group(1), entries(1, last+1, 7, 2, 100))
		check(t, w.Close())
	}
	if seen[3] < 20 || seen[6] < 20 {
		t.Fatalf("the tail was torn or not: %v", seen)
	}
}

// TestStaleTail has drains of a slot's former life exactly where the next drain of its present one
// would be: valid by themselves, but not of this life.
func TestStaleTail(t *testing.T) {
	opts := Options{SegmentBytes: 5 * pageSize, SpareSegments: 1, Salt: salts()}
	m := vfs.NewMem()
	w := open(t, m, opts)
	last := uint64(0)
	for stale := false; !stale; {
		last++
		if last > 1000 {
			t.Fatal("no slot was used again")
		}
		check(t, w.Group(1).Append(entries(1, last, last, 1, 1000)))
		check(t, w.Group(1).CutBelow(last-min(last, 2)))
		images, err := openImages(m, "/wal", m.Open)
		check(t, err)
		c, _ := newChain(images, math.MaxUint64)
		e, err := c.walk(func(link, *drainImage) error { return nil })
		check(t, err)
		stale = strings.Contains(e.problem.Text, "drain of segment")
		closeImages(images)
	}
	m = m.Crash(rand.New(rand.NewPCG(1, 1)), 0)
	w.Close()
	w = open(t, m, opts)
	wantEntries(t, w.Group(1), entries(1, last-2, last, 1, 1000))
	if w.Group(1).Last() != last {
		t.Fatalf("last %d, want %d", w.Group(1).Last(), last)
	}
	check(t, w.Close())
}

// TestForeignRecord puts a record that is valid by itself, of the same segment and size, into a drain
// that was not written with it: so could a torn drain be patched with what was there before.
func TestForeignRecord(t *testing.T) {
	m := vfs.NewMem()
	w := open(t, m, small())
	check(t, w.Group(1).Append(entries(1, 1, 2, 1, 100)))
	p, seg := w.Group(1).entries[1], w.Group(1).entries[1].segment
	check(t, w.Close())
	other := entry(1, 2, 1, 100)
	other.Data[7]++
	b := make([]byte, recordHeaderSize)
	encodeRecordHeader(b, entryRecord, 1, &other, payloadCRC(&other), seg.seed)
	f, err := m.OpenFile("/wal/" + seg.slot.name)
	check(t, err)
	_, err = f.WriteAt(append(b, other.Data...), p.offset)
	check(t, err)
	if w, err := Open(m, "/wal", small()); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "at 4096: drain 1: 2 records") {
		t.Fatalf("%v, %v", w, err)
	}
}

func TestDuplicateSegment(t *testing.T) {
	s, _, opts := wornLog(t)
	for name := range vital(t, s) {
		m := s.restore(t, "", nil)
		f, err := m.Create("/wal/00000099.wal")
		check(t, err)
		_, err = f.Write(s[name])
		check(t, err)
		if _, err := Open(m, "/wal", opts); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) {
			t.Fatalf("a copy of %s: %v", name, err)
		}
	}
}

// TestNumberOfDamagedHeader has a header of which a power cut left the first half: its number is not
// given again, because a second power cut can make it whole.
func TestNumberOfDamagedHeader(t *testing.T) {
	s, have, opts := wornLog(t)
	m := s.restore(t, "", nil)
	images, err := openImages(m, "/wal", m.Open)
	check(t, err)
	c, _ := newChain(images, math.MaxUint64)
	half := segmentHeader{identity: identity{number: c.maxNumber() + 1, salt: 5}, first: 99}
	for i := range uint64(40) { // so many that they end with a sector, behind which the next header may differ
		half.live = append(half.live, liveSegment{i + 1, 4096, i})
	}
	closeImages(images)
	next := half
	next.number, next.live = half.number+1, append(slices.Clone(half.live), liveSegment{half.number, 4096, 99})
	page := append(half.encode()[:512], next.encode()[512:1024]...)
	if h, err := parseSegmentHeader(append(page, make([]byte, pageSize-1024)...)); err != nil || h.number != half.number {
		t.Fatalf("two halves do not make a whole: %v", err)
	}

	f, err := m.Create("/wal/00000099.wal")
	check(t, err)
	_, err = f.Write(append(half.encode()[:512], make([]byte, pageSize-512)...))
	check(t, err)
	w := open(t, m, opts)
	readsAs(t, w, have)
	check(t, w.Group(3).Append(entries(3, 1, 8, 1, 4000)))
	for _, seg := range w.mu.segments {
		if seg.number == half.number {
			t.Fatalf("segment %d is there twice", half.number)
		}
	}
	check(t, w.Close())
}

func TestVersion(t *testing.T) {
	s, _, opts := wornLog(t)
	for name := range vital(t, s) {
		data := bytes.Clone(s[name])
		order.PutUint32(data[8:], 2)
		order.PutUint32(data[12:], segmentHeaderCRC(data[:pageSize]))
		if _, err := Open(s.restore(t, name, data), "/wal", opts); !errors.Is(err, errVersion) || !strings.Contains(err.Error(), name) {
			t.Fatalf("version 2 in %s: %v", name, err)
		}
	}
}

// TestCheck reports several damages at once, each with its place, and changes nothing.
func TestCheck(t *testing.T) {
	s, _, _ := wornLog(t)
	m := s.restore(t, "", nil)
	if problems, err := Check(m, "/wal"); len(problems) > 0 || err != nil {
		t.Fatalf("of a good log: %v, %v", problems, err)
	}
	want := map[string]bool{}
	for name, rs := range vital(t, s) {
		r := rs[2] // the first record
		s[name][r.from+5] ^= 4
		want[fmt.Sprint(name, " ", r.named)] = true
	}
	m = s.restore(t, "", nil)
	problems, err := Check(m, "/wal")
	check(t, err)
	for _, p := range problems {
		if !want[fmt.Sprint(p.File, " ", p.Offset)] {
			t.Fatalf("found %v", p)
		}
		delete(want, fmt.Sprint(p.File, " ", p.Offset))
	}
	if len(want) > 0 {
		t.Fatalf("not found: %v", want)
	}
	for name, data := range take(t, m) {
		if !bytes.Equal(data, s[name]) {
			t.Fatalf("%s was changed", name)
		}
	}
}

// TestDamagedFiles zeroes pages, appends garbage, and puts older copies in the place of files: of one, and of all. The log is refused with the
// place, or it has what it had; or, where the newest segment or all of it is an older one, it ends earlier. It never has a hole, and
// never anything else.
func TestDamagedFiles(t *testing.T) {
	older, _, _ := wornLogOf(t, 22)
	s, have, opts := wornLogOf(t, 30)
	newest := strings.TrimSuffix(strings.Fields(lineWith(dump(t, s.restore(t, "", nil)), ", current,"))[0], ":")
	found := map[string]int{}
	try := func(what, name string, disk *vfs.Mem) {
		t.Helper()
		w, err := Open(disk, "/wal", opts)
		if err != nil {
			var p Problem
			if !errors.Is(err, ErrCorrupt) || !errors.As(err, &p) || p.File == "" {
				t.Fatalf("%s of %s: %v", what, name, err)
			}
			found[what+": refused"]++
			return
		}
		defer func() { check(t, w.Close()) }()
		for id, rs := range have {
			g := w.Group(id)
			if last := rs[len(rs)-1].Index; g.Last() > last || g.Last() < last && name != newest && name != "" {
				t.Fatalf("%s of %s: group %d ends with %d, want %d", what, name, id, g.Last(), last)
			}
			for i := g.First(); i != 0 && i <= g.Last(); i++ {
				r, err := g.Get(i)
				if want := entry(id, i, 1, int(100*i%1300)); err != nil || !bytes.Equal(r.Data, want.Data) || r.Index != i {
					t.Fatalf("%s of %s: group %d entry %d: %v", what, name, id, i, err)
				}
			}
		}
		found[what+": whole"]++
	}
	for name, data := range s {
		for at := 0; at < len(data); at += pageSize {
			bad := bytes.Clone(data)
			clear(bad[at:min(at+pageSize, len(bad))])
			try("zeroed page", name, s.restore(t, name, bad))
		}
		try("garbage", name, s.restore(t, name, append(bytes.Clone(data), bytes.Repeat([]byte("garbage."), 1000)...)))
		if before, ok := older[name]; ok {
			try("older copy", name, s.restore(t, name, before))
			try("longer by an older copy", name, s.restore(t, name, append(bytes.Clone(data), before...)))
		}
		for other, content := range s {
			if other != name {
				try("another's copy", name, s.restore(t, name, content))
			}
		}
	}
	try("older copy of all", "", older.restore(t, "", nil))
	t.Log(found)
	for _, what := range []string{"zeroed page: refused", "zeroed page: whole", "older copy: refused", "another's copy: refused", "garbage: whole"} {
		if found[what] == 0 {
			t.Errorf("%s: never", what)
		}
	}
}
