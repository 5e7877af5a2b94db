package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// TestScansWhileApplying: every entry gives all keys the same new value, so a scan at any time must find each key once and all
// of one value, whatever is frozen, encoded and installed at that moment.
func TestScansWhileApplying(t *testing.T) {
	const keys, writes, flushes = 100, 200, 4
	var tablet *Tablet
	var index uint64
	turn := make(chan struct{}, 1)
	propose := func(data []byte) []byte {
		turn <- struct{}{}
		defer func() { <-turn }()
		index++
		tablet.Stamp(data)
		return tablet.Apply([]Entry{{Index: index, Term: 1, Data: data}})[0]
	}
	o := ManagerOptions{FS: vfs.NewMem(), Dir: "d", FlushBytes: 1 << 40, IsLeader: func(ID) bool { return true }}
	o.Propose = func(_ context.Context, _ ID, entry []byte) ([]byte, error) { return propose(entry), nil }
	var installs atomic.Int64
	o.Durable = func(ID) { installs.Add(1) }
	m, err := NewManager(o)
	if err != nil {
		t.Fatal(err)
	}
	if tablet, err = m.Open(Spec{ID: 1, Schema: pairSchema(), History: time.Hour}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 3 {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				if err := scanOneValue(tablet, keys, n%2 == i%2); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		for range flushes {
			if err := m.Checkpoint(t.Context(), 1); err != nil {
				t.Error(err)
			}
		}
	}()
	for v := int64(0); v < writes || !isClosed(flushed); v++ {
		var values []int64
		for k := range int64(keys) {
			values = append(values, k, v)
		}
		if r, err := ParseResult(propose(pairs(batch.Upsert, values...))); err != nil || r.Rows != keys {
			t.Fatal(r, err)
		}
	}
	close(done)
	readers.Wait()
	if err := m.Checkpoint(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if s := tablet.Status(); s.Rows != keys {
		t.Fatalf("%+v", s)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if installs.Load() != flushes+1 {
		t.Fatalf("%d installs, want %d", installs.Load(), flushes+1)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func scanOneValue(t *Tablet, keys int, ordered bool) error {
	sc, err := t.Scan(ScanOptions{Columns: []schema.ColumnID{1, 2}, Ordered: ordered})
	if err != nil {
		return err
	}
	defer sc.Close()
	seen := map[int64]bool{}
	value := int64(-1)
	for {
		b, err := sc.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for i := range b.Rows {
			k, v := b.Columns[0].Int(i), b.Columns[1].Int(i)
			if value < 0 {
				value = v
			}
			if seen[k] || v != value {
				return fmt.Errorf("at %d: key %d seen before: %v; value %d beside %d", sc.At(), k, seen[k], v, value)
			}
			seen[k] = true
		}
	}
	if len(seen) != keys && value >= 0 {
		return fmt.Errorf("at %d: %d keys of value %d, want %d", sc.At(), len(seen), value, keys)
	}
	return nil
}
