package ingest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/offsets"
)

// owner is one ownership of a source: from the moment that the group assigned the partition to us (or that an
// earlier owner was refused) until it is revoked. A source may have several owners one after the other, and by
// mistake at once on two nodes; each begins at the checkpoint it found, and none needs to know of the others.
//
// It stops in two steps. draining: nothing new is taken, what was sent may be answered. dead: what has not
// been sent yet is dropped, and late answers count for nothing.
type owner struct {
	session *session
	source  offsets.Source
	topic   string
	start   int64
	ctx     context.Context // ends with stop
	cancel  context.CancelFunc
	dead    atomic.Bool
	gone    chan struct{} // closed when the worker has returned
	wake    chan struct{} // of the worker: the queue has something; room for one
	idle    chan struct{} // closed when draining and nothing is undecided

	// Of the worker.
	position int64 // next offset to take
	lanes    map[uint64]*lane

	counters *counters

	mu struct {
		sync.Mutex
		queue       []item
		queued      int64     // bytes of records taken and undecided
		paused      bool      // at Kafka, because of queued
		resumeAt    int64     // when paused: at so many bytes it goes on
		moved       time.Time // when something was decided last, or the first record came after there was none
		waiting     time.Time // since when the worker waits for memory; zero: it does not
		outstanding int       // chunks undecided
		draining    bool
		idleClosed  bool
		tracker     *offsets.Tracker
		epochs      []epochStart
		taken       int64 // next offset to come from Kafka
		committed   int64 // last committed to Kafka
		looking     bool  // an out of range is being looked into
		position    int64 // a copy for Status
		high        int64 // high watermark seen
		newest      int64 // milliseconds: timestamp of the newest decided record
		checkpoint  int64 // last raised
		state       State
		reason      string
	}
}

// epochStart says from which offset on records carry a leader epoch.
type epochStart struct {
	offset int64
	epoch  int32
}

// item is one step of an owner's work.
type item struct {
	records []*kgo.Record
	bytes   int64
	gap     offsets.Range // not empty: these offsets are lost
	why     string
}

func newOwner(s *session, source offsets.Source, topic string, start, committed int64) *owner {
	o := &owner{
		session: s, source: source, topic: topic, start: start, position: start,
		gone: make(chan struct{}), wake: make(chan struct{}, 1), idle: make(chan struct{}),
		lanes: map[uint64]*lane{}, counters: &s.connector.counters,
	}
	o.ctx, o.cancel = context.WithCancel(s.ctx)
	o.mu.tracker = offsets.NewTracker(start)
	o.mu.position, o.mu.taken, o.mu.checkpoint = start, start, start
	o.mu.committed, o.mu.high = committed, -1
	o.mu.state = Running
	return o
}

// push gives the worker more to do and tells whether the partition should now be paused.
func (o *owner) push(it item, high int64) (pause bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if high >= 0 {
		o.mu.high = high
	}
	if o.mu.draining {
		o.session.takeBack(it.records)
		return false
	}
	if len(it.records) == 0 && it.gap.Empty() {
		return false
	}
	if o.mu.queued == 0 {
		o.mu.moved = time.Now()
	}
	o.mu.queue = append(o.mu.queue, it)
	o.mu.queued += it.bytes
	o.session.held.Add(it.bytes)
	o.mu.taken = max(o.mu.taken, it.gap.Next)
	if n := len(it.records); n > 0 {
		o.mu.reason = "" // a trouble has passed
		if o.mu.newest == 0 {
			o.mu.newest = it.records[0].Timestamp.UnixMilli() // the lag in seconds counts from here until something is decided
		}
		o.mu.taken = it.records[n-1].Offset + 1
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
	if limit := o.session.options.PartitionBytes; o.mu.queued > limit && !o.mu.paused {
		o.mu.paused, o.mu.resumeAt = true, limit/2
		return true
	}
	return false
}

// move tells how much an owner holds that moves, and whether it must be paused because it stands still.
func (o *owner) move(now time.Time) (held int64, pause bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.mu.draining || o.mu.paused || o.mu.queued == 0:
		return 0, false
	case now.Sub(o.mu.moved) < standstill:
		return o.mu.queued, false
	}
	o.mu.paused, o.mu.resumeAt = true, o.mu.queued/2
	return 0, true
}

// next waits for the next item; ok is false when the owner takes no more.
func (o *owner) next() (it item, ok bool) {
	for {
		o.mu.Lock()
		if len(o.mu.queue) > 0 && !o.mu.draining {
			it, o.mu.queue[0] = o.mu.queue[0], item{} // the array must not keep what has been worked off
			o.mu.queue = o.mu.queue[1:]
			o.mu.Unlock()
			return it, true
		}
		o.mu.Unlock()
		select {
		case <-o.wake:
		case <-o.ctx.Done():
			return item{}, false
		}
	}
}

// begin counts a chunk that is about to be decoded; false says that the owner takes no more.
func (o *owner) begin() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.draining {
		return false
	}
	o.mu.outstanding++
	return true
}

// finish is called once for each chunk begun: with its last piece.
func (o *owner) finish(c *chunk, decided bool) {
	o.session.options.Release(c.bytes)
	o.mu.Lock()
	o.mu.outstanding--
	if !o.mu.draining {
		o.mu.queued -= c.bytes
		o.mu.moved = time.Now()
		o.session.held.Add(-c.bytes)
	}
	resume := o.mu.paused && !o.mu.draining && o.mu.queued <= o.mu.resumeAt
	if resume {
		o.mu.paused = false
	}
	if decided && !o.dead.Load() {
		o.mu.tracker.Done(o.session.options.broken.decided(o.mu.tracker, c.span))
		o.mu.newest = max(o.mu.newest, c.newest)
	}
	o.closeIdleLocked()
	o.mu.Unlock()
	o.session.options.reached(Tracked)
	o.session.madeRoom()
	if resume {
		o.session.resume(o)
	}
	if rows := c.count; decided && rows > 0 {
		age := time.Since(time.UnixMilli(c.oldest)).Seconds()
		o.session.options.Freshness(max(age, 0), rows)
	}
}

func (o *owner) closeIdleLocked() {
	if o.mu.draining && o.mu.outstanding == 0 && !o.mu.idleClosed {
		o.mu.idleClosed = true
		close(o.idle)
	}
}

// stop makes the owner take no more; what is queued is dropped. It returns at once.
func (o *owner) stop() {
	o.mu.Lock()
	if !o.mu.draining { // what it holds is given up, or soon decided
		o.session.held.Add(-o.mu.queued)
	}
	o.mu.draining = true
	for _, it := range o.mu.queue {
		o.session.takeBack(it.records)
	}
	o.mu.queue = nil
	o.closeIdleLocked()
	o.mu.Unlock()
	o.cancel()
	o.session.madeRoom()
}

// kill makes the owner's late answers count for nothing, and waits for its worker, which waits for nothing
// that outlives its context.
func (o *owner) kill() {
	o.dead.Store(true)
	o.stop()
	<-o.gone
}

// drain stops the owner and waits until what it has sent is decided, or ctx is done; then it is dead.
func (o *owner) drain(ctx context.Context) {
	o.stop()
	select {
	case <-o.idle:
	case <-ctx.Done():
	}
	o.kill()
}

// refused is called when a tablet will not take the owner's stream: it dies, and another one begins at the
// checkpoint. It may be called often and from anywhere.
func (o *owner) refused(why string) {
	if o.dead.Swap(true) {
		return
	}
	o.stop()
	o.session.options.Logger.Warn("owner refused", "topic", o.topic, "partition", o.source.Partition, "start", o.start, "why", why)
	o.session.command(command{kind: restartOwner, owner: o, why: why})
}

// fail stops the partition for good: what was sent may be answered, nothing new is taken until the connector is
// restarted or the partition moves.
func (o *owner) fail(state State, reason string) {
	o.mu.Lock()
	first := o.mu.state == Running
	if first {
		o.mu.state, o.mu.reason = state, reason
	}
	o.mu.Unlock()
	o.stop()
	if first {
		o.logStopped(state, reason)
		o.session.command(command{kind: pausePartition, owner: o})
	}
}

// explain says better why a partition stopped that has failed.
func (o *owner) explain(state State, reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.state == Failed {
		o.mu.state, o.mu.reason = state, reason
		o.logStopped(state, reason)
	}
}

func (o *owner) logStopped(state State, reason string) {
	o.session.options.Logger.Error("partition stopped", "topic", o.topic, "partition", o.source.Partition, "state", string(state), "reason", reason)
}

// low is the watermark, and the leader epoch of the record before it (-1 if unknown).
func (o *owner) low() (int64, int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	low := o.mu.tracker.Low()
	n := 0
	for n+1 < len(o.mu.epochs) && o.mu.epochs[n+1].offset < low {
		n++
	}
	o.mu.epochs = o.mu.epochs[n:]
	if len(o.mu.epochs) == 0 || o.mu.epochs[0].offset >= low {
		return low, -1
	}
	return low, o.mu.epochs[0].epoch
}

// taken is the next offset that is to come from Kafka.
func (o *owner) taken() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.taken
}

// lookUp tells whether the caller is the one to look into an out of range; found ends that.
func (o *owner) lookUp() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	first := !o.mu.looking && !o.mu.draining
	o.mu.looking = true
	return first
}

func (o *owner) found() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.looking = false
}

// toCommit is the checkpoint, if Kafka has not been told of it yet. Never the watermark: that may be ahead of
// what the system group knows, and a commit must not be.
func (o *owner) toCommit() (next int64, epoch int32, ok bool) {
	o.mu.Lock()
	next = o.mu.checkpoint
	ok = next != o.mu.committed
	o.mu.Unlock()
	if low, e := o.low(); low == next {
		return next, e, ok
	}
	return next, -1, ok
}

func (o *owner) committed(next int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.committed = next
}

// inKafka is the group's commit as far as we know, -1 when there is none.
func (o *owner) inKafka() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.committed
}

// mayFetch tells whether nothing else holds the partition back.
func (o *owner) mayFetch() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.state == Running && !o.mu.paused && !o.mu.draining
}

// trouble notes an error that may pass.
func (o *owner) trouble(reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.state == Running {
		o.mu.reason = reason
	}
}

// checkpointed notes that the checkpoint was raised.
func (o *owner) checkpointed(next int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.checkpoint = max(o.mu.checkpoint, next)
}
