package store

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"nyala/store/batch"
	"nyala/store/schema"
)

// TestDeaths compares a deletion vector with a map, also far apart and at the end of the row numbers.
func TestDeaths(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var d deaths
	want := map[uint32]Timestamp{}
	for i := range 3000 {
		row := uint32(rng.IntN(3000))
		if i%10 == 0 {
			row = rng.Uint32()
		}
		if i == 7 {
			row = math.MaxUint32 - 1
		}
		at := int64(1 + rng.IntN(100))
		_, had := want[row]
		if d.set(row, at) == had {
			t.Fatalf("row %d: set, had %v", row, had)
		}
		if !had {
			want[row] = at
		}
	}
	if int(d.count.Load()) != len(want) {
		t.Fatalf("count %d, want %d", d.count.Load(), len(want))
	}
	for row, at := range want {
		if d.at(row) != at {
			t.Fatalf("row %d: got %d, want %d", row, d.at(row), at)
		}
	}
	for range 300 {
		first, words, upTo := rng.IntN(3100), 1+rng.IntN(20), int64(rng.IntN(110))
		selection := make([]uint64, words)
		for i := range selection {
			selection[i] = ^uint64(0)
		}
		d.mask(first, selection, upTo)
		for i := range words * 64 {
			at, dead := want[uint32(first+i)]
			if got := selection[i>>6]>>(i&63)&1 == 0; got != (dead && at <= upTo) {
				t.Fatalf("row %d at %d: masked %v", first+i, upTo, got)
			}
		}
	}
	n, last := 0, -1
	d.each(math.MaxUint32, 50, func(row uint32, at Timestamp) {
		if n++; int(row) <= last || want[row] != at || at > 50 {
			t.Fatalf("row %d at %d after row %d", row, at, last)
		}
		last = int(row)
	})
	for _, at := range want {
		if at <= 50 {
			n--
		}
	}
	if n != 0 {
		t.Fatalf("%d rows too many", n)
	}
}

// TestKeyIndex grows an index from its least size, with keys of fixed and of other lengths, and with hashes that collide.
func TestKeyIndex(t *testing.T) {
	for _, hash := range []func(uint64) uint64{
		func(h uint64) uint64 { return h },
		func(h uint64) uint64 { return h & 0x3ff00000ffffffff }, // few fingerprints
		func(h uint64) uint64 { return h | fingerprint },        // one place, at the table's end
	} {
		for _, s := range modelSchemas() {
			b := batch.NewBuilder(s.Columns[:1], 0)
			n := 3000
			if hash(0) != 0 {
				n = 300
			}
			for i := range n {
				if s.KeyWidth() > 0 {
					b.Columns[0].AppendInt(int64(i % (n - 50)))
				} else {
					b.Columns[0].AppendBytes(fmt.Append(nil, i%(n-50)))
				}
			}
			keys := batch.NewKeys(s)
			view := b.View()
			keys.Append(&view, 0, n)
			x := newKeyIndex(0, nil)
			newest := map[string]uint32{}
			for row, h := range hashKeys(keys, 0, nil) {
				x.reserve(1)
				key := keys.At(row)
				slot, row1 := x.find(keys, hash(h), key)
				if want := newest[string(key)]; row1 != want {
					t.Fatalf("row %d: got %d, want %d", row, row1, want)
				}
				x.put(slot, hash(h), uint32(row))
				newest[string(key)] = uint32(row) + 1
			}
			if x.used != n-50 {
				t.Fatalf("%d keys, want %d", x.used, n-50)
			}
		}
	}
}

// TestGather compares gathered columns of every type with the values one by one.
func TestGather(t *testing.T) {
	var columns []schema.Column
	for k := schema.Bool; k <= schema.JSON; k++ {
		typ := schema.Type{Kind: k}
		if k == schema.Decimal {
			typ.Precision, typ.Scale = 9, 2
		}
		columns = append(columns, schema.Column{ID: schema.ColumnID(k), Name: k.String(), Type: typ, Nullable: true})
	}
	rng := rand.New(rand.NewPCG(5, 6))
	var batches []*batch.Batch
	for n := range 4 {
		b := batch.NewBuilder(columns, 0)
		for range 1 + n*37 {
			for i := range columns {
				v := schema.Value{Int: int64(rng.IntN(2)), Float: float64(rng.IntN(100)), Bytes: fmt.Appendf(nil, "%016d", rng.IntN(1000))}
				if columns[i].Type.Layout() == schema.Bytes {
					v.Bytes = v.Bytes[rng.IntN(17):]
				}
				if v.Null = n > 1 && rng.IntN(5) == 0; v.Null {
					v = schema.Null
				}
				b.Columns[i].AppendValue(v)
			}
		}
		view := b.View()
		batches = append(batches, &view)
	}
	for _, n := range []int{0, 1, 64, 200} {
		var refs []batch.Ref
		for range n {
			b := rng.IntN(len(batches))
			refs = append(refs, batch.Ref{Batch: uint32(b), Row: uint32(rng.IntN(batches[b].Rows))})
		}
		out := gather(columns, batches, refs)
		if out.Rows != n {
			t.Fatalf("%d rows, want %d", out.Rows, n)
		}
		for i := range columns {
			nulls := 0
			for k, r := range refs {
				got, want := out.Columns[i].Value(k), batches[r.Batch].Columns[i].Value(int(r.Row))
				if got.Null != want.Null || schema.Compare(columns[i].Type, got, want) != 0 {
					t.Fatalf("%s row %d: got %+v, want %+v", columns[i].Name, k, got, want)
				}
				if got.Null {
					nulls++
				}
			}
			if out.Columns[i].Nulls != nulls {
				t.Fatalf("%s: %d nulls, want %d", columns[i].Name, out.Columns[i].Nulls, nulls)
			}
		}
	}
}

// TestExpect: a MemRowSet whose rows are in the log gets its memory at once, as much as it will need, and no more than a flush lets it grow.
func TestExpect(t *testing.T) {
	s := eventSchema()
	const rows, per = 1 << 15, 256
	entries := eventEntries(s, rows, per, true)
	total := int64(0)
	for _, e := range entries {
		total += int64(len(e.Data))
	}
	apply := func(ahead, flush int64) (first, last int) {
		tab := benchTablet(t, s)
		tab.manager.options.FlushBytes = flush
		tab.Expect(ahead)
		before := tab.manager.budget.Used()
		for i, e := range entries {
			tab.Apply([]Entry{e})
			if i == 0 {
				first = len(tab.mu.mem.index.slots) + len(tab.mu.mem.piece)
			}
		}
		if has := tab.mu.mem.base + tab.mu.mem.bytes.Load(); tab.mu.mem.rows != rows || tab.manager.budget.Used()-before < has-tab.mu.mem.base {
			t.Fatalf("%d rows, want %d; the budget has %d, want %d more than %d", tab.mu.mem.rows, rows, tab.manager.budget.Used(), has, before)
		}
		return first, len(tab.mu.mem.index.slots) + len(tab.mu.mem.piece)
	}
	first, want := apply(0, 1<<40)
	if first*16 > want {
		t.Fatalf("%d words with the first entry of a log that nobody knows, %d in the end", first, want)
	}
	if first, last := apply(total, 1<<40); first != want || last != want {
		t.Errorf("%d words with the first entry, %d in the end, want %d", first, last, want)
	}
	if first, last := apply(1<<50, total/4); first*2 > want || last != want {
		t.Errorf("%d words with the first entry where a flush comes soon, %d in the end, want a quarter of %d", first, last, want)
	}
}
