package ingest

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestPoolLendsNothingTwice takes and gives back from several goroutines: what one holds, no other may have.
func TestPoolLendsNothingTwice(t *testing.T) {
	const goroutines, rounds = 4, 50_000
	p := newRecordPool(1 << 30)
	var wg sync.WaitGroup
	var shared atomic.Int64
	for g := range goroutines {
		wg.Go(func() {
			mark := byte(g + 1)
			for range rounds {
				b := p.GetDecompressBytes(make([]byte, 1), kgo.CodecLz4)[:1]
				r := p.GetRecords(1)[:1]
				b[0], r[0].Partition = mark, int32(mark)
				if b[0] != mark || r[0].Partition != int32(mark) {
					shared.Add(1)
				}
				p.PutDecompressBytes(b)
				p.PutRecords(r)
			}
		})
	}
	wg.Wait()
	if n := shared.Load(); n > 0 {
		t.Errorf("%d times a slice was lent twice", n)
	}
}
