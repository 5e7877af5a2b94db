package perf

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// plug is a node's network. Pulling it ends every connection at once, as the kernel does for a process that is
// killed: the others see closed connections, not a goodbye.
type plug struct {
	mu struct {
		sync.Mutex
		pulled bool
		open   map[io.Closer]struct{} // what the network made, without our wrapping
	}
}

var errPulled = errors.New("perf: the node's network is cut")

func newPlug() *plug {
	p := &plug{}
	p.mu.open = map[io.Closer]struct{}{}
	return p
}

// add keeps what is to be closed, unless it is too late.
func (p *plug) add(c io.Closer) error {
	p.mu.Lock()
	late := p.mu.pulled
	if !late {
		p.mu.open[c] = struct{}{}
	}
	p.mu.Unlock()
	if late {
		return errors.Join(errPulled, c.Close())
	}
	return nil
}

// close closes what was added, which pull need not do any more.
func (p *plug) close(c io.Closer) error {
	p.mu.Lock()
	delete(p.mu.open, c)
	p.mu.Unlock()
	return c.Close()
}

// pull cuts everything.
func (p *plug) pull() {
	p.mu.Lock()
	p.mu.pulled = true
	open := p.mu.open
	p.mu.open = nil
	p.mu.Unlock()
	for c := range open {
		_ = c.Close() // the errors of a dead node are nobody's
	}
}

func (p *plug) dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return p.connection(c)
}

func (p *plug) listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := p.add(l); err != nil {
		return nil, err
	}
	return &pluggedListener{l, p}, nil
}

func (p *plug) connection(c net.Conn) (net.Conn, error) {
	if err := p.add(c); err != nil {
		return nil, err
	}
	return &plugged{c, p}, nil
}

type pluggedListener struct {
	net.Listener
	plug *plug
}

func (l *pluggedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.plug.connection(c)
}

func (l *pluggedListener) Close() error { return l.plug.close(l.Listener) }

type plugged struct {
	net.Conn
	plug *plug
}

func (c *plugged) Close() error { return c.plug.close(c.Conn) }
