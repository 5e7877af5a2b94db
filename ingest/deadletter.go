package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/schema"
)

// letterWriter makes rows of nyala.dead_letters from the bad records of one chunk. The chunk is decided only
// when they are applied too, and produced where a topic is configured. A dead letter is there once by its key,
// however often it is sent. Their segments only note how far the source has come: a new version of the settings must
// begin behind every dead letter, too.
type letterWriter struct {
	owner   *owner
	chunk   *chunk        // nil: no dead letter yet
	produce []*kgo.Record // copies for the dead letter topic
}

// columns of the two system tables, in their schemas' order.
const (
	letterTopicID = iota
	letterPartition
	letterOffset
	letterConnector
	letterTopic
	letterTimestamp
	letterKey
	letterValue
	letterHeaders
	letterStage
	letterReason
	letterTime
)

const (
	gapTopicID = iota
	gapPartition
	gapFirst
	gapConnector
	gapNext
	gapTopic
	gapReason
	gapTime
)

// add makes r a dead letter.
func (w *letterWriter) add(r *kgo.Record, why *refusal) {
	o := w.owner
	if w.chunk == nil {
		w.chunk = newSystemChunk(schema.DeadLetters())
	}
	appendLetter(w.chunk.rows, o.source, r, why)
	w.chunk.offsets = append(w.chunk.offsets, r.Offset)
	if topic := o.session.options.DeadLetterTopic; topic != "" {
		w.produce = append(w.produce, o.letterRecord(topic, r, why))
	}
}

// appendLetter appends the row of nyala.dead_letters that r becomes.
func appendLetter(rows *batch.Builder, source offsets.Source, r *kgo.Record, why *refusal) {
	k := rows.Columns
	k[letterTopicID].AppendFixed16(source.Topic)
	k[letterPartition].AppendInt(int64(r.Partition))
	k[letterOffset].AppendInt(r.Offset)
	k[letterConnector].AppendBytes([]byte(source.Connector))
	k[letterTopic].AppendBytes([]byte(r.Topic))
	k[letterTimestamp].AppendInt(r.Timestamp.UnixMicro())
	if kafkaBytes(r) > recordBytesMax { // an entry could not hold it
		r = &kgo.Record{}
	}
	appendOrNull(&k[letterKey], r.Key)
	appendOrNull(&k[letterValue], r.Value)
	appendOrNull(&k[letterHeaders], headersJSON(r.Headers))
	k[letterStage].AppendBytes([]byte(why.stage))
	k[letterReason].AppendBytes([]byte(why.message))
	k[letterTime].AppendInt(time.Now().UnixMicro())
}

func newSystemChunk(s *schema.Schema) *chunk {
	c := &chunk{decoded: newDecoded(s, 16), schema: s}
	c.op = batch.Insert
	return c
}

func appendOrNull(k *batch.ColumnBuilder, v []byte) {
	if v == nil {
		k.AppendNull()
		return
	}
	k.AppendBytes(v)
}

type headerJSON struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// headersJSON keeps order and doubles, which an object would not; values are base64, for they are any bytes.
func headersJSON(headers []kgo.RecordHeader) []byte {
	if len(headers) == 0 {
		return nil
	}
	list := make([]headerJSON, len(headers))
	for i, h := range headers {
		list[i] = headerJSON{h.Key, h.Value}
	}
	text, err := json.Marshal(list)
	must(err == nil, "headers have no JSON: %v", err)
	return text
}

// send sends the dead letters; parent waits for them.
func (w *letterWriter) send(parent *chunk) {
	if w.chunk == nil {
		return
	}
	c := w.chunk
	c.parent, c.owner, c.decision, c.written = parent, w.owner, parent.decision, LetterWritten
	c.noted, c.span = true, offsets.Range{Next: slices.Max(c.offsets) + 1}
	w.owner.session.options.reached(LetterSending)
	parent.pending.Add(1)
	c.pending.Store(1 + int32(len(w.produce)))
	for _, r := range w.produce {
		w.owner.produceLetter(c, r)
	}
	w.owner.sendSystem(c, schema.DeadLettersTable)
	c.release(true)
	w.chunk = nil
}

// reset forgets what was not sent.
func (w *letterWriter) reset() { w.chunk, w.produce = nil, w.produce[:0] }

// sendSystem routes the rows of a system table and queues them.
func (o *owner) sendSystem(c *chunk, table string) {
	router := o.session.options.Router
	var l *Layout
	err := retry(o.ctx, func() (err error) {
		if l, err = router.Layout(table); err != nil {
			o.session.connector.setReason(fmt.Sprintf("table %s: %v", table, err))
		}
		return err
	})
	if err == nil {
		c.schema = l.Schema
		c.seal()
		c.encodeKeys()
		_, err = c.route(o.ctx, router, table, l)
	}
	if err != nil {
		c.abandoned.Store(true)
		return
	}
	c.pending.Add(int32(len(c.slots)))
	for i := range c.slots {
		o.session.options.Sender.send(c.slots[i].tablet, piece{chunk: c, rows: c.slots[i].rows, bytes: c.rows.Bytes()})
	}
}

// letterTopicBytesMax is how large a record for the dead letter topic may be: the client's own limit of a batch, less what
// the headers take.
const letterTopicBytesMax = 900_000

// connectStages are the names that Kafka Connect has for the stages.
var connectStages = map[string]string{"decode": "VALUE_CONVERTER", "route": "TASK_PUT"}

// letterRecord is r for the dead letter topic, with the headers that Kafka Connect puts there: behind the record's own, their
// values text. A record that is too large for the topic goes without its key, value and headers, which nyala.dead_letters has.
func (o *owner) letterRecord(topic string, r *kgo.Record, why *refusal) *kgo.Record {
	out := &kgo.Record{Topic: topic, Timestamp: r.Timestamp}
	if kafkaBytes(r) <= letterTopicBytesMax {
		out.Key, out.Value = clone(r.Key), clone(r.Value)
		for _, h := range r.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: clone(h.Value)})
		}
	} else {
		out.Headers = append(out.Headers, leftOut(kafkaBytes(r)))
	}
	for _, h := range [][2]string{
		{"topic", r.Topic},
		{"partition", strconv.Itoa(int(r.Partition))},
		{"offset", strconv.FormatInt(r.Offset, 10)},
		{"connector.name", o.source.Connector},
		{"task.id", strconv.Itoa(int(r.Partition))},
		{"stage", connectStages[why.stage]},
		{"class.name", "nyala." + why.stage},
		{"exception.class.name", "nyala.BadRecord"},
		{"exception.message", why.message},
		{"exception.stacktrace", ""},
	} {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: connectHeader + h[0], Value: []byte(h[1])})
	}
	return out
}

const connectHeader = "__connect.errors."

// leftOut is the header of a record that went without its own key, value and headers.
func leftOut(bytes int) kgo.RecordHeader {
	return kgo.RecordHeader{Key: "nyala.left_out.bytes", Value: []byte(strconv.Itoa(bytes))}
}

// bare is a record for the dead letter topic without what is its own.
func bare(r *kgo.Record) *kgo.Record {
	out := &kgo.Record{Topic: r.Topic, Timestamp: r.Timestamp, Headers: []kgo.RecordHeader{leftOut(kafkaBytes(r))}}
	for _, h := range r.Headers {
		if strings.HasPrefix(h.Key, connectHeader) {
			out.Headers = append(out.Headers, h)
		}
	}
	return out
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

// produceLetter produces one dead letter, bare where the topic does not take it. A failure is final for the client, which does not
// try for longer than letterTimeout; the owner then begins again at its checkpoint, so the record comes by once more, and the
// status says why.
func (o *owner) produceLetter(c *chunk, r *kgo.Record) {
	ctx := context.WithoutCancel(o.ctx)
	done := func(_ *kgo.Record, err error) {
		if err != nil && o.session.ctx.Err() == nil {
			o.session.connector.setReason(fmt.Sprintf("dead letter topic %s: %v", r.Topic, err))
			o.refused(fmt.Sprintf("dead letter topic: %v", err))
		}
		c.release(err == nil)
	}
	o.session.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
		if errors.Is(err, kerr.MessageTooLarge) {
			o.session.client.TryProduce(ctx, bare(r), done) // Produce might wait for the goroutine that it is called from
			return
		}
		done(r, err)
	})
}

// gap writes down that offsets were lost; parent waits for it.
func (w *letterWriter) gap(parent *chunk, lost offsets.Range, reason string) {
	o := w.owner
	c := newSystemChunk(schema.Gaps())
	k := c.rows.Columns
	k[gapTopicID].AppendFixed16(o.source.Topic)
	k[gapPartition].AppendInt(int64(o.source.Partition))
	k[gapFirst].AppendInt(lost.First)
	k[gapConnector].AppendBytes([]byte(o.source.Connector))
	k[gapTopic].AppendBytes([]byte(o.topic))
	k[gapNext].AppendInt(lost.Next)
	k[gapReason].AppendBytes([]byte(reason))
	k[gapTime].AppendInt(time.Now().UnixMicro())
	c.offsets = append(c.offsets, lost.First)
	c.parent, c.owner, c.written = parent, o, GapWritten
	o.session.options.reached(GapSending)
	parent.pending.Add(1)
	c.pending.Store(1)
	o.sendSystem(c, schema.GapsTable)
	c.release(true)
}
