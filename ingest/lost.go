package ingest

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/offsets"
)

// readRecreated is what to do about a topic that was deleted, and perhaps made again.
const readRecreated = "to read a new one of its name, from start_from on, restart this node"

func (o *owner) topicGone() string {
	return fmt.Sprintf("topic %s with the id %s is gone; %s", o.topic, o.source.Topic, readRecreated)
}

func (o *owner) madeAnew(id offsets.TopicID) string {
	return fmt.Sprintf("topic %s now has the id %s, was %s; %s", o.topic, id, o.source.Topic, readRecreated)
}

// Metadata of a topic that was made anew takes a moment to reach all brokers.
const (
	recreatedLooks = 5
	recreatedPause = time.Second
)

// rewritten stops o because the broker says that records which were there are there no more. Brokers are asked for
// that by the topic's name: if the topic was deleted and made again meanwhile, the answer is about another log, and
// what helps is another thing.
func (s *session) rewritten(o *owner, why string) {
	o.fail(Failed, why)
	s.spawn(func() {
		for range recreatedLooks {
			if why := s.recreated(o); why != "" {
				o.explain(TopicRecreated, why)
				return
			}
			if !pause(s.ctx, recreatedPause) {
				return
			}
		}
	})
}

// recreated tells that the topic of o is gone or is another one now; empty: it is the same, or no broker answers.
func (s *session) recreated(o *owner) string {
	ids, err := s.topicIDs(s.ctx, map[string]map[int32]kgo.Offset{o.topic: nil})
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return o.topicGone()
	case err == nil && ids[o.topic] != o.source.Topic:
		return o.madeAnew(ids[o.topic])
	}
	return ""
}

// outOfRange finds out on which side the next offset of o lies outside of the log, and does what the policy says.
func (s *session) outOfRange(o *owner) {
	var first, end int64
	var other string
	err := retry(s.ctx, func() error {
		if other = s.recreated(o); other != "" {
			return nil
		}
		admin := kadm.NewClient(s.client)
		starts, err := admin.ListStartOffsets(s.ctx, o.topic)
		if err != nil {
			return err
		}
		ends, err := admin.ListEndOffsets(s.ctx, o.topic)
		if err != nil {
			return err
		}
		a, _ := starts.Lookup(o.topic, o.source.Partition)
		b, _ := ends.Lookup(o.topic, o.source.Partition)
		if a.Err != nil || b.Err != nil {
			return fmt.Errorf("ingest: offsets of %s/%d: %w", o.topic, o.source.Partition, errorOr(a.Err))
		}
		first, end = a.Offset, b.Offset
		return nil
	})
	if err != nil {
		return // the session ends
	}
	at := o.taken()
	why := fmt.Sprintf("offset %d is out of range: the log begins at %d and ends at %d", at, first, end)
	switch {
	case other != "":
		o.fail(TopicRecreated, other)
	case at > end:
		// Offsets that are given anew would be taken for records seen before, and dropped. No policy allows that.
		s.rewritten(o, why+"; records were lost at its end (unclean leader election)")
	case at >= first:
		s.fail(fmt.Errorf("ingest: %s/%d: %s", o.topic, o.source.Partition, why))
	case s.options.OutOfRange == OutOfRangeSkip:
		s.options.Logger.Warn("offsets lost", "topic", o.topic, "partition", o.source.Partition, "first", at, "next", first)
		s.command(command{kind: skipGap, owner: o, start: first, why: "out_of_range"})
	default:
		o.fail(Failed, fmt.Sprintf("%s; to go on at %d with a row in nyala.gaps, set on_offset_out_of_range: skip and restart this node", why, first))
	}
}
