package ingest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nyala/offsets"
)

// commitMetadata is what our commits carry, followed by the topic's id: a commit that a deleted topic left behind
// says nothing about the topic that has its name now.
const commitMetadata = "nyala/1 "

// offsetsFetched keeps the metadata of the group's commits, which the client does not pass on.
func (s *session) offsetsFetched(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.Metadata != nil {
				s.mu.commits[place{t.Topic, p.Partition}] = *p.Metadata
			}
		}
	}
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if p.Metadata != nil {
					s.mu.commits[place{t.Topic, p.Partition}] = *p.Metadata
				}
			}
		}
	}
	return nil
}

// candidate is a partition that the group assigned to us, on its way to an owner.
type candidate struct {
	place
	source offsets.Source
	commit kgo.EpochOffset // Offset -1: none
	start  int64
}

// joined is called after every rebalance, with what is new. A member for which nothing is left, as there are more
// of them than partitions, runs like any other; what is assigned is ready only after assign.
func (s *session) joined(_ context.Context, _ *kgo.Client, fresh map[string][]int32) {
	if len(fresh) == 0 {
		s.connector.assigned()
	}
}

// assign is called when partitions were assigned, before any of their records is fetched. It makes an owner for
// each, which begins at the source's checkpoint; a source without one gets it here: the group's commit, else
// start_from. The context ends when the group takes the partitions back.
func (s *session) assign(ctx context.Context, committed map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	<-s.made
	ids, err := s.topicIDs(ctx, committed)
	if err != nil {
		s.connector.setReason(err.Error())
		return nil, err
	}
	var candidates []candidate
	for topic, partitions := range committed {
		for partition, at := range partitions {
			candidates = append(candidates, s.candidate(place{topic, partition}, ids[topic], at.EpochOffset()))
		}
	}
	slices.SortFunc(candidates, func(a, b candidate) int { return a.source.Compare(b.source) })
	if len(candidates) == 0 {
		return committed, nil
	}
	if err := s.findStarts(ctx, candidates); err != nil {
		s.connector.setReason(err.Error())
		return nil, err
	}
	sources, starts := make([]offsets.Source, len(candidates)), make([]int64, len(candidates))
	for i, c := range candidates {
		sources[i], starts[i] = c.source, c.start
	}
	var found []int64
	err = retry(ctx, func() (err error) {
		if found, err = s.options.CreateCheckpoint(ctx, sources, starts); err != nil {
			s.connector.setReason(fmt.Sprintf("checkpoints: %v", err))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.options.reached(CheckpointCreated)
	ends := s.listEnds(ctx, candidates)
	for i, c := range candidates {
		committed[c.topic][c.partition] = s.begin(c, found[i], ends)
	}
	s.connector.assigned()
	return committed, nil
}

func (s *session) candidate(at place, id offsets.TopicID, commit kgo.EpochOffset) candidate {
	c := candidate{place: at, source: offsets.Source{Connector: s.options.Name, Topic: id, Partition: at.partition}, commit: commit}
	s.mu.Lock()
	metadata := s.mu.commits[at]
	s.mu.Unlock()
	if text, ours := strings.CutPrefix(metadata, commitMetadata); ours && commit.Offset >= 0 && text != id.String() {
		s.options.Logger.Warn("commit is of a deleted topic with the same name", "topic", at.topic, "partition", at.partition, "commit", commit.Offset)
		c.commit.Offset = -1
	}
	return c
}

// endsPatience is how long the ends of new partitions may take: the first fetches tell them, too.
const endsPatience = 3 * time.Second

// listEnds asks for the ends of the candidates' logs, so that their lag is known before the first record comes.
func (s *session) listEnds(ctx context.Context, candidates []candidate) kadm.ListedOffsets {
	var topics []string
	for _, c := range candidates {
		if !slices.Contains(topics, c.topic) {
			topics = append(topics, c.topic)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, endsPatience)
	defer cancel()
	ends, err := kadm.NewClient(s.client).ListEndOffsets(ctx, topics...)
	if err != nil {
		s.options.Logger.Warn("ends of new partitions are not known yet", "error", err)
	}
	return ends
}

// begin makes the owner of c and returns where the client fetches.
func (s *session) begin(c candidate, start int64, ends kadm.ListedOffsets) kgo.Offset {
	at := kgo.NewOffset().At(start)
	switch {
	case c.commit.Offset == start:
		// The epoch of the record before lets the broker tell us if that record is no longer the same one.
		at = at.WithEpoch(c.commit.Epoch)
	case c.commit.Offset >= 0:
		s.options.Logger.Warn("the group's commit differs from the checkpoint, which wins",
			"topic", c.topic, "partition", c.partition, "commit", c.commit.Offset, "checkpoint", start)
	}
	if old := s.owner(c.place); old != nil {
		old.kill()
	}
	o := newOwner(s, c.source, c.topic, start, c.commit.Offset)
	if end, ok := ends.Lookup(c.topic, c.partition); ok && end.Err == nil {
		o.mu.high = end.Offset
	}
	s.adopt(c.place, o)
	if s.connector.isPaused() {
		s.client.PauseFetchTopics(c.topic)
	}
	s.client.ResumeFetchPartitions(map[string][]int32{c.topic: {c.partition}})
	s.options.reached(OwnerBegan)
	s.options.Logger.Info("partition assigned", "topic", c.topic, "partition", c.partition, "start", start)
	return at
}

// topicIDs asks for the ids of the topics now; an owner is bound to what it says.
func (s *session) topicIDs(ctx context.Context, topics map[string]map[int32]kgo.Offset) (map[string]offsets.TopicID, error) {
	req := kmsg.NewPtrMetadataRequest()
	for topic := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(topic)
		req.Topics = append(req.Topics, t)
	}
	if len(req.Topics) == 0 {
		return nil, nil
	}
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return nil, fmt.Errorf("ingest: topic ids: %w", err)
	}
	ids := map[string]offsets.TopicID{}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return nil, fmt.Errorf("ingest: topic %s: %w", *t.Topic, err)
		}
		if t.TopicID == [16]byte{} {
			return nil, fmt.Errorf("ingest: topic %s: the broker gives no topic ids, want Kafka 2.8 or newer", *t.Topic)
		}
		ids[*t.Topic] = t.TopicID
	}
	for topic := range topics {
		if _, ok := ids[topic]; !ok {
			return nil, fmt.Errorf("ingest: topic %s: not in the broker's answer", topic)
		}
	}
	return ids, nil
}

// findStarts fills in where each candidate would begin that has no checkpoint: its commit, else start_from.
func (s *session) findStarts(ctx context.Context, candidates []candidate) error {
	var topics []string
	for i, c := range candidates {
		candidates[i].start = c.commit.Offset
		if c.commit.Offset < 0 && !slices.Contains(topics, c.topic) {
			topics = append(topics, c.topic)
		}
	}
	if len(topics) == 0 {
		return nil
	}
	admin := kadm.NewClient(s.client)
	var listed kadm.ListedOffsets
	var err error
	switch from := s.options.Start; {
	case !from.Time.IsZero():
		listed, err = admin.ListOffsetsAfterMilli(ctx, from.Time.UnixMilli(), topics...)
	case from.Latest:
		listed, err = admin.ListEndOffsets(ctx, topics...)
	default:
		listed, err = admin.ListStartOffsets(ctx, topics...)
	}
	if err != nil {
		return fmt.Errorf("ingest: start offsets: %w", err)
	}
	for i, c := range candidates {
		if c.commit.Offset >= 0 {
			continue
		}
		l, ok := listed.Lookup(c.topic, c.partition)
		if !ok || l.Err != nil || l.Offset < 0 {
			return fmt.Errorf("ingest: start offset of %s/%d: got %d: %w", c.topic, c.partition, l.Offset, errorOr(l.Err))
		}
		candidates[i].start = l.Offset
	}
	return nil
}

func errorOr(err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("the broker did not answer for it")
}
