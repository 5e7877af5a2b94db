package store

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Outcome says what became of an entry. The numbers travel between nodes.
type Outcome uint8

// The outcomes. Only Applied is an acknowledgement.
const (
	Applied    Outcome = 1 // the entry was carried out
	Hole       Outcome = 2 // a segment begins above what is known to be there: nothing of the entry was applied
	Malformed  Outcome = 3 // the entry does not fit the table or is not one that a sender makes: nothing was applied
	Stale      Outcome = 4 // the entry was made under a decision that is no longer taken: nothing was applied
	Superseded Outcome = 5 // a Freeze or Install that came too late: nothing to do
	Failed     Outcome = 6 // this replica has stopped applying; others have not
)

// Errors that Result.Err wraps.
var (
	ErrHole      = errors.New("a segment would leave a hole")
	ErrMalformed = errors.New("malformed entry")
	ErrStale     = errors.New("stale decision")
	ErrFailed    = errors.New("tablet has failed")
)

// Result is what Apply returns for an entry.
type Result struct {
	Outcome   Outcome
	Index     uint64    // of the entry in the log
	Timestamp Timestamp // effective: births and deaths of the entry's rows
	Rows      uint32    // rows that took effect
	Dropped   uint32    // rows that the ledger had seen
	Segment   uint32    // Hole, Stale: position of the refused segment
	Next      int64     // Hole: where the ledger stands for its source
}

const resultBytes = 41

// Append appends r's encoding: 1 outcome, 8 index, 8 timestamp, 4 rows, 4 dropped, 4 segment, 8 next, 4 zero.
func (r Result) Append(b []byte) []byte {
	b = append(b, byte(r.Outcome))
	b = binary.LittleEndian.AppendUint64(b, r.Index)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Timestamp))
	b = binary.LittleEndian.AppendUint32(b, r.Rows)
	b = binary.LittleEndian.AppendUint32(b, r.Dropped)
	b = binary.LittleEndian.AppendUint32(b, r.Segment)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Next))
	return append(b, 0, 0, 0, 0)
}

// ParseResult reads what Append wrote.
func ParseResult(b []byte) (Result, error) {
	if len(b) != resultBytes || b[0] < byte(Applied) || b[0] > byte(Failed) {
		return Result{}, fmt.Errorf("store: result of %d bytes, want %d", len(b), resultBytes)
	}
	r := &reader{b: b[1:]}
	out := Result{Outcome: Outcome(b[0]), Index: r.u64(), Timestamp: int64(r.u64()), Rows: r.u32(), Dropped: r.u32(), Segment: r.u32()}
	out.Next = int64(r.u64())
	return out, nil
}

// Err is nil if the entry was applied (or there was nothing left to do), else what its sender must know.
func (r Result) Err() error {
	switch r.Outcome {
	case Applied, Superseded:
		return nil
	case Hole:
		return fmt.Errorf("store: entry %d: segment %d, ledger at %d: %w", r.Index, r.Segment, r.Next, ErrHole)
	case Malformed:
		return fmt.Errorf("store: entry %d: %w", r.Index, ErrMalformed)
	case Stale:
		return fmt.Errorf("store: entry %d: segment %d: %w", r.Index, r.Segment, ErrStale)
	}
	return fmt.Errorf("store: entry %d: %w", r.Index, ErrFailed)
}

func (o Outcome) String() string {
	names := [...]string{Applied: "applied", Hole: "hole", Malformed: "malformed", Stale: "stale", Superseded: "superseded", Failed: "failed"}
	if int(o) < len(names) && o > 0 {
		return names[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}
