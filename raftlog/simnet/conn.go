package simnet

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// windowBytes is how much one direction of a connection holds before a writer waits, as socket buffers do.
const windowBytes = 256 << 10

// conn is one end of a connection: two pipes, one shared with the other end in each direction.
type conn struct {
	n             *Network
	local, remote string
	peer          *conn
	in, out       *pipe
	closed        bool // guarded by Network.mu
}

func (c *conn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *conn) Write(p []byte) (int, error) { return c.out.write(p, c) }

// Close lets the other end read what was written, then the end of the stream.
func (c *conn) Close() error {
	c.in.closeReader()
	c.out.closeWriter()
	c.n.forget(c)
	return nil
}

// fail ends both directions at once for both ends.
func (c *conn) fail(err error) {
	c.in.fail(err)
	c.out.fail(err)
	c.n.forget(c)
	c.n.forget(c.peer)
}

func (c *conn) LocalAddr() net.Addr  { return address(c.local) }
func (c *conn) RemoteAddr() net.Addr { return address(c.remote) }
func (c *conn) SetDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.mu.readBy, t)
	c.out.setDeadline(&c.out.mu.writeBy, t)
	return nil
}
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.mu.readBy, t)
	return nil
}
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.mu.writeBy, t)
	return nil
}

// pipe is one direction of a connection.
type pipe struct {
	n    *Network
	cond *sync.Cond
	mu   struct {
		sync.Mutex
		segments        []segment
		size            int
		held            bool // a partition keeps the bytes
		eof             bool // the writer closed
		gone            bool // the reader closed
		err             error
		readBy, writeBy time.Time
		timer           *time.Timer // one for all waits: a message costs two of them
		due             time.Time   // when it goes off; zero: it does not
	}
}

type segment struct {
	data []byte
	at   time.Time // when it arrives
}

func newPipe(n *Network) *pipe {
	p := &pipe{n: n}
	p.cond = sync.NewCond(&p.mu.Mutex)
	return p
}

func (p *pipe) hold(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.held = on
	p.cond.Broadcast()
}

func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.err == nil {
		p.mu.err = err
	}
	p.mu.segments, p.mu.size = nil, 0
	p.cond.Broadcast()
}

func (p *pipe) closeReader() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.gone = true
	p.mu.segments, p.mu.size = nil, 0
	p.cond.Broadcast()
}

func (p *pipe) closeWriter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.eof = true
	p.cond.Broadcast()
}

func (p *pipe) setDeadline(field *time.Time, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*field = t
	p.cond.Broadcast()
}

// waitLocked waits for a change, but not beyond the earliest of the given times that is set.
func (p *pipe) waitLocked(times ...time.Time) {
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	if first.IsZero() {
		p.cond.Wait()
		return
	}
	p.wakeLocked(first)
	p.cond.Wait()
}

// wakeLocked makes those who wait look again at a time, and maybe before.
func (p *pipe) wakeLocked(at time.Time) {
	switch {
	case p.mu.timer == nil:
		p.mu.timer = time.AfterFunc(time.Until(at), p.expire)
	case p.mu.due.IsZero() || at.Before(p.mu.due):
		p.mu.timer.Reset(time.Until(at))
	default:
		return
	}
	p.mu.due = at
}

func (p *pipe) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.due = time.Time{}
	p.cond.Broadcast()
}

func expired(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		var arrival time.Time
		switch {
		case p.mu.gone:
			return 0, net.ErrClosed
		case p.mu.err != nil:
			return 0, p.mu.err
		case expired(p.mu.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(p.mu.segments) > 0 && !p.mu.held:
			s := &p.mu.segments[0]
			if !expired(s.at) {
				arrival = s.at
				break
			}
			n := copy(b, s.data)
			if s.data = s.data[n:]; len(s.data) == 0 {
				p.mu.segments = p.mu.segments[1:]
			}
			p.mu.size -= n
			p.cond.Broadcast()
			return n, nil
		case len(p.mu.segments) == 0 && p.mu.eof && !p.mu.held:
			return 0, io.EOF
		}
		p.waitLocked(arrival, p.mu.readBy)
	}
}

func (p *pipe) write(b []byte, c *conn) (int, error) {
	written := 0
	for {
		part := b[written:]
		if len(part) > windowBytes/4 {
			part = part[:windowBytes/4]
		}
		latency, transmission, lost := p.n.delay(c.local, c.remote, len(part))
		if lost {
			c.fail(errReset)
		}
		if err := p.push(part, latency, transmission); err != nil {
			return written, err
		}
		if written += len(part); written == len(b) {
			return written, nil
		}
	}
}

// push waits for room and appends a copy of b.
func (p *pipe) push(b []byte, latency, transmission time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.mu.eof:
			return net.ErrClosed
		case p.mu.err != nil:
			return p.mu.err
		case expired(p.mu.writeBy):
			return os.ErrDeadlineExceeded
		case p.mu.gone:
			return errReset
		case p.mu.size == 0 || p.mu.size+len(b) <= windowBytes:
			at := time.Now().Add(latency)
			if k := len(p.mu.segments); k > 0 && p.mu.segments[k-1].at.After(at) {
				at = p.mu.segments[k-1].at
			}
			p.mu.segments = append(p.mu.segments, segment{append([]byte(nil), b...), at.Add(transmission)})
			p.mu.size += len(b)
			if first := p.mu.segments[0].at; expired(first) {
				p.cond.Broadcast()
			} else {
				p.wakeLocked(first) // not at once: whoever reads would only wait again
			}
			return nil
		}
		p.waitLocked(p.mu.writeBy)
	}
}
