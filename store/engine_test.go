package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// pairSchema has a key and a value, both int64.
func pairSchema() *schema.Schema {
	return &schema.Schema{Version: 1, Key: []int{0}, Buckets: 1, Columns: []schema.Column{
		{ID: 1, Name: "k", Type: schema.Type{Kind: schema.Int64}},
		{ID: 2, Name: "v", Type: schema.Type{Kind: schema.Int64}},
	}}
}

// pairs makes a Write of key, value, key, value, ...
func pairs(op batch.Op, values ...int64) []byte {
	b := batch.NewBuilder(pairSchema().Columns, len(values)/2)
	w := &batch.Write{Header: batch.Header{Kind: batch.KindWrite}, Op: op}
	for i := 0; i < len(values); i += 2 {
		b.Columns[0].AppendInt(values[i])
		b.Columns[1].AppendInt(values[i+1])
		w.Refs = append(w.Refs, batch.Ref{Row: uint32(i / 2)})
	}
	w.Batches = []batch.Batch{b.View()}
	return batch.AppendWrite(nil, w)
}

// segment makes a Write of one row an offset, with the offset as key and value.
func segment(start, first, next int64) []byte {
	b := batch.NewBuilder(pairSchema().Columns, 8)
	g := offsets.Segment{Source: offsets.Source{Connector: "c"}, Start: start, Range: offsets.Range{First: first, Next: next}}
	w := &batch.Write{Header: batch.Header{Kind: batch.KindWrite}, Segments: []offsets.Segment{g}}
	for o := first; o < next; o++ {
		b.Columns[0].AppendInt(o)
		b.Columns[1].AppendInt(o)
		w.Refs = append(w.Refs, batch.Ref{Row: uint32(o - first)})
		w.Segment, w.Delta = append(w.Segment, 0), append(w.Delta, uint32(o-first))
	}
	w.Batches = []batch.Batch{b.View()}
	return batch.AppendWrite(nil, w)
}

// single is a tablet whose steps the test takes, with a log of its own.
type single struct {
	*Tablet
	tb testing.TB
}

func newSingle(tb testing.TB, fsys vfs.FS) *single {
	tb.Helper()
	m, err := NewManager(ManagerOptions{FS: fsys, Dir: "d", FlushBytes: 1 << 40})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { m.cancel(); <-m.done })
	t, err := m.load(Spec{ID: 3, Table: "t", Schema: pairSchema()}, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return &single{t, tb}
}

// apply applies an entry at the next index, stamped with ts.
func (s *single) apply(data []byte, ts Timestamp) Result {
	s.tb.Helper()
	batch.Stamp(data, ts)
	r, err := ParseResult(s.Apply([]Entry{{Index: s.mu.applied + 1, Term: 2, Data: data}})[0])
	if err != nil {
		s.tb.Fatal(err)
	}
	return r
}

func (s *single) work() error {
	_, err := s.step(context.Background())
	return err
}

// flush freezes, encodes and installs.
func (s *single) flush(horizon Timestamp) {
	s.tb.Helper()
	s.apply(freezeCommand{horizon: horizon, after: s.mu.lastFreeze}.entry(), 0)
	if err := s.work(); err != nil {
		s.tb.Fatal(err)
	}
	f := s.mu.frozen[0]
	s.apply(s.installOf(f).entry(), 0)
	if err := s.work(); err != nil {
		s.tb.Fatal(err)
	}
}

// rows are "key=value ..." as the scan gives them.
func (s *single) rows(o ScanOptions) string {
	s.tb.Helper()
	if o.Columns == nil {
		o.Columns = []schema.ColumnID{1, 2}
	}
	sc, err := s.Scan(o)
	if err != nil {
		return err.Error()
	}
	defer sc.Close()
	out := ""
	for {
		b, err := sc.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			s.tb.Fatal(err)
		}
		for i := range b.Rows {
			out += fmt.Sprintf("%d=%d ", b.Columns[0].Int(i), b.Columns[1].Int(i))
		}
	}
}

func (s *single) want(at Timestamp, want string) {
	s.tb.Helper()
	if got := s.rows(ScanOptions{At: at, Ordered: true}); got != want {
		s.tb.Fatalf("at %d: got %q, want %q", at, got, want)
	}
}

func TestOperations(t *testing.T) {
	s := newSingle(t, vfs.NewMem())
	s.apply(pairs(batch.Upsert, 1, 10, 2, 20, 1, 11), 100)
	s.want(100, "1=11 2=20 ")
	if r := s.apply(pairs(batch.Insert, 2, 21, 3, 30, 3, 31), 200); r.Rows != 1 || r.Timestamp != 200 {
		t.Fatalf("got %+v", r)
	}
	s.want(200, "1=11 2=20 3=30 ")
	s.flush(0)
	s.apply(pairs(batch.Delete, 2, 0, 4, 0), 300)
	s.apply(pairs(batch.Upsert, 3, 32), 250) // a stamp from the past: one more than the last
	s.want(300, "1=11 3=30 ")
	s.want(301, "1=11 3=32 ")
	s.flush(0)
	s.want(100, "1=11 2=20 ")
	s.want(200, "1=11 2=20 3=30 ")
	s.want(0, "1=11 3=32 ")
	if st := s.Status(); st.Rows != 2 || st.Deleted != 2 || st.RowSets != 2 || st.Height != 2 || st.Frozen != 0 {
		t.Fatalf("status %+v", st)
	}
}

func TestSegments(t *testing.T) {
	s := newSingle(t, vfs.NewMem())
	for _, c := range []struct {
		start, first, next int64
		outcome            Outcome
		rows, dropped      uint32
		ledger             int64
	}{
		{0, 0, 3, Applied, 3, 0, 3},
		{0, 0, 3, Applied, 0, 3, 3}, // sent again
		{0, 4, 6, Hole, 0, 0, 3},
		{0, 2, 5, Applied, 2, 1, 5}, // cut again
		{0, 5, 5, Applied, 0, 0, 5},
		{8, 8, 9, Applied, 1, 0, 9}, // an owner begins at its checkpoint
		{8, 7, 9, Malformed, 0, 0, 9},
	} {
		r := s.apply(segment(c.start, c.first, c.next), 0)
		if r.Outcome != c.outcome || r.Rows != c.rows || r.Dropped != c.dropped {
			t.Fatalf("%+v: got %+v", c, r)
		}
		if got := s.Ledger().Next(offsets.Source{Connector: "c"}); got != c.ledger {
			t.Fatalf("%+v: ledger at %d", c, got)
		}
		if hole := errors.Is(r.Err(), ErrHole); hole != (c.outcome == Hole) || hole && r.Next != c.ledger {
			t.Fatalf("%+v: %v", c, r.Err())
		}
	}
	s.want(0, "0=0 1=1 2=2 3=3 4=4 8=8 ")
}

// TestRefused: what does not fit is refused on every replica alike; what is damaged stops this one.
func TestRefused(t *testing.T) {
	s := newSingle(t, vfs.NewMem())
	s.apply(pairs(batch.Upsert, 1, 1), 100)
	other := &batch.Batch{Rows: 1, Columns: []batch.Column{{ID: 9, Type: schema.Type{Kind: schema.Int64}, Rows: 1, Values: make([]byte, 8)}}}
	alien := batch.AppendWrite(nil, &batch.Write{Header: batch.Header{Kind: batch.KindWrite}, Batches: []batch.Batch{*other}, Refs: []batch.Ref{{}}})
	if r := s.apply(alien, 200); r.Outcome != Malformed || r.Timestamp != 200 {
		t.Fatalf("got %+v", r)
	}
	nulls := batch.NewBuilder(pairSchema().Columns, 1)
	nulls.Columns[0].AppendInt(1)
	nulls.Columns[1].AppendNull()
	w := &batch.Write{Header: batch.Header{Kind: batch.KindWrite}, Batches: []batch.Batch{nulls.View()}, Refs: []batch.Ref{{}}}
	if r := s.apply(batch.AppendWrite(nil, w), 300); r.Outcome != Malformed {
		t.Fatalf("got %+v", r)
	}
	if r := s.apply(command(batch.KindFreeze, []byte{1}), 0); r.Outcome != Malformed {
		t.Fatalf("got %+v", r)
	}
	s.apply(FenceEntry(offsets.Fence{Connector: "c", Decision: 1}), 400)
	if r := s.apply(segment(0, 1, 2), 500); r.Outcome != Stale || !errors.Is(r.Err(), ErrStale) {
		t.Fatalf("got %+v", r)
	}
	s.want(0, "1=1 ")

	damaged := pairs(batch.Upsert, 1, 3)
	damaged[batch.HeaderSize+20] ^= 1
	if r := s.apply(damaged, 600); r.Outcome != Failed {
		t.Fatalf("got %+v", r)
	}
	if r := s.apply(pairs(batch.Upsert, 1, 4), 700); r.Outcome != Failed || s.Err() == nil || s.Status().Failed == nil {
		t.Fatalf("a failed tablet went on: %+v", r)
	}
	if _, err := s.Scan(ScanOptions{}); !errors.Is(err, batch.ErrCorrupt) {
		t.Fatalf("a failed tablet answered: %v", err)
	}
	for _, e := range [][]byte{damaged, command(batch.KindInstall, []byte{1}), command(batch.KindRows, nil), command(batch.KindFence, []byte{1}), {1, 2}} {
		if Validate(e) == nil {
			t.Errorf("Validate passed %x", e)
		}
	}
}

func TestAdvance(t *testing.T) {
	s := newSingle(t, vfs.NewMem())
	if r := s.apply(AdvanceEntry(900), 100); r.Timestamp != 900 || s.LastTimestamp() != 900 {
		t.Fatalf("got %+v", r)
	}
	if r := s.apply(AdvanceEntry(200), 100); r.Timestamp != 901 {
		t.Fatalf("got %+v", r)
	}
	if _, err := s.Scan(ScanOptions{At: 902}); !errors.Is(err, ErrNotYet) {
		t.Fatal(err)
	}
}

// TestScanKeepsItsRowSets: a scan sees what was there when it began, whatever is flushed, killed or restored meanwhile.
func TestScanKeepsItsRowSets(t *testing.T) {
	s := newSingle(t, vfs.NewMem())
	s.apply(pairs(batch.Upsert, 1, 10, 2, 20), 100)
	s.flush(0)
	s.apply(pairs(batch.Upsert, 3, 30), 200)
	d, body, _ := s.Manifest()
	for _, ordered := range []bool{false, true} {
		sc, err := s.Scan(ScanOptions{Columns: []schema.ColumnID{2}, Ordered: ordered})
		if err != nil {
			t.Fatal(err)
		}
		s.apply(pairs(batch.Delete, 1, 0, 2, 0, 3, 0), 0)
		s.flush(s.LastTimestamp())
		sum := int64(0)
		for {
			b, err := sc.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := range b.Rows {
				sum += b.Columns[0].Int(i)
			}
		}
		if err := sc.Close(); err != nil || sum != 60 {
			t.Fatalf("ordered %v: got sum %d, %v", ordered, sum, err)
		}
		s.apply(pairs(batch.Upsert, 1, 10, 2, 20, 3, 30), 0)
	}
	if err := s.Restore(d, body); err == nil {
		t.Fatal("restored an older manifest")
	}
}

func TestPredicates(t *testing.T) {
	s := newSingle(t, vfs.NewMem())
	s.apply(pairs(batch.Upsert, 1, 10, 2, 20, 3, 30), 100)
	s.flush(0)
	s.apply(pairs(batch.Upsert, 4, 40, 2, 21, 5, 50), 200)
	where := func(op rowset.Op, values ...int64) []rowset.Predicate {
		p := rowset.Predicate{Column: 2, Op: op}
		for _, v := range values {
			p.Values = append(p.Values, schema.Value{Int: v})
		}
		return []rowset.Predicate{p}
	}
	for _, c := range []struct {
		where []rowset.Predicate
		want  string
	}{
		{where(rowset.Greater, 20), "2=21 3=30 4=40 5=50 "},
		{where(rowset.In, 10, 20, 50), "1=10 5=50 "},
		{append(where(rowset.LessEqual, 40), where(rowset.NotEqual, 30)...), "1=10 2=21 4=40 "},
		{where(rowset.IsNull), ""},
	} {
		if got := s.rows(ScanOptions{Where: c.where, Ordered: true}); got != c.want {
			t.Errorf("%v: got %q, want %q", c.where, got, c.want)
		}
	}
	sc, err := s.Scan(ScanOptions{Where: where(rowset.Greater, 20)})
	if err != nil {
		t.Fatal(err)
	}
	defer sc.Close()
	n := 0
	for b, err := sc.Next(); err == nil; b, err = sc.Next() {
		n += b.Rows
	}
	if n != 4 {
		t.Errorf("counted %d rows, want 4", n)
	}
	if _, err := s.Scan(ScanOptions{Columns: []schema.ColumnID{77}}); err == nil {
		t.Error("scan of a column that is not there")
	}
}
