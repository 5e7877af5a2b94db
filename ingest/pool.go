package ingest

import (
	"math/bits"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recordPool lends the client memory to decompress batches into and to hold their records. A recycled buffer is
// cleared over its whole capacity, so a small batch must not get a large one: there is a free list for every
// power of two.
type recordPool struct {
	mu struct {
		sync.Mutex
		bytes   [poolClasses][][]byte
		records [poolClasses][][]kgo.Record
	}
}

const (
	poolClasses  = 24 // up to 8 MiB, or 8 Mi records; larger ones are not kept
	poolFreeMax  = 16 // of a class
	poolBytesMin = 12 // class of the smallest buffer, 4 KiB
	poolExpected = 4  // a batch is thought to grow this many times
)

func newRecordPool() *recordPool { return &recordPool{} }

// class is the power of two that n fits into.
func class(n int) int { return bits.Len(uint(max(n, 1) - 1)) }

// take removes the last of a free list, nil when it is empty. It is read under the lock: a put that comes between
// would write its own slice there, which then would be lent twice.
func take[T any](p *recordPool, free *[][]T) []T {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(*free)
	if n == 0 {
		return nil
	}
	last := (*free)[n-1]
	*free = (*free)[:n-1]
	return last
}

// GetDecompressBytes implements kgo.PoolDecompressBytes.
func (p *recordPool) GetDecompressBytes(compressed []byte, _ kgo.CompressionCodecType) []byte {
	c := max(class(len(compressed)*poolExpected), poolBytesMin)
	if c >= poolClasses {
		return make([]byte, 0, len(compressed)*poolExpected)
	}
	if b := take(p, &p.mu.bytes[c]); b != nil {
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
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.mu.bytes[c]) < poolFreeMax {
		p.mu.bytes[c] = append(p.mu.bytes[c], b[:0])
	}
}

// GetRecords implements kgo.PoolRecords.
func (p *recordPool) GetRecords(n int) []kgo.Record {
	c := max(class(n), 4)
	if c >= poolClasses {
		return make([]kgo.Record, 0, n)
	}
	if r := take(p, &p.mu.records[c]); r != nil {
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
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.mu.records[c]) < poolFreeMax {
		p.mu.records[c] = append(p.mu.records[c], r[:0])
	}
}
