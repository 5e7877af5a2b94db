package rowset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/parquet-go/parquet-go"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// write writes rows under base and syncs them.
func write(t testing.TB, fsys vfs.FS, base string, s *schema.Schema, rows *Rows, o Options) *Written {
	t.Helper()
	w, err := NewWriter(s, o)
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.Write(fsys, base, rows)
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Sync(); err != nil {
		t.Fatal(err)
	}
	return out
}

func open(t testing.TB, fsys vfs.FS, base string) *RowSet {
	t.Helper()
	r, err := Open(fsys, base)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// collect reads a scan to its end.
func collect(t testing.TB, s *Scan) (chunks []*Chunk) {
	t.Helper()
	defer s.Close()
	for {
		c, err := s.Next()
		if err == io.EOF {
			return chunks
		}
		if err != nil {
			t.Fatal(err)
		}
		chunks = append(chunks, c)
	}
}

// sameCell compares bit by bit: -0 is not 0, and a NaN is the same NaN.
func sameCell(a *batch.Column, i int, b *batch.Column, j int) bool {
	if a.IsNull(i) || b.IsNull(j) {
		return a.IsNull(i) && b.IsNull(j)
	}
	switch a.Type.Layout() {
	case schema.Bytes:
		return string(a.Bytes(i)) == string(b.Bytes(j))
	case schema.Bits:
		return a.Bit(i) == b.Bit(j)
	}
	w := a.Type.Width()
	return string(a.Values[i*w:i*w+w]) == string(b.Values[j*w:j*w+w])
}

// checkScan compares all chunks with the rows that want lists, by number.
func checkScan(t testing.TB, columns []schema.Column, rows *Rows, chunks []*Chunk, want []int) {
	t.Helper()
	n := 0
	for _, c := range chunks {
		if len(c.Numbers) != c.Rows || len(c.Columns) != len(columns) {
			t.Fatalf("chunk of %d rows, %d numbers, %d columns", c.Rows, len(c.Numbers), len(c.Columns))
		}
		for i, number := range c.Numbers {
			if n >= len(want) || int(number) != want[n] {
				t.Fatalf("row %d of the answer is number %d, want %v", n, number, want[min(n, len(want)-1):min(n+1, len(want))])
			}
			n++
			r := rows.Refs[number]
			for k := range columns {
				model := rows.Batches[r.Batch].Column(columns[k].ID)
				if !sameCell(&c.Columns[k], i, model, int(r.Row)) {
					t.Fatalf("row %d column %s: got %v, want %v", number, columns[k].Name, c.Columns[k].Value(i), model.Value(int(r.Row)))
				}
			}
		}
	}
	if n != len(want) {
		t.Fatalf("%d rows, want %d", n, len(want))
	}
}

func numbers(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func TestEvents(t *testing.T) {
	fsys := vfs.NewMem()
	s, rows := eventSchema(), eventRows(t, 40_000, 1000)
	out := write(t, fsys, "7", s, rows, Options{})
	r := open(t, fsys, "7")
	defer r.Close()
	t.Logf("%.1f B/row of Parquet, %.2f of keys", float64(out.Parquet.Size)/40_000, float64(out.Keys.Size)/40_000)
	scan, err := r.Scan(ScanOptions{Columns: s.Columns})
	if err != nil {
		t.Fatal(err)
	}
	checkScan(t, s.Columns, rows, collect(t, scan), numbers(40_000))
	keys := batch.NewKeys(s)
	for _, b := range rows.Batches {
		keys.Append(b, 0, b.Rows)
	}
	for i := range keys.Len() {
		row, n, err := r.Lookup(keys.At(i))
		if err != nil || n != 1 || rows.Refs[row] != (Ref{Batch: uint32(i / 1000), Row: uint32(i % 1000)}) {
			t.Fatalf("key %d: row %d, %d rows, %v", i, row, n, err)
		}
	}
}

// seeded gives a test its own random numbers, the same every time.
func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func TestEveryType(t *testing.T) {
	for _, n := range []int{1, 9, 300, 20_000} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			fsys := vfs.NewMem()
			s := everyType()
			rows := modelRows(t, seeded(uint64(n)), s, n)
			write(t, fsys, "1", s, rows, Options{GroupRows: 7000})
			r := open(t, fsys, "1")
			defer r.Close()
			scan, err := r.Scan(ScanOptions{Columns: s.Columns})
			if err != nil {
				t.Fatal(err)
			}
			checkScan(t, s.Columns, rows, collect(t, scan), numbers(n))
			for i, ref := range rows.Refs {
				if r.Birth(i) != rows.birth(ref) {
					t.Fatalf("row %d: birth %d, want %d", i, r.Birth(i), rows.birth(ref))
				}
			}
			if err := Verify(fsys, "1"); err != nil {
				t.Fatal(err)
			}
			checkWithParquetGo(t, fsys, "1"+ParquetSuffix, s, rows)
			if err := r.Dump(io.Discard); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// checkWithParquetGo reads a file with parquet-go's own reader, which shares nothing with ours above the encodings.
func checkWithParquetGo(t *testing.T, fsys vfs.FS, name string, s *schema.Schema, rows *Rows) {
	data, err := vfs.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range f.Root().Columns() {
		if c.Name() != s.Columns[i].Name || c.ID() != int(s.Columns[i].ID) || c.Optional() != s.Columns[i].Nullable {
			t.Fatalf("column %d is %s, id %d", i, c.Name(), c.ID())
		}
	}
	base := 0
	for _, g := range f.RowGroups() {
		for ci, chunk := range g.ColumnChunks() {
			pages, row := chunk.Pages(), base
			values := make([]parquet.Value, 1000)
			for {
				p, err := pages.ReadPage()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				for reader := p.Values(); ; {
					n, err := reader.ReadValues(values)
					for _, v := range values[:n] {
						ref := rows.Refs[row]
						if got, want := parquetCell(v), modelCell(&rows.Batches[ref.Batch].Columns[ci], int(ref.Row)); got != want {
							t.Fatalf("column %s row %d: got %q, want %q", s.Columns[ci].Name, row, got, want)
						}
						row++
					}
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				parquet.Release(p)
			}
			pages.Close()
			if row != base+int(g.NumRows()) {
				t.Fatalf("column %s: %d rows, want %d", s.Columns[ci].Name, row-base, g.NumRows())
			}
		}
		base += int(g.NumRows())
	}
	if base != len(rows.Refs) {
		t.Fatalf("%d rows, want %d", base, len(rows.Refs))
	}
}

// parquetCell and modelCell are a value's plain bytes as text, or "null".
func parquetCell(v parquet.Value) string {
	if v.IsNull() {
		return "null"
	}
	return fmt.Sprintf("%x", v.AppendBytes(nil))
}

func modelCell(c *batch.Column, i int) string {
	v := c.Value(i)
	if v.Null {
		return "null"
	}
	switch physicalOf(c.Type) {
	case physBool:
		return fmt.Sprintf("%02x", v.Int)
	case physInt32:
		return fmt.Sprintf("%x", binary.LittleEndian.AppendUint32(nil, uint32(v.Int)))
	case physInt64:
		return fmt.Sprintf("%x", binary.LittleEndian.AppendUint64(nil, uint64(v.Int)))
	case physFloat:
		return fmt.Sprintf("%x", c.Values[i*4:i*4+4])
	case physDouble:
		return fmt.Sprintf("%x", c.Values[i*8:i*8+8])
	}
	return fmt.Sprintf("%x", v.Bytes)
}

// TestSameBytes checks that files depend on rows only: not on batches, not on what a Writer wrote before, of the same or another schema.
func TestSameBytes(t *testing.T) {
	s := everyType()
	rows := modelRows(t, seeded(3), s, 12_000)
	fsys := vfs.NewMem()
	want := write(t, fsys, "a", s, rows, Options{GroupRows: 5000})
	events := eventRows(t, 9000, 1000)
	other := write(t, fsys, "c", eventSchema(), events, Options{GroupRows: 5000})
	w, err := NewWriter(s, Options{GroupRows: 5000})
	if err != nil {
		t.Fatal(err)
	}
	sizes := []int{1, 7, 977, 4096, 20_000}
	if testing.Short() {
		sizes = sizes[1:3]
	}
	for _, size := range sizes {
		for range 2 {
			out, err := w.Write(fsys, "b", cut(t, s, rows, size))
			if err != nil {
				t.Fatal(err)
			}
			if err := out.Sync(); err != nil {
				t.Fatal(err)
			}
			if out.Parquet != want.Parquet || out.Keys != want.Keys {
				t.Fatalf("batches of %d rows: other bytes", size)
			}
		}
		if err := w.SetSchema(eventSchema()); err != nil {
			t.Fatal(err)
		}
		out, err := w.Write(fsys, "d", events)
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Sync(); err != nil {
			t.Fatal(err)
		}
		if out.Parquet != other.Parquet || out.Keys != other.Keys {
			t.Fatal("with the writer of another schema: other bytes")
		}
		if err := w.SetSchema(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, suffix := range []string{ParquetSuffix, KeysSuffix} {
		f, err := fsys.Open("b" + suffix)
		if err != nil {
			t.Fatal(err)
		}
		size, sum, err := HashFile(f)
		if info := (FileInfo{Size: size, Hash: sum}); err != nil || info != want.Parquet && info != want.Keys {
			t.Fatalf("HashFile of %s: %d %s %v", suffix, size, sum, err)
		}
		f.Close()
	}
}

// TestGolden pins the bytes of both files: builds with other processors, tags (purego, noasm) and days must agree.
func TestGolden(t *testing.T) {
	s := everyType()
	out := write(t, vfs.NewMem(), "a", s, modelRows(t, seeded(4), s, 6000), Options{})
	events := write(t, vfs.NewMem(), "a", eventSchema(), eventRows(t, 30_000, 1000), Options{})
	got := fmt.Sprintf("%s\n%s\n%s\n%s\n", out.Parquet.Hash, out.Keys.Hash, events.Parquet.Hash, events.Keys.Hash)
	want, err := os.ReadFile("testdata/golden.txt")
	if err != nil || got != string(want) {
		t.Fatalf("got\n%s, want\n%s (%v): a change of format needs a new format version", got, want, err)
	}
}

// TestHashOf hashes content at once and in pieces.
func TestHashOf(t *testing.T) {
	data := make([]byte, 2*hashBlock+77)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	for _, n := range []int{0, 1, hashBlock - 1, hashBlock, hashBlock + 1, 2 * hashBlock, len(data)} {
		for _, piece := range []int{100_000, hashBlock, len(data)} {
			h := NewHasher().Expect(int64(n))
			for part := range slices.Chunk(data[:n], piece) {
				h.Write(part)
			}
			if got, want := HashOf(data[:n]), h.Sum(); got != want {
				t.Errorf("%d bytes: %s at once, %s in pieces of %d", n, got, want, piece)
			}
		}
	}
}
