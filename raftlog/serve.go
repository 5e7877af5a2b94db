package raftlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	inboundMax = 1024 // connections at a time, of both purposes
	filesMax   = 16   // of them, files being sent
	callsMax   = 256  // node-to-node calls under way
)

// inbound is a connection that another node opened. Its reader goroutine decodes requests and hands them on
// without ever blocking on what serves them; its writer goroutine sends the answers.
type inbound struct {
	log  *Log
	conn net.Conn
	from hello
	link *link
	once sync.Once
}

// accept is the listener's goroutine. Log.Close ends it by closing the listener, and waits.
func (l *Log) accept() {
	var pause time.Duration
	for {
		conn, err := l.o.Listener.Accept()
		if l.ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, most likely: it passes.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			l.logger.Warn("accept failed", "err", err, "pause", pause)
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-l.ctx.Done():
			}
			timer.Stop()
			continue
		}
		pause = 0
		select {
		case l.inbounds <- struct{}{}:
		default:
			l.logger.Warn("connection refused", "remote", conn.RemoteAddr(), "open", inboundMax)
			conn.Close()
			continue
		}
		l.wg.Go(func() {
			defer func() { <-l.inbounds }()
			l.serve(conn)
		})
	}
}

// serve owns one inbound connection.
func (l *Log) serve(conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(l.ctx, func() { conn.Close() })
	defer stop()
	bound(conn)
	h, err := welcome(conn, l.o.Cluster, l.o.Node, l.o.Incarnation)
	if err != nil {
		l.logger.Warn("peer refused", "remote", conn.RemoteAddr(), "err", err)
		return
	}
	if h.purpose == purposeFile {
		if err := l.sendFile(conn, h); err != nil {
			l.logger.Info("file not sent", "peer", h.node, "err", err)
		}
		return
	}
	if p := l.known(h.node); p != nil {
		p.ended.Store(false)
	}
	c := &inbound{log: l, conn: conn, from: h, link: newLink()}
	var w sync.WaitGroup
	w.Go(func() {
		out := &writer{l: c.link, conn: conn}
		if err := out.run(nil, 0, nil); err != nil {
			c.close()
		}
	})
	err = c.read()
	c.close()
	w.Wait()
	l.logger.Info("peer left", "peer", h.node, "err", err)
	l.lookAfter(h.node)
}

func (c *inbound) close() {
	c.once.Do(func() {
		close(c.link.broken)
		c.conn.Close()
	})
}

func (c *inbound) read() error {
	f := &frameReader{r: bufio.NewReaderSize(c.conn, readBuffer)}
	for {
		if err := c.conn.SetReadDeadline(time.Now().Add(c.log.o.Timings.silence())); err != nil {
			return err
		}
		m, err := f.next()
		if err != nil {
			return err
		}
		if err := c.dispatch(m); err != nil {
			return err
		}
	}
}

// reply answers request id. It never blocks: a peer that does not take its answers loses the connection.
func (c *inbound) reply(id uint64, meta []byte, parts ...[]byte) {
	c.put(&message{kind: kindReply, id: id, meta: meta, parts: parts})
}

func (c *inbound) put(m *message) {
	if c.link.put(m, true) != nil {
		c.close()
	}
}

// dispatch hands on one request. The error is one of the protocol and ends the connection.
func (c *inbound) dispatch(m *message) error {
	switch m.kind {
	case kindPing:
		if c.log.Slow() {
			m.meta = []byte{1}
		}
		c.put(m)
		return nil
	case kindHeartbeats:
		return c.heartbeats(m)
	case kindAppend, kindInstall, kindVote, kindPreVote, kindTimeoutNow:
		return c.raft(m)
	case kindPropose:
		return c.propose(m)
	case kindCall:
		return c.call(m)
	default:
		return fmt.Errorf("raftlog: request of kind %d from %s is not known", m.kind, c.from.node)
	}
}

// raft hands a request to the group that its first field names.
func (c *inbound) raft(m *message) error {
	d := &decoder{b: m.meta}
	id := GroupID(d.u64())
	r, err := decodeRequest(m, d)
	if err != nil {
		return err
	}
	g := c.log.group(id)
	if g == nil {
		c.reply(m.id, encodeStatus(statusUnavailable, fmt.Sprintf("no group %d on node %s", id, c.log.o.Node)))
		return nil
	}
	g.tr.receive(&received{rpc: r, from: c.from, body: m.parts, reply: func(meta []byte) { c.reply(m.id, meta) }})
	return nil
}

// heartbeats answers a batch. Those that change nothing are answered in one frame, at once and without a wait
// for any disk; the others take the way of all requests and are answered one by one.
func (c *inbound) heartbeats(m *message) error {
	d := &decoder{b: m.meta}
	var e encoder
	e.u32(0)
	answered := uint32(0)
	for range d.u32() {
		id, group, term := d.u64(), GroupID(d.u64()), d.u64()
		if d.err != nil {
			return d.err
		}
		var meta []byte
		if g := c.log.group(group); g == nil {
			meta = encodeStatus(statusUnavailable, fmt.Sprintf("no group %d on node %s", group, c.log.o.Node))
		} else if meta = g.tr.heartbeat(c.from, term, func(meta []byte) { c.reply(id, meta) }); meta == nil {
			continue
		}
		e.u64(id)
		e.u16(uint16(len(meta)))
		e.b = append(e.b, meta...)
		answered++
	}
	var n encoder
	n.u32(answered)
	copy(e.b, n.b)
	c.put(&message{kind: kindBeatReply, id: m.id, meta: e.b})
	return d.finish()
}

// propose queues a forwarded proposal; its answer comes when it is applied here.
func (c *inbound) propose(m *message) error {
	d := &decoder{b: m.meta}
	id := GroupID(d.u64())
	if err := d.finish(); err != nil {
		return err
	}
	if len(m.parts) != 1 {
		return fmt.Errorf("raftlog: proposal from %s: %d parts, want 1", c.from.node, len(m.parts))
	}
	g := c.log.group(id)
	if g == nil {
		c.reply(m.id, encodeStatus(statusUnavailable, fmt.Sprintf("no group %d on node %s", id, c.log.o.Node)))
		return nil
	}
	p := &proposal{data: m.parts[0], stamped: make(chan struct{}), done: func(result []byte, err error) {
		switch {
		case err == nil:
			c.reply(m.id, append(encodeStatus(statusOK, ""), result...))
		case errors.Is(err, ErrUnknown):
			c.reply(m.id, encodeStatus(statusUnknown, err.Error()))
		default:
			c.reply(m.id, encodeStatus(statusUnavailable, err.Error()))
		}
	}}
	if l := c.log; l.hasRoom(len(p.data)) {
		g.enqueue(p)
	} else {
		l.wg.Go(func() { // not here: heartbeats are behind it
			l.awaitRoom(len(p.data), g.tr.closed)
			g.enqueue(p)
		})
	}
	return nil
}

// call serves a node-to-node call in a goroutine of its own; there are at most callsMax of them.
func (c *inbound) call(m *message) error {
	d := &decoder{b: m.meta}
	method := d.u8()
	limit := time.Duration(d.u64())
	if err := d.finish(); err != nil {
		return err
	}
	var body []byte
	if len(m.parts) > 0 {
		body = m.parts[0]
	}
	l := c.log
	if l.o.Requests == nil {
		c.reply(m.id, encodeStatus(statusUnavailable, "node "+l.o.Node+" serves no calls"))
		return nil
	}
	select {
	case l.calls <- struct{}{}:
	default:
		c.reply(m.id, encodeStatus(statusUnavailable, "node "+l.o.Node+" is busy with calls"))
		return nil
	}
	l.wg.Go(func() {
		defer func() { <-l.calls }()
		ctx, cancel := context.WithTimeout(l.ctx, limit)
		defer cancel()
		answer, err := l.o.Requests(ctx, c.from.node, method, body)
		if err != nil {
			c.reply(m.id, encodeStatus(statusError, err.Error()))
			return
		}
		c.reply(m.id, encodeStatus(statusOK, ""), answer)
	})
	return nil
}

// dial opens a connection to a node and shakes hands.
func (l *Log) dial(ctx context.Context, node string, p purpose) (net.Conn, string, error) {
	addr := l.o.Address(node)
	if addr == "" {
		return nil, "", fmt.Errorf("raftlog: node %s: no address is known", node)
	}
	conn, err := l.o.Dial(ctx, addr)
	if err != nil {
		return nil, "", fmt.Errorf("raftlog: node %s at %s: %w", node, addr, err)
	}
	bound(conn)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	incarnation, err := greet(conn, hello{p, l.o.Cluster, l.o.Node, l.o.Incarnation, node})
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, "", fmt.Errorf("raftlog: node %s at %s: %w", node, addr, err)
	}
	return conn, incarnation, nil
}

// bound keeps the kernel from holding megabytes in front of a heartbeat.
func bound(conn net.Conn) {
	if t, ok := conn.(interface{ SetWriteBuffer(int) error }); ok {
		// Best effort: the default size is only slower for heartbeats behind entries on a slow network.
		_ = t.SetWriteBuffer(512 << 10)
	}
}
