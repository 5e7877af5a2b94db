package ingest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/ingest/decode"
	"nyala/store/batch"
	"nyala/store/schema"
)

// decider says what a connector's settings make of a record: a row, or a dead letter. It is what ingest and a later
// reading of the same records share, so that the two cannot disagree.
type decider struct {
	decoder decode.Decoder
	record  decode.Record
}

// refusal is why a record is no row.
type refusal struct {
	stage   string // decode or route
	code    string // a short word, for metrics
	message string
}

// rangeRefused is of a row that the table has no place for.
var rangeRefused = refusal{"route", "range_refused", "range_refused: the table has no place for a row of this range"}

// recordBytesMax is how large a record may be, with its key and headers, and its row too: an entry of the log holds a whole one.
// What a record becomes must never depend on the memory of the node that reads it, so this is no setting.
const recordBytesMax = 32 << 20

// tooLarge is of a record that is larger.
func tooLarge(what string, n int) *refusal {
	return &refusal{"decode", "too_large", fmt.Sprintf("too_large: got a %s of %d bytes, want at most %d", what, n, recordBytesMax)}
}

// kafkaBytes is what a record has of bytes.
func kafkaBytes(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

func newDecider(o *Settings, s *schema.Schema) (*decider, error) {
	d, err := decode.NewJSON(decode.Options{
		Schema: s, Fields: o.Fields, Add: o.Add, TimestampUnit: o.TimestampUnit,
		RefuseUnknownFields: o.RefuseUnknownFields, Op: o.Op, Changes: o.Changes,
	})
	if err != nil {
		return nil, err
	}
	return &decider{decoder: d}, nil
}

// decide appends r as a row to rows, or says why it is none; rows is then as it was.
func (d *decider) decide(r *kgo.Record, rows *batch.Builder) (batch.Op, *refusal) {
	size, before := kafkaBytes(r), 0
	if size > recordBytesMax {
		return 0, tooLarge("record", size)
	}
	large := size > recordBytesMax/64 // the row of a smaller one is smaller, whatever is added to it
	if large {
		before = rows.Bytes()
	}
	in := &d.record
	*in = decode.Record{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(),
		Key: r.Key, Value: r.Value, Headers: in.Headers[:0],
	}
	for _, h := range r.Headers {
		in.Headers = append(in.Headers, decode.Header{Key: h.Key, Value: h.Value})
	}
	op, err := d.decoder.Decode(in, rows)
	clear(in.Headers) // what is kept would keep the whole fetch for as long as the partition is quiet
	*in = decode.Record{Headers: in.Headers[:0]}
	if err == nil && large && rows.Bytes()-before > recordBytesMax {
		size = rows.Bytes() - before
		rows.Truncate(rows.Rows() - 1)
		return 0, tooLarge("row", size)
	}
	if err == nil {
		return op, nil
	}
	code := "unknown"
	var bad *decode.BadRecord
	if errors.As(err, &bad) {
		code = string(bad.Reason)
	}
	return 0, &refusal{"decode", code, strings.TrimPrefix(err.Error(), "decode: ")}
}
