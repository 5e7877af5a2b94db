package raftlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// received is a request that came for a group.
type received struct {
	rpc   any
	from  hello
	body  [][]byte
	reply func(meta []byte) // called once, does not block
	still func() bool       // of a wish to stand for election: whether it holds when raft is about to get it; nil: it does
	must  bool              // of a wish to stand for election: nobody else can win, so that the disk counts as it is now, not as it was of late
}

func (r *received) sender() raft.ServerID { return serverID(r.from.node, r.from.incarnation) }

func (r *received) fail(s status, text string) { r.reply(encodeStatus(s, text)) }

// receive queues a request for the pump. It does not block.
func (t *transport) receive(r *received) {
	setSender(r.rpc, r.sender())
	select {
	case <-t.closed:
		r.fail(statusUnavailable, errGroupClosed.Error())
		return
	default:
	}
	if _, stand := r.rpc.(*raft.TimeoutNowRequest); stand {
		t.accept(r)
		return
	}
	t.queue(r)
}

func (t *transport) queue(r *received) {
	select {
	case t.inbox <- r:
	default:
		r.fail(statusUnavailable, fmt.Sprintf("group %d has %d requests waiting", t.group.id, inboxMax))
	}
	select {
	case <-t.closed:
		t.refuseRest() // the pump may have looked for the last time
	default:
	}
}

// heartbeat answers one at once if it changes neither term nor state here, and otherwise queues it like any
// request and returns nil: raft's own fast path may store a term while its main loop stores another.
func (t *transport) heartbeat(from hello, term uint64, later func(meta []byte)) []byte {
	id := serverID(from.node, from.incarnation)
	q := &raft.AppendEntriesRequest{RPCHeader: header(id), Term: term}
	setSender(q, id)
	beat, r := t.beat.Load(), t.group.running()
	if beat != nil && r != nil && r.State() == raft.Follower && r.CurrentTerm() == term {
		answer := make(chan raft.RPCResponse, 1)
		(*beat)(raft.RPC{Command: q, RespChan: answer})
		select {
		case a := <-answer:
			return encodeAnswer(a.Response, a.Error)
		default:
			return encodeStatus(statusUnavailable, errGroupClosed.Error()) // raft is shutting down
		}
	}
	if r != nil && r.CurrentTerm() < term {
		t.group.claimed(&claim{term: term, leader: from.node})
	}
	t.receive(&received{rpc: q, from: from, reply: later})
	return nil
}

// pump is the goroutine that gives requests to raft, one at a time, each after the answer to the last. So what
// it knows about the group when it looks (the durable index, what is applied) still holds when raft acts:
// only requests change these, or raise the durable index, which is safe. The group's stop waits for it.
func (t *transport) pump() {
	for {
		select {
		case r := <-t.inbox:
			t.deliver(r)
		case i := <-t.prepared:
			t.finishInstall(i)
		case <-t.closed:
			t.refuseRest()
			return
		}
	}
}

// refuseRest answers what still waits when the group stops: the other side may wait for an install for long.
func (t *transport) refuseRest() {
	t.mu.Lock()
	i := t.mu.install
	t.mu.install = nil
	t.mu.Unlock()
	if i != nil {
		i.r.fail(statusUnavailable, errGroupClosed.Error())
	}
	for {
		select {
		case r := <-t.inbox:
			r.fail(statusUnavailable, errGroupClosed.Error())
		default:
			return
		}
	}
}

func (t *transport) deliver(r *received) {
	switch q := r.rpc.(type) {
	case *raft.AppendEntriesRequest:
		if !isHeartbeat(q) {
			t.awaitRoom(q)
			t.shiftAppend(q)
			t.holdBack(q)
		}
		r.reply(encodeAnswer(t.pass(q, nil)))
	case *raft.InstallSnapshotRequest:
		t.startInstall(r, q)
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest:
		t.discount(q)
		answer, err := t.pass(q, nil)
		r.reply(encodeAnswer(answer, err))
		t.promise(q, answer)
		t.overtake(q, answer)
	case *raft.TimeoutNowRequest:
		if r.still == nil || r.still() {
			r.reply(encodeAnswer(t.pass(q, nil)))
		}
	case *repeated:
		t.repeat(q)
		r.reply(nil)
	default:
		r.reply(encodeAnswer(t.pass(r.rpc, nil)))
	}
}

// pass gives a request to raft and waits for its answer.
func (t *transport) pass(q any, data io.Reader) (any, error) {
	answer := make(chan raft.RPCResponse, 1)
	select {
	case t.consumer <- raft.RPC{Command: q, Reader: data, RespChan: answer}:
	case <-t.closed:
		return nil, errGroupClosed
	}
	select {
	case a := <-answer:
		return a.Response, a.Error
	case <-t.closed:
		return nil, errGroupClosed
	}
}

// shiftAppend changes an append so that raft takes it as what it means for us.
//
// Rule 2. All up to the durable index F is committed, and a leader whose term raft accepts has it: whatever of
// the request lies at or below F needs no comparing, and could not be compared, for our log may begin at F.
// So the request is made to begin at F. Otherwise raft refuses it, the leader walks back and in the end sends
// a manifest that is older than what was applied here.
//
// Rule 4. The commit index is lowered to the last entry that this request has proved equal. raft commits up to
// its own last index otherwise, which may be a stale entry of another term.
//
// Rule 13. raft keeps the index and the term of its last entry in memory, and an install does not touch them. If that
// entry was a stale one at F itself, raft compares with its term, not with that of the entry that GetLog gives, and
// would refuse all that comes behind F for ever. So a request that says rightly what is at F is made to say what raft
// remembers. Votes compare with the same memory: this replica looks as old as its stale entry was until it gets the
// next one. What is committed is safe from that, for a majority without this one has the entry at F or what committed it.
func (t *transport) shiftAppend(q *raft.AppendEntriesRequest) {
	if d := t.group.sm.Durable(); q.PrevLogEntry < d.Index && !t.log.o.test.without(2) {
		k := 0
		for k < len(q.Entries) && q.Entries[k].Index <= d.Index {
			k++
		}
		q.Entries, q.PrevLogEntry, q.PrevLogTerm = q.Entries[k:], d.Index, d.Term
		t.log.counters.shifted.Add(1)
	}
	if d := t.group.sm.Durable(); q.PrevLogEntry == d.Index && q.PrevLogTerm == d.Term {
		if term, differs := t.group.store.remembered(d.Index); differs {
			q.PrevLogTerm = term
		}
	}
	if !t.log.o.test.without(4) {
		q.LeaderCommitIndex = min(q.LeaderCommitIndex, q.PrevLogEntry+uint64(len(q.Entries)))
	}
}

// installation is a manifest on its way into the group: first its files are fetched, in a goroutine of its own
// so that the group goes on, then raft gets it.
type installation struct {
	q      *raft.InstallSnapshotRequest
	stream []byte
	r      *received // whom to answer: the newest that asked
	err    error     // of the preparation
}

// settled answers an install that raft must not see. Rule 3: raft never compares the index with what it has
// applied, and would go back.
func (t *transport) settled(q *raft.InstallSnapshotRequest) *raft.InstallSnapshotResponse {
	r := t.group.running()
	if r == nil {
		return &raft.InstallSnapshotResponse{}
	}
	if term := r.CurrentTerm(); q.Term < term {
		return &raft.InstallSnapshotResponse{Term: term}
	}
	if q.LastLogIndex <= r.AppliedIndex() && !t.log.o.test.without(3) {
		return &raft.InstallSnapshotResponse{Term: q.Term, Success: true}
	}
	return nil
}

func (t *transport) startInstall(r *received, q *raft.InstallSnapshotRequest) {
	if done := t.settled(q); done != nil {
		r.reply(encodeAnswer(done, nil))
		return
	}
	t.mu.Lock()
	under := t.mu.install
	if under == nil {
		under = &installation{q: q, stream: r.body[0], r: r}
		t.mu.install = under
		t.mu.Unlock()
		t.log.reached(ManifestReceived)
		t.group.wg.Go(func() { t.prepare(under) })
		return
	}
	if under.q.LastLogIndex != q.LastLogIndex || under.q.LastLogTerm != q.LastLogTerm {
		t.mu.Unlock()
		r.fail(statusUnavailable, fmt.Sprintf("group %d is fetching the files of index %d", t.group.id, under.q.LastLogIndex))
		return
	}
	// The leader asks again, or a new one does: the files that are being fetched serve it as well.
	old := under.r
	under.r, under.q = r, q
	t.mu.Unlock()
	old.fail(statusUnavailable, "another request for the same manifest came")
}

// prepare fetches what the manifest needs. It is stopped by the group's stop only: a leader that loses patience
// or its place finds the files here when it, or the next one, asks again.
func (t *transport) prepare(i *installation) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	t.group.wg.Go(func() {
		select {
		case <-t.closed:
			cancel()
		case <-stop:
		}
	})
	t.mu.Lock()
	from := i.r.from.node // i.r changes when the request is repeated
	t.mu.Unlock()
	_, manifest, err := parseStream(i.stream)
	if err == nil {
		err = t.group.sm.Prepare(ctx, manifest, func(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
			return t.log.Fetch(ctx, from, t.group.id, name, off)
		})
	}
	i.err = err
	select {
	case t.prepared <- i:
	case <-t.closed:
	}
}

// finishInstall runs on the pump.
func (t *transport) finishInstall(i *installation) {
	t.mu.Lock()
	t.mu.install = nil
	r, q := i.r, i.q
	t.mu.Unlock()
	if i.err != nil {
		t.log.logger.Warn("install not prepared", "group", t.group.id, "index", q.LastLogIndex, "from", r.from.node, "err", i.err)
		r.fail(statusError, i.err.Error())
		return
	}
	if done := t.settled(q); done != nil {
		r.reply(encodeAnswer(done, nil))
		return
	}
	t.log.reached(ManifestPrepared)
	resp, err := t.pass(q, bytes.NewReader(i.stream))
	if errors.Is(err, errGroupClosed) {
		r.fail(statusUnavailable, err.Error())
		return
	}
	t.log.counters.installed.Add(1)
	r.reply(encodeAnswer(resp, err))
}
