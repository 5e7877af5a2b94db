package store

import (
	"errors"
	"strings"
	"testing"

	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// triple is a Write of one row under version 2 of pairSchema, with a value in the column that it adds.
func triple(version uint32, k, v, extra int64) []byte {
	b := batch.NewBuilder(appended(pairSchema(), 1).Columns, 1)
	for i, x := range []int64{k, v, extra} {
		b.Columns[i].AppendInt(x)
	}
	return batch.AppendWrite(nil, &batch.Write{
		Header: batch.Header{Kind: batch.KindWrite, SchemaVersion: version}, Batches: []batch.Batch{b.View()}, Refs: []batch.Ref{{}},
	})
}

// TestColumnAppended: rows of both versions side by side in memory, in one file and in files of either version; after a restart
// from the manifest and by a replay of the log; what does not fit is refused.
func TestColumnAppended(t *testing.T) {
	mem := vfs.NewMem()
	s := newSingle(t, mem)
	next := appended(pairSchema(), 1) // not null, default 42
	s.apply(pairs(batch.Upsert, 1, 1), 100)
	s.flush(0) // a file of version 1
	s.apply(pairs(batch.Upsert, 2, 2), 200)
	if r := s.apply(triple(2, 9, 9, 9), 210); r.Outcome != Malformed {
		t.Fatalf("a row ahead of the table: got %+v", r)
	}
	for _, where := range [][]rowset.Predicate{nil, {{Column: extraID(1), Op: rowset.Equal, Values: []schema.Value{{Int: 42}}}}} {
		// A reader that knows of columns that are still on the way here.
		early := ScanOptions{Columns: []schema.ColumnID{1, extraID(1)}, Ordered: true, Where: where, Schema: next}
		if got := s.rows(early); got != "1=42 2=42 " {
			t.Errorf("before the columns came: got %q", got)
		}
	}
	for _, name := range []string{"first", "second copy"} {
		if r := s.apply(SchemaEntry(next), 300); r.Outcome != Applied {
			t.Fatalf("%s: got %+v", name, r)
		}
	}
	s.apply(triple(2, 3, 3, 7), 400)
	s.apply(pairs(batch.Upsert, 4, 4), 410) // a row of an older version that comes late
	if r := s.apply(triple(1, 9, 9, 9), 420); r.Outcome != Malformed {
		t.Fatalf("a row that has a column which its version has not: got %+v", r)
	}
	all := ScanOptions{Columns: []schema.ColumnID{1, extraID(1)}, Ordered: true}
	is42 := all
	is42.Where = []rowset.Predicate{{Column: extraID(1), Op: rowset.Equal, Values: []schema.Value{{Int: 42}}}}
	check := func(s *single) {
		t.Helper()
		if got := s.rows(all); got != "1=42 2=42 3=7 4=42 " {
			t.Errorf("got %q", got)
		}
		if got := s.rows(is42); got != "1=42 2=42 4=42 " {
			t.Errorf("where: got %q", got)
		}
		if got := s.Schema(); !got.Equal(next) {
			t.Errorf("got schema %s", got.Text())
		}
	}
	check(s)
	s.flush(0) // a file of version 2 with rows of both
	check(s)
	if got := s.mu.disks[0].Schema().Version*10 + s.mu.disks[1].Schema().Version; got != 12 {
		t.Errorf("versions of the files: got %d", got)
	}
	_, body, _ := s.Manifest()
	if got := DumpManifest(body); !strings.Contains(got, "column 21 extra1 int64 since schema 2\n") {
		t.Errorf("got %s", got)
	}
	s = newSingle(t, mem)
	check(s)
	for name, bad := range map[string]*schema.Schema{"left out": appended(appended(next, 2), 3), "another": appended(pairSchema(), 0)} {
		if r := s.apply(SchemaEntry(bad), 500); r.Outcome != Malformed {
			t.Errorf("%s: got %+v", name, r)
		}
	}
	check(s)
}

// TestForeignSchema: a manifest whose columns do not go on from the tablet's is not taken.
func TestForeignSchema(t *testing.T) {
	s := newSingle(t, vfs.NewMem())
	m := emptyManifest(s.Spec())
	other := pairSchema()
	other.Columns[1].Name = "other"
	m.changed = appended(other, 0)
	m.schema = m.changed.Version
	if _, err := s.stateOf(m); !errors.Is(err, batch.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if err := Validate(SchemaEntry(m.changed)); err != nil {
		t.Error(err)
	}
	if err := Validate(command(batch.KindSchema, []byte(`{"version":2}`))); !errors.Is(err, batch.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if got := DumpEntry(SchemaEntry(m.changed)); got != "schema at 0 version 2 columns 3, the last extra0" {
		t.Errorf("got %s", got)
	}
}
