package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/offsets"
)

// session is a connector's membership in its group: one client, from its making until it is closed because the
// connector stops, is restarted, or because the client can not go on.
type session struct {
	connector *Connector
	options   *Options
	client    *kgo.Client
	made      chan struct{} // closed when client is set: its callbacks may come before
	ctx       context.Context
	cancel    context.CancelFunc
	pollCtx   context.Context // ends polling; the rest of the session goes on for a drain
	pollStop  context.CancelFunc
	ended     chan struct{} // closed when the poll loop has returned
	wg        sync.WaitGroup
	gate      chan struct{} // holds one token: who has it may raise checkpoints and commit
	room      chan struct{} // capacity 1: something was decided or given up
	held      atomic.Int64  // bytes of records taken and undecided, of owners that are not stopped
	full      atomic.Int64  // since when nothing is polled because of held, microseconds since 1970; 0: it is
	fetch     *fetchSize
	inflate   *inflater

	mu struct {
		sync.Mutex
		owners    map[place]*owner
		commits   map[place]string // metadata of the group's commits, as fetched
		commands  []command
		interrupt context.CancelFunc // of the poll that is waiting
		err       error              // why the session must be made anew
		closed    bool
	}
}

// place is a partition by its topic's name, as the client knows it.
type place struct {
	topic     string
	partition int32
}

// command is something that only the poll loop may do, because it must not run beside a rebalance.
type command struct {
	kind  commandKind
	owner *owner
	start int64 // replaceOwner: where the new one begins; skipGap: where the log begins
	why   string
}

type commandKind uint8

const (
	pausePartition commandKind = iota + 1
	restartOwner
	replaceOwner
	skipGap
)

func newSession(c *Connector) (*session, error) {
	s := &session{connector: c, options: &c.options, made: make(chan struct{}), ended: make(chan struct{}), gate: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	s.fetch = newFetchSize(c.options.SessionBytes / fetchShare)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.pollCtx, s.pollStop = context.WithCancel(s.ctx)
	s.mu.owners, s.mu.commits = map[place]*owner{}, map[place]string{}
	client, err := s.newClient()
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("ingest: connector %s: %w", c.options.Name, err)
	}
	s.client = client
	s.gate <- struct{}{}
	close(s.made)
	return s, nil
}

// madeRoom wakes the poll loop if it waits for room.
func (s *session) madeRoom() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// command hands c to the poll loop and wakes it.
func (s *session) command(c command) {
	s.mu.Lock()
	s.mu.commands = append(s.mu.commands, c)
	interrupt := s.mu.interrupt
	s.mu.Unlock()
	if interrupt != nil {
		interrupt()
	}
}

// spawn runs f in a goroutine that close waits for.
func (s *session) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		f()
	}()
}

// fail ends the session; the supervisor makes another one.
func (s *session) fail(err error) {
	s.mu.Lock()
	if s.mu.err == nil {
		s.mu.err = err
	}
	s.mu.Unlock()
	s.pollStop()
}

// poll is the poll loop. It ends with pollCtx. What it does with a fetch is short: rebalances wait for it.
func (s *session) poll() {
	defer close(s.ended)
	defer s.client.AllowRebalance() // leaving the group waits for it
	for {
		ctx, cancel := context.WithCancel(s.pollCtx)
		s.mu.Lock()
		s.mu.interrupt = cancel
		waiting := len(s.mu.commands) > 0
		s.mu.Unlock()
		if waiting {
			cancel() // what is buffered is not waited for, and the rebalance is held off all the same
		}
		s.awaitRoom(ctx)
		fetches := s.client.PollFetches(ctx)
		cancel()
		s.inflate.polled()
		if s.pollCtx.Err() != nil {
			fetches.EachPartition(func(p kgo.FetchTopicPartition) { s.takeBack(p.Records) })
			return
		}
		for i := range fetches {
			s.fetched(&fetches[i])
		}
		if bytes, partition, changed := s.fetch.adjust(s.assigned()); changed {
			s.client.UpdateFetchMaxBytes(bytes, partition)
		}
		s.mu.Lock()
		commands := s.mu.commands
		s.mu.commands = nil
		s.mu.Unlock()
		for _, c := range commands {
			s.execute(c)
		}
		s.client.AllowRebalance()
	}
}

// The shares of SessionBytes: what a fetch should become in memory, and what the pools of records and of chunks may keep.
const (
	fetchShare      = 2
	recordPoolShare = 1
	chunkPoolShare  = 2
)

// standstill is how long an owner holds records without one being decided before it counts as standing still.
const standstill = time.Second

// awaitRoom waits while the partitions of this node together hold SessionBytes that are not decided. The client
// stops fetching by itself when nobody polls. Pausing the partitions instead would have it drop what it has
// fetched of them; and a fetch under way for the others would hold up the resumed ones until it has waited in
// vain.
//
// But partitions whose tablets stand still, or are much slower than others, would soon hold all of it, and the others would
// move no faster than these. So such partitions are paused, and the others have half as much again to themselves.
func (s *session) awaitRoom(ctx context.Context) {
	limit := s.options.SessionBytes
	if s.held.Load() <= limit {
		return
	}
	s.full.Store(time.Now().UnixMicro())
	defer s.full.Store(0)
	look := time.NewTicker(standstill / 2)
	defer look.Stop()
	for ctx.Err() == nil && s.held.Load() > limit {
		select {
		case <-s.room:
		case <-look.C:
			if s.moving() <= limit/4 && s.held.Load() <= limit+limit/2 {
				return
			}
		case <-ctx.Done():
		}
	}
}

// moving is what owners hold that neither are paused nor stand still. Those that do are paused.
func (s *session) moving() (held int64) {
	now := time.Now()
	for _, o := range s.all() {
		n, pause := o.move(now)
		if held += n; pause {
			s.pause(o)
		}
	}
	return held
}

func (s *session) fetched(f *kgo.Fetch) {
	for i := range f.Topics {
		t := &f.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			o := s.owner(place{t.Topic, p.Partition})
			if o != nil && t.TopicID != [16]byte{} && offsets.TopicID(t.TopicID) != o.source.Topic {
				o.fail(TopicRecreated, o.madeAnew(t.TopicID))
			}
			if o == nil || o.dead.Load() {
				s.takeBack(p.Records)
			} else {
				s.queue(o, p)
			}
			if p.Err != nil {
				s.fetchError(o, t.Topic, p)
			}
		}
	}
}

// takeBack takes back the memory of records that were fetched together.
func (s *session) takeBack(records []*kgo.Record) { s.inflate.pool.takeBack(records, len(records)) }

// queue gives fetched records to their owner, and pauses its partition when it has enough.
func (s *session) queue(o *owner, p *kgo.FetchPartition) {
	it := item{records: p.Records}
	for _, r := range p.Records {
		it.bytes += recordBytes(r)
	}
	high := p.HighWatermark
	if p.Err != nil {
		high = -1
	}
	if o.push(it, high) {
		s.pause(o)
	}
	if len(p.Records) > 0 {
		s.options.reached(Fetched)
	}
}

func (s *session) owner(p place) *owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.owners[p]
}

func (s *session) pause(o *owner) {
	s.client.PauseFetchPartitions(map[string][]int32{o.topic: {o.source.Partition}})
}

func (s *session) resume(o *owner) {
	s.client.ResumeFetchPartitions(map[string][]int32{o.topic: {o.source.Partition}})
}

// fetchError deals with an error of a partition; o is nil when nobody owns it (any more), and for the errors
// of the group and of the poll itself.
func (s *session) fetchError(o *owner, topic string, p *kgo.FetchPartition) {
	var loss *kgo.ErrDataLoss
	var tooLarge *kgo.ErrDecompressTooLarge
	switch err := p.Err; {
	case errors.Is(err, context.Canceled), errors.Is(err, kgo.ErrClientClosed):
	case o == nil && errors.Is(err, errFetchFull):
	case o == nil:
		s.options.Logger.Warn("fetch failed", "topic", topic, "partition", p.Partition, "error", err)
		s.connector.setReason(err.Error())
	case errors.As(err, &loss):
		s.rewritten(o, fmt.Sprintf("the partition's log was rewritten (unclean leader election): %v", err))
	case errors.Is(err, kerr.OffsetOutOfRange):
		s.pause(o) // the client would ask and be refused again and again
		if o.lookUp() {
			s.spawn(func() { s.outOfRange(o) })
		}
	case errors.Is(err, kerr.UnknownTopicID):
		o.fail(TopicRecreated, o.topicGone())
	case errors.As(err, &tooLarge):
		s.tooLarge(o, tooLarge)
	case errors.Is(err, errFetchFull): // it comes again
	default:
		s.options.Logger.Warn("fetch failed", "topic", topic, "partition", p.Partition, "error", err)
		o.trouble(fmt.Sprintf("nothing can be fetched from offset %d on: %v", o.taken(), err))
		s.pause(o) // the client would ask again at once, and a batch that is broken stays so
		s.spawn(func() {
			if pause(s.ctx, s.options.RestartDelay) && o.mayFetch() {
				s.resume(o)
			}
		})
	}
}

// execute carries out a command. It runs in the poll loop with rebalances held off.
func (s *session) execute(c command) {
	o := c.owner
	at := place{o.topic, o.source.Partition}
	if s.owner(at) != o {
		return // revoked meanwhile
	}
	switch c.kind {
	case pausePartition:
		s.pause(o)
	case restartOwner:
		s.pause(o)
		s.spawn(func() { s.restart(o) })
	case replaceOwner:
		s.adopt(at, newOwner(s, o.source, o.topic, c.start, o.inKafka()))
		s.seek(at, c.start)
		s.resume(o)
	case skipGap:
		first := o.taken()
		o.push(item{gap: offsets.Range{First: first, Next: c.start}, why: c.why}, -1)
		s.seek(at, c.start)
		o.found()
		s.resume(o)
	}
}

// seek makes the client fetch from next on; what it has buffered is dropped. The leader epoch is unknown there.
func (s *session) seek(at place, next int64) {
	s.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{at.topic: {at.partition: {Epoch: -1, Offset: next}}})
}

// adopt makes o the owner at a place and starts its worker. An earlier owner is dead.
func (s *session) adopt(at place, o *owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		o.dead.Store(true)
		o.stop()
		close(o.gone)
		return
	}
	s.mu.owners[at] = o
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		o.run()
	}()
}

// restart replaces a refused owner by one that begins at the checkpoint.
func (s *session) restart(o *owner) {
	<-o.gone
	if !pause(s.ctx, s.options.RestartDelay) {
		return
	}
	low, _ := o.low()
	var start int64
	err := retry(s.ctx, func() error {
		values, err := s.options.CreateCheckpoint(s.ctx, []offsets.Source{o.source}, []int64{low})
		if err == nil {
			start = values[0]
		}
		return err
	})
	if err == nil {
		s.connector.counters.restarts.Add(1)
		s.command(command{kind: replaceOwner, owner: o, start: start})
	}
}

// close ends the session. What owners have sent may be answered until ctx is done; then the watermarks are
// checkpointed and committed, and the group is left.
//
// With a ctx that is done from the beginning nothing is drained, published or left: as if the node had died.
func (s *session) close(ctx context.Context) {
	s.pollStop()
	if ctx.Err() != nil {
		s.cancel()
	}
	<-s.ended
	s.finish(ctx)
	_ = s.client.LeaveGroupContext(s.leaveContext(ctx))
	s.leaveForGood(ctx)
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.cancel()
	s.client.CloseAllowingRebalance()
	s.client.AllowRebalance() // closing polls once more, and a second leave of the group waits for that poll
	s.wg.Wait()
}
