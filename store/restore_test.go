package store

import (
	"context"
	"errors"
	"io"
	"testing"

	"nyala/store/batch"
	"nyala/store/vfs"
)

func peerOf(s *single) Fetcher {
	return func(_ context.Context, name string, off int64) (io.ReadCloser, error) { return s.OpenFile(name, off) }
}

// TestRestoreHeals: a replica that stopped, and whose file of the same name has other bytes than the others', is whole again after
// a Restore; a scan that began before goes on.
func TestRestoreHeals(t *testing.T) {
	mem := vfs.NewMem()
	good, bad := newSingle(t, vfs.NewMem()), newSingle(t, mem)
	good.apply(pairs(batch.Upsert, 1, 1, 2, 2), 100)
	bad.apply(pairs(batch.Upsert, 1, 1, 2, 99, 3, 3), 100) // not what the log said
	good.flush(0)
	bad.flush(0)
	good.apply(pairs(batch.Upsert, 1, 5), 200)
	good.flush(0)
	scan, err := bad.Scan(ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	damaged := pairs(batch.Upsert, 7, 7)
	damaged[batch.HeaderSize+9] ^= 1
	if r := bad.apply(damaged, 0); r.Outcome != Failed {
		t.Fatalf("got %+v", r)
	}
	d, body, err := good.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if err := bad.Restore(d, body); err == nil {
		t.Fatal("restored without the files")
	}
	short := func(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
		return nil, errors.New("no peer")
	}
	if err := bad.Prepare(t.Context(), body, short); err == nil {
		t.Fatal("prepared without a peer")
	}
	if err := bad.Prepare(t.Context(), body, peerOf(good)); err != nil {
		t.Fatal(err)
	}
	if err := bad.Restore(d, body); err != nil {
		t.Fatal(err)
	}
	if b, err := scan.Next(); err != nil || b.Rows != 3 {
		t.Fatal(b, err)
	}
	if err := scan.Close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*single{bad, newSingle(t, mem)} {
		s.want(100, "1=1 2=2 ")
		s.want(0, "1=5 2=2 ")
	}
	if bad.Err() != nil || bad.Status().Hash != good.Status().Hash {
		t.Fatal("not the same", bad.Err())
	}
	if p := Check(mem, "d"); len(p) != 0 {
		t.Fatal(p)
	}
	if r := bad.apply(pairs(batch.Upsert, 8, 8), 300); r.Outcome != Applied {
		t.Fatalf("got %+v", r)
	}
}

// TestRestoreRefuses what is not this tablet's, or not what raft announced.
func TestRestoreRefuses(t *testing.T) {
	s := newSingle(t, vfs.NewMem())
	m := emptyManifest(Spec{ID: 4, Schema: pairSchema()})
	if err := s.Restore(Durable{}, m.appendTo(nil)); err == nil {
		t.Error("another tablet's manifest")
	}
	m = emptyManifest(s.Spec())
	m.durable = Durable{Index: 9, Term: 1}
	if err := s.Restore(Durable{Index: 8, Term: 1}, m.appendTo(nil)); err == nil {
		t.Error("a manifest of another index")
	}
	if err := s.Restore(Durable{Index: 9, Term: 1}, m.appendTo(nil)[:20]); err == nil {
		t.Error("a cut manifest")
	}
	if err := s.Restore(Durable{Index: 9, Term: 1}, m.appendTo(nil)); err != nil || s.Durable().Index != 9 {
		t.Error(err)
	}
	if _, err := s.OpenFile("manifest", 0); err == nil {
		t.Error("gave out a file that is none of its rowsets")
	}
}
