package connector

import (
	"sync"
	"time"
)

// clock is what a node believes the time to be: off by some seconds, too fast or too slow, and set anew at times. Waits and
// ages are not measured by it, as those of a process are not.
type clock struct {
	mu    sync.Mutex
	since time.Time // when offset was true
	off   time.Duration
	drift float64 // seconds gained in a second
}

func newClock() *clock { return &clock{since: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now().Round(0)
	return now.Add(c.off + time.Duration(c.drift*float64(now.Sub(c.since.Round(0)))))
}

// set makes the clock go off the truth by off from now on.
func (c *clock) set(off time.Duration, drift float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since, c.off, c.drift = time.Now(), off, drift
}

// clockJumpMax is well below the history of the tables: what a clock may cost is that a read looks back too far.
const clockJumpMax = 10 * time.Minute

// skewClocks gives every node a clock that is some seconds off, and up to a hundredth too fast or too slow.
func (s *simulation) skewClocks() {
	for _, id := range s.ids() {
		s.clocks[id].set(time.Duration(s.rng.Int64N(int64(10*time.Second)))-5*time.Second, (s.rng.Float64()-0.5)/50)
	}
}

// jumpClock sets a node's clock forth or back by minutes.
func (s *simulation) jumpClock(id string) {
	off := time.Duration(s.rng.Int64N(2*int64(clockJumpMax))) - clockJumpMax
	s.note("the clock of %s is set off by %v", id, off)
	s.clocks[id].set(off, 0)
}
