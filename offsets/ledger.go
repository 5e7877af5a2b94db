package offsets

import (
	"fmt"
	"iter"
	"maps"
)

// Ledger is a tablet's memory of what it has applied: source -> next offset. It changes only inside apply, is saved in the same
// manifest record as the rows that it speaks of, and goes with every copy of the tablet.
//
// Invariant: every record of a source below max(its position here, the source's checkpoint) that belongs to the tablet is in it
// once. Check keeps it from below (no holes), dropping the rows below Next keeps it from above (no doubles). Simpler rules that
// were rejected because they lose or double rows: a set of entry ids (a resend may be cut elsewhere), leases or
// epochs for owners (nothing to be gained once holes are refused), trusting the order of the sender (a lost entry is a hole).
//
// The zero value is an empty ledger. Not safe for concurrent use.
type Ledger struct {
	next   positions
	fences map[string]uint32 // connector -> the oldest decision version that is taken
}

// HoleError says that a segment begins above everything that is known to be there. The entry that carries it must
// change nothing; its sender cuts it again from where it believes the tablet stands.
type HoleError struct {
	Segment Segment
	Ledger  int64 // the tablet's position of the source
}

func (e *HoleError) Error() string {
	return fmt.Sprintf("offsets: source %s: segment %s with start %d leaves a hole: want first at or below %d (ledger %d)",
		e.Segment.Source, e.Segment.Range, e.Segment.Start, max(e.Ledger, e.Segment.Start), e.Ledger)
}

// Next is the position of s: rows of s at or above it are new, rows below it were seen. 0 when s is unknown.
func (l *Ledger) Next(s Source) int64 { return l.next[s] }

// Check refuses a segment of an old decision (*StaleError), one that would leave a hole (*HoleError), and one that no owner
// sends (ErrMalformed). A refusal is not an acknowledgement, wherever the ledger stands.
func (l *Ledger) Check(seg Segment) error {
	if err := seg.validate(); err != nil {
		return err
	}
	if want := l.fences[seg.Source.Connector]; seg.Decision < want {
		return &StaleError{Segment: seg, Want: want}
	}
	if next := l.next[seg.Source]; seg.First > max(next, seg.Start) {
		return &HoleError{Segment: seg, Ledger: next}
	}
	return nil
}

// Advance raises the position of the segment's source to its Next; it never lowers it, because an old copy of a segment may
// come at any later time. The caller has checked the segment against this ledger, and drops the rows below the old position.
func (l *Ledger) Advance(seg Segment) {
	if invariants {
		err := l.Check(seg)
		must(err == nil, "advance of an unchecked segment: %v", err)
	}
	if l.next == nil {
		l.next = positions{}
	}
	l.next.raise(seg.Source, seg.Next)
}

// Clone is an independent copy.
func (l *Ledger) Clone() *Ledger {
	return &Ledger{next: maps.Clone(l.next), fences: maps.Clone(l.fences)}
}

// Len is the number of sources known.
func (l *Ledger) Len() int { return len(l.next) }

// All lists sources and positions in the order of Source.Compare. The ledger must not change meanwhile.
func (l *Ledger) All() iter.Seq2[Source, int64] { return l.next.all() }

// AppendTo appends the ledger's encoding to b: the same bytes for the same content.
func (l *Ledger) AppendTo(b []byte) []byte {
	return appendFences(appendPositions(b, kindLedger, l.next), l.Fences())
}

// ParseLedger reads what AppendTo wrote, all of b. The error is ErrMalformed.
func ParseLedger(b []byte) (*Ledger, error) {
	next, rest, err := parsePositions(b, kindLedger)
	if err != nil {
		return nil, err
	}
	fences, err := parseFences(rest)
	if err != nil {
		return nil, err
	}
	return &Ledger{next: next, fences: fences}, nil
}
