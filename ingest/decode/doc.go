// Package decode turns records into rows: bytes of a Kafka record straight into column builders, with the
// table's schema in hand, so that neither a tree of values nor a struct is made on the way.
//
// It owns no goroutine and does no I/O. A decoder belongs to one worker and is not safe for concurrent use.
//
// # What is accepted
//
// A record is one JSON object in valid UTF-8, nested at most 512 deep. It is checked completely, also the
// fields that no column wants: what encoding/json refuses is refused here, and besides
//
//   - invalid UTF-8, and surrogates without their other half (encoding/json would put U+FFFD in their place);
//   - values that the column's type does not hold exactly (floats are rounded to the nearest; but not to
//     infinity).
//
// Per column type, beside null:
//
//	bool            true, false
//	int8 .. int64   a number that is an integer in range, however written (7, 7.0, 70e-1), or one in a string
//	decimal(p,s)    a number with at most s places and p digits, or one in a string
//	float32, 64     a number, or one in a string, or "NaN", "Infinity", "-Infinity"
//	string          a string
//	binary          a string of standard base64 with padding
//	uuid            a string of 32 hex digits, or 36 with dashes
//	date            a string, 2006-01-02
//	timestamp       an RFC 3339 string, or a number of the configured unit (also in a string): exact microseconds
//	json            any value; its text is kept as it was written
//
// An absent field and null are the same: the column's default, else null, else a bad record. When a key
// comes twice, the last one counts, whole: {"u":{"a":1},"u":{"b":2}} has no u.a. A path like user.id descends
// objects; a dot that is part of a name is written \. in a path. A column without a path takes its own name,
// dots and all.
//
// What is refused is a *BadRecord: a fixed reason, the column, what was found (its kind and length, never
// the value itself: it may be anybody's secret) and what was wanted. The builder is then as it was.
package decode
