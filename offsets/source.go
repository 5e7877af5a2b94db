package offsets

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"strings"
)

// MaxConnector is the longest connector name in bytes that has an encoding. Names come from the configuration and from
// requests, which are refused above it.
const MaxConnector = 512

// TopicID is Kafka's id of one incarnation of a topic: a topic that was deleted and made again has another one. The zero
// value stands for "no topic".
type TopicID [16]byte

// String is the form that Kafka's own tools print: URL-safe base64 without padding.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// Source is a stream of numbered records. It is named by the topic's id and not by its name, because a recreated topic counts
// its offsets from zero again: it is another source. A direct writer has the connector "writer:NAME", no topic, and
// partition 0.
type Source struct {
	Connector string
	Topic     TopicID
	Partition int32
}

// Compare orders sources by connector, topic id, partition: the order of every listing and encoding.
func (s Source) Compare(o Source) int {
	if c := strings.Compare(s.Connector, o.Connector); c != 0 {
		return c
	}
	if c := bytes.Compare(s.Topic[:], o.Topic[:]); c != 0 {
		return c
	}
	return cmp.Compare(s.Partition, o.Partition)
}

// String is for messages: connector/topic id/partition.
func (s Source) String() string {
	if s.Topic == (TopicID{}) {
		return fmt.Sprintf("%s/%d", s.Connector, s.Partition)
	}
	return fmt.Sprintf("%s/%s/%d", s.Connector, s.Topic, s.Partition)
}

// Range is the offsets [First, Next). It is empty when Next is not above First.
type Range struct{ First, Next int64 }

// Empty reports whether no offset lies in r.
func (r Range) Empty() bool { return r.Next <= r.First }

// String is for messages.
func (r Range) String() string { return fmt.Sprintf("[%d,%d)", r.First, r.Next) }

// Segment says which offsets of a source an entry speaks for in one tablet: every record of the range that belongs to the
// tablet is in the entry. The segments that an owner sends to a tablet are contiguous, even where no record between belongs
// to it; that is how the tablet sees that nothing is missing.
type Segment struct {
	Source Source
	// Start is where the sender's ownership began: the checkpoint that it found. What lies below was settled before,
	// so the first segment of an owner may begin there although this tablet never heard of the source.
	Start int64
	// Decision is the version of the connector's settings under which its owner decided which records belong to the tablet.
	// 0 is that of a source without settings.
	Decision uint32
	Range
}

// validate refuses what no owner sends. First below Start is among it: an owner starts at its start, and below the first start
// of all lie records that must never be in the table.
func (g Segment) validate() error {
	if g.Start < 0 || g.First < g.Start || g.Next < g.First {
		return fmt.Errorf("offsets: source %s: segment %s with start %d, want 0 <= start <= first <= next: %w",
			g.Source, g.Range, g.Start, ErrMalformed)
	}
	return nil
}
