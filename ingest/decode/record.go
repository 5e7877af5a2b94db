package decode

import (
	"fmt"

	"nyala/store/batch"
)

// Record is one record of a Kafka partition. The decoder keeps none of its bytes.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp int64  // milliseconds since 1970
	Key       []byte // nil: none
	Value     []byte // nil: a tombstone
	Headers   []Header
}

// Header is a record's header.
type Header struct {
	Key   string
	Value []byte
}

// Decoder appends one record as one row. After an error, which is a *BadRecord, rows is as it was before.
type Decoder interface {
	Decode(r *Record, rows *batch.Builder) (batch.Op, error)
}

// Reason is why a record is bad: a short word that never changes, for metrics and for grouping dead letters.
type Reason string

// The reasons.
const (
	BadSyntax    Reason = "bad_syntax"    // not a JSON object
	BadUTF8      Reason = "bad_utf8"      // invalid UTF-8 or half a surrogate pair
	TooDeep      Reason = "too_deep"      // objects and arrays nested deeper than 512
	BadType      Reason = "bad_type"      // a value of a kind or form that the column does not take
	OutOfRange   Reason = "out_of_range"  // a number beyond the column's type
	Inexact      Reason = "inexact"       // a number with more places than the column's type keeps
	MissingValue Reason = "missing_value" // no value for a column that must have one
	UnknownField Reason = "unknown_field" // a field no column takes, where those are refused
	NoValue      Reason = "no_value"      // a record without a value where it means nothing
	BadKey       Reason = "bad_key"       // a tombstone whose key does not name a row
)

// BadRecord says why a record cannot be a row.
type BadRecord struct {
	Reason Reason
	Column string // empty when it is not about one column
	Got    string // kind and length of what was found
	Want   string
	At     int // byte position in the record's value (or key)
}

func (e *BadRecord) Error() string {
	column := ""
	if e.Column != "" {
		column = "column " + e.Column + ": "
	}
	return fmt.Sprintf("decode: %s: %sgot %s at byte %d, want %s", e.Reason, column, e.Got, e.At, e.Want)
}

// describe names what stands at i: its kind and size, never its content.
func describe(s []byte, i int) string {
	if i >= len(s) {
		return "the end"
	}
	switch c := s[i]; {
	case c == '"':
		raw, _, _, fault := rawString(s, i)
		if fault != "" {
			return "a broken string"
		}
		return fmt.Sprintf("a string of %d bytes", len(raw))
	case c == '-' || c >= '0' && c <= '9':
		next, fault := skipNumber(s, i)
		if fault != "" {
			return "a broken number"
		}
		return fmt.Sprintf("a number of %d characters", next-i)
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	}
	switch n := literalLength(s, i); {
	case n == 5 || n == 4 && s[i] == 't':
		return "a bool"
	case n == 4:
		return "null"
	}
	return "no value"
}
