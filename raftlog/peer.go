package raftlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
)

var (
	// errUnsent says of a request that it never left this node.
	errUnsent = errors.New("raftlog: request was not sent")
	// errLost says of a request that it may have arrived: the connection broke before its answer.
	errLost = errors.New("raftlog: connection lost before the answer")
)

const (
	queuedBytesMax = 64 << 20 // of requests to one peer that wait for its connection or are being written
	dialLimit      = 3 * time.Second
	readBuffer     = 64 << 10
)

// peer owns the one connection from this node to another: all groups share it. Its run goroutine dials when
// the first request comes, writes, and dials again with a jittered backoff after a failure, or by itself when a connection has ended; a reader goroutine
// lives as long as the connection and is waited for by run. While a peer cannot be reached, requests fail at
// once with errUnsent instead of piling up: everybody above retries anyway.
type peer struct {
	log   *Log
	node  string
	wake  chan struct{} // capacity 1: a request came while there was no connection
	beats chan struct{} // capacity 1: the first heartbeat of a tick came
	slow  atomic.Bool   // it said that its disk is slow
	ended atomic.Bool   // nobody listened there when it was last dialled, nor was heard of since
	mu    struct {
		sync.Mutex
		link        *link // nil: not connected and not dialling
		down        bool  // in the pause after a failed dial
		incarnation string
		pending     map[uint64]*request
		next        uint64
		queued      int           // bytes of requests not yet written
		room        chan struct{} // closed and replaced when queued shrinks
		heartbeats  []*message    // of this tick: each with the meta of one heartbeat
	}
}

// request is one that waits for its answer.
type request struct {
	size int
	sent bool                  // it left the queue
	done func(*message, error) // called once, must not block
}

func newPeer(l *Log, node string) *peer {
	p := &peer{log: l, node: node, wake: make(chan struct{}, 1), beats: make(chan struct{}, 1)}
	p.mu.pending = map[uint64]*request{}
	p.mu.room = make(chan struct{})
	return p
}

// send queues a request and returns its number. done is called once with the answer or an error.
func (p *peer) send(m *message, urgent bool, done func(*message, error)) uint64 {
	p.mu.Lock()
	id, err := p.sendLocked(m, urgent, done)
	p.mu.Unlock()
	if err != nil {
		done(nil, err)
		return 0
	}
	return id
}

func (p *peer) sendLocked(m *message, urgent bool, done func(*message, error)) (uint64, error) {
	if p.mu.down || p.log.ctx.Err() != nil {
		return 0, fmt.Errorf("%w: no connection to %s", errUnsent, p.node)
	}
	p.linkLocked()
	p.mu.next++
	m.id = p.mu.next
	if err := p.mu.link.put(m, urgent); err != nil {
		return 0, fmt.Errorf("%w: %w", errUnsent, err)
	}
	r := &request{size: m.size(), done: done}
	p.mu.pending[m.id] = r
	p.mu.queued += r.size
	return m.id, nil
}

// linkLocked makes the link that requests wait in until the connection stands, and wakes run.
func (p *peer) linkLocked() {
	if p.mu.link != nil {
		return
	}
	p.mu.link = newLink()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// reserve waits until the queue has room for a large request. It returns false when abort is closed or the
// time is over first.
func (p *peer) reserve(abort <-chan struct{}, limit time.Duration) bool {
	var timer *time.Timer
	for {
		p.mu.Lock()
		free, room := p.mu.queued < queuedBytesMax, p.mu.room
		p.mu.Unlock()
		if free {
			return true
		}
		if timer == nil {
			timer = time.NewTimer(limit)
			defer timer.Stop()
		}
		select {
		case <-room:
		case <-abort:
			return false
		case <-timer.C:
			return false
		}
	}
}

// backlog returns how many bytes wait for the connection.
func (p *peer) backlog() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.queued
}

// forget drops a request whose caller no longer waits, and reports whether it may have been sent. If it has not
// left the queue, it never will.
func (p *peer) forget(id uint64) (sent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.mu.pending[id]
	if r == nil {
		return true
	}
	delete(p.mu.pending, id)
	if !r.sent {
		p.shrinkLocked(r.size)
	}
	return r.sent
}

func (p *peer) shrinkLocked(size int) {
	p.mu.queued -= size
	close(p.mu.room)
	p.mu.room = make(chan struct{})
}

// take is asked by the writer for every request that leaves the queue.
func (p *peer) take(m *message) bool {
	if m.kind == kindPing {
		return true
	}
	p.mu.Lock()
	r := p.mu.pending[m.id]
	if r == nil {
		p.mu.Unlock()
		return false
	}
	p.shrinkLocked(r.size)
	if m.to != "" && m.to != p.mu.incarnation {
		delete(p.mu.pending, m.id)
		has := p.mu.incarnation
		p.mu.Unlock()
		r.done(nil, fmt.Errorf("%w: node %s has incarnation %s, want %s", errUnsent, p.node, has, m.to))
		return false
	}
	r.sent = true
	p.mu.Unlock()
	return true
}

// heartbeat queues one for the tick's frame.
func (p *peer) heartbeat(meta []byte, to string, done func(*message, error)) uint64 {
	p.mu.Lock()
	if p.mu.down || p.log.ctx.Err() != nil {
		p.mu.Unlock()
		done(nil, fmt.Errorf("%w: no connection to %s", errUnsent, p.node))
		return 0
	}
	p.linkLocked()
	p.mu.next++
	id := p.mu.next
	p.mu.pending[id] = &request{done: done}
	p.mu.heartbeats = append(p.mu.heartbeats, &message{id: id, meta: meta, to: to})
	p.mu.Unlock()
	select {
	case p.beats <- struct{}{}:
	default:
	}
	return id
}

// tick puts the heartbeats that came since the last tick into one frame.
func (p *peer) tick() {
	var failed []*request
	p.mu.Lock()
	var e encoder
	var count uint32
	e.u32(0)
	for _, h := range p.mu.heartbeats {
		r := p.mu.pending[h.id]
		if r == nil {
			continue
		}
		if h.to != p.mu.incarnation {
			delete(p.mu.pending, h.id)
			failed = append(failed, r)
			continue
		}
		r.sent = true
		e.u64(h.id)
		e.b = append(e.b, h.meta...)
		count++
	}
	p.mu.heartbeats = p.mu.heartbeats[:0]
	if count > 0 && p.mu.link != nil {
		var n encoder
		n.u32(count)
		copy(e.b, n.b)
		p.mu.next++
		m := &message{kind: kindHeartbeats, id: p.mu.next, meta: e.b}
		if p.mu.link.put(m, true) == nil {
			p.mu.pending[m.id] = &request{done: func(*message, error) {}} // take looks it up; its answers name the heartbeats
		}
	}
	p.mu.Unlock()
	for _, r := range failed {
		r.done(nil, fmt.Errorf("%w: node %s has another incarnation", errUnsent, p.node))
	}
}

// run is the peer's goroutine. Log.Close waits for it.
func (p *peer) run() {
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(p.log.o.Timings.Heartbeat/10), backoff.WithMaxInterval(2*p.log.o.Timings.Heartbeat), backoff.WithMaxElapsedTime(0))
	var wonder time.Time // until then it dials by itself: a connection that stood has ended, maybe with the process
	for {
		select {
		case <-p.wake:
		case <-p.log.ctx.Done():
			p.drop(errUnsent)
			return
		}
		since := time.Now()
		stood, err := p.connect()
		stopped := p.log.ctx.Err() != nil
		p.drop(err)
		if stopped {
			return
		}
		switch {
		case stood:
			wonder = time.Now().Add(2 * p.log.o.Timings.Heartbeat)
		case refused(err):
			wonder = time.Time{}
			p.ended.Store(true)
			p.log.orphaned(p.node)
		}
		if time.Since(since) > 2*p.log.o.Timings.Heartbeat {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		level := slog.LevelInfo
		if errors.Is(err, errRefused) {
			level = slog.LevelError
		}
		p.log.logger.Log(p.log.ctx, level, "peer connection ended", "peer", p.node, "err", err, "pause", wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.log.ctx.Done():
		}
		timer.Stop()
		p.mu.Lock()
		p.mu.down = false
		if time.Now().Before(wonder) {
			p.linkLocked()
		}
		p.mu.Unlock()
	}
}

// lookAfter dials a node whose connection to us has ended, unless there is one to it: what it leads here may be orphaned.
func (l *Log) lookAfter(node string) {
	if l.o.Address(node) == "" {
		return
	}
	p, err := l.peer(node)
	if err != nil {
		return // the log is being closed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.linkLocked()
}

// drop ends the link: requests that never left fail with errUnsent, the others with errLost.
func (p *peer) drop(cause error) {
	p.mu.Lock()
	pending := p.mu.pending
	p.mu.pending = map[uint64]*request{}
	p.mu.link, p.mu.down, p.mu.incarnation = nil, true, ""
	p.mu.heartbeats = nil
	p.mu.queued = 0
	p.shrinkLocked(0)
	p.mu.Unlock()
	for _, r := range pending {
		if r.sent {
			r.done(nil, fmt.Errorf("%w: %s: %w", errLost, p.node, cause))
		} else {
			r.done(nil, fmt.Errorf("%w: %s: %w", errUnsent, p.node, cause))
		}
	}
}

// connect dials, shakes hands, and serves the connection until it ends. It tells whether there was one.
func (p *peer) connect() (stood bool, err error) {
	ctx, cancel := context.WithTimeout(p.log.ctx, dialLimit)
	conn, incarnation, err := p.log.dial(ctx, p.node, purposeMessages)
	cancel()
	if err != nil {
		return false, err
	}
	defer conn.Close()
	p.ended.Store(false)
	p.mu.Lock()
	p.mu.incarnation = incarnation
	l := p.mu.link
	p.mu.Unlock()

	var reader sync.WaitGroup
	var readErr error
	reader.Go(func() {
		readErr = p.read(conn)
		close(l.broken)
	})
	stop := context.AfterFunc(p.log.ctx, func() { conn.Close() })
	defer stop()
	var pings sync.WaitGroup
	pings.Go(func() { p.ping(l) })
	p.tick()
	w := &writer{l: l, conn: conn, take: p.take}
	err = w.run(p.beats, p.log.o.Timings.tick(), p.tick)
	conn.Close()
	reader.Wait()
	pings.Wait()
	if errors.Is(err, net.ErrClosed) && readErr != nil {
		return true, readErr
	}
	return true, err
}

// ping keeps the connection's read deadlines from expiring, on both sides.
func (p *peer) ping(l *link) {
	ticker := time.NewTicker(p.log.o.Timings.ping())
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if l.put(&message{kind: kindPing}, true) != nil {
				return
			}
		case <-l.broken:
			return
		}
	}
}

// read hands the answers to those who wait for them. A connection on which even pings stay without an answer
// is dead, however open it looks.
func (p *peer) read(conn net.Conn) error {
	f := &frameReader{r: bufio.NewReaderSize(conn, readBuffer)}
	for {
		if err := conn.SetReadDeadline(time.Now().Add(p.log.o.Timings.silence())); err != nil {
			return err
		}
		m, err := f.next()
		if err != nil {
			return err
		}
		switch m.kind {
		case kindPing:
			p.slow.Store(len(m.meta) == 1 && m.meta[0] == 1)
		case kindReply:
			p.answer(m.id, m)
		case kindBeatReply:
			if err := p.beatReplies(m); err != nil {
				return err
			}
		default:
			return fmt.Errorf("raftlog: answer of kind %d from %s is not known", m.kind, p.node)
		}
	}
}

func (p *peer) answer(id uint64, m *message) {
	p.mu.Lock()
	r := p.mu.pending[id]
	delete(p.mu.pending, id)
	p.mu.Unlock()
	if r != nil {
		r.done(m, nil)
	}
}

// beatReplies takes apart the answer to a batch: its own number frees the batch, the rest the heartbeats.
func (p *peer) beatReplies(m *message) error {
	p.answer(m.id, m)
	d := &decoder{b: m.meta}
	for range d.u32() {
		id := d.u64()
		body := d.take(int(d.u16()))
		if d.err != nil {
			return d.err
		}
		p.answer(id, &message{kind: kindReply, id: id, meta: body})
	}
	return d.finish()
}
