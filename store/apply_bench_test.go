package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

func eventSchema() *schema.Schema {
	return &schema.Schema{Version: 1, Key: []int{0, 1, 2}, Hash: []int{2}, Buckets: 1, Columns: []schema.Column{
		{ID: 1, Name: "tenant", Type: schema.Type{Kind: schema.Int32}},
		{ID: 2, Name: "event_time", Type: schema.Type{Kind: schema.Timestamp}},
		{ID: 3, Name: "event_id", Type: schema.Type{Kind: schema.Int64}},
		{ID: 4, Name: "value", Type: schema.Type{Kind: schema.Float64}},
	}}
}

// eventEntries makes entries of 64 interleaved tenants whose times jitter, or of random keys.
func eventEntries(s *schema.Schema, rows, per int, random bool) (entries []Entry) {
	rng := rand.New(rand.NewPCG(1, 2))
	keys := batch.NewKeys(s)
	var sorter batch.Sorter
	for at := 0; at < rows; at += per {
		b := batch.NewBuilder(s.Columns, per)
		for i := at; i < at+per; i++ {
			tenant, ts, id := int64(rng.IntN(64)), int64(1_700_000_000_000_000+i*10+rng.IntN(200_000)), int64(i)
			if random {
				ts, id = int64(rng.Uint64()>>20), int64(rng.Uint64()>>1)
			}
			b.Columns[0].AppendInt(tenant)
			b.Columns[1].AppendInt(ts)
			b.Columns[2].AppendInt(id)
			b.Columns[3].AppendFloat(float64(i))
		}
		view := b.View()
		keys.Reset()
		keys.Append(&view, 0, per)
		w := &batch.Write{Header: batch.Header{Kind: batch.KindWrite}, Batches: []batch.Batch{view}}
		for _, row := range sorter.Sort(keys, nil) {
			w.Refs = append(w.Refs, batch.Ref{Row: row})
		}
		e := batch.AppendWrite(nil, w)
		batch.Stamp(e, int64(at+1))
		entries = append(entries, Entry{Index: uint64(len(entries) + 1), Term: 1, Data: e})
	}
	return entries
}

func benchTablet(tb testing.TB, s *schema.Schema) *Tablet {
	m, err := NewManager(ManagerOptions{FS: vfs.NewMem(), Dir: "d", FlushBytes: 1 << 40, MemoryBytes: 8 << 30})
	if err != nil {
		tb.Fatal(err)
	}
	t, err := m.load(Spec{ID: 1, Schema: s}, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { m.cancel(); <-m.done })
	return t
}

// BenchmarkApply is the cost of a row from the log into the MemRowSet: parse, index, publish.
func BenchmarkApply(b *testing.B) {
	s := eventSchema()
	const rows, per = 1 << 20, 4096
	for _, random := range []bool{false, true} {
		for _, sized := range []bool{true, false} {
			b.Run(fmt.Sprintf("random=%v/sized=%v", random, sized), func(b *testing.B) {
				entries := eventEntries(s, rows, per, random)
				t := benchTablet(b, s)
				t.manager.spare.limit = 1 << 40
				for b.Loop() {
					b.StopTimer()
					for k := range entries {
						entries[k].Index = t.mu.applied + 1 + uint64(k)
					}
					hint := 0
					if sized {
						hint = rows
					}
					t.mu.mem, t.mu.batches = newMemRowSet(s, hint, &t.manager.spare), nil
					b.StartTimer()
					t.Apply(entries)
					b.StopTimer()
					t.mu.mem.release()
					b.StartTimer()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
			})
		}
	}
}

// BenchmarkApplyOverDisk is the same with DiskRowSets that have none of the keys.
func BenchmarkApplyOverDisk(b *testing.B) {
	s := eventSchema()
	const rows, per = 1 << 18, 4096
	for _, keys := range []string{"random", "events"} {
		all := eventEntries(s, 5*rows, per, keys == "random")
		t := benchTablet(b, s)
		for k := range 4 {
			t.Apply(numbered(t, all[k*rows/per:(k+1)*rows/per]))
			installNow(b, t)
		}
		b.Run("keys="+keys, func(b *testing.B) { applyFresh(b, t, rows, all[4*rows/per:]) })
	}
}

// numbered gives entries the indexes that come next.
func numbered(t *Tablet, entries []Entry) []Entry {
	for k := range entries {
		entries[k].Index = t.mu.applied + 1 + uint64(k)
	}
	return entries
}

// applyFresh measures entries of so many rows, each time into an empty MemRowSet.
func applyFresh(b *testing.B, t *Tablet, rows int, entries []Entry) {
	for b.Loop() {
		b.StopTimer()
		t.mu.mem.release()
		t.mu.mem, t.mu.batches = newMemRowSet(t.mu.schema, rows, &t.manager.spare), nil
		numbered(t, entries)
		b.StartTimer()
		t.Apply(entries)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
}

// installNow freezes, encodes and installs, with commands at the next indexes.
func installNow(tb testing.TB, t *Tablet) {
	tb.Helper()
	index := t.mu.applied
	apply := func(data []byte) {
		index++
		batch.Stamp(data, t.mu.last+1)
		r, err := ParseResult(t.Apply([]Entry{{Index: index, Term: 1, Data: data}})[0])
		if err != nil || r.Outcome != Applied {
			tb.Fatalf("got %+v %v", r, err)
		}
	}
	apply(freezeCommand{after: t.mu.lastFreeze}.entry())
	f := t.mu.frozen[len(t.mu.frozen)-1]
	if err := t.encode(context.Background(), f); err != nil {
		tb.Fatal(err)
	}
	apply(t.installOf(f).entry())
	if err := t.carryOut(context.Background(), t.mu.waiting[0], t.mu.generation); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkFlush is the cost of a row from the MemRowSet into the files, and of the sort alone.
func BenchmarkFlush(b *testing.B) {
	s := eventSchema()
	const rows, per = 1 << 19, 4096
	t := benchTablet(b, s)
	t.Apply(eventEntries(s, rows, per, false))
	f := &frozenRowSet{memRowSet: t.mu.mem, schema: s, freeze: 7}
	b.Run("sort", func(b *testing.B) {
		w := &worker{}
		for b.Loop() {
			got, _ := w.gather(s, f, false)
			if len(got.Refs) != rows {
				b.Fatal(len(got.Refs))
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
	})
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if err := t.encode(context.Background(), f); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
	})
}
