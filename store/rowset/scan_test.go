package rowset

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// fulfils is the plain reading of a predicate.
func fulfils(p *Predicate, t schema.Type, v schema.Value) bool {
	switch {
	case p.Op == IsNull || p.Op == IsNotNull:
		return v.Null == (p.Op == IsNull)
	case v.Null:
		return false
	case p.Op == In:
		return slices.ContainsFunc(p.Values, func(x schema.Value) bool { return schema.Compare(t, v, x) == 0 })
	}
	c := schema.Compare(t, v, p.Values[0])
	return map[Op]bool{Equal: c == 0, NotEqual: c != 0, Less: c < 0, LessEqual: c <= 0, Greater: c > 0, GreaterEqual: c >= 0}[p.Op]
}

// randomPredicate takes its constants from the rows, from the edges, or from anywhere.
func randomPredicate(r *rand.Rand, s *schema.Schema, rows *Rows) Predicate {
	i := r.IntN(len(s.Columns))
	c := &s.Columns[i]
	p := Predicate{Column: c.ID, Op: []Op{Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual, In, IsNull, IsNotNull}[r.IntN(9)]}
	n := map[Op]int{IsNull: 0, IsNotNull: 0, In: r.IntN(5)}
	count, special := n[p.Op]
	if !special {
		count = 1
	}
	for len(p.Values) < count {
		ref := rows.Refs[r.IntN(len(rows.Refs))]
		v := rows.Batches[ref.Batch].Columns[i].Value(int(ref.Row))
		if e := edges(c.Type); r.IntN(4) == 0 || v.Null {
			v = e[r.IntN(len(e))]
		}
		p.Values = append(p.Values, v)
	}
	return p
}

// TestScanWhere compares scans with random predicates, ranges, times and masks with the model.
func TestScanWhere(t *testing.T) {
	fsys := vfs.NewMem()
	s := everyType()
	rows := modelRows(t, seeded(5), s, 30_000)
	write(t, fsys, "1", s, rows, Options{GroupRows: 11_000})
	r := open(t, fsys, "1")
	defer r.Close()
	rng := seeded(6)
	least, greatest := r.Births()
	scans := 150
	if testing.Short() {
		scans = 20
	}
	for i := range scans {
		o := ScanOptions{First: rng.IntN(30_000), Next: 30_000}
		if rng.IntN(2) == 0 {
			o.First, o.Next = 0, 0
		}
		if rng.IntN(3) == 0 {
			o.At = least - 1 + rng.Int64N(greatest-least+3)
		}
		if rng.IntN(3) == 0 {
			o.Mask = func(first int, selection []uint64) {
				for k := range selection {
					for b := range 64 {
						if (first+k*64+b)%7 == 3 {
							selection[k] &^= 1 << b
						}
					}
				}
			}
		}
		var where []Predicate
		for range rng.IntN(3) {
			where = append(where, randomPredicate(rng, s, rows))
		}
		for _, k := range rng.Perm(len(s.Columns))[:rng.IntN(6)] {
			o.Columns = append(o.Columns, s.Columns[k])
		}
		checkWhere(t, fmt.Sprintf("scan %d where %v", i, where), r, s, rows, o, where)
	}
}

func checkWhere(t *testing.T, name string, r *RowSet, s *schema.Schema, rows *Rows, o ScanOptions, where []Predicate) {
	t.Helper()
	var err error
	if o.Where, err = NewFilter(where, s.Columns); err != nil {
		t.Fatal(err)
	}
	var want []int
	for n, ref := range rows.Refs {
		keep := n >= o.First && (o.Next == 0 || n < o.Next) && (o.At == 0 || rows.birth(ref) <= o.At) && (o.Mask == nil || n%7 != 3)
		for k := range where {
			c := rows.Batches[ref.Batch].Column(where[k].Column)
			keep = keep && fulfils(&where[k], c.Type, c.Value(int(ref.Row)))
		}
		if keep {
			want = append(want, n)
		}
	}
	scan, err := r.Scan(o)
	if err != nil {
		t.Fatal(err)
	}
	chunks := collect(t, scan)
	if len(want) == 0 && len(chunks) > 0 {
		t.Fatalf("%s: %d rows, want none", name, chunks[0].Rows)
	}
	checkScan(t, o.Columns, rows, chunks, want)
}

// TestFilter applies predicates to the batches themselves, as scans of a MemRowSet do.
func TestFilter(t *testing.T) {
	s := everyType()
	rng := seeded(7)
	rows := modelRows(t, rng, s, 4000)
	for range 200 {
		p := randomPredicate(rng, s, rows)
		f, err := NewFilter([]Predicate{p}, s.Columns)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range rows.Batches {
			selection := make([]uint64, (b.Rows+63)/64)
			for i := range selection {
				selection[i] = ^uint64(0)
			}
			f.Apply(b, selection)
			c := b.Column(p.Column)
			for i := range b.Rows {
				if got := selection[i>>6]>>(i&63)&1 != 0; got != fulfils(&p, c.Type, c.Value(i)) {
					t.Fatalf("%v of %v: %v", p, c.Value(i), got)
				}
			}
		}
	}
}

// TestPages checks that the indexes leave pages out: a scan for one key reads a small part of the file.
func TestPages(t *testing.T) {
	s, rows := eventSchema(), eventRows(t, 60_000, 2000)
	fsys := vfs.NewMem()
	out := write(t, fsys, "1", s, rows, Options{})
	counted := &counting{FS: fsys}
	r := open(t, counted, "1")
	defer r.Close()
	ref := rows.Refs[31_234]
	b := rows.Batches[ref.Batch]
	where := []Predicate{{Column: 1, Op: Equal, Values: []schema.Value{b.Columns[0].Value(int(ref.Row))}}, {Column: 2, Op: Equal, Values: []schema.Value{b.Columns[1].Value(int(ref.Row))}}}
	counted.bytes = 0
	checkWhere(t, "one key", r, s, rows, ScanOptions{Columns: s.Columns}, where)
	if counted.bytes > out.Parquet.Size/4 {
		t.Fatalf("one key took %d of %d bytes", counted.bytes, out.Parquet.Size)
	}
}

// counting counts the bytes that are read.
type counting struct {
	vfs.FS
	bytes int64
}

type countingFile struct {
	vfs.File
	fs *counting
}

func (c *counting) Open(name string) (vfs.File, error) {
	f, err := c.FS.Open(name)
	return countingFile{f, c}, err
}

func (f countingFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.bytes += int64(len(p))
	return f.File.ReadAt(p, off)
}

// TestAddedColumn reads rows that are older than a column, and writes them together with newer ones.
func TestAddedColumn(t *testing.T) {
	s, rows := eventSchema(), eventRows(t, 3000, 1000)
	fsys := vfs.NewMem()
	write(t, fsys, "1", s, rows, Options{})
	r := open(t, fsys, "1")
	defer r.Close()
	newer := *s
	newer.Version = 2
	newer.Columns = append(slices.Clone(s.Columns),
		schema.Column{ID: 20, Name: "level", Type: schema.Type{Kind: schema.Int16}, Nullable: true, Default: &schema.Value{Int: 7}},
		schema.Column{ID: 21, Name: "note", Type: schema.Type{Kind: schema.String}, Nullable: true})
	for _, c := range []struct {
		p    Predicate
		want int
	}{{Predicate{20, Equal, []schema.Value{{Int: 7}}}, 3000}, {Predicate{20, Less, []schema.Value{{Int: 7}}}, 0}, {Predicate{21, IsNull, nil}, 3000}, {Predicate{21, IsNotNull, nil}, 0}} {
		f, err := NewFilter([]Predicate{c.p}, newer.Columns)
		if err != nil {
			t.Fatal(err)
		}
		scan, err := r.Scan(ScanOptions{Columns: newer.Columns[10:], Where: f})
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, k := range collect(t, scan) {
			for i := range k.Rows {
				if k.Columns[1].Int(i) != 7 || !k.Columns[2].IsNull(i) {
					t.Fatalf("row %d: %v %v", i, k.Columns[1].Value(i), k.Columns[2].Value(i))
				}
			}
			got += k.Rows
		}
		if got != c.want {
			t.Fatalf("%v: %d rows, want %d", c.p, got, c.want)
		}
	}
	out := write(t, fsys, "2", &newer, rows, Options{})
	if out.Rows != 3000 || Verify(fsys, "2") != nil {
		t.Fatal(out.Rows, Verify(fsys, "2"))
	}
}

// TestStream writes the same rows from other batches, with row groups cut by rows and by bytes.
func TestStream(t *testing.T) {
	s := everyType()
	rows := modelRows(t, seeded(8), s, 9000)
	for _, o := range []Options{{}, {GroupRows: 2500, SHA256: true}, {GroupBytes: 400_000, Level: Default, Footer: []Pair{{"nyala.cluster", "c"}}}} {
		fsys := vfs.NewMem()
		var want FileInfo
		for _, size := range []int{100, 9000, 3331} {
			st, err := NewStream(fsys, "x", s, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range cut(t, s, rows, size).Batches {
				half := uint32(b.Rows / 2)
				for _, list := range [][]uint32{span32(0, half), span32(half, uint32(b.Rows))} {
					if err := st.Append(b, list); err != nil {
						t.Fatal(err)
					}
				}
			}
			info, err := st.Finish(Pair{"nyala.rows", fmt.Sprint(st.Rows())})
			if err != nil {
				t.Fatal(err)
			}
			if want.Size == 0 {
				want = info
			}
			if info != want {
				t.Fatalf("batches of %d rows: other bytes", size)
			}
		}
		if err := VerifyFile(fsys, "x"); err != nil {
			t.Fatal(err)
		}
		data, _ := vfs.ReadFile(fsys, "x")
		if o.SHA256 && want.SHA256 != sha256.Sum256(data) {
			t.Fatal("sha256 differs")
		}
		f, err := OpenFile(fsys, "x")
		if err != nil {
			t.Fatal(err)
		}
		if footer := f.Footer(); footer[len(footer)-1] != (Pair{"nyala.rows", "9000"}) {
			t.Fatalf("footer %v", footer)
		}
		scan, err := f.Scan(ScanOptions{Columns: s.Columns})
		if err != nil {
			t.Fatal(err)
		}
		checkScan(t, s.Columns, rows, collect(t, scan), numbers(9000))
		f.Close()
	}
}

func span32(from, to uint32) []uint32 {
	out := []uint32{}
	for ; from < to; from++ {
		out = append(out, from)
	}
	return out
}

// TestEmptyStream makes a file without rows, which an empty table exports as.
func TestEmptyStream(t *testing.T) {
	fsys := vfs.NewMem()
	st, err := NewStream(fsys, "x", eventSchema(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := VerifyFile(fsys, "x"); err != nil {
		t.Fatal(err)
	}
}

// TestLongValues has values of 1 MiB among short ones: pages and chunks stay small in rows.
func TestLongValues(t *testing.T) {
	s := &schema.Schema{Version: 1, Buckets: 1, Key: []int{0}, Columns: []schema.Column{
		{ID: 1, Name: "id", Type: schema.Type{Kind: schema.Int64}},
		{ID: 2, Name: "text", Type: schema.Type{Kind: schema.String}},
		{ID: 3, Name: "blob", Type: schema.Type{Kind: schema.Binary}, Nullable: true}}}
	b := batch.NewBuilder(s.Columns, 100)
	for i := range 5040 {
		b.Columns[0].AppendInt(int64(i))
		if i < 5000 {
			b.Columns[1].AppendBytes(fmt.Appendf(nil, "short %d", i%3))
			b.Columns[2].AppendNull()
			continue
		}
		b.Columns[1].AppendBytes(bytes.Repeat([]byte{'a' + byte(i%2)}, 1<<20))
		b.Columns[2].AppendBytes(bytes.Repeat([]byte{7}, 1<<20))
	}
	v := b.View()
	rows := &Rows{Batches: []*batch.Batch{&v}, Births: [][]int64{{1}}}
	rows.Refs = sortRefs(s, rows.Batches)
	fsys := vfs.NewMem()
	write(t, fsys, "1", s, rows, Options{})
	r := open(t, fsys, "1")
	defer r.Close()
	scan, err := r.Scan(ScanOptions{Columns: s.Columns})
	if err != nil {
		t.Fatal(err)
	}
	chunks := collect(t, scan)
	checkScan(t, s.Columns, rows, chunks, numbers(5040))
	for _, c := range chunks {
		if n := len(c.Columns[2].Values); n > 8<<20 {
			t.Fatalf("a chunk of %d bytes", n)
		}
	}
}

func TestMisuse(t *testing.T) {
	s, rows := eventSchema(), eventRows(t, 100, 100)
	fsys := vfs.NewMem()
	w, err := NewWriter(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	wrong := map[string]func(r *Rows){
		"no rows":     func(r *Rows) { r.Refs = nil },
		"no births":   func(r *Rows) { r.Births = nil },
		"order":       func(r *Rows) { r.Refs[4], r.Refs[5] = r.Refs[5], r.Refs[4] },
		"ref":         func(r *Rows) { r.Refs[4].Row = 100 },
		"other type":  func(r *Rows) { r.Batches[0].Columns[8].Type.Kind = schema.Timestamp },
		"null in key": func(r *Rows) { r.Batches[0].Columns[0].Nulls, r.Batches[0].Columns[0].Valid = 1, make([]byte, 13) },
		"few births":  func(r *Rows) { r.Births[0] = []int64{1, 2} },
	}
	for name, spoil := range wrong {
		b := *rows.Batches[0]
		b.Columns = slices.Clone(b.Columns)
		r := &Rows{Batches: []*batch.Batch{&b}, Refs: slices.Clone(rows.Refs), Births: [][]int64{{5}}}
		spoil(r)
		if _, err := w.Write(fsys, "1", r); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	if _, err := NewWriter(s, Options{Footer: []Pair{{"other", ""}}}); err == nil {
		t.Error("a footer key of somebody else is taken")
	}
	for _, p := range []Predicate{{99, Equal, []schema.Value{{}}}, {1, "like", []schema.Value{{}}}, {1, Equal, nil}, {1, Equal, []schema.Value{schema.Null}}, {1, IsNull, []schema.Value{{}}}} {
		if _, err := NewFilter([]Predicate{p}, s.Columns); err == nil {
			t.Errorf("predicate %v is taken", p)
		}
	}
}

// TestCutBounds checks that shortened bounds still bound, and are text where they must be.
func TestCutBounds(t *testing.T) {
	for _, v := range edges(schema.Type{Kind: schema.String}) {
		lo, hi := cutBelow(v.Bytes, true), cutAbove(v.Bytes, true)
		if bytes.Compare(lo, v.Bytes) > 0 || bytes.Compare(hi, v.Bytes) < 0 || !bytes.Equal(bytes.ToValidUTF8(lo, nil), lo) || !bytes.Equal(bytes.ToValidUTF8(hi, nil), hi) {
			t.Errorf("%q: bounds %q and %q", v.Bytes, lo, hi)
		}
	}
	for _, v := range edges(schema.Type{Kind: schema.Binary}) {
		if lo, hi := cutBelow(v.Bytes, false), cutAbove(v.Bytes, false); bytes.Compare(lo, v.Bytes) > 0 || bytes.Compare(hi, v.Bytes) < 0 {
			t.Errorf("%x: bounds %x and %x", v.Bytes, lo, hi)
		}
	}
	if floatOrdinal(math.Inf(1)) >= floatOrdinal(math.NaN()) || floatOrdinal(math.Copysign(0, -1)) != floatOrdinal(0) {
		t.Error("order of floats")
	}
}
