package raftlog

import (
	"errors"
	"net"
	"time"
)

const (
	urgentQueue   = 4096 // messages without parts that wait for a link: heartbeats, votes, answers
	bulkQueue     = 4096 // messages with parts, and those that must keep their order with them
	writeBatch    = 256 << 10
	writeBufsMax  = 256
	writeDeadline = 10 * time.Second // a peer that takes no bytes for so long loses its connection
)

var errLinkFull = errors.New("raftlog: connection: too many messages wait")

// link is the sending side of one connection. Its two queues are its priorities: an urgent message goes out
// before the next chunk of a bulk message, so it waits for at most one write of writeBatch bytes.
type link struct {
	urgent chan *message
	bulk   chan *message
	broken chan struct{} // closed by whoever ends the connection
}

func newLink() *link {
	return &link{urgent: make(chan *message, urgentQueue), bulk: make(chan *message, bulkQueue), broken: make(chan struct{})}
}

// put queues a message without blocking. Only a message without parts can be urgent: it may go out between
// the chunks of another one.
func (l *link) put(m *message, urgent bool) error {
	q := l.bulk
	if urgent && len(m.parts) == 0 {
		q = l.urgent
	}
	select {
	case q <- m:
		return nil
	default:
		return errLinkFull
	}
}

// writer writes the queued messages to a connection.
type writer struct {
	l    *link
	conn net.Conn
	take func(*message) bool // called when a message leaves the queue; false drops it
	cur  *chunker
	bufs net.Buffers
	size int
}

// run returns when the link is broken or a write fails. tick is called when beat fires: it queues heartbeats.
func (w *writer) run(arm <-chan struct{}, interval time.Duration, tick func()) error {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		if w.fill(); w.size > 0 {
			if err := w.flush(); err != nil {
				return err
			}
			select {
			case <-w.l.broken:
				return net.ErrClosed
			case <-timer.C:
				tick()
			case <-arm:
				timer.Reset(interval)
			default:
			}
			continue
		}
		select {
		case m := <-w.l.urgent:
			w.begin(m)
		case m := <-w.l.bulk:
			w.begin(m)
		case <-arm:
			timer.Reset(interval)
		case <-timer.C:
			tick()
		case <-w.l.broken:
			return net.ErrClosed
		}
	}
}

// fill collects what one write may hold, urgent messages first.
func (w *writer) fill() {
	for w.size < writeBatch && len(w.bufs) < writeBufsMax {
		select {
		case m := <-w.l.urgent:
			w.begin(m)
			continue
		default:
		}
		if w.cur != nil {
			var n int
			w.bufs, n = w.cur.next(w.bufs)
			w.size += n
			if w.cur.done() {
				w.cur = nil
			}
			continue
		}
		select {
		case m := <-w.l.bulk:
			w.begin(m)
		default:
			return
		}
	}
}

func (w *writer) begin(m *message) {
	if w.take != nil && !w.take(m) {
		return
	}
	b := m.startFrame()
	w.bufs = append(w.bufs, b)
	w.size += len(b)
	if m.partBytes() > 0 {
		w.cur = &chunker{m: m}
	}
}

func (w *writer) flush() error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(writeDeadline)); err != nil {
		return err
	}
	bufs := w.bufs
	_, err := bufs.WriteTo(w.conn)
	clear(w.bufs[:cap(w.bufs)])
	w.bufs, w.size = w.bufs[:0], 0
	return err
}
