package wal

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A deadline that is stopped, at whatever step, does not expire; one that is not, does so once, at its limit.
func TestDeadlineSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 800 * time.Millisecond
		for after := time.Duration(0); after <= 2*limit; after += 50 * time.Millisecond {
			begin, expired := time.Now(), []time.Duration(nil)
			d := newDeadline(limit, func() { expired = append(expired, time.Since(begin)) })
			time.Sleep(after)
			synctest.Wait()
			d.stop()
			time.Sleep(3 * limit)
			switch {
			case after < limit && len(expired) != 0:
				t.Errorf("stopped after %s, and expired after %v", after, expired)
			case after >= limit && (len(expired) != 1 || expired[0] != limit):
				t.Errorf("expired after %v, want %s", expired, limit)
			}
		}
	})
}

// The time for which nothing of the process runs counts as one step: what was overdue meanwhile comes late, and the others after it.
func TestDeadlineOfAStoppedProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var expired atomic.Bool
		d := newDeadline(800*time.Millisecond, func() { expired.Store(true) })
		d.mu.Lock() // no step is taken, as while the process is stopped
		d.mu.timer.Reset(time.Minute)
		d.mu.Unlock()
		time.Sleep(time.Minute + 600*time.Millisecond)
		synctest.Wait()
		if expired.Load() {
			t.Error("expired though the process had run for less than its limit")
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if !expired.Load() {
			t.Error("not expired")
		}
	})
}
