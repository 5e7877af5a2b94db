package raftlog

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// pipelineDepth is how many requests to one follower are under way at a time: the next one travels while the
// follower syncs the last. More gains nothing (the follower's disk is the bottleneck).
const pipelineDepth = 2

// pipeline sends appends to a follower without waiting for each answer.
//
// hashicorp/raft gives up reading the answers of a pipeline at the first refused one, without a sign to a
// sender that waits inside AppendEntries: with its own transports such a sender waits for ever, the follower
// gets nothing more, and heartbeats go on (upstream #611, #612). Here nothing can wait for ever:
//
//   - A request waits for a free slot or for broken. A slot is freed by the answer, by the error, or by the
//     time limit of its request: one of them always comes.
//   - Whatever is not success closes broken, before or without handing the answer on. So a sender that waits
//     gets an error, and so does the next call. raft then closes the pipeline and sends the entries again
//     from the last acknowledged one, one request at a time, until one succeeds.
//   - Answers are handed on without waiting: a reader that is gone costs the pipeline, not a goroutine.
//
// A follower may also be behind when writes stop: its disk was slow, or it has just been sent a manifest. raft's pipeline then sends one request a
// CommitTimeout, of MaxAppendEntries, for minutes. So where nothing follows a full request for a while, raft is told of a refusal that
// nobody made: it closes the pipeline and sends all that there is, one request after the other.
//
// Errors of the connection are not handed on as answers: raft would take them for a contact with the follower
// and keep its lease. They come out of the next AppendEntries, at the latest after CommitTimeout.
type pipeline struct {
	t       *transport
	id      raft.ServerID
	slots   chan struct{}
	answers chan raft.AppendFuture
	broken  chan struct{}
	once    sync.Once
	sent    atomic.Int64 // requests
}

// pipelineIdle is how long nothing must follow a full request.
const pipelineIdle = 50 * time.Millisecond

// answersMax is far above what a living reader lets pile up: at most pipelineDepth requests are under way.
const answersMax = 128

// AppendEntriesPipeline returns a pipeline to a follower.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, _ raft.ServerAddress) (raft.AppendPipeline, error) {
	if t.log.o.test.noPipeline {
		return nil, raft.ErrPipelineReplicationNotSupported
	}
	return &pipeline{t: t, id: id, slots: make(chan struct{}, pipelineDepth), answers: make(chan raft.AppendFuture, answersMax), broken: make(chan struct{})}, nil
}

func (p *pipeline) breakUp() { p.once.Do(func() { close(p.broken) }) }

// Consumer returns the channel of the answers.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close ends the pipeline. Answers that come later are dropped.
func (p *pipeline) Close() error {
	p.breakUp()
	return nil
}

// AppendEntries sends a request when a slot is free.
func (p *pipeline) AppendEntries(q *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	select {
	case <-p.broken:
		return nil, raft.ErrPipelineShutdown
	case <-p.t.closed:
		return nil, raft.ErrPipelineShutdown
	case p.slots <- struct{}{}:
	}
	select {
	case <-p.broken:
		return nil, raft.ErrPipelineShutdown
	default:
	}
	p.sent.Add(1)
	f := &appendFuture{start: time.Now(), q: q, resp: resp, done: make(chan struct{})}
	call, err := p.t.sendAppend(p.id, q, resp, p.broken, func(err error) { p.finish(f, err) })
	if err != nil {
		p.breakUp()
		return nil, err
	}
	f.limit(call.limit, func() {
		call.abandon()
		p.finish(f, fmt.Errorf("raftlog: append to %s: no answer within %v", p.id, call.limit))
	})
	return f, nil
}

// finish ends a request, once. It runs on a connection's reader, or on a timer.
func (p *pipeline) finish(f *appendFuture, err error) {
	if !f.finish(err) {
		return
	}
	if err == nil {
		select {
		case p.answers <- f:
		default:
			p.breakUp()
		}
		switch {
		case !f.resp.Success:
			p.breakUp()
		case len(f.q.Entries) >= p.t.log.appendMax():
			p.suspect(f)
		}
	} else {
		p.breakUp()
	}
	<-p.slots
}

// suspect is told of a full request that succeeded: the follower may lack more.
func (p *pipeline) suspect(f *appendFuture) {
	sent := p.sent.Load()
	time.AfterFunc(pipelineIdle, func() {
		if p.sent.Load() != sent {
			return
		}
		refused := &appendFuture{start: f.start, q: f.q, resp: &raft.AppendEntriesResponse{Term: f.q.Term}, done: make(chan struct{})}
		close(refused.done)
		select {
		case p.answers <- refused:
		default:
		}
		p.breakUp()
	})
}

// appendFuture is a request under way.
type appendFuture struct {
	start time.Time
	q     *raft.AppendEntriesRequest
	resp  *raft.AppendEntriesResponse
	done  chan struct{}
	mu    struct {
		sync.Mutex
		finished bool
		timer    *time.Timer
	}
	err error // valid when done is closed
}

func (f *appendFuture) limit(d time.Duration, expired func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.mu.finished {
		f.mu.timer = time.AfterFunc(d, expired)
	}
}

func (f *appendFuture) finish(err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.finished {
		return false
	}
	f.mu.finished = true
	if f.mu.timer != nil {
		f.mu.timer.Stop()
	}
	f.err = err
	close(f.done)
	return true
}

func (f *appendFuture) Error() error {
	<-f.done
	return f.err
}
func (f *appendFuture) Start() time.Time                      { return f.start }
func (f *appendFuture) Request() *raft.AppendEntriesRequest   { return f.q }
func (f *appendFuture) Response() *raft.AppendEntriesResponse { return f.resp }
