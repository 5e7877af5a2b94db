package store

import (
	"testing"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/vfs"
)

// decided is segment under a version of the connector's settings.
func decided(decision uint32, first, next int64) []byte {
	p, err := batch.ParseWrite(segment(0, first, next))
	if err != nil {
		panic(err)
	}
	g := p.Segments[0]
	g.Decision = decision
	w := &batch.Write{Header: batch.Header{Kind: batch.KindWrite}, Batches: []batch.Batch{p.Batch}, Segments: []offsets.Segment{g}}
	for i := range p.Batch.Rows {
		w.Refs = append(w.Refs, batch.Ref{Row: uint32(i)})
		w.Segment, w.Delta = append(w.Segment, 0), append(w.Delta, uint32(i))
	}
	return batch.AppendWrite(nil, w)
}

// TestFences: a tablet refuses older decisions of one connector, also after a restart from its manifest; the ledger stands still
// meanwhile, and rows of other connectors come in.
func TestFences(t *testing.T) {
	mem := vfs.NewMem()
	s := newSingle(t, mem)
	source := offsets.Source{Connector: "c"}
	if r := s.apply(decided(1, 0, 2), 100); r.Outcome != Applied || r.Rows != 2 {
		t.Fatalf("got %+v", r)
	}
	s.apply(FenceEntry(offsets.Fence{Connector: "c", Decision: 2}), 200)
	s.apply(FenceEntry(offsets.Fence{Connector: "c", Decision: 1}), 300) // a late copy of an older one
	s.apply(FenceEntry(offsets.Fence{Connector: "other", Decision: 7}), 300)
	check := func() {
		t.Helper()
		if r := s.apply(decided(1, 2, 4), 400); r.Outcome != Stale || s.Ledger().Next(source) != 2 {
			t.Fatalf("got %+v, ledger at %d", r, s.Ledger().Next(source))
		}
		if r := s.apply(decided(1, 0, 2), 400); r.Outcome != Stale {
			t.Fatalf("an old copy: got %+v", r)
		}
	}
	check()
	s.flush(0)
	s = newSingle(t, mem)
	check()
	if r := s.apply(decided(2, 0, 4), 500); r.Outcome != Applied || r.Rows != 2 || r.Dropped != 2 {
		t.Fatalf("got %+v", r)
	}
	s.want(0, "0=0 1=1 2=2 3=3 ")
}

// TestFencedAtBirth: a tablet that is made after a fence refuses what was decided before it.
func TestFencedAtBirth(t *testing.T) {
	s := newSingle(t, vfs.NewMem())
	m := emptyManifest(Spec{ID: 3, Schema: pairSchema(), Fences: []offsets.Fence{{Connector: "c", Decision: 2}}})
	state, err := s.stateOf(m)
	if err != nil {
		t.Fatal(err)
	}
	if got := state.ledger.Fences(); len(got) != 1 || got[0] != (offsets.Fence{Connector: "c", Decision: 2}) {
		t.Errorf("got %+v", got)
	}
}

// TestNoted: rows without origin are not dropped by the ledger, whatever their segments say; they raise it, and an old decision
// is refused.
func TestNoted(t *testing.T) {
	s := newSingle(t, vfs.NewMem())
	noted := func(decision uint32, key, next int64) []byte {
		b := batch.NewBuilder(pairSchema().Columns, 1)
		b.Columns[0].AppendInt(key)
		b.Columns[1].AppendInt(key)
		return batch.AppendWrite(nil, &batch.Write{
			Header: batch.Header{Kind: batch.KindWrite}, Batches: []batch.Batch{b.View()}, Refs: []batch.Ref{{}}, Op: batch.Insert, Noted: true,
			Segments: []offsets.Segment{{Source: offsets.Source{Connector: "c"}, Decision: decision, Range: offsets.Range{Next: next}}},
		})
	}
	for _, key := range []int64{7, 3, 7} { // in no order, and again
		if r := s.apply(noted(1, key, key+1), 100); r.Outcome != Applied || r.Dropped != 0 {
			t.Fatalf("got %+v", r)
		}
	}
	s.want(0, "3=3 7=7 ")
	if got := s.Ledger().Next(offsets.Source{Connector: "c"}); got != 8 {
		t.Errorf("ledger at %d, want 8", got)
	}
	s.apply(FenceEntry(offsets.Fence{Connector: "c", Decision: 2}), 200)
	if r := s.apply(noted(1, 9, 10), 300); r.Outcome != Stale || s.Ledger().Next(offsets.Source{Connector: "c"}) != 8 {
		t.Errorf("got %+v", r)
	}
}
