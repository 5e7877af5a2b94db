package ingest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nyala/offsets"
)

// requestTimeout bounds one attempt to raise checkpoints or to commit: revocations wait behind it.
const requestTimeout = 5 * time.Second

// lock takes the gate. A channel, not a mutex, because it is held across requests.
func (s *session) lock(ctx context.Context) bool {
	select {
	case <-s.gate:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *session) unlock() { s.gate <- struct{}{} }

// checkpointer raises checkpoints as watermarks move. It ends with pollCtx; close waits for it.
func (s *session) checkpointer() {
	tick := time.NewTicker(s.options.CheckpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.pollCtx.Done():
			return
		}
		if !s.lock(s.pollCtx) {
			return
		}
		ctx, cancel := context.WithTimeout(s.pollCtx, requestTimeout)
		s.publish(ctx, s.all(), true)
		cancel()
		s.unlock()
	}
}

func (s *session) all() []*owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	owners := make([]*owner, 0, len(s.mu.owners))
	for _, o := range s.mu.owners {
		owners = append(owners, o)
	}
	return owners
}

// assigned is the number of partitions.
func (s *session) assigned() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.owners)
}

// publish raises the checkpoints of owners to their watermarks, and only then commits them to Kafka, where that
// is allowed. Whoever calls it holds the gate, and the owners have not been revoked.
func (s *session) publish(ctx context.Context, owners []*owner, commit bool) {
	next := map[offsets.Source]int64{}
	var moved []*owner
	for _, o := range owners {
		low, _ := o.low()
		o.mu.Lock()
		checkpoint := o.mu.checkpoint
		o.mu.Unlock()
		if low > checkpoint {
			next[o.source] = low
			moved = append(moved, o)
		}
	}
	if len(next) > 0 {
		s.options.reached(CheckpointRaising)
		if err := s.options.RaiseCheckpoints(ctx, next); err != nil {
			s.options.Logger.Warn("checkpoints not raised", "error", err)
			return
		}
		s.options.reached(CheckpointRaised)
	}
	for _, o := range moved {
		o.checkpointed(next[o.source])
	}
	if commit {
		s.commit(ctx, owners)
	}
}

// commit publishes checkpoints as the group's offsets, for lag tools. Failure does no harm.
//
// The request is our own and not the client's CommitOffsets: that one takes no metadata, and it waits for a
// rebalance in progress under a lock of the client's.
func (s *session) commit(ctx context.Context, owners []*owner) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = s.options.Group
	req.MemberID, req.Generation = s.client.GroupMetadata()
	if req.MemberID == "" {
		return
	}
	var sent []*owner
	for _, o := range owners {
		next, epoch, ok := o.toCommit()
		if !ok {
			continue
		}
		metadata := commitMetadata + o.source.Topic.String()
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = o.source.Partition, next, epoch, &metadata
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.TopicID = o.topic, o.source.Topic
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		sent = append(sent, o)
	}
	if len(sent) == 0 {
		return
	}
	resp, err := req.RequestWith(ctx, s.client)
	if err == nil {
		err = commitErrors(resp)
	}
	if err != nil {
		s.options.Logger.Debug("commit failed", "error", err)
		return
	}
	for i, o := range sent {
		o.committed(req.Topics[i].Partitions[0].Offset)
	}
	s.options.reached(Committed)
}

func commitErrors(resp *kmsg.OffsetCommitResponse) error {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("ingest: commit of %s/%d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}

// revoke is called when partitions go to another member: orderly (they may finish what they have sent, and
// commit), or lost (somebody else may own them already). When it returns, nothing of them is committed any more.
func (s *session) revoke(parts map[string][]int32, orderly bool) {
	var places []place
	for topic, partitions := range parts {
		for _, p := range partitions {
			places = append(places, place{topic, p})
		}
	}
	if len(places) == 0 {
		return
	}
	<-s.made
	ctx, cancel := context.WithTimeout(s.ctx, s.options.DrainTimeout)
	defer cancel()
	if !orderly {
		cancel()
	}
	s.retire(ctx, places, orderly)
	for _, p := range places {
		s.options.Logger.Info("partition revoked", "topic", p.topic, "partition", p.partition, "lost", !orderly)
	}
}

// finish retires all owners.
func (s *session) finish(ctx context.Context) {
	s.mu.Lock()
	places := make([]place, 0, len(s.mu.owners))
	for p := range s.mu.owners {
		places = append(places, p)
	}
	s.mu.Unlock()
	s.retire(ctx, places, true)
}

// retire drains the owners at places until ctx is done, publishes their watermarks and forgets them. The gate is
// taken first: a publication that is under way ends before, and none begins between.
func (s *session) retire(ctx context.Context, places []place, commit bool) {
	<-s.gate
	defer s.unlock()
	var owners []*owner
	s.mu.Lock()
	for _, p := range places {
		if o := s.mu.owners[p]; o != nil {
			owners = append(owners, o)
		}
	}
	s.mu.Unlock()
	if len(owners) > 0 {
		s.options.reached(Revoking)
	}
	var wg sync.WaitGroup
	for _, o := range owners {
		wg.Go(func() { o.drain(ctx) })
	}
	wg.Wait()
	if len(owners) > 0 && s.ctx.Err() == nil {
		s.options.reached(Drained)
		last, cancel := context.WithTimeout(s.ctx, requestTimeout)
		s.publish(last, owners, commit)
		cancel()
	}
	s.mu.Lock()
	for _, p := range places {
		delete(s.mu.owners, p)
	}
	s.mu.Unlock()
	for _, o := range owners {
		s.resume(o) // a pause would outlive the ownership
	}
}

// leaveContext bounds leaving the group by what is left of ctx, and by a second where nothing is.
func (s *session) leaveContext(ctx context.Context) context.Context {
	if ctx.Err() != nil {
		return ctx
	}
	bounded, cancel := context.WithTimeout(ctx, requestTimeout)
	context.AfterFunc(s.ctx, cancel)
	return bounded
}

// leaveForGood tells the group that a static member does not come back soon; the client by itself would leave
// its partitions unread until the session times out. A failure costs just that time.
func (s *session) leaveForGood(ctx context.Context) {
	if s.options.Instance == "" || ctx.Err() != nil {
		return
	}
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = s.options.Group
	member := kmsg.NewLeaveGroupRequestMember()
	member.InstanceID = &s.options.Instance
	req.Members = append(req.Members, member)
	if _, err := req.RequestWith(s.leaveContext(ctx), s.client); err != nil {
		s.options.Logger.Warn("group not left", "group", s.options.Group, "error", err)
	}
}
