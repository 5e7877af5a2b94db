package store

import (
	"context"
	"sync"
)

// Budget is the memory that a node holds because of rows: MemRowSets, what stays in memory of DiskRowSets (keys,
// filters, deaths), and what others take for rows on their way (ingest). Acquire waits when it is used up: that is
// the node's back-pressure. The engine itself never waits, or nothing would be flushed; it adds what apply keeps and
// takes away what a flush has freed. So no holder ever waits for another one: what was acquired becomes rows and is
// released, rows become files, and writing files needs no budget (its buffers are not of it).
//
// What DiskRowSets keep cannot be flushed away. Above three eighths of the limit they give up their keys (evict.go), which are most of it. When
// the rest grows beyond three quarters of the limit, a quarter is left for work all the same and the limit is exceeded: a node
// that stops would be no better. Crowded tells.
type Budget struct {
	limit    int64
	pressure chan struct{} // a token when rows should be flushed
	mu       struct {
		sync.Mutex
		rows     int64     // MemRowSets, also those on their way to disk
		resident int64     // of DiskRowSets
		acquired int64     // by Acquire
		waiters  []*waiter // in order of arrival
	}
	room struct { // who waits in Await
		sync.Mutex
		changed chan struct{} // closed and replaced when memory was given back
	}
}

type waiter struct {
	n     int64
	ready chan struct{} // closed when granted
}

const (
	// Above this share of what is not resident the largest MemRowSets are flushed, before anybody has to wait.
	pressureShare = 0.6
	// A request of more than limit/largeShare is large: it may have to be let in alone.
	largeShare = 4
	// Rows below limit/idleShare are not worth a flush for those who wait: the files would be tiny.
	idleShare = 8
	// What is left for work when DiskRowSets take all, as a share of the limit.
	workShare = 4
)

func newBudget(limit int64) *Budget {
	b := &Budget{limit: limit, pressure: make(chan struct{}, 1)}
	b.room.changed = make(chan struct{})
	return b
}

// Limit is the number of bytes that Acquire grants at most.
func (b *Budget) Limit() int64 { return b.limit }

// Used is the number of bytes held now; the engine's share, or one large request, may bring it over the limit.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.usedLocked()
}

// Usage is what the bytes in use are held for.
type Usage struct {
	Rows     int64 // in MemRowSets
	Resident int64 // keys, filters and deaths of DiskRowSets
	Acquired int64 // on their way to be rows
	Waiting  int   // requests that wait for memory
	Crowded  bool  // DiskRowSets leave less than a quarter of the limit
}

// Usage tells how the memory is used.
func (b *Budget) Usage() Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Usage{b.mu.rows, b.mu.resident, b.mu.acquired, len(b.mu.waiters), b.limitLocked() > b.limit}
}

func (b *Budget) usedLocked() int64 { return b.mu.rows + b.mu.resident + b.mu.acquired }

// limitLocked is the limit, or more where DiskRowSets would leave nothing for work.
func (b *Budget) limitLocked() int64 { return max(b.limit, b.mu.resident+b.limit/workShare) }

// Acquire takes n bytes, in order of arrival, as soon as they fit. A request that could never fit, or not for as
// long as there are some rows, is let in alone: when nothing else is acquired and rows have been flushed.
func (b *Budget) Acquire(ctx context.Context, n int64) error {
	b.mu.Lock()
	if len(b.mu.waiters) == 0 && b.fitsLocked(n) {
		b.mu.acquired += n
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
	b.mu.acquired -= n // granted while ctx ended
	b.grantLocked()
	return ctx.Err()
}

// Release gives back what Acquire took.
func (b *Budget) Release(n int64) {
	b.mu.Lock()
	b.mu.acquired -= n
	must(b.mu.acquired >= 0, "store: budget: %d bytes acquired", b.mu.acquired)
	b.grantLocked()
	b.mu.Unlock()
	b.gaveBack()
}

// usage is what a tablet holds of the budget.
type usage struct{ rows, resident int64 }

func (u usage) minus(o usage) usage { return usage{u.rows - o.rows, u.resident - o.resident} }

// add takes or gives bytes without waiting.
func (b *Budget) add(u usage) {
	b.mu.Lock()
	b.mu.rows += u.rows
	b.mu.resident += u.resident
	must(b.mu.rows >= 0 && b.mu.resident >= 0, "store: budget: %d bytes of rows, %d resident", b.mu.rows, b.mu.resident)
	b.grantLocked()
	pressed := b.pressedLocked()
	b.mu.Unlock()
	if pressed {
		b.press()
	}
	if u.rows+u.resident < 0 {
		b.gaveBack()
	}
}

func (b *Budget) fitsLocked(n int64) bool {
	if b.usedLocked()+n <= b.limitLocked() {
		return true
	}
	return n > b.limit/largeShare && b.mu.acquired == 0 && b.mu.rows <= b.limit/idleShare
}

func (b *Budget) grantLocked() {
	for len(b.mu.waiters) > 0 && b.fitsLocked(b.mu.waiters[0].n) {
		w := b.mu.waiters[0]
		b.mu.waiters = b.mu.waiters[1:]
		b.mu.acquired += w.n
		close(w.ready)
	}
}

// Await waits until less than the limit is in use, or ctx is done. It is for those whose rows come whether there is room
// or not, as the entries that a leader sends: they can be slowed down, and must not be refused.
func (b *Budget) Await(ctx context.Context) error {
	for {
		b.room.Lock()
		changed := b.room.changed
		b.room.Unlock()
		b.mu.Lock()
		over := b.usedLocked() > b.limitLocked()
		b.mu.Unlock()
		if !over {
			return nil
		}
		b.press()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// gaveBack wakes those in Await.
func (b *Budget) gaveBack() {
	b.room.Lock()
	defer b.room.Unlock()
	close(b.room.changed)
	b.room.changed = make(chan struct{})
}

func (b *Budget) press() {
	select {
	case b.pressure <- struct{}{}:
	default:
	}
}

// pressed tells whether rows should be flushed now.
func (b *Budget) pressed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pressedLocked()
}

func (b *Budget) pressedLocked() bool {
	if len(b.mu.waiters) > 0 && b.mu.rows > b.limit/idleShare {
		return true
	}
	return float64(b.mu.rows) > pressureShare*float64(b.limitLocked()-b.mu.resident)
}
