package offsets

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by the error of every parser here, and by Ledger.Check for a segment that no owner sends.
var ErrMalformed = errors.New("malformed")

const (
	encodingVersion = 1
	kindLedger      = 'L'
	kindCheckpoints = 'C'
	kindBegun       = 'B'

	positionsHeader = 8                // version, kind, zero, count
	sourceBytes     = 2 + 16 + 4       // beside the connector's name
	entryBytes      = sourceBytes + 8  // the shortest entry of a table
	segmentBytes    = sourceBytes + 28 // the shortest segment
)

var le = binary.LittleEndian

// AppendTo appends the encoding of s to b.
func (s Source) AppendTo(b []byte) []byte {
	must(len(s.Connector) <= MaxConnector, "connector name of %d bytes, want at most %d", len(s.Connector), MaxConnector)
	b = le.AppendUint16(b, uint16(len(s.Connector)))
	b = append(b, s.Connector...)
	b = append(b, s.Topic[:]...)
	return le.AppendUint32(b, uint32(s.Partition))
}

// ParseSource reads a source from the front of b and returns what follows it. The error is ErrMalformed.
func ParseSource(b []byte) (s Source, rest []byte, err error) {
	if len(b) < sourceBytes {
		return s, nil, short("source", len(b), sourceBytes)
	}
	n := int(le.Uint16(b))
	if n > MaxConnector {
		return s, nil, fmt.Errorf("offsets: source: connector name of %d bytes, want at most %d: %w", n, MaxConnector, ErrMalformed)
	}
	if len(b) < sourceBytes+n {
		return s, nil, short("source", len(b), sourceBytes+n)
	}
	b = b[2:]
	s.Connector, b = string(b[:n]), b[n:]
	b = b[copy(s.Topic[:], b):]
	s.Partition = int32(le.Uint32(b))
	if s.Partition < 0 {
		return s, nil, fmt.Errorf("offsets: source %s: partition %d, want at least 0: %w", s, s.Partition, ErrMalformed)
	}
	return s, b[4:], nil
}

// AppendTo appends the encoding of g to b.
func (g Segment) AppendTo(b []byte) []byte {
	b = g.Source.AppendTo(b)
	b = le.AppendUint64(b, uint64(g.Start))
	b = le.AppendUint64(b, uint64(g.First))
	b = le.AppendUint64(b, uint64(g.Next))
	return le.AppendUint32(b, g.Decision)
}

// ParseSegment reads a segment from the front of b and returns what follows it. The error is ErrMalformed; a segment that no
// owner sends is refused here already.
func ParseSegment(b []byte) (g Segment, rest []byte, err error) {
	if len(b) < segmentBytes {
		return g, nil, short("segment", len(b), segmentBytes)
	}
	if g.Source, b, err = ParseSource(b); err != nil {
		return g, nil, err
	}
	if len(b) < 28 {
		return g, nil, short("segment", len(b), 28)
	}
	g.Start, g.First, g.Next = int64(le.Uint64(b)), int64(le.Uint64(b[8:])), int64(le.Uint64(b[16:]))
	g.Decision = le.Uint32(b[24:])
	return g, b[28:], g.validate()
}

func appendPositions(b []byte, kind byte, p positions) []byte {
	b = append(b, encodingVersion, kind, 0, 0)
	b = le.AppendUint32(b, uint32(len(p)))
	for s, next := range p.all() {
		b = s.AppendTo(b)
		b = le.AppendUint64(b, uint64(next))
	}
	return b
}

// parsePositions reads a table from the front of b and returns what follows it.
func parsePositions(b []byte, kind byte) (p positions, rest []byte, err error) {
	if len(b) < positionsHeader {
		return nil, nil, short("table", len(b), positionsHeader)
	}
	if b[0] != encodingVersion || b[1] != kind || b[2] != 0 || b[3] != 0 {
		return nil, nil, fmt.Errorf("offsets: table: header % x, want % x: %w", b[:4], []byte{encodingVersion, kind, 0, 0}, ErrMalformed)
	}
	count := int64(le.Uint32(b[4:]))
	b = b[positionsHeader:]
	if int64(len(b)) < count*entryBytes { // so that a wrong count cannot ask for memory
		return nil, nil, fmt.Errorf("offsets: table: %d entries in %d bytes, want at least %d: %w", count, len(b), count*entryBytes, ErrMalformed)
	}
	p = make(positions, count)
	var last Source
	for i := range count {
		var s Source
		s, rest, err = ParseSource(b)
		if err != nil {
			return nil, nil, fmt.Errorf("offsets: table: entry %d of %d: %w", i, count, err)
		}
		if i > 0 && last.Compare(s) >= 0 {
			return nil, nil, fmt.Errorf("offsets: table: entry %d of %d: source %s after %s, want ascending: %w", i, count, s, last, ErrMalformed)
		}
		if len(rest) < 8 {
			return nil, nil, short("table", len(rest), 8)
		}
		next := int64(le.Uint64(rest))
		if next < 0 {
			return nil, nil, fmt.Errorf("offsets: table: source %s: next %d, want at least 0: %w", s, next, ErrMalformed)
		}
		p[s], last, b = next, s, rest[8:]
	}
	return p, b, nil
}

// parseWhole reads a table that is all of b.
func parseWhole(b []byte, kind byte) (positions, error) {
	p, rest, err := parsePositions(b, kind)
	if err == nil && len(rest) > 0 {
		return nil, fmt.Errorf("offsets: table: %d bytes after its %d entries: %w", len(rest), len(p), ErrMalformed)
	}
	return p, err
}

func short(what string, got, want int) error {
	return fmt.Errorf("offsets: %s: %d bytes, want at least %d: %w", what, got, want, ErrMalformed)
}
