package offsets

import (
	"fmt"
	"iter"
	"maps"
)

// Checkpoints is the table of the system group: source -> watermark, the offset below which every record of the source is
// decided. It is the truth about where an owner starts; a commit in Kafka is a courtesy to lag tools.
//
// The first start of a source is written down before anything is sent (CreateIfAbsent): two owners that each believed "there is
// none yet" could otherwise start at different ends of a growing topic, and what lies between would be in some tablets only.
// Reads may be stale afterwards, for a checkpoint only rises; that there is none is never believed without the create.
//
// Where a source began is kept beside its checkpoint: records below were never meant to be in a table, which only this tells.
//
// The zero value is an empty table. Not safe for concurrent use.
type Checkpoints struct {
	next  positions
	begun positions // of the sources that were created; a part of next's
}

// CreateIfAbsent gives s the checkpoint next unless it has one, and returns the one that holds then; the owner starts there.
func (c *Checkpoints) CreateIfAbsent(s Source, next int64) (value int64, created bool) {
	must(next >= 0, "checkpoint %d of %s", next, s)
	if v, ok := c.next[s]; ok {
		return v, false
	}
	c.Raise(s, next)
	if c.begun == nil {
		c.begun = positions{}
	}
	c.begun[s] = next
	return next, true
}

// Begun is where s began, if that is known.
func (c *Checkpoints) Begun(s Source) (first int64, ok bool) {
	first, ok = c.begun[s]
	return first, ok
}

// Raise sets the checkpoint of s to next unless it is higher already, and returns the one that holds then. A source without a
// checkpoint gets it.
func (c *Checkpoints) Raise(s Source, next int64) int64 {
	must(next >= 0, "checkpoint %d of %s", next, s)
	if c.next == nil {
		c.next = positions{}
	}
	return c.next.raise(s, next)
}

// Get is the checkpoint of s, if it has one.
func (c *Checkpoints) Get(s Source) (next int64, ok bool) {
	next, ok = c.next[s]
	return next, ok
}

// Clone is an independent copy.
func (c *Checkpoints) Clone() *Checkpoints {
	return &Checkpoints{maps.Clone(c.next), maps.Clone(c.begun)}
}

// Len is the number of sources that have a checkpoint.
func (c *Checkpoints) Len() int { return len(c.next) }

// All lists sources and checkpoints in the order of Source.Compare. The table must not change meanwhile.
func (c *Checkpoints) All() iter.Seq2[Source, int64] { return c.next.all() }

// AppendTo appends the table's encoding to b: the same bytes for the same content. The sources that began come first, so that a
// table that was cut never looks whole.
func (c *Checkpoints) AppendTo(b []byte) []byte {
	if len(c.begun) > 0 {
		b = appendPositions(b, kindBegun, c.begun)
	}
	return appendPositions(b, kindCheckpoints, c.next)
}

// ParseCheckpoints reads what AppendTo wrote, all of b. The error is ErrMalformed.
func ParseCheckpoints(b []byte) (*Checkpoints, error) {
	var begun positions
	var err error
	if len(b) > 1 && b[1] == kindBegun {
		if begun, b, err = parsePositions(b, kindBegun); err != nil {
			return nil, err
		}
		if len(begun) == 0 {
			return nil, fmt.Errorf("offsets: checkpoints: an empty table of beginnings, want none: %w", ErrMalformed)
		}
	}
	next, err := parseWhole(b, kindCheckpoints)
	if err != nil {
		return nil, err
	}
	for s, first := range begun {
		if at, ok := next[s]; !ok || first > at {
			return nil, fmt.Errorf("offsets: source %s began at %d, its checkpoint is %d: %w", s, first, at, ErrMalformed)
		}
	}
	return &Checkpoints{next, begun}, nil
}
