package simnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"
)

// Network connects hosts. The zero faults of a new one are none: no latency, no limit of bandwidth, no loss.
type Network struct {
	mu struct {
		sync.Mutex
		rng                    *rand.Rand
		latencyMin, latencyMax time.Duration
		bytesPerSecond         int64
		loss                   float64
		blocked                map[[2]string]bool // [from, to]: bytes of that direction are held
		doomed                 map[[2]string]int  // [from, to]: so many writes pass, the next is lost
		far                    map[[2]string]time.Duration
		hosts                  map[string]*Host
		conns                  map[*conn]bool
		changed                chan struct{} // closed and replaced when blocked or a listener changes
	}
}

// New returns a network whose random choices follow from the seed.
func New(seed uint64) *Network {
	n := &Network{}
	n.mu.rng = rand.New(rand.NewPCG(seed, 0x5157))
	n.mu.blocked = map[[2]string]bool{}
	n.mu.doomed = map[[2]string]int{}
	n.mu.far = map[[2]string]time.Duration{}
	n.mu.hosts = map[string]*Host{}
	n.mu.conns = map[*conn]bool{}
	n.mu.changed = make(chan struct{})
	return n
}

// SetLatency makes each write arrive between low and high later than it was made, in order.
func (n *Network) SetLatency(low, high time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.latencyMin, n.mu.latencyMax = low, high
}

// SetBandwidth limits each direction of each connection; 0 means no limit.
func (n *Network) SetBandwidth(bytesPerSecond int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.bytesPerSecond = bytesPerSecond
}

// SetLoss makes each write reset its connection with the given probability.
func (n *Network) SetLoss(probability float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.loss = probability
}

// LoseOne makes one write from one host to the other be lost, after so many that arrive: its connection is reset.
func (n *Network) LoseOne(from, to string, after int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.doomed[[2]string{from, to}] = after
}

// SetDistance makes each write from one host to the other take so much longer; 0 ends it.
func (n *Network) SetDistance(from, to string, more time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if more == 0 {
		delete(n.mu.far, [2]string{from, to})
		return
	}
	n.mu.far[[2]string{from, to}] = more
}

// Block holds the bytes that from sends to to, on connections open now and later, until Unblock.
func (n *Network) Block(from, to string) { n.block(from, to, true) }

// Unblock ends Block; what was held arrives.
func (n *Network) Unblock(from, to string) { n.block(from, to, false) }

func (n *Network) block(from, to string, on bool) {
	n.mu.Lock()
	if on {
		n.mu.blocked[[2]string{from, to}] = true
	} else {
		delete(n.mu.blocked, [2]string{from, to})
	}
	n.changedLocked()
	var pipes []*pipe
	for c := range n.mu.conns {
		if c.local == from && c.remote == to {
			pipes = append(pipes, c.out)
		}
	}
	n.mu.Unlock()
	for _, p := range pipes {
		p.hold(on)
	}
}

// Partition blocks both directions between a and b.
func (n *Network) Partition(a, b string) { n.Block(a, b); n.Block(b, a) }

// Heal unblocks both directions between a and b.
func (n *Network) Heal(a, b string) { n.Unblock(a, b); n.Unblock(b, a) }

// Isolate partitions a host from every other one.
func (n *Network) Isolate(name string) {
	for _, other := range n.names() {
		if other != name {
			n.Partition(name, other)
		}
	}
}

// Rejoin heals a host's partitions with every other one.
func (n *Network) Rejoin(name string) {
	for _, other := range n.names() {
		if other != name {
			n.Heal(name, other)
		}
	}
}

// Reset breaks the connections between a and b; both ends see a reset.
func (n *Network) Reset(a, b string) {
	n.reset(func(c *conn) bool { return c.local == a && c.remote == b || c.local == b && c.remote == a })
}

func (n *Network) reset(match func(*conn) bool) {
	n.mu.Lock()
	var hit []*conn
	for c := range n.mu.conns {
		if match(c) {
			hit = append(hit, c)
		}
	}
	n.mu.Unlock()
	for _, c := range hit {
		c.fail(errReset)
	}
}

func (n *Network) names() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for name := range n.mu.hosts {
		names = append(names, name)
	}
	return names
}

func (n *Network) changedLocked() {
	close(n.mu.changed)
	n.mu.changed = make(chan struct{})
}

// delay draws the latency of one write, the time its bytes take, and whether it is lost.
func (n *Network) delay(from, to string, size int) (latency, transmission time.Duration, lost bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	between := [2]string{from, to}
	latency = n.latencyLocked() + n.mu.far[between]
	if n.mu.bytesPerSecond > 0 {
		transmission = time.Duration(int64(size) * int64(time.Second) / n.mu.bytesPerSecond)
	}
	lost = n.mu.loss > 0 && n.mu.rng.Float64() < n.mu.loss
	if left, doomed := n.mu.doomed[between]; doomed && left > 0 {
		n.mu.doomed[between]--
	} else if doomed {
		delete(n.mu.doomed, between)
		lost = true
	}
	return latency, transmission, lost
}

func (n *Network) latencyLocked() time.Duration {
	if n.mu.latencyMax <= n.mu.latencyMin {
		return n.mu.latencyMin
	}
	return n.mu.latencyMin + time.Duration(n.mu.rng.Int64N(int64(n.mu.latencyMax-n.mu.latencyMin)+1))
}

// forget drops a connection once both ends are closed: until then a partition still holds its bytes.
func (n *Network) forget(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c.closed = true
	if c.peer.closed {
		delete(n.mu.conns, c)
		delete(n.mu.conns, c.peer)
	}
}

// Host is a machine of the network: it listens under its own name and dials others by theirs.
type Host struct {
	n    *Network
	name string
	ln   *listener // guarded by n.mu
}

// Host returns the host of that name, which is also its address.
func (n *Network) Host(name string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.mu.hosts[name]
	if h == nil {
		h = &Host{n: n, name: name}
		n.mu.hosts[name] = h
	}
	return h
}

// Listen opens the host's only listener. It panics if one is open.
func (h *Host) Listen() net.Listener {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	if h.ln != nil {
		panic("simnet: " + h.name + " listens already")
	}
	h.ln = &listener{h: h, accepted: make(chan *conn, 128), closed: make(chan struct{})}
	h.n.changedLocked()
	return h.ln
}

// Crash resets the host's connections and closes its listener, as the kernel does for a killed process.
func (h *Host) Crash() {
	h.n.mu.Lock()
	ln := h.ln
	h.n.mu.Unlock()
	if ln != nil {
		ln.Close()
	}
	h.n.reset(func(c *conn) bool { return c.local == h.name || c.remote == h.name })
}

// Dial connects to the host named addr. It waits while a partition lies between the two, until ctx is done.
func (h *Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	n := h.n
	n.mu.Lock()
	wait := time.NewTimer(2 * n.latencyLocked())
	n.mu.Unlock()
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return nil, fmt.Errorf("simnet: dial %s from %s: %w", addr, h.name, context.Cause(ctx))
	}
	for {
		n.mu.Lock()
		if !n.mu.blocked[[2]string{h.name, addr}] && !n.mu.blocked[[2]string{addr, h.name}] {
			c, err := h.connectLocked(addr)
			n.mu.Unlock()
			return c, err
		}
		changed := n.mu.changed
		n.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("simnet: dial %s from %s: %w", addr, h.name, context.Cause(ctx))
		}
	}
}

func (h *Host) connectLocked(addr string) (net.Conn, error) {
	n := h.n
	to := n.mu.hosts[addr]
	if to == nil || to.ln == nil {
		return nil, fmt.Errorf("simnet: dial %s from %s: %w", addr, h.name, syscall.ECONNREFUSED)
	}
	there, back := newPipe(n), newPipe(n)
	near := &conn{n: n, local: h.name, remote: addr, in: back, out: there}
	far := &conn{n: n, local: addr, remote: h.name, in: there, out: back}
	near.peer, far.peer = far, near
	select {
	case to.ln.accepted <- far:
	default:
		return nil, fmt.Errorf("simnet: dial %s from %s: accept queue full: %w", addr, h.name, syscall.ECONNREFUSED)
	}
	n.mu.conns[near], n.mu.conns[far] = true, true
	return near, nil
}

type listener struct {
	h        *Host
	accepted chan *conn
	closed   chan struct{}
	once     sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.h.n.mu.Lock()
		if l.h.ln == l {
			l.h.ln = nil
			l.h.n.changedLocked()
		}
		l.h.n.mu.Unlock()
		for {
			select {
			case c := <-l.accepted:
				c.fail(errReset)
			default:
				return
			}
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return address(l.h.name) }

type address string

func (a address) Network() string { return "sim" }
func (a address) String() string  { return string(a) }

var errReset = errors.New("simnet: connection reset")
