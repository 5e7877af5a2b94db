package catalog

import (
	"encoding/binary"
	"fmt"
)

// Code says what became of a command. The numbers travel between nodes: never renumber.
type Code uint8

// The codes. All from Malformed on are refusals. They changed nothing, but for the first
// TooManyRanges of a partition, which is remembered.
const (
	Done              Code = 0  // the state changed
	Unchanged         Code = 1  // it was so already
	Malformed         Code = 2  // the command makes no sense
	NotReady          Code = 3  // the cluster has no InitCluster yet
	WrongCluster      Code = 4  // of another cluster
	NodeNotFound      Code = 5  // no such node, or of another incarnation
	NodeReplaced      Code = 6  // an incarnation that a newer one has taken over from
	TooFewNodes       Code = 7  // fewer registered, or up, than replicas need; later there may be more
	TableNotFound     Code = 8  // no such table
	TableExists       Code = 9  // with another definition
	TableInUse        Code = 10 // a running connector writes it, or the system does
	TabletNotFound    Code = 11 // no such tablet
	TooManyRanges     Code = 12 // the partition was refused for ever
	RangesFull        Code = 13 // so many were refused that no more can be remembered: the source must stop
	OutOfBounds       Code = 14 // the value's partition has no bounds in an int64
	BelowFloor        Code = 15 // the partition is, or would have been, dropped by retention
	SettingsChanged   Code = 16 // a connector's settings are not those of its decision version
	Conflict          Code = 17 // something else is under way
	Stale             Code = 18 // something newer was reported
	ConnectorNotFound Code = 19 // no such connector
)

var codeNames = [...]string{
	Done: "done", Unchanged: "unchanged", Malformed: "malformed", NotReady: "not_ready",
	WrongCluster: "wrong_cluster", NodeNotFound: "node_not_found", NodeReplaced: "node_replaced",
	TooFewNodes: "too_few_nodes", TableNotFound: "table_not_found", TableExists: "table_exists",
	TableInUse: "table_in_use", TabletNotFound: "tablet_not_found", TooManyRanges: "too_many_ranges",
	RangesFull: "ranges_full", OutOfBounds: "out_of_bounds", BelowFloor: "below_floor",
	SettingsChanged: "settings_changed", Conflict: "conflict", Stale: "stale", ConnectorNotFound: "connector_not_found",
}

// String is the code as the HTTP interface writes it.
func (c Code) String() string {
	if int(c) >= len(codeNames) {
		return fmt.Sprintf("code(%d)", uint8(c))
	}
	return codeNames[c]
}

// Final tells whether EnsureRange will answer the same for ever: the record may become a dead letter.
func (c Code) Final() bool { return c == TooManyRanges || c == OutOfBounds || c == BelowFloor }

// Result is what applying a command gave. Only the fields that its command names are set.
type Result struct {
	Code   Code
	Reason string // of a refusal, for people
	// Generation of the first snapshot that shows what the result speaks of: see Catalog.Await.
	Generation uint64
	Table      TableID
	Low, High  int64
	Tablets    []TabletID
	Values     []int64
}

// RefusedError is a refusal as an error.
type RefusedError struct {
	Code   Code
	Reason string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("catalog: %s: %s", e.Code, e.Reason) }

// Err is a *RefusedError, or nil when the command did what it should.
func (r Result) Err() error {
	if r.Code <= Unchanged {
		return nil
	}
	return &RefusedError{r.Code, r.Reason}
}

const resultVersion = 1

// AppendTo appends the encoding of r to b:
//
//	byte version 1, byte code, uvarint generation, uvarint table, varint low, varint high,
//	uvarint count and uvarints: tablets; uvarint count and varints: values; uvarint length and bytes: reason
func (r Result) AppendTo(b []byte) []byte {
	b = append(b, resultVersion, byte(r.Code))
	b = binary.AppendUvarint(b, r.Generation)
	b = binary.AppendUvarint(b, uint64(r.Table))
	b = binary.AppendVarint(b, r.Low)
	b = binary.AppendVarint(b, r.High)
	b = binary.AppendUvarint(b, uint64(len(r.Tablets)))
	for _, id := range r.Tablets {
		b = binary.AppendUvarint(b, uint64(id))
	}
	b = binary.AppendUvarint(b, uint64(len(r.Values)))
	for _, v := range r.Values {
		b = binary.AppendVarint(b, v)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Reason)))
	return append(b, r.Reason...)
}

// ParseResult reads what AppendTo wrote. The error is ErrMalformed.
func ParseResult(b []byte) (Result, error) {
	if len(b) < 2 || b[0] != resultVersion {
		return Result{}, fmt.Errorf("catalog: result of %d bytes: no header of version %d: %w", len(b), resultVersion, ErrMalformed)
	}
	d := varints{b: b[2:]}
	r := Result{Code: Code(b[1])}
	r.Generation = d.unsigned()
	r.Table = TableID(d.unsigned())
	r.Low, r.High = d.signed(), d.signed()
	if n := d.count(); n > 0 {
		r.Tablets = make([]TabletID, n)
		for i := range r.Tablets {
			r.Tablets[i] = TabletID(d.unsigned())
		}
	}
	if n := d.count(); n > 0 {
		r.Values = make([]int64, n)
		for i := range r.Values {
			r.Values[i] = d.signed()
		}
	}
	n := d.count()
	if d.bad || n != len(d.b) {
		return Result{}, fmt.Errorf("catalog: result of %d bytes: cut short, or too long: %w", len(b), ErrMalformed)
	}
	r.Reason = string(d.b)
	return r, nil
}

// varints reads from the front of b; after the first that is not there everything is 0.
type varints struct {
	b   []byte
	bad bool
}

func (d *varints) unsigned() uint64 {
	v, n := binary.Uvarint(d.b)
	d.advance(n)
	if d.bad {
		return 0
	}
	return v
}

func (d *varints) signed() int64 {
	v, n := binary.Varint(d.b)
	d.advance(n)
	if d.bad {
		return 0
	}
	return v
}

func (d *varints) advance(n int) {
	if n <= 0 {
		d.b, d.bad = nil, true
		return
	}
	d.b = d.b[n:]
}

// count reads the length of what follows; each element has at least one byte.
func (d *varints) count() int {
	n := d.unsigned()
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return 0
	}
	return int(n)
}
