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

// TestPoolFull gives back more than the pool may hold: what is asked for stays, and what nobody has asked for in a while makes room for it.
func TestPoolFull(t *testing.T) {
	const large, small = 1 << 16, 1 << 12
	p := newRecordPool(10 * large)
	fresh := func(n int) int { // buffers that the pool does not have
		var lent [][]byte
		made := 0
		for range n {
			b := p.buffer(small)
			if b[:1][0] == 0 {
				made++
			}
			b[:1][0] = 1
			lent = append(lent, b)
		}
		for _, b := range lent {
			p.PutDecompressBytes(b)
		}
		return made
	}
	for range 20 { // twice what it may hold
		p.PutDecompressBytes(make([]byte, 0, large))
	}
	if p.mu.held != 10*large {
		t.Errorf("the pool holds %d bytes, want %d", p.mu.held, 10*large)
	}
	if n := fresh(100); n != 100 {
		t.Errorf("%d of 100 were made", n)
	}
	for range 1 + poolPatience/100 {
		fresh(100)
	}
	if n := fresh(100); n != 0 {
		t.Errorf("%d of 100 were made again", n)
	}
	if p.mu.held != 100*small {
		t.Errorf("the pool holds %d bytes, want %d", p.mu.held, 100*small)
	}
}
