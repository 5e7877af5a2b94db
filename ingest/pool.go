package ingest

import (
	"math/bits"
	"sync"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recordPool lends the client memory to decompress batches into and to hold their records. takeBack gets it back; of a batch of which no record is
// given out, the client gives it back. There is a free list for every power of two.
type recordPool struct {
	limit int64 // bytes of all that is free
	mu    struct {
		sync.Mutex
		held    int64
		takes   int64
		bytes   [poolClasses]freeList[byte]
		records [poolClasses]freeList[kgo.Record]

		knownBytes   byAddress[byte] // that batches were decompressed into
		knownRecords byAddress[kgo.Record]
	}
}

const (
	poolClasses  = 24 // up to 8 MiB, or 8 Mi records; larger ones are not kept
	poolBytesMin = 12 // class of the smallest buffer, 4 KiB
	poolExpected = 4  // a batch is thought to grow this many times
	poolPatience = 1000
)

func newRecordPool(limit int64) *recordPool { return &recordPool{limit: limit} }

// class is the power of two that n fits into.
func class(n int) int { return bits.Len(uint(max(n, 1) - 1)) }

// freeList is the buffers of one class that nobody has.
type freeList[T any] struct {
	free  [][]T
	asked int64 // when it was asked for last, counted in takes
}

// take removes the last of a free list, nil when it is empty.
func take[T any](p *recordPool, l *freeList[T], size int) []T {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.takes++
	l.asked = p.mu.takes
	n := len(l.free)
	if n == 0 {
		return nil
	}
	last := l.free[n-1]
	l.free[n-1] = nil
	l.free = l.free[:n-1]
	p.mu.held -= int64(cap(last) * size)
	return last
}

// put adds to a free list, unless the pool is full. What a full pool holds may be of classes that nobody asks for any more: those
// are given up first.
func put[T any](p *recordPool, l *freeList[T], v []T, size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := int64(cap(v) * size)
	if p.mu.held+n > p.limit {
		for c := range poolClasses {
			giveUp(p, &p.mu.bytes[c], 1)
			giveUp(p, &p.mu.records[c], recordSize)
		}
	}
	if p.mu.held+n <= p.limit {
		l.free = append(l.free, v[:0])
		p.mu.held += n
	}
}

// giveUp empties a list that has not been asked for in the last takes.
func giveUp[T any](p *recordPool, l *freeList[T], size int) {
	if p.mu.takes-l.asked < poolPatience {
		return
	}
	for _, v := range l.free {
		p.mu.held -= int64(cap(v) * size)
	}
	l.free = nil
}

// recordSize is the size of the client's record.
const recordSize = int(unsafe.Sizeof(kgo.Record{}))

// decompressRoom is how large a buffer a batch of so many bytes gets. One that needs more grows it.
func decompressRoom(compressed int) int {
	c := max(class(compressed*poolExpected), poolBytesMin)
	if c >= poolClasses {
		return compressed * poolExpected
	}
	return 1 << c
}

// GetDecompressBytes implements kgo.PoolDecompressBytes.
func (p *recordPool) GetDecompressBytes(compressed []byte, _ kgo.CompressionCodecType) []byte {
	return p.buffer(decompressRoom(len(compressed)))
}

// buffer lends an empty buffer with room for at least n bytes.
func (p *recordPool) buffer(n int) []byte {
	c := max(class(n), poolBytesMin)
	if c >= poolClasses {
		return make([]byte, 0, n)
	}
	if b := take(p, &p.mu.bytes[c], 1); b != nil {
		return b
	}
	return make([]byte, 0, 1<<c)
}

// PutDecompressBytes implements kgo.PoolDecompressBytes.
func (p *recordPool) PutDecompressBytes(b []byte) {
	c := bits.Len(uint(cap(b))) - 1 // the class that it is sure to hold
	if c < poolBytesMin || c >= poolClasses {
		return
	}
	put(p, &p.mu.bytes[c], b, 1)
}

// GetRecords implements kgo.PoolRecords.
func (p *recordPool) GetRecords(n int) []kgo.Record {
	c := max(class(n), 4)
	if c >= poolClasses {
		return make([]kgo.Record, 0, n)
	}
	if r := take(p, &p.mu.records[c], recordSize); r != nil {
		return r
	}
	r := make([]kgo.Record, 0, 1<<c)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.knownRecords.add(r)
	return r
}

// PutRecords implements kgo.PoolRecords.
func (p *recordPool) PutRecords(r []kgo.Record) {
	c := bits.Len(uint(cap(r))) - 1
	if c < 0 || c >= poolClasses {
		return
	}
	put(p, &p.mu.records[c], r, recordSize)
}
