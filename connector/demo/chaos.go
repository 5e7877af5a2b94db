package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	calmMin     = 2 * time.Second // between a healthy cluster and the next kill
	calmMax     = 6 * time.Second
	deadMin     = 500 * time.Millisecond // between a kill and the restart
	deadMax     = 3 * time.Second
	remindEvery = 15 * time.Second // while it is not healthy again
)

// chaos kills a random node and starts it again, over and over, until producing is done; then the last one
// killed is up again. A node is killed only while all are well: two of three at once would stop the tablets, by
// design.
func (d *demo) chaos(ctx, producing context.Context) error {
	if !d.options.chaos {
		return nil
	}
	for wait(producing, between(calmMin, calmMax)) {
		n := d.cluster.nodes[rand.IntN(len(d.cluster.nodes))]
		if v, _ := d.watch.now(); !v.status.Healthy {
			continue
		}
		if err := d.strike(ctx, producing, n); err != nil {
			return err
		}
	}
	return nil
}

// strike kills a node, starts it again, and waits until all is well or producing is done.
func (d *demo) strike(ctx, producing context.Context, n *node) error {
	leads := d.leads(n)
	killed := time.Now()
	if err := d.cluster.kill(n); err != nil {
		return err
	}
	d.mu.Lock()
	d.mu.kills++
	d.mu.Unlock()
	d.screen.say("          %s", d.screen.in(red, fmt.Sprintf("%s is killed (SIGKILL); it led %d tablets", n.id, leads)))
	wait(producing, between(deadMin, deadMax))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := d.cluster.start(n); err != nil {
		return err
	}
	d.screen.say("          %s is started again after %s", n.id, seconds(time.Since(killed)))
	for {
		limited, cancel := context.WithTimeout(producing, remindEvery)
		err := d.watch.await(limited, func(v view) bool { return v.status.Healthy })
		cancel()
		took := time.Since(killed)
		if err == nil {
			d.mu.Lock()
			d.mu.slowest = max(d.mu.slowest, took)
			d.mu.Unlock()
			d.screen.say("          %s", d.screen.in(green, fmt.Sprintf("all is well again %s after the kill", seconds(took))))
			return nil
		}
		if producing.Err() != nil {
			return nil // drain waits on
		}
		v, _ := d.watch.now()
		d.screen.say("          not well yet %s after the kill: %s", seconds(took), v.reason())
	}
}

// leads is how many tablets a node leads.
func (d *demo) leads(n *node) (leads int) {
	v, _ := d.watch.now()
	for _, t := range v.status.Tablets {
		if t.Leader == n.id {
			leads++
		}
	}
	return leads
}

func between(low, high time.Duration) time.Duration { return low + rand.N(high-low) }

// wait waits for d and reports whether ctx is not done.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
