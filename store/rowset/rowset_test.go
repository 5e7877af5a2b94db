package rowset

import (
	"io"
	"testing"

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
