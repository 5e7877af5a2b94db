package connector

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// wire is a node's way to Kafka. Cutting it resets its connections and refuses new ones; stalling it holds what
// is on the way, so that the group gives up a member that does not know: a zombie.
type wire struct {
	mu      sync.Mutex
	cut     bool
	refused string        // the broker with this address is not reached
	stalled chan struct{} // closed when it goes on; nil: it does
	conns   map[*wireConn]bool
}

func (w *wire) set(cut bool) {
	w.mu.Lock()
	var conns []*wireConn
	w.cut = cut
	for c := range w.conns {
		if cut {
			conns = append(conns, c)
			delete(w.conns, c)
		}
	}
	w.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// reset ends all connections; new ones are welcome.
func (w *wire) reset() {
	w.mu.Lock()
	cut := w.cut
	w.mu.Unlock()
	w.set(true)
	w.set(cut)
}

// refuse is for a broker that does not answer any more; "" is for none.
func (w *wire) refuse(addr string) {
	w.mu.Lock()
	changed := w.refused != addr
	w.refused = addr
	w.mu.Unlock()
	if changed && addr != "" {
		w.reset()
	}
}

func (w *wire) stall(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case on && w.stalled == nil:
		w.stalled = make(chan struct{})
	case !on && w.stalled != nil:
		close(w.stalled)
		w.stalled = nil
	}
}

var errCut = errors.New("the way to kafka is cut")

func (w *wire) dial(ctx context.Context, k *kfake.VirtualNetwork, addr string) (net.Conn, error) {
	w.mu.Lock()
	cut, stalled := w.cut || w.refused == addr, w.stalled
	w.mu.Unlock()
	if cut {
		return nil, errCut
	}
	if stalled != nil {
		select {
		case <-stalled:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	conn, err := k.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &wireConn{Conn: conn, wire: w, closed: make(chan struct{})}
	c.mu.changed = make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		conn.Close()
		return nil, errCut
	}
	w.conns[c] = true
	return c, nil
}

// wireDelay is how long a request is on its way. Without it, time stood still for as long as requests were answered at once by an error after
// which the client asks again at once, until metadata are old enough to be asked for (FENCED_LEADER_EPOCH): for ever.
const wireDelay = 50 * time.Microsecond

// wireConn is a connection over a wire.
type wireConn struct {
	net.Conn
	wire   *wire
	once   sync.Once
	closed chan struct{}
	mu     struct {
		sync.Mutex
		read, write time.Time     // deadlines
		changed     chan struct{} // closed and replaced when a deadline is another
	}
}

// pass waits while the wire is stalled, until the deadline, which may be set meanwhile.
func (c *wireConn) pass(deadline func() (time.Time, chan struct{})) error {
	for {
		c.wire.mu.Lock()
		stalled := c.wire.stalled
		c.wire.mu.Unlock()
		if stalled == nil {
			return nil
		}
		left := time.Hour
		d, changed := deadline()
		if !d.IsZero() {
			left = time.Until(d)
		}
		timer := time.NewTimer(left)
		var err error
		select {
		case <-stalled:
		case <-changed:
		case <-c.closed:
			err = net.ErrClosed
		case <-timer.C:
			err = os.ErrDeadlineExceeded
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

func (c *wireConn) readDeadline() (time.Time, chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.read, c.mu.changed
}

func (c *wireConn) writeDeadline() (time.Time, chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.write, c.mu.changed
}

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		return n, err
	}
	return n, c.pass(c.readDeadline)
}

func (c *wireConn) Write(b []byte) (int, error) {
	if err := c.pass(c.writeDeadline); err != nil {
		return 0, err
	}
	time.Sleep(wireDelay)
	return c.Conn.Write(b)
}

func (c *wireConn) set(deadline *time.Time, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*deadline = t
	close(c.mu.changed)
	c.mu.changed = make(chan struct{})
}

func (c *wireConn) SetReadDeadline(t time.Time) error {
	c.set(&c.mu.read, t)
	return c.Conn.SetReadDeadline(t)
}

func (c *wireConn) SetWriteDeadline(t time.Time) error {
	c.set(&c.mu.write, t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *wireConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *wireConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.wire.mu.Lock()
	delete(c.wire.conns, c)
	c.wire.mu.Unlock()
	return c.Conn.Close()
}
