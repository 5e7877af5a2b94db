package raftlog

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	inboxMax         = 64      // requests that wait for a group; a leader has at most pipelineDepth+1 of them
	appendBytesMax   = 8 << 20 // of one append message; MaxAppendEntries counts entries only
	appendEntriesMax = 64
	streamBytesMax   = 256 << 20
)

var errGroupClosed = errors.New("raftlog: group is stopped")

// transport is one group's raft.Transport over the connections that all groups share.
//
// It is also the place of those of our rules that hashicorp/raft knows nothing about (receive.go), and it
// counts what each follower has acknowledged, which raft does not tell.
type transport struct {
	log      *Log
	group    *Group
	self     raft.ServerID
	consumer chan raft.RPC
	inbox    chan *received
	prepared chan *installation
	closed   chan struct{}
	once     sync.Once
	beat     atomic.Pointer[func(raft.RPC)]
	promised atomic.Pointer[promise] // the last one that was made
	mu       struct {
		sync.Mutex
		install *installation
		peers   map[raft.ServerID]*progress
	}
}

// progress is what this node, as a leader, knows about a follower.
type progress struct {
	term       uint64
	since      time.Time // when this leadership first had to do with it
	match      uint64    // highest index it is known to hold
	attempted  time.Time // when an append was last sent
	appended   time.Time // when one last succeeded
	beaten     time.Time // when a heartbeat last succeeded
	installing int       // snapshots under way
}

func newTransport(g *Group) *transport {
	t := &transport{log: g.log, group: g, self: g.log.self, consumer: make(chan raft.RPC), inbox: make(chan *received, inboxMax),
		prepared: make(chan *installation, 1), closed: make(chan struct{})}
	t.mu.peers = map[raft.ServerID]*progress{}
	return t
}

// close makes every call on the transport fail, now and later. The group closes it before it shuts raft down:
// raft waits for its goroutines, and these wait in here.
func (t *transport) close() { t.once.Do(func() { close(t.closed) }) }

// Close does nothing: raft calls it at the end of a shutdown, when close was called long before.
func (t *transport) Close() error { return nil }

func (t *transport) Consumer() <-chan raft.RPC                               { return t.consumer }
func (t *transport) LocalAddr() raft.ServerAddress                           { return raft.ServerAddress(t.self) }
func (t *transport) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (t *transport) DecodePeer(b []byte) raft.ServerAddress                  { return raft.ServerAddress(b) }
func (t *transport) SetHeartbeatHandler(f func(raft.RPC))                    { t.beat.Store(&f) }

// note changes what is known about a follower.
func (t *transport) note(id raft.ServerID, f func(*progress)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.mu.peers[id]
	if p == nil {
		p = &progress{}
		t.mu.peers[id] = p
	}
	f(p)
}

// progressOf returns a copy of what is known about a follower since this node became the leader of term.
func (t *transport) progressOf(id raft.ServerID, term uint64) progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.mu.peers[id]; p != nil && p.term == term {
		return *p
	}
	return progress{}
}

// inTerm forgets what an earlier leadership knew.
func (p *progress) inTerm(term uint64) {
	if p.term != term {
		*p = progress{term: term, since: time.Now(), installing: p.installing}
	}
}

// call sends a request and waits for its answer, within limit.
func (t *transport) call(id raft.ServerID, m *message, urgent bool, limit time.Duration, resp any) error {
	p, err := t.peer(id, m)
	if err != nil {
		return err
	}
	ch := make(chan outcome, 1)
	number := p.send(m, urgent, func(m *message, err error) { ch <- outcome{m, err} })
	return t.await(p, id, number, ch, limit, resp)
}

// outcome is how a request ended.
type outcome struct {
	m   *message
	err error
}

// await waits for the outcome of a request. Only the waiting goroutine writes resp: raft uses it again after
// a time limit, when the answer may still come.
func (t *transport) await(p *peer, id raft.ServerID, number uint64, ch <-chan outcome, limit time.Duration, resp any) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case o := <-ch:
		if o.err != nil {
			return o.err
		}
		return decodeAnswer(o.m.meta, id, resp)
	case <-timer.C:
		p.forget(number)
		return fmt.Errorf("raftlog: %s: no answer within %v", id, limit)
	case <-t.closed:
		p.forget(number)
		return errGroupClosed
	}
}

// peer returns the peer that a server id lives on, and marks the message for its incarnation.
func (t *transport) peer(id raft.ServerID, m *message) (*peer, error) {
	select {
	case <-t.closed:
		return nil, errGroupClosed
	default:
	}
	node, incarnation := splitServerID(id)
	m.to = incarnation
	return t.log.peer(node)
}

func isHeartbeat(q *raft.AppendEntriesRequest) bool {
	return q.Term != 0 && q.PrevLogEntry == 0 && q.PrevLogTerm == 0 && len(q.Entries) == 0 && q.LeaderCommitIndex == 0
}

// AppendEntries sends heartbeats with those of all groups, and entries as messages of at most appendBytesMax.
func (t *transport) AppendEntries(id raft.ServerID, _ raft.ServerAddress, q *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if isHeartbeat(q) {
		return t.sendHeartbeat(id, q, resp)
	}
	done := make(chan error, 1)
	a, err := t.sendAppend(id, q, resp, nil, func(err error) { done <- err })
	if err != nil {
		return err
	}
	timer := time.NewTimer(a.limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		a.abandon()
		return fmt.Errorf("raftlog: append to %s: no answer within %v", id, a.limit)
	case <-t.closed:
		a.abandon()
		return errGroupClosed
	}
}

func (t *transport) sendHeartbeat(id raft.ServerID, q *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	var e encoder
	e.u64(uint64(t.group.id))
	e.u64(q.Term)
	m := &message{meta: e.b}
	p, err := t.peer(id, m)
	if err != nil {
		return err
	}
	ch := make(chan outcome, 1)
	number := p.heartbeat(m.meta, m.to, func(m *message, err error) { ch <- outcome{m, err} })
	limit := 2 * t.log.o.Timings.Heartbeat
	if err := t.await(p, id, number, ch, limit, resp); err != nil {
		return err
	}
	if resp.Success {
		t.note(id, func(p *progress) { p.inTerm(q.Term); p.beaten = time.Now() })
	}
	return nil
}

func (t *transport) RequestVote(id raft.ServerID, _ raft.ServerAddress, q *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := t.mayStand(); err != nil && !q.LeadershipTransfer {
		return err
	}
	begin := time.Now()
	err := t.call(id, encodeVote(t.group.id, q), true, electMost, resp) // a voter writes before it answers
	if err == nil {
		t.log.voted(time.Since(begin))
	}
	return err
}

func (t *transport) RequestPreVote(id raft.ServerID, _ raft.ServerAddress, q *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := t.mayStand(); err != nil {
		return err
	}
	if t.keeps(q.Term) {
		return errPromised
	}
	return t.call(id, encodePreVote(t.group.id, q), true, 2*t.log.o.Timings.Heartbeat, resp)
}

func (t *transport) TimeoutNow(id raft.ServerID, _ raft.ServerAddress, _ *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.call(id, encodeTimeoutNow(t.group.id), true, 2*t.log.o.Timings.Heartbeat, resp)
}

// InstallSnapshot sends the manifest. The follower answers after it has fetched the files that it lacks, which
// may take as long as Timings.Install; its heartbeats go on meanwhile.
func (t *transport) InstallSnapshot(id raft.ServerID, _ raft.ServerAddress, q *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	stream, err := io.ReadAll(io.LimitReader(data, streamBytesMax+1))
	if err != nil {
		return fmt.Errorf("raftlog: manifest for %s: %w", id, err)
	}
	if len(stream) > streamBytesMax {
		return fmt.Errorf("raftlog: manifest for %s: more than %d bytes", id, streamBytesMax)
	}
	t.note(id, func(p *progress) { p.inTerm(q.Term); p.installing++; p.attempted = time.Now() })
	err = t.call(id, encodeInstall(t.group.id, q, stream), false, t.log.o.Timings.Install, resp)
	t.note(id, func(p *progress) {
		p.installing--
		if p.term == q.Term && err == nil && resp.Success {
			p.matched(q.LastLogIndex)
		}
	})
	return err
}

func (p *progress) matched(index uint64) {
	p.appended = time.Now()
	p.match = max(p.match, index)
}

// appendCall is one AppendEntries of raft's, sent as one or more messages. All of them must succeed; the first
// that does not decides.
type appendCall struct {
	t    *transport
	id   raft.ServerID
	peer *peer
	q    *raft.AppendEntriesRequest
	resp *raft.AppendEntriesResponse
	done func(error) // called once, must not block

	// limit is how long to wait for the answer. What lies in front of it, and it itself, must first get
	// through a link that may be slow; that the peer lives is the business of its connection.
	limit time.Duration
	mu    struct {
		sync.Mutex
		left     int
		finished bool
		numbers  []uint64
	}
}

// sendAppend cuts a request by bytes and sends it. done is called unless an error is returned.
func (t *transport) sendAppend(id raft.ServerID, q *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, abort <-chan struct{}, done func(error)) (*appendCall, error) {
	var m message
	p, err := t.peer(id, &m)
	if err != nil {
		return nil, err
	}
	if abort == nil {
		abort = t.closed
	}
	if !p.reserve(abort, t.log.o.Timings.Append) {
		return nil, fmt.Errorf("%w: queue to %s stays full", errUnsent, id)
	}
	t.note(id, func(p *progress) { p.inTerm(q.Term); p.attempted = time.Now() })
	parts := cutAppend(q)
	a := &appendCall{t: t, id: id, peer: p, q: q, resp: resp, done: done, limit: t.log.o.Timings.Append + transmission(p.backlog())}
	for _, l := range q.Entries {
		a.limit += transmission(len(l.Data))
	}
	a.mu.left = len(parts)
	for _, part := range parts {
		m := encodeAppend(t.group.id, part)
		_, m.to = splitServerID(id)
		number := p.send(m, false, a.answered)
		a.mu.Lock()
		a.mu.numbers = append(a.mu.numbers, number)
		a.mu.Unlock()
	}
	return a, nil
}

// slowestBytesPerSecond is the slowest link that large entries get through.
const slowestBytesPerSecond = 1 << 20

func transmission(bytes int) time.Duration {
	return time.Duration(bytes) * time.Second / slowestBytesPerSecond
}

// cutAppend splits a request so that no message has more than appendBytesMax, or else a single entry. The parts
// are requests of their own: each follows the last entry of the one before.
func cutAppend(q *raft.AppendEntriesRequest) []*raft.AppendEntriesRequest {
	var parts []*raft.AppendEntriesRequest
	part := *q
	part.Entries = nil
	size := 0
	for _, l := range q.Entries {
		if size > 0 && size+len(l.Data) > appendBytesMax {
			done := part
			parts = append(parts, &done)
			last := part.Entries[len(part.Entries)-1]
			part.PrevLogEntry, part.PrevLogTerm, part.Entries, size = last.Index, last.Term, nil, 0
		}
		part.Entries = append(part.Entries, l)
		size += len(l.Data)
	}
	return append(parts, &part)
}

func (a *appendCall) answered(m *message, err error) {
	var resp raft.AppendEntriesResponse
	if err == nil {
		err = decodeAnswer(m.meta, a.id, &resp)
	}
	a.mu.Lock()
	a.mu.left--
	last := a.mu.left == 0 || err != nil || !resp.Success
	if a.mu.finished || !last {
		a.mu.Unlock()
		return
	}
	a.mu.finished = true
	if err == nil {
		*a.resp = resp
	}
	a.mu.Unlock()
	if err == nil && resp.Success {
		a.t.note(a.id, func(p *progress) {
			if p.term == a.q.Term {
				p.matched(a.q.PrevLogEntry + uint64(len(a.q.Entries)))
			}
		})
	}
	a.done(err)
}

// abandon ends the wait for a call: its response is not written any more, done is not called.
func (a *appendCall) abandon() {
	a.mu.Lock()
	a.mu.finished = true
	numbers := a.mu.numbers
	a.mu.Unlock()
	for _, n := range numbers {
		a.peer.forget(n)
	}
}
