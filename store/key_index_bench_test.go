package store

import (
	"math/rand/v2"
	"slices"
	"testing"

	"nyala/store/batch"
	"nyala/store/vfs"
)

// BenchmarkKeyIndex is one key of a new row: its hash, its place in a table of a full MemRowSet, its slot.
func BenchmarkKeyIndex(b *testing.B) {
	s := eventSchema()
	const rows, per = 1 << 18, 4096
	entries := eventEntries(s, rows, per, false)
	keys := batch.NewKeys(s)
	for _, e := range entries {
		p, err := batch.ParseWrite(e.Data)
		if err != nil {
			b.Fatal(err)
		}
		keys.Append(&p.Batch, 0, per)
	}
	from := &spare{limit: 1 << 30}
	var hashes []uint64
	for b.Loop() {
		x := newKeyIndex(rows, from)
		for base := 0; base < rows; base += per {
			hashes = hashKeys(part(keys, base, per), 0, hashes[:0])
			x.touch(hashes)
			for i, h := range hashes {
				slot, _ := x.find(keys, h, keys.At(base+i))
				x.put(slot, h, uint32(base+i))
			}
		}
		x.release()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
}

// BenchmarkUpsertStored is the cost of a row that takes the place of one in a file: entries of random keys out of eight DiskRowSets.
func BenchmarkUpsertStored(b *testing.B) {
	s := eventSchema()
	const sets, rows, per = 8, 1 << 17, 4096
	m, err := NewManager(ManagerOptions{FS: vfs.OS(), Dir: b.TempDir(), FlushBytes: 1 << 40, MemoryBytes: 8 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.cancel(); <-m.done })
	t, err := m.load(Spec{ID: 1, Schema: s}, 0)
	if err != nil {
		b.Fatal(err)
	}
	all := eventEntries(s, sets*rows, per, false)
	for k, e := range all {
		t.Apply([]Entry{{Index: t.mu.applied + 1, Term: 1, Data: e.Data}})
		if (k+1)%(rows/per) == 0 {
			installNow(b, t)
		}
	}
	entries := pickEntries(b, all, 1<<16, per)
	n := 0
	for b.Loop() {
		b.StopTimer()
		t.mu.mem.release()
		t.mu.mem, t.mu.batches = newMemRowSet(s, len(entries)*per, &t.manager.spare), nil
		for _, d := range t.mu.disks {
			d.deaths = deaths{} // the rows live again
		}
		for k := range entries {
			entries[k].Index = t.mu.applied + 1 + uint64(k)
		}
		b.StartTimer()
		t.Apply(entries)
		n += len(entries) * per
		if got := t.mu.disks[0].deaths.count.Load(); got == 0 {
			b.Fatal("nothing was found")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/row")
}

// pickEntries makes upserts of rows that entries have, in the order of their keys.
func pickEntries(tb testing.TB, from []Entry, rows, per int) (entries []Entry) {
	rng := rand.New(rand.NewPCG(3, 4))
	var batches []batch.Batch
	for _, e := range from {
		p, err := batch.ParseWrite(e.Data)
		if err != nil {
			tb.Fatal(err)
		}
		batches = append(batches, p.Batch)
	}
	keys := batch.NewKeys(eventSchema())
	var sorter batch.Sorter
	for range rows / per {
		keys.Reset()
		var refs []batch.Ref
		for range per {
			r := batch.Ref{Batch: uint32(rng.IntN(len(batches))), Row: uint32(rng.IntN(per))}
			keys.Append(&batches[r.Batch], int(r.Row), int(r.Row)+1)
			refs = append(refs, r)
		}
		w := &batch.Write{Header: batch.Header{Kind: batch.KindWrite, SchemaVersion: 1}, Op: batch.Upsert, Batches: batches}
		for _, row := range sorter.Sort(keys, nil) {
			w.Refs = append(w.Refs, refs[row])
		}
		e := batch.AppendWrite(nil, w)
		batch.Stamp(e, 1)
		entries = append(entries, Entry{Term: 1, Data: slices.Clip(e)})
	}
	return entries
}
