package ingest

import (
	"slices"
	"sort"
	"unsafe"
	"weak"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The client has a way of its own to take memory back, (*kgo.Record).Recycle: it clears a record, counts those of its batch down, and with the
// last one clears the buffer that they were decompressed into. That was 5 % of what an event costs. Whoever has a run of records has all
// of their batches, so here a batch is taken back as a whole: its records are cleared in one go, and its buffer is left as it is.

// takeBack takes back the memory of the batches that end within the first done of records, and tells how many records these have.
// records are what the client gave out of a partition in one poll, without what was taken back of it before: their batches are whole. Nobody may
// look at what was taken back.
func (p *recordPool) takeBack(records []*kgo.Record, done int) (taken int) {
	for taken < done {
		n := p.takeBatch(records[taken:], done-taken)
		if n == 0 {
			break
		}
		taken += n
	}
	return taken
}

// takeBatch takes the first batch back and tells how many records it has, 0 if it does not end within done.
func (p *recordPool) takeBatch(records []*kgo.Record, done int) (n int) {
	all := p.batchOf(records[0])
	if all == nil {
		return 1 // not of this pool
	}
	place := func(r *kgo.Record) uintptr { // in all; what is not in it is far behind its end
		return (uintptr(unsafe.Pointer(r)) - uintptr(unsafe.Pointer(unsafe.SliceData(all)))) / uintptr(recordSize)
	}
	var content []byte
	for n < len(records) && place(records[n]) < uintptr(cap(all)) {
		if n == done {
			return 0
		}
		if r := records[n]; len(content) == 0 {
			if content = r.Value; len(content) == 0 {
				content = r.Key
			}
		}
		n++
	}
	if buffer := p.bufferOf(content); buffer != nil {
		if invariants { // whoever still reads it shall not read what was there
			buffer = buffer[:cap(buffer)]
			for i := range buffer {
				buffer[i] = 0xA5
			}
		}
		p.PutDecompressBytes(buffer)
	}
	clear(all[:place(records[n-1])+1])
	p.PutRecords(all)
	return n
}

// batchOf is the records, lent by this pool, among which r is; nil if there are none.
func (p *recordPool) batchOf(r *kgo.Record) []kgo.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.knownRecords.find(r)
}

// bufferOf is the buffer, lent by this pool, in which b is; nil if there is none.
func (p *recordPool) bufferOf(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.knownBytes.find(&b[0])
}

// inflated notes what a batch was decompressed into, which may be a buffer that a library has made because one of the pool was too small.
func (p *recordPool) inflated(b []byte) {
	if cap(b) < 1<<poolBytesMin {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.knownBytes.find(&b[:1][0]) == nil {
		p.mu.knownBytes.add(b)
	}
}

// byAddress finds slices by what points into them. It keeps none of them: what the client drops, as it does with what it has fetched
// of a paused partition, is the collector's. The address of such a one may come again as that of something else, which is not found.
type byAddress[T any] struct {
	all  []knownSlice[T] // in the order of their addresses
	left int             // when those that were collected were dropped last: how many there were then
}

type knownSlice[T any] struct {
	at, end uintptr
	first   weak.Pointer[T]
}

// add makes v known, in the place of all whose memory it has.
func (x *byAddress[T]) add(v []T) {
	if len(x.all) >= 2*x.left+64 {
		x.all = slices.DeleteFunc(x.all, func(k knownSlice[T]) bool { return k.first.Value() == nil })
		x.left = len(x.all)
	}
	first := unsafe.SliceData(v)
	at := uintptr(unsafe.Pointer(first))
	end := at + uintptr(cap(v))*unsafe.Sizeof(*first)
	from := x.behind(at)
	to := from
	for to < len(x.all) && x.all[to].at < end {
		to++
	}
	x.all = slices.Replace(x.all, from, to, knownSlice[T]{at, end, weak.Make(first)})
}

// find returns the empty slice, with all its capacity, in which p points.
func (x *byAddress[T]) find(p *T) []T {
	at := uintptr(unsafe.Pointer(p))
	i := x.behind(at)
	if i == len(x.all) || at < x.all[i].at {
		return nil
	}
	k := &x.all[i]
	first := k.first.Value()
	if first == nil { // it was collected, so p points into something else
		return nil
	}
	return unsafe.Slice(first, (k.end-k.at)/unsafe.Sizeof(*p))[:0]
}

// behind is the position of the first slice that ends behind an address.
func (x *byAddress[T]) behind(at uintptr) int {
	return sort.Search(len(x.all), func(i int) bool { return x.all[i].end > at })
}
