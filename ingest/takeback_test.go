package ingest

import (
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// lentBatch is a batch as the client makes it: what it decompressed, the records in it, and those that it gives out.
type lentBatch struct {
	buffer  []byte // nil: it was not compressed
	records []kgo.Record
	kept    []*kgo.Record
}

func drawBatch(t *rapid.T, p *recordPool) lentBatch {
	n := rapid.IntRange(1, 40).Draw(t, "records")
	b := lentBatch{}
	body := make([]byte, 64*n)
	if rapid.IntRange(0, 3).Draw(t, "plain") > 0 {
		if rapid.IntRange(0, 3).Draw(t, "grown") == 0 {
			b.buffer = make([]byte, 0, 5000+len(body)) // as a library does it
		} else {
			b.buffer = p.GetDecompressBytes(make([]byte, 16*n), kgo.CodecLz4)
		}
		p.inflated(b.buffer)
		body = b.buffer[:len(body)]
	}
	b.records = p.GetRecords(n)[:n]
	first := rapid.IntRange(0, n-1).Draw(t, "first kept")
	last := rapid.IntRange(first+1, n).Draw(t, "end of kept")
	for i := range b.records {
		r := &b.records[i]
		*r = kgo.Record{Key: body[64*i:][:8], Value: body[64*i+8:][:rapid.SampledFrom([]int{0, 56}).Draw(t, "value")], Offset: int64(i)}
		if i >= first && i < last {
			b.kept = append(b.kept, r)
		}
	}
	return b
}

// TestTakeBack gives records back a few at a time. Of a batch that goes on nothing may be lent again, and of one that has ended all is.
func TestTakeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newRecordPool(1 << 30)
		var free []unsafe.Pointer // memory that must be lent again
		for range rapid.IntRange(1, 4).Draw(t, "polls") {
			var batches []lentBatch
			var records []*kgo.Record
			for range rapid.IntRange(1, 5).Draw(t, "batches") {
				b := drawBatch(t, p)
				batches, records = append(batches, b), append(records, b.kept...)
			}
			checkLent(t, batches, &free)
			for len(records) > 0 {
				done := rapid.IntRange(0, len(records)).Draw(t, "done")
				ended, want := 0, 0
				for ended < len(batches) && want+len(batches[ended].kept) <= done {
					want += len(batches[ended].kept)
					ended++
				}
				if taken := p.takeBack(records, done); taken != want {
					t.Fatalf("took %d records of %d back, want the %d of %d batches", taken, done, want, ended)
				}
				records = records[want:]
				for _, b := range batches[:ended] {
					free = append(free, unsafe.Pointer(unsafe.SliceData(b.records)))
					if b.buffer != nil {
						free = append(free, unsafe.Pointer(unsafe.SliceData(b.buffer)))
					}
					for i := range b.kept {
						if b.kept[i].Key != nil || b.kept[i].Value != nil {
							t.Fatal("a record still holds what was in it")
						}
					}
				}
				batches = batches[ended:]
			}
		}
		lendAll(t, p, free)
	})
}

// checkLent sees that no two batches have the same memory; what they have of the free is not free any more.
func checkLent(t *rapid.T, batches []lentBatch, free *[]unsafe.Pointer) {
	seen := map[unsafe.Pointer]bool{}
	for _, b := range batches {
		for _, at := range []unsafe.Pointer{unsafe.Pointer(unsafe.SliceData(b.buffer)), unsafe.Pointer(unsafe.SliceData(b.records))} {
			if at != nil && seen[at] {
				t.Fatal("memory was lent twice")
			}
			seen[at] = true
		}
	}
	*free = slices.DeleteFunc(*free, func(at unsafe.Pointer) bool { return seen[at] })
}

// lendAll sees that the pool has all that is free.
func lendAll(t *rapid.T, p *recordPool, free []unsafe.Pointer) {
	has := map[unsafe.Pointer]bool{}
	for c := range poolClasses {
		for _, b := range p.mu.bytes[c].free {
			has[unsafe.Pointer(unsafe.SliceData(b))] = true
		}
		for _, r := range p.mu.records[c].free {
			has[unsafe.Pointer(unsafe.SliceData(r))] = true
		}
	}
	for _, at := range free {
		if !has[at] {
			t.Fatal("the pool has lost memory that was taken back")
		}
	}
}

// TestTakeBackOthers gives back records that no pool has made, and records whose values lie in memory that the pool does not know: that is nobody's
// to lend.
func TestTakeBackOthers(t *testing.T) {
	p := newRecordPool(1 << 20)
	if n := p.takeBack([]*kgo.Record{{Value: []byte("x")}, {}}, 2); n != 2 {
		t.Errorf("%d of 2 records were taken back", n)
	}
	body := make([]byte, 1<<16)
	records := p.GetRecords(1)[:1]
	records[0].Value = body[100:200]
	if n := p.takeBack([]*kgo.Record{&records[0]}, 1); n != 1 || records[0].Value != nil {
		t.Errorf("%d of 1 records were taken back", n)
	}
	for c := range poolClasses {
		if len(p.mu.bytes[c].free) > 0 {
			t.Error("the pool lends memory of a response")
		}
	}
}

// TestByAddressForgets makes slices and drops them: what is at their address later is not taken for them, and not all of them are kept in mind for ever.
func TestByAddressForgets(t *testing.T) {
	var x byAddress[byte]
	const size = 1 << 13
	for range 20 {
		for range 100 {
			x.add(make([]byte, 0, size))
		}
		runtime.GC()
		later := make([][]byte, 100) // some where one was that was dropped
		for i := range later {
			later[i] = make([]byte, size)
			if x.find(&later[i][size/2]) != nil {
				t.Fatal("what was dropped was found")
			}
		}
	}
	if len(x.all) > 1000 {
		t.Errorf("%d of 2,000 dropped slices are kept in mind", len(x.all))
	}
	mine := make([]byte, 0, size)
	x.add(mine)
	if got := x.find(&mine[:size][size-1]); unsafe.SliceData(got) != unsafe.SliceData(mine) || cap(got) != size {
		t.Errorf("found %d bytes at %p, want %d at %p", cap(got), got, size, mine)
	}
	if !slices.IsSortedFunc(x.all, func(a, b knownSlice[byte]) int { return int(a.at) - int(b.at) }) {
		t.Error("the slices are not in the order of their addresses")
	}
}
