package connector

import (
	"math/rand/v2"
	"sync"
	"time"

	"nyala/connector/catalog"
	"nyala/ingest"
	"nyala/raftlog"
	"nyala/store"
	"nyala/store/vfs"
)

// failpoints lists the names of all points of all rooms.
func failpoints() (names []string) {
	for _, p := range ingest.Points() {
		names = append(names, p.String())
	}
	for _, p := range store.Points() {
		names = append(names, p.String())
	}
	for _, p := range raftlog.Points() {
		names = append(names, p.String())
	}
	for _, p := range catalog.Points() {
		names = append(names, p.String())
	}
	for _, p := range Points() {
		names = append(names, p.String())
	}
	return names
}

// trap cuts a node's disk and network at the very moment at which it reaches a point. The goroutine that was there, and all
// others of the node, go on with a dead disk and a dead network until somebody takes the node away (kill).
type trap struct {
	point   string
	node    string // "": any
	after   int    // so often the point is passed before
	survive float64
	fired   chan struct{}
	mu      struct {
		sync.Mutex
		rng    *rand.Rand
		node   string // where it fired
		left   *vfs.Mem
		passed int
	}
}

// traps are the traps of a cluster: at most one is armed.
type traps struct {
	sync.Mutex
	armed   *trap
	moments *moments         // nil: nobody looks back
	dead    map[string]*trap // fired, by node, until the node is taken away
}

// arm sets a trap, in place of one that has not fired.
func (c *cluster) arm(point, node string, after int, survive float64) *trap {
	t := &trap{point: point, node: node, after: after, survive: survive, fired: make(chan struct{})}
	t.mu.rng = rand.New(rand.NewPCG(c.rng.Uint64(), 3))
	c.traps.Lock()
	defer c.traps.Unlock()
	c.traps.armed = t
	return t
}

func (c *cluster) disarm() {
	c.traps.Lock()
	defer c.traps.Unlock()
	c.traps.armed = nil
}

// reachedOn is told of the points that a node reaches in the life that begins now.
func (c *cluster) reachedOn(id string) func(point string) {
	d, w := c.disks[id], c.wires[id]
	return func(point string) {
		c.eyes.reached(id, point)
		c.traps.Lock()
		if c.traps.moments != nil {
			c.traps.moments.observe(id, point)
		}
		t := c.traps.armed
		hit := t != nil && t.point == point && (t.node == "" || t.node == id) && c.traps.dead[id] == nil
		if hit {
			t.mu.passed++
			hit = t.mu.passed > t.after
		}
		if !hit {
			c.traps.Unlock()
			return
		}
		c.traps.armed = nil
		if c.traps.dead == nil {
			c.traps.dead = map[string]*trap{}
		}
		c.traps.dead[id] = t
		t.mu.node, t.mu.left = id, d.Crash(t.mu.rng, t.survive)
		c.traps.Unlock()
		for _, port := range []string{":7401", ":7481"} {
			c.net.Isolate(id + port)
			c.net.Host(id + port).Crash()
		}
		w.set(true)
		close(t.fired)
	}
}

// watch has a node looked at, and the moments of its tablets observed, if anybody looks back.
func (c *cluster) watch(id string, n *Node) {
	c.eyes.follow(id, n)
	c.traps.Lock()
	defer c.traps.Unlock()
	if m := c.traps.moments; m != nil {
		m.nodes[id] = n
	}
}

// trapped tells whether a trap has fired on a node that was not taken away yet.
func (c *cluster) trapped(id string) bool {
	c.traps.Lock()
	defer c.traps.Unlock()
	return c.traps.dead[id] != nil
}

// sprung returns what the disk of a node holds if a trap fired there, and gives it a network again; nil if none did.
func (c *cluster) sprung(id string) *vfs.Mem {
	c.traps.Lock()
	t := c.traps.dead[id]
	delete(c.traps.dead, id)
	c.traps.Unlock()
	if t == nil {
		return nil
	}
	for _, port := range []string{":7401", ":7481"} {
		c.net.Rejoin(id + port)
	}
	c.wires[id].set(false)
	return t.mu.left
}

func (t *trap) hasFired() bool {
	select {
	case <-t.fired:
		return true
	default:
		return false
	}
}

// await waits, in the bubble's time, for the trap to fire.
func (t *trap) await(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-t.fired:
	case <-timer.C:
	}
	return t.hasFired()
}

// crashAtPoint cuts a node's power when it reaches some point, soon or later: what a power cut in the middle of a step
// leaves, together with all that other faults do.
func (s *simulation) crashAtPoint(id string) {
	names := failpoints()
	t := s.arm(names[s.rng.IntN(len(names))], []string{id, ""}[s.rng.IntN(2)], s.rng.IntN([]int{1, 3, 20}[s.rng.IntN(3)]), []float64{0, 0.5, 1}[s.rng.IntN(3)])
	s.note("power of %q will be cut at %s after %d", t.node, t.point, t.after)
}
