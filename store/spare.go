package store

import (
	"math/bits"
	"sync"
	"unsafe"
)

// spare is memory of MemRowSets that have become files, or have outgrown it, kept for others to use again: key indexes
// and encoded keys, in pieces of 2^n words. Memory that was touched before costs a tenth of fresh one (the kernel
// makes each fresh page), and the collector does not run for it.
//
// Who gives a piece is the only one who still has it: the keys and the index of a MemRowSet are known to Apply and to
// the flush alone, a scan reads only batches and deaths. With the build tag invariants a given piece is overwritten, so
// that any other reader would show.
//
// Spare memory is not of the Budget, but its limit is a small share of it; it is kept also when memory is short, for
// then it is wanted most. A sync.Pool would lose it at every second collection, long before the next MemRowSet needs it.
type spare struct {
	limit int64 // bytes
	mu    struct {
		sync.Mutex
		free  [64][][]uint64 // by the logarithm of their words
		bytes int64
	}
}

// take returns 2^n >= words words, which are zero only if fresh is true. A nil spare has none.
func (s *spare) take(words int) (piece []uint64, fresh bool) {
	n := bits.Len(uint(words - 1))
	if s == nil {
		return make([]uint64, 1<<n), true
	}
	s.mu.Lock()
	if free := s.mu.free[n]; len(free) > 0 {
		piece = free[len(free)-1]
		free[len(free)-1] = nil
		s.mu.free[n] = free[:len(free)-1]
		s.mu.bytes -= 8 << n
	}
	s.mu.Unlock()
	if piece != nil {
		return piece, false
	}
	return make([]uint64, 1<<n), true
}

// give keeps a piece that take returned, unless there is enough. Nobody else may have it.
func (s *spare) give(piece []uint64) {
	if s == nil || len(piece) < spareWordsMin {
		return
	}
	if invariants {
		for i := range piece {
			piece[i] = 0xdeadbeefdeadbeef
		}
	}
	n := bits.Len(uint(len(piece) - 1))
	must(len(piece) == 1<<n, "store: a spare piece of %d words", len(piece))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.bytes+8<<n <= s.limit {
		s.mu.free[n] = append(s.mu.free[n], piece)
		s.mu.bytes += 8 << n
	}
}

const (
	// spareShare is the share of the budget that spare memory may take beside it: tablets flush one after the other.
	spareShare = 8
	// spareWordsMin keeps what is not worth a lock out.
	spareWordsMin = 1 << 10
)

// writePages writes to each page of fresh memory that will be used in no order. A page that is read before it is written is first mapped to the page of
// zeros, and then made, for which all other processors that run the process are interrupted: twice the price of one that is written at once.
func writePages[word uint16 | uint64](fresh []word) {
	const pageBytes = 4096 // or more; then some of these writes change nothing
	for i := 0; i < len(fresh); i += pageBytes / int(unsafe.Sizeof(fresh[0])) {
		fresh[i] = 0
	}
}
