package ingest

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/offsets"
	"nyala/store/schema"
)

// worker turns an owner's records into chunks, one run of records at a time, in offset order.
type worker struct {
	*owner
	layout    *Layout
	decisions *Decisions // that the owner began with
	decision  int        // position of the one whose decider this is
	until     int64      // where the next one begins
	decider   *decider
	schema    *schema.Schema // that it decodes under
	pool      *decodedPool
	letters   *letterWriter
	epoch     int32 // one more than the leader epoch of the record before; 0: it had none
}

// run is the owner's goroutine; session.close waits for it.
func (o *owner) run() {
	defer close(o.gone)
	w := &worker{owner: o, letters: &letterWriter{owner: o}}
	for {
		it, ok := o.next()
		if !ok {
			return
		}
		if !it.gap.Empty() {
			w.lose(it)
			continue
		}
		w.take(it.records)
	}
}

// take works off one polled run of records.
func (w *worker) take(records []*kgo.Record) {
	held, pool := records, w.session.inflate.pool // of batches that go on
	for len(records) > 0 {
		if w.prepare(records[0].Offset) != nil {
			break
		}
		n, bytes := w.cut(records)
		if !w.begin() {
			break
		}
		if w.acquire(bytes) != nil {
			w.abandon()
			break
		}
		w.chunk(records[:n], bytes)
		records = records[n:]
		held = held[pool.takeBack(held, len(held)-len(records)):]
	}
	w.session.takeBack(held)
}

// acquire waits for memory for a chunk, and for what it becomes.
func (w *worker) acquire(bytes int64) error {
	w.setWaiting(time.Now())
	defer w.setWaiting(time.Time{})
	return w.session.options.Acquire(w.ctx, bytes)
}

func (o *owner) setWaiting(since time.Time) {
	o.mu.Lock()
	o.mu.waiting = since
	o.mu.Unlock()
}

// abandon takes a begin back.
func (o *owner) abandon() {
	o.mu.Lock()
	o.mu.outstanding--
	o.closeIdleLocked()
	o.mu.Unlock()
}

// spanMax bounds the offsets of a chunk, so that a row's place in its segment fits 32 bits although a compacted
// topic may jump far.
const spanMax = 1 << 30

// cut says how many records the next chunk takes, at least one, and how many bytes they have. One decision holds for all of them.
func (w *worker) cut(records []*kgo.Record) (n int, bytes int64) {
	for n < len(records) && n < w.session.options.ChunkRows {
		size := recordBytes(records[n])
		if n > 0 && (bytes+size > w.session.options.ChunkBytes || records[n].Offset-records[0].Offset > spanMax || records[n].Offset >= w.until) {
			break
		}
		bytes += size
		n++
	}
	return n, bytes
}

// recordStructBytes is what a record of the client costs beside its bytes, with what its pool rounds up.
const recordStructBytes = 256

// recordBytes is what a record counts for until it is decided. First there are its bytes and the client's record of it,
// later its values in a chunk and once more in an entry.
func recordBytes(r *kgo.Record) int64 {
	n := int64(kafkaBytes(r) + len(r.Headers)*headerBytes)
	return n + max(n+rowBytes, recordStructBytes)
}

// headerBytes is what holding a header takes beside its bytes.
const headerBytes = 40

// rowBytes is what a row costs beside its values: key, offset, numbers.
const rowBytes = 64

// prepare gets the table's layout and a decoder for the record at an offset. The error is that of a context that is done, or of an
// owner that must begin again.
func (w *worker) prepare(offset int64) error {
	troubled := false
	return retry(w.ctx, func() error {
		o := w.session.options
		l, err := o.Router.Layout(o.Table)
		if err != nil {
			troubled = true
			w.session.connector.setReason(fmt.Sprintf("table %s: %v", o.Table, err))
			return err
		}
		if err := w.decide(l, offset); errors.Is(err, errRefused) {
			w.session.connector.setReason("")
			return err
		} else if err != nil {
			troubled = true
			w.session.connector.setReason(err.Error())
			return err
		}
		w.layout = l
		if troubled {
			w.session.connector.setReason("")
		}
		return nil
	}, errRefused)
}

// chunk decodes and sends one run of records. Their memory is taken back after its end, because a row that has no place
// becomes a dead letter of its record's own bytes.
func (w *worker) chunk(records []*kgo.Record, bytes int64) {
	c := &chunk{decoded: w.pool.get(len(records)), owner: w.owner, schema: w.schema, decision: w.decisions.Version, bytes: bytes}
	c.span = offsets.Range{First: w.position, Next: records[len(records)-1].Offset + 1}
	c.pending.Store(1)
	var failure string
	for i, r := range records {
		if failure = w.check(r); failure == "" && !r.Attrs.IsControl() {
			failure = w.row(c, r, int32(i))
		}
		if failure != "" {
			c.span.Next = max(r.Offset, c.span.First)
			records = records[:i] // the ones before are good
			break
		}
	}
	c.seal()
	w.session.options.reached(Decoded)
	refused, err := c.route(w.ctx, w.session.options.Router, w.session.options.Table, w.layout)
	if err != nil {
		c.abandoned.Store(true)
	} else if failure = w.refuse(c, records, refused, failure); !c.abandoned.Load() {
		w.session.options.reached(Routed)
		w.letters.send(c)
		w.send(c)
	}
	w.letters.reset()
	w.note(c, records)
	c.release(true)
	if failure != "" {
		w.fail(Failed, failure)
	}
}

// check looks at what Kafka promises: offsets rise, and so do leader epochs. If they do not, the log was
// rewritten behind our back (an unclean leader election), offsets no longer name the same records, and
// "once" has lost its meaning.
func (w *worker) check(r *kgo.Record) string {
	if r.Offset < w.position {
		return fmt.Sprintf("offset went back from %d to %d: the partition's log was rewritten", w.position, r.Offset)
	}
	if r.LeaderEpoch >= 0 && r.LeaderEpoch == w.epoch-1 {
		return "" // as a rule, and without the lock
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.mu.epochs)
	if n > 0 && r.LeaderEpoch >= 0 && r.LeaderEpoch < w.mu.epochs[n-1].epoch {
		return fmt.Sprintf("leader epoch went back from %d to %d at offset %d: the partition's log was rewritten", w.mu.epochs[n-1].epoch, r.LeaderEpoch, r.Offset)
	}
	if r.LeaderEpoch >= 0 {
		if n == 0 || w.mu.epochs[n-1].epoch != r.LeaderEpoch {
			w.mu.epochs = append(w.mu.epochs, epochStart{r.Offset, r.LeaderEpoch})
		}
		w.epoch = r.LeaderEpoch + 1
	}
	return ""
}

// row decodes one record into c, or makes it a dead letter; the result says why the partition must stop.
func (w *worker) row(c *chunk, r *kgo.Record, i int32) string {
	at := r.Timestamp.UnixMilli()
	if c.newest = max(c.newest, at); c.oldest == 0 || at < c.oldest {
		c.oldest = at
	}
	op, refusal := w.decider.decide(r, c.rows)
	if refusal == nil {
		c.offsets = append(c.offsets, r.Offset)
		c.records = append(c.records, i)
		c.addOp(op)
		return ""
	}
	return w.bad(c, r, refusal)
}

// bad treats a bad record as the policy says.
func (w *worker) bad(c *chunk, r *kgo.Record, why *refusal) string {
	w.counters.letter(why.stage, why.code)
	if w.session.options.BadRecords == BadRecordFail {
		return fmt.Sprintf("bad record at offset %d: %s", r.Offset, why.message)
	}
	c.letters++
	w.letters.add(r, why)
	return ""
}

// refuse makes dead letters of rows whose range the table will not have.
func (w *worker) refuse(c *chunk, records []*kgo.Record, refused []uint32, failure string) string {
	for _, row := range refused {
		r := records[c.records[row]]
		if f := w.bad(c, r, &rangeRefused); f != "" {
			// Rows behind this one may be in the chunk and must not be sent; the run is read again after a restart.
			c.abandoned.Store(true)
			return f
		}
	}
	return failure
}

// send gives the rows of c to their tablets.
func (w *worker) send(c *chunk) {
	c.pending.Add(int32(len(c.slots)))
	size, cut := c.rows.Bytes(), c.cut(w.session.options)
	if !cut {
		c.encodeKeys()
	}
	for i := range c.slots {
		s := &c.slots[i]
		l := w.lanes[s.tablet]
		if l == nil {
			l = &lane{owner: w.owner, next: w.start}
			w.lanes[s.tablet] = l
		}
		p := piece{chunk: c, block: i, rows: s.rows, lane: l, bytes: size * len(s.rows) / max(c.count, 1)}
		if cut {
			p.rows = everyRow[:len(s.rows):len(s.rows)]
		}
		w.session.options.Sender.send(s.tablet, p)
	}
	if cut {
		c.free()
	}
}

// note moves the position behind what c has taken.
func (w *worker) note(c *chunk, records []*kgo.Record) {
	w.position = c.span.Next
	w.counters.records.Add(int64(len(records)))
	w.counters.bytes.Add(c.bytes)
	w.mu.Lock()
	w.mu.position = w.position
	w.mu.Unlock()
}

// lose writes down offsets that are gone from the log, and goes on behind them.
func (w *worker) lose(it item) {
	lost := offsets.Range{First: w.position, Next: it.gap.Next}
	if lost.Empty() || !w.begin() {
		return
	}
	c := &chunk{owner: w.owner, span: lost}
	c.pending.Store(1)
	w.letters.gap(c, lost, it.why)
	w.counters.gaps.Add(lost.Next - lost.First)
	w.note(c, nil)
	c.release(true)
}
