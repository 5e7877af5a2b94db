package store

import (
	"context"
	"sync"
)

// Budget is the memory that a node may hold in rows: MemRowSets, and whoever else shares it (ingest's
// batches on their way). Acquire waits when it is used up: that is the node's back-pressure. The engine
// itself never waits, or nothing would be flushed; it adds what apply keeps and takes away what a flush freed.
type Budget struct {
	limit    int64
	pressure chan struct{} // a token when used passes pressureShare of the limit
	mu       struct {
		sync.Mutex
		used    int64
		waiters []*waiter // in order of arrival
	}
}

type waiter struct {
	n     int64
	ready chan struct{} // closed when granted
}

// Above this share of the limit the largest MemRowSets are flushed, before anybody has to wait.
const pressureShare = 0.6

func newBudget(limit int64) *Budget {
	return &Budget{limit: limit, pressure: make(chan struct{}, 1)}
}

// Limit is the number of bytes that Acquire grants at most.
func (b *Budget) Limit() int64 { return b.limit }

// Used is the number of bytes held now; the engine's share may bring it over the limit.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.used
}

// Acquire takes n bytes, in order of arrival, as soon as they fit. What is larger than a quarter of the
// budget counts as that for the wait, so that it cannot starve.
func (b *Budget) Acquire(ctx context.Context, n int64) error {
	b.mu.Lock()
	if len(b.mu.waiters) == 0 && b.fitsLocked(n) {
		b.mu.used += n
		b.mu.Unlock()
		return nil
	}
	w := &waiter{n, make(chan struct{})}
	b.mu.waiters = append(b.mu.waiters, w)
	b.mu.Unlock()
	b.press()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, o := range b.mu.waiters {
		if o == w {
			b.mu.waiters = append(b.mu.waiters[:i:i], b.mu.waiters[i+1:]...)
			b.grantLocked()
			return ctx.Err()
		}
	}
	b.mu.used -= n // granted while ctx ended
	b.grantLocked()
	return ctx.Err()
}

// Release gives back what Acquire took.
func (b *Budget) Release(n int64) { b.add(-n) }

// add takes or gives bytes without waiting.
func (b *Budget) add(n int64) {
	b.mu.Lock()
	b.mu.used += n
	used := b.mu.used
	must(used >= 0, "store: budget: %d bytes used", used)
	b.grantLocked()
	b.mu.Unlock()
	if n > 0 && float64(used) > pressureShare*float64(b.limit) {
		b.press()
	}
}

func (b *Budget) fitsLocked(n int64) bool { return b.mu.used+min(n, b.limit/4) <= b.limit }

func (b *Budget) grantLocked() {
	for len(b.mu.waiters) > 0 && b.fitsLocked(b.mu.waiters[0].n) {
		w := b.mu.waiters[0]
		b.mu.waiters = b.mu.waiters[1:]
		b.mu.used += w.n
		close(w.ready)
	}
}

func (b *Budget) press() {
	select {
	case b.pressure <- struct{}{}:
	default:
	}
}

// pressed tells whether memory should be freed now.
func (b *Budget) pressed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.mu.waiters) > 0 || float64(b.mu.used) > pressureShare*float64(b.limit)
}
