package rowset

import (
	"fmt"
	"io"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// drawSchema has one to eight columns of any type, and a key over those that may be in one.
func drawSchema(t *rapid.T) *schema.Schema {
	s := &schema.Schema{Version: rapid.Uint32Range(1, 5).Draw(t, "version"), Buckets: 1}
	ids := rapid.Permutation([]int{1, 2, 3, 4, 5, 6, 7, 800, 90_000}).Draw(t, "ids")
	for i := range rapid.IntRange(1, 8).Draw(t, "columns") {
		c := schema.Column{ID: schema.ColumnID(ids[i]), Type: schema.Type{Kind: schema.Kind(rapid.IntRange(int(schema.Bool), int(schema.JSON)).Draw(t, "kind"))}}
		if i == 0 {
			c.Type.Kind = schema.Int32 // so that there is a key
		}
		if c.Type.Kind == schema.Decimal {
			c.Type.Precision = rapid.Uint8Range(1, 18).Draw(t, "precision")
			c.Type.Scale = rapid.Uint8Range(0, c.Type.Precision).Draw(t, "scale")
		}
		c.Name = fmt.Sprint("column ", i)
		key := c.Type.Keyable() && (i == 0 || rapid.IntRange(0, 2).Draw(t, "key") == 0)
		switch {
		case key:
			s.Key = append(s.Key, i)
		default:
			c.Nullable = rapid.Bool().Draw(t, "nullable")
		}
		if rapid.Bool().Draw(t, "few") {
			c.Name += "_few"
		}
		s.Columns = append(s.Columns, c)
	}
	s.Key = rapid.Permutation(s.Key).Draw(t, "order of the key")
	return s
}

// TestRandomSchemas writes rows of any schema from two cuts into batches, and reads all of it back.
func TestRandomSchemas(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawSchema(rt)
		if err := s.Validate(); err != nil {
			rt.Fatal(err)
		}
		n := rapid.SampledFrom([]int{1, 2, 130, 1000, 5000}).Draw(rt, "rows")
		r := seeded(rapid.Uint64().Draw(rt, "seed"))
		rows := modelRows(t, r, s, n)
		o := Options{GroupRows: rapid.SampledFrom([]int{0, 1000}).Draw(rt, "group")}
		fsys := vfs.NewMem()
		a := write(t, fsys, "a", s, rows, o)
		b := write(t, fsys, "b", s, cut(t, s, rows, rapid.SampledFrom([]int{1, 77, 4096}).Draw(rt, "size")), o)
		if a.Parquet != b.Parquet || a.Keys != b.Keys {
			rt.Fatal("other batches, other bytes")
		}
		if err := Verify(fsys, "a"); err != nil {
			rt.Fatal(err)
		}
		set := open(t, fsys, "a")
		defer set.Close()
		if !slices.EqualFunc(set.Schema().Columns, s.Columns, func(x, y schema.Column) bool { return x.ID == y.ID && x.Type == y.Type && x.Name == y.Name }) {
			rt.Fatalf("schema %v, want %v", set.Schema(), s)
		}
		scan, err := set.Scan(ScanOptions{Columns: s.Columns})
		if err != nil {
			rt.Fatal(err)
		}
		checkScan(t, s.Columns, rows, collect(t, scan), numbers(n))
		where := []Predicate{randomPredicate(r, s, rows), randomPredicate(r, s, rows)}
		checkWhere(t, fmt.Sprint(where), set, s, rows, ScanOptions{Columns: s.Columns[:1]}, where)
		checkSomeKeys(rt, s, rows, set)
	})
}

// checkSomeKeys looks up a few keys that are there.
func checkSomeKeys(t *rapid.T, s *schema.Schema, rows *Rows, set *RowSet) {
	keys := batch.NewKeys(s)
	for i := 0; i < len(rows.Refs); i += 1 + len(rows.Refs)/20 {
		ref := rows.Refs[i]
		keys.Reset()
		keys.Append(rows.Batches[ref.Batch], int(ref.Row), int(ref.Row)+1)
		row, n, err := set.Lookup(keys.At(0))
		if err != nil || i < row || i >= row+n {
			t.Fatalf("row %d: %d rows at %d (%v)", i, n, row, err)
		}
	}
}

// TestReadersAtOnce scans one RowSet from many goroutines; the race detector looks on.
func TestReadersAtOnce(t *testing.T) {
	fsys := vfs.NewMem()
	small(t, fsys, "1")
	set := open(t, fsys, "1")
	defer set.Close()
	done := make(chan error)
	for range 8 {
		go func() {
			scan, err := set.Scan(ScanOptions{Columns: set.Schema().Columns, At: 1_700_000_000_000_001})
			if err != nil {
				done <- err
				return
			}
			defer scan.Close()
			for err == nil {
				_, err = scan.Next()
			}
			if err == io.EOF {
				_, _, err = set.Lookup([]byte("x"))
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
