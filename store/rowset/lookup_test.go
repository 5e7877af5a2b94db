package rowset

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// keyedRows makes n rows over a key of the given types with about distinct keys, in a few batches, and some versions of one key
// that fill whole blocks.
func keyedRows(t *testing.T, seed uint64, n, distinct, versions int, types ...schema.Kind) (*schema.Schema, *Rows) {
	r := seeded(seed)
	s := &schema.Schema{Version: 1, Buckets: 1}
	for i, k := range types {
		s.Columns = append(s.Columns, schema.Column{ID: schema.ColumnID(i + 1), Name: fmt.Sprint("k", i), Type: schema.Type{Kind: k}})
		s.Key = append(s.Key, i)
	}
	rows := &Rows{}
	for at := 0; at < n; {
		k := min(n-at, 1+r.IntN(n))
		b := batch.NewBuilder(s.Columns, k)
		for i := range k {
			x := 2 * r.Int64N(int64(distinct)) // odd ones do not exist
			if at+i < versions {
				x = 2 * int64(distinct/2)
			}
			for c := range s.Columns {
				b.Columns[c].AppendValue(keyValue(s.Columns[c].Type.Kind, x>>(8*(len(types)-1-c))))
			}
		}
		v := b.View()
		rows.Batches, rows.Births = append(rows.Batches, &v), append(rows.Births, []int64{int64(at)})
		at += k
	}
	rows.Refs = sortRefs(s, rows.Batches)
	return s, rows
}

func keyValue(k schema.Kind, x int64) schema.Value {
	switch k {
	case schema.String:
		return schema.Value{Bytes: bytes.Repeat([]byte(fmt.Sprintf("%x\x00", x)), int(x%40)+1)}
	case schema.UUID:
		return schema.Value{Bytes: fmt.Appendf(nil, "%016x", x*0x123456789)}
	case schema.Int8:
		return schema.Value{Int: int64(int8(x))}
	case schema.Int64:
		return schema.Value{Int: x * 0x7f3a_5172_0001} // over all 64 bits, both signs
	}
	return schema.Value{Int: x - 100}
}

// TestLookup asks for every key that is there and as many that are not, alone and together.
func TestLookup(t *testing.T) {
	for i, types := range [][]schema.Kind{{schema.Int64}, {schema.UUID}, {schema.Int32, schema.Int8}, {schema.String}, {schema.Int16, schema.String, schema.Int64}, {schema.Int8, schema.Int8, schema.Timestamp, schema.Date}} {
		for _, n := range []int{1, 255, 256, 257, 5000} {
			t.Run(fmt.Sprint(types, n), func(t *testing.T) {
				s, rows := keyedRows(t, uint64(i), n, 2*n, min(n, 800)*(i%2), types...)
				fsys := vfs.NewMem()
				write(t, fsys, "1", s, rows, Options{})
				r := open(t, fsys, "1")
				defer r.Close()
				checkLookups(t, s, rows, r)
				if err := Verify(fsys, "1"); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

func checkLookups(t *testing.T, s *schema.Schema, rows *Rows, r *RowSet) {
	sorted := batch.NewKeys(s) // of all rows, in order
	for _, ref := range rows.Refs {
		sorted.Append(rows.Batches[ref.Batch], int(ref.Row), int(ref.Row)+1)
	}
	least, greatest := r.Bounds()
	if n := sorted.Len(); !bytes.Equal(least, sorted.At(0)) || !bytes.Equal(greatest, sorted.At(n-1)) {
		t.Fatalf("bounds %x to %x, want %x to %x", least, greatest, sorted.At(0), sorted.At(n-1))
	}
	var ask [][]byte
	want := map[string]Hit{}
	for i := range sorted.Len() {
		k := sorted.At(i)
		h := want[string(k)]
		if h.Count++; h.Count == 1 {
			h.Row = uint32(i)
			other := slices.Clone(k)
			other[len(other)-1] ^= 1
			ask = append(ask, k, other)
		}
		want[string(k)] = h
	}
	slices.SortFunc(ask, bytes.Compare)
	keys := batch.NewKeys(s)
	for _, k := range ask {
		keys.Data = append(keys.Data, k...)
		keys.Offsets = append(keys.Offsets, uint32(len(keys.Data)))
		row, n, err := r.Lookup(k)
		if h := want[string(k)]; err != nil || n != int(h.Count) || n > 0 && row != int(h.Row) {
			t.Fatalf("key %x: %d rows at %d, want %d at %d (%v)", k, n, row, h.Count, h.Row, err)
		}
	}
	hits, err := r.LookupAll(keys, AppendHashes(nil, keys), make([]bool, keys.Len()), nil)
	if err != nil || len(hits) != len(want) {
		t.Fatalf("%d hits, want %d (%v)", len(hits), len(want), err)
	}
	skip := make([]bool, keys.Len())
	for i := 0; i < len(skip); i += 2 {
		skip[i] = true
	}
	rest, err := r.LookupAll(keys, AppendHashes(nil, keys), skip, nil)
	unskipped := slices.DeleteFunc(slices.Clone(hits), func(h Hit) bool { return skip[h.Key] })
	if err != nil || !slices.Equal(rest, unskipped) {
		t.Fatalf("%d hits where every other key is skipped, want %d (%v)", len(rest), len(unskipped), err)
	}
	for _, h := range hits {
		if w := want[string(keys.At(int(h.Key)))]; w.Row != h.Row || w.Count != h.Count {
			t.Fatalf("key %d: %d rows at %d, want %d at %d", h.Key, h.Count, h.Row, w.Count, w.Row)
		}
	}
}

func TestPacked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.UintRange(0, 64).Draw(t, "width")
		values := rapid.SliceOf(rapid.Uint64()).Draw(t, "values")
		for i := range values {
			values[i] &= 1<<width - 1
			if width == 64 {
				values[i] = rapid.Uint64().Draw(t, "wide")
			}
		}
		d := appendPacked(nil, values, width)
		if len(d) != packedBytes(len(values), width) {
			t.Fatalf("%d bytes, want %d", len(d), packedBytes(len(values), width))
		}
		p := packed{data: append(d, make([]byte, packedSlack)...), width: width}
		for i, v := range values {
			if p.at(i) != v {
				t.Fatalf("value %d of width %d: %x, want %x", i, width, p.at(i), v)
			}
		}
	})
}

// TestKeyParts draws columns of keys that rise, fall, jump and wrap.
func TestKeyParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start, step := rapid.Uint64().Draw(t, "start"), rapid.Uint64().Draw(t, "step")>>rapid.IntRange(0, 63).Draw(t, "shift")
		noise := uint(rapid.IntRange(0, 64).Draw(t, "noise"))
		values := make([]uint64, rapid.IntRange(1, keyBlockRows).Draw(t, "rows"))
		for i := range values {
			values[i] = start + uint64(i)*step + rapid.Uint64().Draw(t, "value")>>noise
		}
		want := slices.Clone(values)
		b := keyBlock{rows: len(values), widths: []int{8}, data: append(appendPart(nil, values), make([]byte, packedSlack)...)}
		b.data = b.data[:len(b.data)-packedSlack]
		parts, err := b.parts(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range want {
			if parts[0].at(i) != v {
				t.Fatalf("value %d: %x, want %x", i, parts[0].at(i), v)
			}
		}
	})
}

func TestBirthsUntil(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		of := rapid.SliceOfN(rapid.Int64Range(-5, rapid.SampledFrom([]int64{-5, 3, 5000}).Draw(t, "most")), 1, 3000).Draw(t, "births")
		d := appendBirths(nil, of, new(birthSet), make([]uint64, len(of)))
		s, err := parseBirths(append(d, make([]byte, packedSlack)...)[:len(d)], len(of))
		if err != nil {
			t.Fatal(err)
		}
		at := rapid.Int64Range(-6, 5001).Draw(t, "at")
		first := rapid.IntRange(0, len(of)-1).Draw(t, "first")
		selection := make([]uint64, (len(of)-first+63)/64)
		for i := range selection {
			selection[i] = ^uint64(0)
		}
		s.until(at, first, selection)
		for i, b := range of {
			if s.at(i) != b {
				t.Fatalf("row %d: birth %d, want %d", i, s.at(i), b)
			}
			if k := i - first; k >= 0 && selection[k>>6]>>(k&63)&1 != uint64(oneIf(b <= at)) {
				t.Fatalf("row %d born at %d, read at %d", i, b, at)
			}
		}
	})
}
