package rowset

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// evictions are the states that a RowSet can be brought to, each from the one before.
var evictions = []struct {
	name         string
	to           func(r *RowSet) error
	keys, filter bool // evicted
}{
	{"open", func(*RowSet) error { return nil }, false, false},
	{"keys", func(r *RowSet) error { r.Evict(false); return nil }, true, false},
	{"all", func(r *RowSet) error { r.Evict(true); return nil }, true, true},
	{"filter loaded", func(r *RowSet) error { _, err := r.LoadFilter(); return err }, true, false},
	{"all again", func(r *RowSet) error { r.Evict(true); return nil }, true, true},
}

// TestEvicted: whatever of the keys file is in memory, the answers are the same, and MemoryBytes says what it is.
func TestEvicted(t *testing.T) {
	for i, types := range [][]schema.Kind{{schema.Int64}, {schema.Int32, schema.Int8}, {schema.String}, {schema.UUID, schema.Timestamp}} {
		for _, n := range []int{1, 257, 5000} {
			t.Run(fmt.Sprint(types, n), func(t *testing.T) {
				s, rows := keyedRows(t, uint64(i), n, 2*n, min(n, 800)*(i%2), types...)
				fsys := vfs.NewMem()
				write(t, fsys, "1", s, rows, Options{})
				r := open(t, fsys, "1")
				defer r.Close()
				whole := r.MemoryBytes()
				hashes := blockHashes(t, r)
				past := bornUntil(t, r, int64(n/2))
				for _, e := range evictions {
					before := r.MemoryBytes()
					if err := e.to(r); err != nil {
						t.Fatal(err)
					}
					if keys, filter := r.Evicted(); keys != e.keys || filter != e.filter {
						t.Fatalf("%s: evicted %v and %v, want %v and %v", e.name, keys, filter, e.keys, e.filter)
					}
					if now := r.MemoryBytes(); e.keys && now >= whole || e.filter != (now < before) && e.name != "keys" && e.name != "open" {
						t.Fatalf("%s: %d bytes after %d, %d at first", e.name, now, before, whole)
					}
					checkLookups(t, s, rows, r)
					if got := blockHashes(t, r); !slices.Equal(got, hashes) {
						t.Fatalf("%s: hashes of blocks differ", e.name)
					}
					if got := bornUntil(t, r, int64(n/2)); got != past {
						t.Fatalf("%s: %d rows of the past, want %d", e.name, got, past)
					}
				}
				if again := r.Evict(true); again != 0 {
					t.Errorf("evicted twice: %d bytes", again)
				}
			})
		}
	}
}

func blockHashes(t *testing.T, r *RowSet) (out []uint64) {
	t.Helper()
	var err error
	for b := range r.KeyBlocks() {
		if out, err = r.AppendBlockHashes(out, b); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func bornUntil(t *testing.T, r *RowSet, at int64) (rows int) {
	t.Helper()
	scan, err := r.Scan(ScanOptions{Columns: r.Schema().Columns, At: max(at, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer scan.Close()
	for _, c := range collect(t, scan) {
		rows += c.Batch.Rows
	}
	return rows
}

// TestEvictedDamaged: each byte of an evicted keys file that is read again is changed. It is found, or it is not read; there is never a wrong answer. Where
// another copy can be asked the answer is the right one.
func TestEvictedDamaged(t *testing.T) {
	s, rows := keyedRows(t, 7, 700, 1400, 0, schema.Int64)
	fsys := vfs.NewMem()
	write(t, fsys, "1", s, rows, Options{})
	data, err := vfs.ReadFile(fsys, "1"+KeysSuffix)
	if err != nil {
		t.Fatal(err)
	}
	good := open(t, fsys, "1")
	defer good.Close()
	want, err := answers(s, rows, good)
	if err != nil {
		t.Fatal(err)
	}
	bad, found, asked := slices.Clone(data), 0, 0
	for i := 0; i < len(data); i += 5 {
		put(t, fsys, "1"+KeysSuffix, data)
		r := open(t, fsys, "1")
		r.Evict(true)
		bad[i] ^= 1 << (i % 8)
		put(t, fsys, "1"+KeysSuffix, bad)
		if err := r.RenewKeys(fsys); err != nil {
			t.Fatal(err)
		}
		got, err := answers(s, rows, r)
		switch {
		case err != nil && !errors.Is(err, ErrCorrupt):
			t.Fatalf("byte %d: %v", i, err)
		case err != nil:
			found++
		case got != want:
			t.Fatalf("byte %d: got %s, want %s", i, got, want)
		}
		r.SetSpare(nil, func(b []byte, off int64, cause error) error {
			if !errors.Is(cause, ErrCorrupt) {
				t.Errorf("byte %d: asked for another copy because of %v", i, cause)
			}
			asked++
			copy(b, data[off:])
			return nil
		})
		if got, err := answers(s, rows, r); err != nil || got != want {
			t.Fatalf("byte %d, with another copy: got %s, want %s (%v)", i, got, want, err)
		}
		bad[i] = data[i]
		r.Close()
	}
	if found < len(data)/10 || asked < found {
		t.Errorf("of %d bytes %d were found damaged, another copy was asked %d times", len(data), found, asked)
	}
}

// answers is what an evicted RowSet says with its filter and without, and of the past.
func answers(s *schema.Schema, rows *Rows, r *RowSet) (string, error) {
	keys := batch.NewKeys(s)
	for _, ref := range rows.Refs {
		keys.Append(rows.Batches[ref.Batch], int(ref.Row), int(ref.Row)+1)
	}
	skip := make([]bool, keys.Len())
	hits, err := r.LookupAll(keys, AppendHashes(nil, keys), skip, nil)
	if err != nil {
		return "", err
	}
	if _, err := r.LoadFilter(); err != nil {
		return "", err
	}
	again, err := r.LookupAll(keys, AppendHashes(nil, keys), skip, nil)
	if keys, _ := r.Evicted(); keys {
		r.Evict(true)
	}
	if err != nil {
		return "", err
	}
	scan, err := r.Scan(ScanOptions{Columns: s.Columns, At: 1})
	if err != nil {
		return "", err
	}
	defer scan.Close()
	c, err := scan.Next()
	if err != nil {
		return "", err
	}
	return fmt.Sprint(hits, again, c.Batch.Rows), nil
}
