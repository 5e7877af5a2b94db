package raftlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hashicorp/raft"
)

const (
	// proposalsMax is how many proposals wait for one group. Its senders have a few in flight each; more
	// means that the group does not move, and they had better hear of it.
	proposalsMax  = 256
	entryBytesMax = 64 << 20
)

// proposal is one entry on its way into the log of the group that this node leads.
type proposal struct {
	data    []byte
	state   atomic.Int32
	stamped chan struct{} // closed when a proposal that was taken is not written to any more: whoever gave it may copy it then
	future  raft.ApplyFuture
	done    func(result []byte, err error) // called once, must not block: see Group.finish
}

const (
	proposalWaits     = 0
	proposalTaken     = 1 // by the proposer: its fate is raft's
	proposalWithdrawn = 2 // by the caller: it never was proposed
)

// Propose replicates an entry and returns what the state machine's Apply returned for it, on the leader. If this
// node does not lead the group the entry goes to the node that does. It blocks until the entry is applied, until
// ctx is done, or until that cannot be any more: see ErrUnavailable, ErrUnknown, ErrStopped.
//
// data belongs to the group from now on, whatever is returned. It may be proposed again after an error; it is
// copied then if the first try may still be under way.
func (g *Group) Propose(ctx context.Context, data []byte) ([]byte, error) {
	if len(data) == 0 || len(data) > entryBytesMax {
		return nil, fmt.Errorf("raftlog: group %d: entry of %d bytes, want 1 to %d", g.id, len(data), entryBytesMax)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("raftlog: group %d: %w: %w", g.id, ErrUnavailable, err)
	}
	if node, ok := g.elsewhere(); ok {
		return g.forward(ctx, node, data)
	}
	if g.IsLeader() {
		return g.proposeHere(ctx, data)
	}
	node, known := g.Leader()
	if !known {
		node, known = g.likelyLeader()
	}
	if !known || node == g.log.o.Node {
		return nil, fmt.Errorf("raftlog: group %d: no leader is known: %w", g.id, ErrUnavailable)
	}
	return g.forward(ctx, node, data)
}

func (g *Group) proposeHere(ctx context.Context, data []byte) ([]byte, error) {
	type outcome struct {
		result []byte
		err    error
	}
	ch := make(chan outcome, 1)
	p := &proposal{data: data, stamped: make(chan struct{}), done: func(result []byte, err error) { ch <- outcome{result, err} }}
	g.enqueue(p)
	select {
	case o := <-ch:
		return o.result, o.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	delete(g.mu.open, p)
	g.mu.Unlock()
	if p.state.CompareAndSwap(proposalWaits, proposalWithdrawn) {
		return nil, fmt.Errorf("raftlog: group %d: %w: %w", g.id, ErrUnavailable, ctx.Err())
	}
	<-p.stamped
	g.log.uncertain.add(data)
	return nil, fmt.Errorf("raftlog: group %d: %w: %w", g.id, ErrUnknown, ctx.Err())
}

// enqueue hands a proposal to the proposer, without blocking.
func (g *Group) enqueue(p *proposal) {
	_, elsewhere := g.elsewhere()
	g.mu.Lock()
	stopping, full := g.mu.stopping, false
	if !stopping && !elsewhere {
		select {
		case g.proposals <- p:
			g.mu.open[p] = true
		default:
			full = true
		}
	}
	g.mu.Unlock()
	switch {
	case elsewhere:
		p.done(nil, fmt.Errorf("raftlog: group %d: another node leads: %w", g.id, ErrUnavailable))
	case stopping:
		p.done(nil, fmt.Errorf("raftlog: group %d: %w", g.id, ErrStopped))
	case full:
		p.done(nil, fmt.Errorf("raftlog: group %d: %d proposals wait: %w", g.id, proposalsMax, ErrUnavailable))
	}
}

// finish answers a proposal that was enqueued, unless it has been answered.
func (g *Group) finish(p *proposal, result []byte, err error) {
	g.mu.Lock()
	open := g.mu.open[p]
	delete(g.mu.open, p)
	g.mu.Unlock()
	if open {
		p.done(result, err)
	}
}

// propose is the proposer's goroutine: stamping and handing over in one place keeps the stamps in log order.
func (g *Group) propose() {
	defer close(g.futures)
	for {
		select {
		case p := <-g.proposals:
			g.proposeOne(p)
		case <-g.stopping:
			for {
				select {
				case p := <-g.proposals:
					g.finish(p, nil, fmt.Errorf("raftlog: group %d: %w", g.id, ErrStopped))
				default:
					return
				}
			}
		}
	}
}

func (g *Group) proposeOne(p *proposal) {
	if !p.state.CompareAndSwap(proposalWaits, proposalTaken) {
		return
	}
	r := g.running()
	if r.State() != raft.Leader {
		close(p.stamped)
		g.finish(p, nil, fmt.Errorf("raftlog: group %d: not the leader: %w", g.id, ErrUnavailable))
		return
	}
	if g.handing.Load() {
		close(p.stamped)
		g.finish(p, nil, fmt.Errorf("raftlog: group %d: leadership is being handed over: %w", g.id, ErrUnavailable))
		return
	}
	if g.log.uncertain.has(p.data) {
		p.data = bytes.Clone(p.data)
	}
	g.sm.Stamp(p.data)
	close(p.stamped)
	p.future = r.Apply(p.data, 0)
	g.futures <- p
}

// complete is the completer's goroutine: it waits for the proposals in log order. raft answers every one of
// them as long as it runs, see stop.
func (g *Group) complete() {
	for p := range g.futures {
		err := p.future.Error()
		switch {
		case err == nil:
			result, _ := p.future.Response().([]byte)
			g.finish(p, result, nil)
		case errors.Is(err, raft.ErrNotLeader):
			g.finish(p, nil, fmt.Errorf("raftlog: group %d: %w: %w", g.id, ErrUnavailable, err))
		default:
			g.log.uncertain.add(p.data)
			g.finish(p, nil, fmt.Errorf("raftlog: group %d: %w: %w", g.id, ErrUnknown, err))
		}
	}
}

// forward sends a proposal to the leader's node and waits for its answer.
func (g *Group) forward(ctx context.Context, node string, data []byte) ([]byte, error) {
	return g.log.ProposeAt(ctx, node, g.id, data)
}

// ProposeAt is Propose for a node that has no replica of the group: node must have one, and lead it.
func (l *Log) ProposeAt(ctx context.Context, node string, id GroupID, data []byte) ([]byte, error) {
	var e encoder
	e.u64(uint64(id))
	m, err := l.request(ctx, node, &message{kind: kindPropose, meta: e.b, parts: [][]byte{data}})
	if err != nil {
		if errors.Is(err, ErrUnknown) {
			l.uncertain.add(data)
		}
		return nil, fmt.Errorf("raftlog: group %d: forward to %s: %w", id, node, err)
	}
	return m.rest, nil
}

// HasEntries tells whether this node's log holds an entry of a group. A term or a vote alone does not count:
// who has only that has acknowledged nothing.
func (l *Log) HasEntries(id GroupID) bool { return l.wal.Group(uint64(id)).Last() > 0 }

// answer of a request to another node.
type answer struct {
	rest  []byte // behind the status
	parts [][]byte
}

// request sends one to a node and waits. Its errors are ErrUnavailable when surely nothing was done, ErrUnknown
// when something may have been, or the remote's own.
func (l *Log) request(ctx context.Context, node string, m *message) (*answer, error) {
	p, err := l.peer(node)
	if err != nil {
		return nil, err
	}
	limit := time.Hour // of the wait for room; ctx ends it earlier
	if !p.reserve(ctx.Done(), limit) {
		return nil, fmt.Errorf("%w: queue to %s is full", ErrUnavailable, node)
	}
	ch := make(chan outcome, 1)
	number := p.send(m, false, func(m *message, err error) { ch <- outcome{m, err} })
	select {
	case o := <-ch:
		return parseAnswer(o)
	case <-ctx.Done():
		if p.forget(number) {
			return nil, fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
		}
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

func parseAnswer(o outcome) (*answer, error) {
	var remote *remoteError
	if o.err == nil {
		var d *decoder
		if d, o.err = decodeStatus(o.m.meta); o.err == nil {
			return &answer{d.b, o.m.parts}, nil
		}
	}
	switch {
	case errors.Is(o.err, errUnsent):
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, o.err)
	case errors.As(o.err, &remote) && remote.status == statusUnavailable:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, o.err)
	case errors.As(o.err, &remote) && remote.status == statusError:
		return nil, o.err
	default:
		return nil, fmt.Errorf("%w: %w", ErrUnknown, o.err)
	}
}

// Call sends a small request to another node's Requests and returns its answer. An error of the other side is
// returned with its text; ErrUnavailable means that it surely was not served.
func (l *Log) Call(ctx context.Context, node string, method uint8, body []byte) ([]byte, error) {
	if l.ctx.Err() != nil {
		return nil, ErrStopped
	}
	limit := callLimit
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline))
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if node == l.o.Node {
		return l.callHere(ctx, method, body)
	}
	var e encoder
	e.u8(method)
	e.u64(uint64(limit))
	a, err := l.request(ctx, node, &message{kind: kindCall, meta: e.b, parts: [][]byte{body}})
	if err != nil {
		return nil, fmt.Errorf("raftlog: call %d of %s: %w", method, node, err)
	}
	if len(a.parts) == 0 {
		return nil, nil
	}
	return a.parts[0], nil
}

// callLimit bounds a call whose context has no deadline.
const callLimit = time.Minute

func (l *Log) callHere(ctx context.Context, method uint8, body []byte) ([]byte, error) {
	if l.o.Requests == nil {
		return nil, fmt.Errorf("raftlog: call %d of %s: %w", method, l.o.Node, ErrUnavailable)
	}
	return l.o.Requests(ctx, l.o.Node, method, body)
}

// uncertain remembers the memory of the last entries whose fate is unknown: raft, the WAL's cache, or a
// connection may still read them. Proposed again they must not be stamped in place. It holds addresses, not
// pointers, so as not to keep the memory; an address that has been used again costs a needless copy.
type uncertain struct {
	mu struct {
		sync.Mutex
		ring [1024]uintptr
		next int
		set  map[uintptr]int
	}
}

func (u *uncertain) add(data []byte) {
	a := uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.mu.set == nil {
		u.mu.set = map[uintptr]int{}
	}
	slot := &u.mu.ring[u.mu.next%len(u.mu.ring)]
	if u.mu.set[*slot]--; u.mu.set[*slot] <= 0 {
		delete(u.mu.set, *slot)
	}
	*slot = a
	u.mu.set[a]++
	u.mu.next++
}

func (u *uncertain) has(data []byte) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.mu.set[uintptr(unsafe.Pointer(unsafe.SliceData(data)))] > 0
}
