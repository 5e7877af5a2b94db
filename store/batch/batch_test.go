package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"nyala/offsets"
	"nyala/store/schema"
)

// everyType is a schema with a column of each type, the key over four of them.
func everyType() *schema.Schema {
	s := &schema.Schema{Version: 1, Buckets: 3}
	for k := schema.Bool; k <= schema.JSON; k++ {
		t := schema.Type{Kind: k}
		if k == schema.Decimal {
			t.Precision, t.Scale = 10, 2
		}
		s.Columns = append(s.Columns, schema.Column{ID: schema.ColumnID(k), Name: k.String(), Type: t, Nullable: !t.Keyable()})
	}
	s.Columns = append(s.Columns, schema.Column{ID: 99, Name: "note", Type: schema.Type{Kind: schema.String}, Nullable: true})
	s.Key = []int{s.Position("int32"), s.Position("string"), s.Position("timestamp"), s.Position("uuid")}
	s.Hash = []int{s.Position("int32"), s.Position("string")}
	return s
}

func drawValue(t *rapid.T, c schema.Column) schema.Value {
	if c.Nullable && rapid.IntRange(0, 3).Draw(t, "null") == 0 {
		return schema.Null
	}
	switch c.Type.Kind {
	case schema.Bool:
		return schema.Value{Int: int64(rapid.IntRange(0, 1).Draw(t, "bool"))}
	case schema.Int8:
		return schema.Value{Int: int64(rapid.Int8().Draw(t, "i8"))}
	case schema.Int16:
		return schema.Value{Int: int64(rapid.Int16().Draw(t, "i16"))}
	case schema.Int32, schema.Date:
		return schema.Value{Int: int64(rapid.Int32().Draw(t, "i32"))}
	case schema.Float32:
		return schema.Value{Float: float64(rapid.Float32().Draw(t, "f32"))}
	case schema.Float64:
		return schema.Value{Float: rapid.SampledFrom([]float64{0, math.Copysign(0, -1), math.Inf(1), math.MaxFloat64, 1.5}).Draw(t, "f64")}
	case schema.UUID:
		return schema.Value{Bytes: rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid")}
	case schema.String, schema.Binary, schema.JSON:
		return schema.Value{Bytes: rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 0xff}), 0, 5).Draw(t, "bytes")}
	}
	return schema.Value{Int: rapid.Int64().Draw(t, "i64")}
}

// drawBatches makes a few builders and the same rows as plain values.
func drawBatches(t *rapid.T, s *schema.Schema) (views []Batch, rows [][][]schema.Value) {
	for range rapid.IntRange(1, 3).Draw(t, "batches") {
		b := NewBuilder(s.Columns, 4)
		var mine [][]schema.Value
		for range rapid.IntRange(1, 20).Draw(t, "rows") {
			var row []schema.Value
			for i, c := range s.Columns {
				v := drawValue(t, c)
				b.Columns[i].AppendValue(v)
				row = append(row, v)
			}
			mine = append(mine, row)
			if rapid.IntRange(0, 4).Draw(t, "take back") == 0 {
				mine = mine[:rapid.IntRange(0, len(mine)).Draw(t, "to")]
				b.Truncate(len(mine))
			}
		}
		views, rows = append(views, b.View()), append(rows, mine)
	}
	return views, rows
}

func sameValue(t schema.Type, a, b schema.Value) bool {
	if a.Null || b.Null {
		return a.Null == b.Null
	}
	return a.Int == b.Int && math.Float64bits(a.Float) == math.Float64bits(b.Float) && bytes.Equal(a.Bytes, b.Bytes)
}

func TestWriteRoundTrip(t *testing.T) {
	s := everyType()
	rapid.Check(t, func(t *rapid.T) {
		views, rows := drawBatches(t, s)
		w := &Write{Header: Header{Kind: KindWrite, Timestamp: 7, SchemaVersion: 3}, Batches: views}
		w.Segments = []offsets.Segment{{Source: offsets.Source{Connector: "c", Partition: 4}, Decision: 2, Range: offsets.Range{First: 10, Next: 5000}}}
		keys := NewKeys(s)
		var refs []Ref
		for b := range views {
			keys.Append(&views[b], 0, views[b].Rows)
			for r := range views[b].Rows {
				refs = append(refs, Ref{uint32(b), uint32(r)})
			}
		}
		var sorter Sorter
		order := sorter.Sort(keys, nil)
		var sorted []Ref // by row of the entry
		for _, o := range order {
			sorted = append(sorted, refs[o])
			w.Segment, w.Delta = append(w.Segment, 0), append(w.Delta, o)
			w.Ops = append(w.Ops, Op(o%3))
		}
		if w.Refs = sorted; rapid.Bool().Draw(t, "places") {
			w.Refs, w.Places = refs, make([]uint32, len(refs))
			for place, o := range order {
				w.Places[o] = uint32(place)
			}
		}
		entry := AppendWrite(nil, w)
		if exact := cap(slices.Grow([]byte(nil), len(entry))); cap(entry) != exact { // what the allocator rounds up to
			t.Fatalf("entry of %d bytes in %d, want %d", len(entry), cap(entry), exact)
		}
		Stamp(entry, 99)
		p, err := ParseWrite(entry)
		if err != nil {
			t.Fatal(err)
		}
		if p.Header != (Header{KindWrite, 99, 3}) || len(p.Segments) != 1 || p.Segments[0] != w.Segments[0] {
			t.Fatalf("got header %+v segments %+v", p.Header, p.Segments)
		}
		again := NewKeys(s)
		again.Append(&p.Batch, 0, p.Batch.Rows)
		for i, r := range sorted {
			for c := range s.Columns {
				if got, want := p.Batch.Columns[c].Value(i), rows[r.Batch][r.Row][c]; !sameValue(s.Columns[c].Type, got, want) {
					t.Fatalf("row %d column %s: got %+v, want %+v", i, s.Columns[c].Name, got, want)
				}
			}
			if p.Offset(i) != 10+int64(order[i]) || p.Op(i) != Op(order[i]%3) {
				t.Fatalf("row %d: offset %d op %d", i, p.Offset(i), p.Op(i))
			}
			if i > 0 && bytes.Compare(again.At(i-1), again.At(i)) > 0 {
				t.Fatalf("row %d is out of order", i)
			}
		}
		rowsEntry := AppendRows(nil, &p.Batch, Header{Timestamp: 5})
		q, err := ParseWrite(rowsEntry)
		if err != nil || q.Batch.Rows != p.Batch.Rows || q.Header.Kind != KindRows {
			t.Fatalf("rows: %v %+v", err, q)
		}
		for c := range s.Columns {
			for i := range q.Batch.Rows {
				if !sameValue(s.Columns[c].Type, q.Batch.Columns[c].Value(i), p.Batch.Columns[c].Value(i)) {
					t.Fatalf("rows entry differs at row %d column %d", i, c)
				}
			}
		}
	})
}

// Encoded keys must order as the values do, column by column.
func TestKeyOrder(t *testing.T) {
	s := everyType()
	rapid.Check(t, func(t *rapid.T) {
		var keys [2][]byte
		var vals [2][]schema.Value
		for i := range keys {
			for _, k := range s.Key {
				v := drawValue(t, s.Columns[k])
				vals[i] = append(vals[i], v)
				keys[i] = schema.AppendKeyValue(keys[i], s.Columns[k].Type, v)
			}
		}
		want := 0
		for c := 0; c < len(s.Key) && want == 0; c++ {
			want = schema.Compare(s.Columns[s.Key[c]].Type, vals[0][c], vals[1][c])
		}
		if got := bytes.Compare(keys[0], keys[1]); got != want {
			t.Fatalf("got order %d, want %d for %v %v", got, want, vals[0], vals[1])
		}
	})
}

func TestSortFixedWidth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.SampledFrom([]int{4, 8, 20, 24, 40}).Draw(t, "width")
		k := &Keys{Width: width}
		n := rapid.IntRange(0, 300).Draw(t, "n")
		alphabet := rapid.SampledFrom([][]byte{{0, 1}, {0, 1, 2, 128, 255}}).Draw(t, "alphabet")
		for range n {
			k.Data = append(k.Data, rapid.SliceOfN(rapid.SampledFrom(alphabet), width, width).Draw(t, "key")...)
		}
		var s Sorter
		got := slices.Clone(s.Sort(k, nil))
		want := make([]uint32, n)
		for i := range want {
			want[i] = uint32(i)
		}
		slices.SortStableFunc(want, func(a, b uint32) int { return bytes.Compare(k.At(int(a)), k.At(int(b))) })
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func small(t testing.TB) []byte {
	s := everyType()
	b := NewBuilder(s.Columns, 2)
	for i := range s.Columns {
		c := &b.Columns[i]
		v := schema.Value{Int: 1, Bytes: []byte("0123456789abcdef")}
		if s.Columns[i].Nullable {
			c.AppendNull()
		} else {
			c.AppendValue(v)
		}
		c.AppendValue(v)
	}
	w := &Write{Header: Header{Kind: KindWrite}, Batches: []Batch{b.View()}, Refs: []Ref{{0, 0}, {0, 1}}, Ops: []Op{0, 2},
		Segments: []offsets.Segment{{Source: offsets.Source{Connector: "x"}, Range: offsets.Range{Next: 2}}}, Segment: []uint16{0, 0}, Delta: []uint32{0, 1}}
	return AppendWrite(nil, w)
}

// Any flipped bit is found by a checksum.
func TestFlippedBits(t *testing.T) {
	entry := small(t)
	for i := range entry {
		for bit := range 8 {
			bad := slices.Clone(entry)
			bad[i] ^= 1 << bit
			if _, err := ParseWrite(bad); !errors.Is(err, ErrCorrupt) && i < 36 || err == nil && i >= HeaderSize {
				t.Fatalf("bit %d of byte %d: got %v", bit, i, err)
			}
		}
	}
}

// FuzzParseWrite mends the checksums of what it is given, so that the parser's own checks are tried.
func FuzzParseWrite(f *testing.F) {
	f.Add(small(f)[HeaderSize:])
	f.Fuzz(func(t *testing.T, body []byte) {
		entry := append(Begin(nil), body...)
		Seal(entry, Header{Kind: KindWrite})
		p, err := ParseWrite(entry)
		if err != nil {
			return
		}
		for i := range p.Batch.Columns {
			c := &p.Batch.Columns[i]
			for r := range c.Rows {
				c.Value(r)
			}
		}
		for r := range p.Batch.Rows {
			p.Op(r)
			if p.Segment != nil {
				p.Offset(r)
			}
		}
	})
}

// The hash and bucket of a row are frozen: records must find their tablet for ever.
func TestHashIsFrozen(t *testing.T) {
	s := &schema.Schema{Columns: []schema.Column{{ID: 1, Name: "a", Type: schema.Type{Kind: schema.Int64}}, {ID: 2, Name: "b", Type: schema.Type{Kind: schema.String}}}, Key: []int{0, 1}, Hash: []int{0, 1}, Buckets: 4}
	b := NewBuilder(s.Columns, 3)
	for i, text := range []string{"", "nyala", "\x00"} {
		b.Columns[0].AppendInt(int64(i) - 1)
		b.Columns[1].AppendBytes([]byte(text))
	}
	v := b.View()
	var got [3]uint64
	HashRows(s, &v, 0, 3, got[:])
	var all []byte
	for _, h := range got {
		all = binary.BigEndian.AppendUint64(all, h)
	}
	const want = "5f390846294dc2d749fbe60f6eb92a06cb0a0817aba25509"
	if text := fmt.Sprintf("%x", all); text != want {
		t.Fatalf("got %s, want %s", text, want)
	}
}

// TestNoKeys encodes the keys of no rows, as of a batch all of whose records were bad.
func TestNoKeys(t *testing.T) {
	fixed := &schema.Schema{Columns: []schema.Column{
		{ID: 1, Name: "tenant", Type: schema.Type{Kind: schema.Int64}}, {ID: 2, Name: "id", Type: schema.Type{Kind: schema.Int32}},
	}, Key: []int{0, 1}}
	for _, s := range []*schema.Schema{fixed, everyType()} {
		keys, rows := NewKeys(s), NewBuilder(s.Columns, 1).View()
		keys.Append(&rows, 0, 0)
		if keys.Len() != 0 {
			t.Errorf("%d keys of no rows", keys.Len())
		}
	}
}
