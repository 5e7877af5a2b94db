package ingest

import (
	"math/bits"
	"sync"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recordPool lends the client memory to decompress batches into and to hold their records. A recycled buffer is
// cleared over its whole capacity, so a small batch must not get a large one: there is a free list for every
// power of two.
type recordPool struct {
	limit int64 // bytes of all that is free
	mu    struct {
		sync.Mutex
		held    int64
		bytes   [poolClasses][][]byte
		records [poolClasses][][]kgo.Record
	}
}

const (
	poolClasses  = 24 // up to 8 MiB, or 8 Mi records; larger ones are not kept
	poolBytesMin = 12 // class of the smallest buffer, 4 KiB
	poolExpected = 4  // a batch is thought to grow this many times
)

func newRecordPool(limit int64) *recordPool { return &recordPool{limit: limit} }

// class is the power of two that n fits into.
func class(n int) int { return bits.Len(uint(max(n, 1) - 1)) }

// take removes the last of a free list, nil when it is empty. It is read under the lock: a put that comes between
// would write its own slice there, which then would be lent twice.
func take[T any](p *recordPool, free *[][]T, size int) []T {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(*free)
	if n == 0 {
		return nil
	}
	last := (*free)[n-1]
	(*free)[n-1] = nil
	*free = (*free)[:n-1]
	p.mu.held -= int64(cap(last) * size)
	return last
}

// put adds to a free list, unless the pool is full. What a full pool holds may be of classes that nobody asks for any more, so
// it is then given up as a whole.
func put[T any](p *recordPool, free *[][]T, v []T, size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := int64(cap(v) * size)
	if n > p.limit/2 {
		return
	}
	if p.mu.held+n > p.limit {
		p.mu.bytes, p.mu.records, p.mu.held = [poolClasses][][]byte{}, [poolClasses][][]kgo.Record{}, 0
	}
	*free = append(*free, v[:0])
	p.mu.held += n
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
	n := decompressRoom(len(compressed))
	if c := class(n); c < poolClasses {
		if b := take(p, &p.mu.bytes[c], 1); b != nil {
			return b
		}
	}
	return make([]byte, 0, n)
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
	return make([]kgo.Record, 0, 1<<c)
}

// PutRecords implements kgo.PoolRecords.
func (p *recordPool) PutRecords(r []kgo.Record) {
	c := bits.Len(uint(cap(r))) - 1
	if c < 0 || c >= poolClasses {
		return
	}
	put(p, &p.mu.records[c], r, recordSize)
}
