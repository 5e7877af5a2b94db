package offsets

import (
	"fmt"
	"maps"
	"slices"
)

// Fence says that a tablet refuses what a connector decided under a version of its settings older than Decision.
type Fence struct {
	Connector string `json:"connector"`
	Decision  uint32 `json:"decision"`
}

// StaleError says that a segment was decided under settings that are no longer in force. The entry that carries it must change
// nothing; its owner begins again at the checkpoint, with the settings of today.
type StaleError struct {
	Segment Segment
	Want    uint32 // the oldest version that the tablet takes
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("offsets: source %s: segment %s of decision version %d, want at least %d", e.Segment.Source, e.Segment.Range, e.Segment.Decision, e.Want)
}

// Fence makes the ledger refuse segments of f's connector that are older than f's decision, for ever. It never takes a fence
// back, because a late copy of an older one may come at any time.
//
// The fences are part of the ledger since they must be wherever it is: in the same manifest record and in every copy of a
// tablet. A tablet that came back without them would take what another one has refused already.
func (l *Ledger) Fence(f Fence) {
	if f.Decision <= l.fences[f.Connector] {
		return
	}
	if l.fences == nil {
		l.fences = map[string]uint32{}
	}
	l.fences[f.Connector] = f.Decision
}

// Fences lists the fences by connector.
func (l *Ledger) Fences() []Fence {
	var list []Fence
	for _, name := range slices.Sorted(maps.Keys(l.fences)) {
		list = append(list, Fence{name, l.fences[name]})
	}
	return list
}

const fenceBytes = 2 + 4 // the shortest fence

func appendFences(b []byte, list []Fence) []byte {
	b = le.AppendUint32(b, uint32(len(list)))
	for _, f := range list {
		must(len(f.Connector) <= MaxConnector, "connector name of %d bytes, want at most %d", len(f.Connector), MaxConnector)
		b = le.AppendUint16(b, uint16(len(f.Connector)))
		b = append(b, f.Connector...)
		b = le.AppendUint32(b, f.Decision)
	}
	return b
}

// parseFences reads all of b.
func parseFences(b []byte) (map[string]uint32, error) {
	if len(b) < 4 {
		return nil, short("fences", len(b), 4)
	}
	count := int64(le.Uint32(b))
	b = b[4:]
	if int64(len(b)) < count*fenceBytes { // so that a wrong count cannot ask for memory
		return nil, fmt.Errorf("offsets: fences: %d in %d bytes, want at least %d: %w", count, len(b), count*fenceBytes, ErrMalformed)
	}
	if count == 0 && len(b) == 0 {
		return nil, nil
	}
	fences, last := make(map[string]uint32, count), ""
	for i := range count {
		if len(b) < fenceBytes {
			return nil, short("fence", len(b), fenceBytes)
		}
		n := int(le.Uint16(b))
		if n > MaxConnector || len(b) < fenceBytes+n {
			return nil, fmt.Errorf("offsets: fence %d of %d: connector name of %d bytes in %d: %w", i, count, n, len(b), ErrMalformed)
		}
		name, decision := string(b[2:2+n]), le.Uint32(b[2+n:])
		if i > 0 && name <= last || decision == 0 {
			return nil, fmt.Errorf("offsets: fence %d of %d: connector %q after %q, decision version %d: %w", i, count, name, last, decision, ErrMalformed)
		}
		fences[name], last, b = decision, name, b[fenceBytes+n:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("offsets: fences: %d bytes after the last one: %w", len(b), ErrMalformed)
	}
	return fences, nil
}
