package raftlog

import (
	"context"
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"nyala/store/vfs"
)

var (
	chaosSeed  = flag.Int64("seed", -1, "run TestChaos with this seed only")
	chaosSeeds = flag.Int("seeds", 25, "how many seeds TestChaos runs")
	chaosLess  = flag.Int("without", 0, "take this rule away in TestChaos, to see what it is good for: many runs must fail")
)

// chaos is one run: three voters on crashing disks, writers, checkpoints and log cuts that never rest, and a
// series of events drawn from the seed.
type chaos struct {
	*world
	quiet  atomic.Bool // no more checkpoints by themselves
	over   atomic.Bool
	events []string
}

// TestChaos: whatever happens, replicas agree, acknowledged writes are there once, and the group comes back.
func TestChaos(t *testing.T) {
	first, count := 0, *chaosSeeds
	if testing.Short() {
		count = min(count, 5)
	}
	if *chaosSeed >= 0 {
		first, count = int(*chaosSeed), 1
	}
	var acked, installs, shifted, sent int
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			sim(t, func(t *testing.T) {
				w := newWorld(t, uint64(seed))
				if *chaosLess != 0 {
					w.test = without(*chaosLess)
					w.timings.Watchdog = time.Hour // it heals some of what goes wrong
				}
				if seed%2 == 0 {
					w.timings.Retain = 1 // followers that lag need manifests
				}
				c := &chaos{world: w}
				c.run()
				a, _ := w.truth.counts()
				acked += a
				for _, n := range w.nodes {
					if n.log != nil {
						s := n.log.Stats()
						installs, shifted, sent = installs+int(s.Installed), shifted+int(s.Shifted), sent+int(s.Sent)
					}
				}
				w.finish()
				if t.Failed() {
					t.Logf("replay with -run TestChaos -seed %d; events: %v", seed, c.events)
				}
			})
		})
	}
	t.Logf("%d runs: %d acknowledged writes; by the instances that were left: %d manifests sent, %d installed, %d appends shifted", count, acked, sent, installs, shifted)
}

func (c *chaos) run() {
	w := c.world
	w.net.SetLoss(0.0005)
	w.boot("n1", "n2", "n3")
	w.waitLeader()
	for i := range 3 {
		w.wg.Go(func() { c.writer(i) })
	}
	for _, n := range w.nodes {
		w.wg.Go(func() { c.checkpointer(n) })
	}
	for range 40 {
		time.Sleep(w.upTo(300 * ms))
		c.event()
		for _, n := range w.nodes {
			c.revive(n)
		}
		if len(w.truth.failures()) > 0 {
			break
		}
	}
	c.lastBlow()
	w.net.SetLoss(0)
	c.over.Store(true)
	time.Sleep(2 * time.Second)
	c.converge()
}

func (c *chaos) note(format string, args ...any) {
	c.events = append(c.events, fmt.Sprintf("%v ", time.Since(c.start).Round(ms))+fmt.Sprintf(format, args...))
}

func (c *chaos) writer(i int) {
	for !c.over.Load() {
		n := c.leader()
		if i == 0 {
			nodes := c.all()
			n = nodes[c.intn(len(nodes))] // forwarded, most of the time
		}
		if n == nil || c.write(n, time.Second) != nil {
			time.Sleep(10 * ms)
		}
		time.Sleep(c.upTo(8 * ms))
	}
}

func (c *chaos) checkpointer(n *node) {
	for !c.over.Load() {
		time.Sleep(20*ms + c.upTo(250*ms))
		if l, m := n.instance(); !c.quiet.Load() && l != nil {
			m.checkpoint(0) // an error is that of a dead disk
		}
	}
}

// revive restarts a node that is down, or whose disk failed.
func (c *chaos) revive(n *node) {
	if n.gone {
		return
	}
	if n.log != nil && n.log.Err() != nil {
		c.note("%s failed", n.name)
		n.crash(0.5)
	}
	if n.log == nil {
		n.up(nil)
	}
}

func (c *chaos) event() {
	w := c.world
	n := w.nodes[w.intn(len(w.nodes))]
	switch w.intn(13) {
	case 0, 1:
		c.note("crash %s", n.name)
		n.crash(float64(w.intn(5)) / 4)
		if w.chance(0.5) {
			time.Sleep(w.upTo(2 * time.Second))
		}
	case 2:
		c.note("isolate %s", n.name)
		w.net.Isolate(n.name)
		time.Sleep(w.upTo(1500 * ms))
		w.net.Rejoin(n.name)
	case 3: // requests arrive, answers do not
		m := w.nodes[w.intn(len(w.nodes))]
		c.note("one-way cut %s to %s", n.name, m.name)
		w.net.Block(n.name, m.name)
		time.Sleep(w.upTo(time.Second))
		w.net.Unblock(n.name, m.name)
	case 4:
		c.note("crash all")
		for _, m := range w.nodes {
			m.crash(float64(w.intn(5)) / 4)
		}
	case 5:
		c.transfer()
	case 6, 7:
		c.replace()
	case 8:
		m := w.nodes[w.intn(len(w.nodes))]
		c.note("reset %s %s", n.name, m.name)
		w.net.Reset(n.name, m.name)
	case 9:
		c.isolateLeader()
	case 10:
		c.slowDisk(n)
	case 11:
		c.hungDisk(n)
	case 12:
		c.note("restart %s", n.name)
		n.stop()
	}
}

func (c *chaos) transfer() {
	l := c.leader()
	if l == nil {
		return
	}
	to := c.nodes[c.intn(len(c.nodes))]
	c.note("transfer %s to %s", l.name, to.name)
	ctx, cancel := context.WithTimeout(context.Background(), c.upTo(time.Second))
	defer cancel()
	l.group().TransferLeadership(ctx, to.name)
}

func (c *chaos) isolateLeader() {
	l := c.leader()
	if l == nil {
		return
	}
	c.note("isolate leader %s", l.name)
	c.net.Isolate(l.name)
	time.Sleep(c.upTo(1500 * ms))
	if c.chance(0.3) {
		l.crash(0.5)
	}
	c.net.Rejoin(l.name)
}

func (c *chaos) slowDisk(n *node) {
	if n.log == nil {
		return
	}
	c.note("slow disk of %s", n.name)
	remove := n.faults.Add(vfs.Rule{Op: vfs.OpSync, Delay: 30 * ms})
	time.Sleep(c.upTo(time.Second))
	remove()
}

// hungDisk hangs for longer than the WAL waits: the node fails and is restarted.
func (c *chaos) hungDisk(n *node) {
	if n.log == nil {
		return
	}
	c.note("hung disk of %s", n.name)
	free := make(chan struct{})
	remove := n.faults.Add(vfs.Rule{Op: vfs.OpSync, Hang: free})
	time.Sleep(c.upTo(2 * time.Second))
	remove()
	close(free)
}

// replace adds an empty node, makes it a voter and removes another one.
func (c *chaos) replace() {
	l := c.leader()
	if l == nil {
		return
	}
	n := c.add(fmt.Sprintf("n%d", len(c.nodes)+1))
	n.up(nil)
	c.note("add %s", n.name)
	c.wg.Go(func() { c.checkpointer(n) })
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if l.group().AddNonvoter(ctx, n.member(false)) != nil {
		return // of unknown fate: it stays up, it may be a member
	}
	time.Sleep(c.upTo(400 * ms))
	if l = c.leader(); l == nil || l.group().Promote(ctx, n.member(true)) != nil {
		return
	}
	if l = c.leader(); l == nil {
		return
	}
	members := l.group().Members()
	if len(members) <= 3 {
		return
	}
	victim := members[c.intn(len(members))]
	c.note("remove %s", victim.Node)
	if l.group().Remove(ctx, victim) != nil {
		return
	}
	time.Sleep(c.upTo(100 * ms))
	for _, m := range c.nodes {
		if m.name == victim.Node { // wiped; it never comes back as the same server
			m.crash(0)
			m.gone = true
		}
	}
}

// lastBlow ends a run with one of the two situations that hurt, and no checkpoint after it that could heal it.
func (c *chaos) lastBlow() {
	c.quiet.Store(true)
	time.Sleep(500 * ms)
	l := c.leader()
	if l == nil {
		return
	}
	if c.chance(0.5) {
		c.note("stale tail on %s", l.name)
		c.staleTail(l)
		return
	}
	for _, n := range c.nodes {
		if n != l && n.log != nil && !n.gone {
			c.note("answers of %s lost while it checkpoints", n.name)
			c.net.Block(n.name, l.name)
			time.Sleep(300*ms + c.upTo(300*ms))
			n.machine.checkpoint(0)
			c.forgetSent()
			c.net.Unblock(n.name, l.name)
			return
		}
	}
}

// staleTail gives an old leader a long tail that nobody has, and the new leader a durable index inside it.
func (c *chaos) staleTail(l *node) {
	last := l.group().Status().Last
	c.net.Isolate(l.name)
	for range 60 {
		c.wg.Go(func() { c.write(l, 100*ms) })
	}
	time.Sleep(1500*ms + c.upTo(500*ms))
	if m := c.leader(); m != nil && m != l {
		m.machine.checkpoint(last + 40)
		c.forgetSent()
	}
	c.net.Rejoin(l.name)
}

// forgetSent waits until the log is cut and connections over a partition are given up, with all that they hold:
// what was sent before would heal what is wrong.
func (c *chaos) forgetSent() {
	if c.chance(0.7) {
		time.Sleep(6 * time.Second)
	}
}

// converge: with faults over, all members become equal.
func (c *chaos) converge() {
	var why string
	ok := c.until(60*time.Second, func() bool {
		if len(c.truth.failures()) > 0 {
			return true
		}
		for _, n := range c.nodes {
			c.revive(n)
		}
		l := c.leader()
		if l == nil || c.write(l, time.Second) != nil {
			why = "no leader, or it takes no writes"
			return false
		}
		time.Sleep(300 * ms)
		for _, m := range l.group().Members() {
			for _, n := range c.nodes {
				if n.name == m.Node && !n.caughtUp(l) {
					why = n.name + " is not equal to " + l.name
					return false
				}
			}
		}
		return true
	})
	if !ok {
		c.truth.fail("not converged: %s: %s", why, c.describe())
	}
}
