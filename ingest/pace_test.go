package ingest

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestPace lets a hundred tablets ask all the time: together they get the rate, each its share; and who asks rarely does not wait.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tablets, rate = 100, 1000
		p := newPace(rate)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		var turns [tablets]int
		for i := range turns {
			wg.Go(func() {
				for p.wait(ctx); ctx.Err() == nil; p.wait(ctx) {
					turns[i]++
					time.Sleep(time.Millisecond) // the entry is on its way
				}
			})
		}
		wg.Wait()
		for i, n := range turns {
			if n < 90 || n > 110 {
				t.Errorf("tablet %d had %d turns in ten seconds, want 100", i, n)
			}
		}
		time.Sleep(time.Second)
		began := time.Now()
		for range paceSaved {
			p.wait(t.Context())
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("an idle sender waited for %s", waited)
		}
	})
}
