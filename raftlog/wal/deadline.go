package wal

import (
	"sync"
	"time"
)

// deadlineSteps is how many times a deadline looks before it gives up.
const deadlineSteps = 8

// deadline calls a function unless it is stopped within a time. It comes in steps, so that it measures how long the disk took and
// not how long the process was stopped: a machine that sleeps, or a process after SIGSTOP, wakes up with one step overdue, and what
// hung in the kernel answers before the next. A single timer would have the node give up for nothing.
type deadline struct {
	step    time.Duration
	expired func()
	mu      struct {
		sync.Mutex
		timer *time.Timer
		left  int
	}
}

func newDeadline(limit time.Duration, expired func()) *deadline {
	d := &deadline{step: limit / deadlineSteps, expired: expired}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.left = deadlineSteps
	d.mu.timer = time.AfterFunc(d.step, d.look)
	return d
}

func (d *deadline) look() {
	d.mu.Lock()
	d.mu.left--
	left := d.mu.left
	if left > 0 {
		d.mu.timer.Reset(d.step)
	}
	d.mu.Unlock()
	if left == 0 {
		d.expired()
	}
}

// stop is called when the disk has answered. The function is not called afterwards, though it may be running.
func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.left = 0
	d.mu.timer.Stop()
}
