package ingest

import (
	"context"
	"sync"
	"time"
)

// pace bounds the entries a second that a Sender makes. An entry costs about a hundred microseconds beside its rows: to build, propose, commit,
// apply and answer it. With hundreds of tablets, each with an entry in flight, they were so small that this was most of what a row cost; when
// they have to wait for their turn they are fewer and larger. Turns are given in the order in which they are asked for, so who waits longest
// waits for all others once.
type pace struct {
	interval time.Duration
	mu       sync.Mutex
	next     time.Time // when the next turn would be, if none were saved up
}

const (
	entriesPerProcessor = 500
	paceSaved           = 64 // turns that an idle Sender saves up: nobody waits while there are few entries
)

func newPace(rate int) pace { return pace{interval: time.Second / time.Duration(rate)} }

// wait returns when it is the caller's turn, or ctx is done.
func (p *pace) wait(ctx context.Context) {
	p.mu.Lock()
	now := time.Now()
	if saved := now.Add(-paceSaved * p.interval); p.next.Before(saved) {
		p.next = saved
	}
	turn := p.next
	p.next = turn.Add(p.interval)
	p.mu.Unlock()
	if wait := turn.Sub(now); wait > 0 {
		pause(ctx, wait)
	}
}
