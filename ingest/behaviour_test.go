package ingest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/schema"
)

// TestTransactions has aborted and committed transactions: only committed records are rows, and the checkpoint
// passes over markers and aborted records to the very end.
func TestTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		w.connector()
		p, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.Dialer(w.net.DialContext),
			kgo.TransactionalID("x"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		ctx := context.Background()
		id, rows := 0, 0
		var want []int
		for i := range 9 {
			if err := p.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			commit := kgo.TransactionEndTry(i%3 != 1 && i != 8)
			for range 5 {
				if err := p.ProduceSync(ctx, &kgo.Record{Topic: "app", Value: event(0, id)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
				if commit {
					want = append(want, id)
					rows++
				} else {
					want = append(want, -1)
				}
				id++
			}
			want = append(want, -1) // the marker
			if err := p.EndTransaction(ctx, commit); err != nil {
				t.Fatal(err)
			}
		}
		w.awaitRows(rows)
		w.checkpointed(map[int32]int64{0: int64(len(want))})
		w.exactlyOnce(map[int32][]int{0: want})
	})
}

// TestCompacted has holes where compaction took records away.
func TestCompacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		if err := w.cluster.CreateTopic("app", 1, map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "segment.ms": "1"}); err != nil {
			t.Fatal(err)
		}
		for i := range 60 {
			w.produceRecords(&kgo.Record{Topic: "app", Key: fmt.Append(nil, i%7), Value: event(0, i)})
			time.Sleep(10 * time.Millisecond)
		}
		w.cluster.Compact()
		w.connector()
		w.checkpointed(map[int32]int64{0: 60})
		if n := len(w.rows("events")); n == 0 || n == 60 {
			t.Errorf("%d rows of 60 records, want fewer after compaction", n)
		}
		w.noProblems()
	})
}

// TestDeadLetters mixes in records that cannot be rows.
func TestDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1, "letters": 1})
		random := 0
		w.setWrite(func(uint64, int) writeFault { random++; return []writeFault{writeUnknown, writeWorks}[random%2] })
		n := w.connector(func(o *Options) { o.DeadLetterTopic = "letters" })
		want := ids(20)
		for i := range 20 {
			r := &kgo.Record{Topic: "app", Value: event(0, i)}
			switch i {
			case 3:
				r.Value, want[i] = []byte("garbage"), -1
			case 7:
				r.Value, want[i] = nil, -1
			case 11:
				r.Value, r.Key, want[i] = []byte(`{"tenant":1}`), []byte{0xff}, -1
				r.Headers = []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}
			}
			w.produceRecords(r)
		}
		w.checkpointed(map[int32]int64{0: 20})
		w.exactlyOnce(map[int32][]int{0: want})
		letters := strings.Join(w.rows(schema.DeadLettersTable), "\n")
		for _, part := range []string{
			"|0|3|app|app|", "|NULL|Z2FyYmFnZQ==|NULL|decode|bad_syntax: got no value at byte 0, want a JSON object|",
			"|0|7|app|app|", "|NULL|NULL|NULL|decode|no_value: ",
			"|0|11|app|app|", `|/w==|eyJ0ZW5hbnQiOjF9|[{"key":"h","value":"dg=="}]|decode|missing_value: column id: got no value at byte 0, want int64|`,
		} {
			if !strings.Contains(letters, part) {
				t.Errorf("no dead letter has %s:\n%s", part, letters)
			}
		}
		if c := n.Status().Counters.DeadLetters; c[Letter{"decode", "bad_syntax"}] != 1 || len(c) != 3 {
			t.Errorf("counters: %v", c)
		}
		w.checkLetterTopic()
	})
}

func (w *world) checkLetterTopic() {
	w.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.Dialer(w.net.DialContext), kgo.ConsumeTopics("letters"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	seen := map[string]bool{}
	for len(seen) < 3 {
		c.PollFetches(context.Background()).EachRecord(func(r *kgo.Record) {
			w.checkLetterRecord(r)
			seen[headerOf(r, "__connect.errors.offset")] = true
		})
	}
	if !seen["3"] || !seen["7"] || !seen["11"] {
		w.t.Errorf("offsets in the dead letter topic: %v", seen)
	}
}

// checkLetterRecord wants what Kafka Connect's DeadLetterQueueReporter writes: these headers and no other, their values text, behind
// the record's own; key, value and timestamp as they were.
func (w *world) checkLetterRecord(r *kgo.Record) {
	w.t.Helper()
	want := map[string]string{
		"topic": "app", "partition": "0", "offset": headerOf(r, "__connect.errors.offset"), "connector.name": "app", "task.id": "0",
		"stage": "VALUE_CONVERTER", "class.name": "nyala.decode", "exception.class.name": "nyala.BadRecord", "exception.stacktrace": "",
	}
	for _, h := range r.Headers {
		name, ours := strings.CutPrefix(h.Key, "__connect.errors.")
		if v, known := want[name]; ours && known && v != string(h.Value) || ours && !known && name != "exception.message" {
			w.t.Errorf("header %s: got %q, want %q", h.Key, h.Value, v)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		w.t.Errorf("headers that are missing: %v", want)
	}
	switch offset := headerOf(r, "__connect.errors.offset"); {
	case offset == "7" && r.Value != nil, offset == "3" && string(r.Value) != "garbage":
		w.t.Errorf("value of %s: %q", offset, r.Value)
	case offset == "11" && (string(r.Key) != "\xff" || r.Headers[0].Key != "h" || string(r.Headers[0].Value) != "v"):
		w.t.Errorf("record 11: %+v", r)
	}
	if m := headerOf(r, "__connect.errors.exception.message"); !strings.Contains(m, ": got ") {
		w.t.Errorf("message: %q", m)
	}
}

func headerOf(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// TestLetterTopicBroken has a dead letter topic that takes nothing: the status says so, the letter is not lost, and once the
// topic takes it the partition goes on. A record that is too large for the topic goes there bare.
func TestLetterTopicBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1, "letters": 1}, kfake.BrokerConfigs(map[string]string{"message.max.bytes": fmt.Sprint(2 << 20)}))
		if _, err := kadm.NewClient(w.admin).AlterTopicConfigs(context.Background(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: kadm.StringPtr("100000")}}, "letters"); err != nil {
			t.Fatal(err)
		}
		w.produceRecords(&kgo.Record{Topic: "app", Value: event(0, 0)}, &kgo.Record{Topic: "app", Value: []byte("garbage")}, &kgo.Record{Topic: "app", Value: event(0, 2)})
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.InvalidRecord, Topic: "letters", Count: -1})
		n := w.connector(func(o *Options) { o.DeadLetterTopic = "letters" })
		w.await("a reason", func() bool { return strings.HasPrefix(n.Status().Reason, "dead letter topic letters: INVALID_RECORD") })
		if at := w.checkpoint(0); at > 1 {
			t.Errorf("the checkpoint is at %d, and the letter is not in its topic", at)
		}
		fault.Remove()
		w.checkpointed(map[int32]int64{0: 3})
		noise := make([]byte, 500_000) // does not compress
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		w.produceRecords(&kgo.Record{Topic: "app", Key: []byte("k"), Value: noise}, &kgo.Record{Topic: "app", Value: event(0, 4)})
		w.checkpointed(map[int32]int64{0: 5})
		w.exactlyOnce(map[int32][]int{0: {0, -1, 2, -1, 4}})
		c, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.Dialer(w.net.DialContext), kgo.ConsumeTopics("letters"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for at := ""; at != "3"; {
			c.PollFetches(context.Background()).EachRecord(func(r *kgo.Record) {
				if at = headerOf(r, "__connect.errors.offset"); at == "3" && (r.Key != nil || r.Value != nil || headerOf(r, "nyala.left_out.bytes") == "") {
					t.Errorf("a record that is too large for the topic: %+v", r.Headers)
				}
			})
		}
	})
}

// TestBadRecordFail stops at the first bad record, with everything before it applied.
func TestBadRecordFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		w.produce("app", 0, 0, 10)
		w.produceRecords(&kgo.Record{Topic: "app", Value: []byte("{")})
		w.produce("app", 0, 11, 10)
		n := w.connector(func(o *Options) { o.BadRecords = BadRecordFail })
		w.await("a failed partition", func() bool { p := n.partition(0); return p != nil && p.State == Failed })
		w.checkpointed(map[int32]int64{0: 10})
		w.exactlyOnce(map[int32][]int{0: ids(10)})
		if r := n.partition(0).Reason; !strings.HasPrefix(r, "bad record at offset 10: bad_syntax") {
			t.Errorf("reason: %s", r)
		}
	})
}

// TestBackPressure stops the tablets: partitions are paused at their bound, and go on later.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 2})
		w.setWrite(func(uint64, int) writeFault { return writeFails })
		n := w.connector(func(o *Options) { o.PartitionBytes, o.ChunkRows = 20_000, 20 })
		for i := range 100 {
			w.produce("app", 0, i*50, 50)
		}
		time.Sleep(10 * time.Second)
		p := n.partition(0)
		if !p.Throttled || p.QueuedBytes < 20_000 {
			t.Errorf("not throttled: %+v", p)
		}
		if w.mu.heldMost > 2_000_000 {
			t.Errorf("held %d bytes", w.mu.heldMost)
		}
		w.setWrite(nil)
		w.awaitRows(5000)
		w.checkpointed(map[int32]int64{0: 5000})
		w.exactlyOnce(map[int32][]int{0: ids(5000)})
		if p := n.partition(0); p.Throttled || p.QueuedBytes != 0 {
			t.Errorf("still throttled: %+v", p)
		}
	})
}

// TestMemory has no memory to give for a while.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		free := make(chan struct{})
		n := w.connector(func(o *Options) {
			o.Acquire = func(ctx context.Context, n int64) error {
				select {
				case <-free:
					return w.acquire(ctx, n)
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
		w.produce("app", 0, 0, 10)
		time.Sleep(5 * time.Second)
		if len(w.rows("events")) != 0 {
			t.Error("rows without memory")
		}
		n.stop()
		close(free)
		w.connector()
		w.awaitRows(10)
		w.exactlyOnce(map[int32][]int{0: ids(10)})
	})
}

// TestPause pauses a connector, resumes it, and restarts it.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		n := w.connector()
		w.produce("app", 0, 0, 10)
		w.awaitRows(10)
		n.Pause()
		if st := n.Status(); st.State != Paused {
			t.Errorf("state %s", st.State)
		}
		time.Sleep(time.Second)
		w.produce("app", 0, 10, 10)
		time.Sleep(20 * time.Second)
		if got := len(w.rows("events")); got != 10 {
			t.Errorf("%d rows while paused", got)
		}
		n.Restart()
		time.Sleep(20 * time.Second)
		if got := len(w.rows("events")); got != 10 {
			t.Errorf("%d rows while paused and restarted", got)
		}
		n.Resume()
		w.awaitRows(20)
		w.checkpointed(map[int32]int64{0: 20})
		w.exactlyOnce(map[int32][]int{0: ids(20)})
		n.stop()
		if st := n.Status(); st.State != Stopped {
			t.Errorf("state %s", st.State)
		}
	})
}

// TestChanges deletes by tombstone, in the order of the partition.
func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		w.connector(func(o *Options) { o.Changes = true })
		for i := range 30 {
			w.produceRecords(&kgo.Record{Topic: "app", Key: fmt.Appendf(nil, `{"tenant":0,"id":%d}`, i%10), Value: event(0, i%10)})
		}
		for i := range 5 {
			w.produceRecords(&kgo.Record{Topic: "app", Key: fmt.Appendf(nil, `{"tenant":0,"id":%d}`, i)})
		}
		w.produceRecords(&kgo.Record{Topic: "app", Key: []byte(`{"tenant":0,"id":2}`), Value: event(0, 2)})
		w.checkpointed(map[int32]int64{0: 36})
		if got := len(w.rows("events")); got != 6 {
			t.Errorf("%d rows, want 6: %q", got, w.rows("events"))
		}
		w.noProblems()
	})
}

// rangeTable is partitioned by id in steps of a hundred, two buckets.
func rangeTable() *schema.Schema {
	s := eventTable()
	s.Buckets, s.Range = 2, &schema.Range{Column: 1, Every: 100}
	return s
}

// TestRanges makes range partitions as rows need them, and dead letters of rows that have no place.
func TestRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		w.addTable("events", rangeTable(), 0, 0)
		w.mu.floor = 300
		w.connector()
		w.produce("app", 0, 0, 1000)
		w.checkpointed(map[int32]int64{0: 1000})
		want := ids(1000)
		for i := range 300 {
			want[i] = -1
		}
		w.exactlyOnce(map[int32][]int{0: want})
		if l, _ := w.Layout("events"); len(l.Ranges) != 7 {
			t.Errorf("%d ranges, want 7", len(l.Ranges))
		}
		letters := w.rows(schema.DeadLettersTable)
		if len(letters) != 300 || !strings.Contains(letters[0], "|route|range_refused: ") {
			t.Errorf("%d dead letters, want 300: %.300q", len(letters), letters)
		}
	})
}

// TestTabletGone drops a tablet under rows in flight: they are read again, and are dead letters then.
func TestTabletGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		w.addTable("events", rangeTable(), 0, 0)
		w.setWrite(func(uint64, int) writeFault { return writeFails })
		w.connector()
		w.produce("app", 0, 0, 200)
		time.Sleep(5 * time.Second)
		w.mu.Lock()
		l := *w.mu.layouts["events"]
		gone := map[uint64]bool{}
		for _, id := range l.Ranges[0].Tablets {
			gone[id] = true
		}
		l.Ranges = l.Ranges[1:]
		w.mu.layouts["events"], w.mu.floor = &l, 100
		w.mu.write = func(id uint64, _ int) writeFault {
			if gone[id] {
				return writeGone
			}
			return writeWorks
		}
		w.mu.Unlock()
		w.checkpointed(map[int32]int64{0: 200})
		want := ids(200)
		for i := range 100 {
			want[i] = -1
		}
		w.exactlyOnce(map[int32][]int{0: want})
		if n := len(w.rows(schema.DeadLettersTable)); n != 100 {
			t.Errorf("%d dead letters, want 100", n)
		}
	})
}

// TestRegex finds topics by pattern, also one that comes later.
func TestRegex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app-one": 1, "other": 1})
		n := w.connector(func(o *Options) { o.Topics, o.TopicsRegex = nil, "^app-.*" })
		w.produce("app-one", 0, 0, 10)
		w.produce("other", 0, 50, 10)
		w.awaitRows(10)
		if err := w.cluster.CreateTopic("app-two", 1, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.produce("app-two", 0, 100, 10)
		w.await("rows of the new topic", func() bool { return len(w.rows("events")) == 20 })
		if st := n.Status(); len(st.Partitions) != 2 {
			t.Errorf("status: %+v", st)
		}
		w.noProblems()
	})
}

// TestTwoConnectors share a Sender and write to the same tablets.
func TestTwoConnectors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 2, "more": 1}, kfake.DefaultNumPartitions(1))
		a := w.connector()
		b := w.connector(func(o *Options) {
			o.Name, o.Group, o.Topics, o.Sender = "more", "more-group", []string{"more"}, a.sender
		})
		w.produce("app", 0, 0, 300)
		w.produce("app", 1, 0, 300)
		for i := range 300 {
			w.produceRecords(&kgo.Record{Topic: "more", Value: event(7, i)})
		}
		w.awaitRows(900)
		w.noProblems()
		b.stop()
		w.produce("app", 0, 300, 10)
		w.awaitRows(910)
		w.noProblems()
	})
}

// TestOptions are refused with every fault at once.
func TestOptions(t *testing.T) {
	_, err := New(Options{Settings: Settings{Op: batch.Delete}, Kafka: Kafka{SASL: SASL{Mechanism: "GSSAPI"}}})
	for _, part := range []string{"name", "broker", "topics", "table", "router", "checkpoints", "upsert", "GSSAPI"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("no fault about %s: %v", part, err)
		}
	}
}

// TestDeadLettersFirst keeps the dead letters from being written: the watermark waits for them.
func TestDeadLettersFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		l, _ := w.Layout(schema.DeadLettersTable)
		w.setWrite(func(tablet uint64, _ int) writeFault {
			if tablet == l.Ranges[0].Tablets[0] {
				return writeFails
			}
			return writeWorks
		})
		w.connector()
		w.produce("app", 0, 0, 10)
		w.produceRecords(&kgo.Record{Topic: "app", Value: []byte("{")})
		w.produce("app", 0, 11, 10)
		w.awaitRows(20)
		time.Sleep(10 * time.Second)
		if c := w.checkpoint(0); c > 10 {
			t.Errorf("checkpoint %d above a record that is nowhere", c)
		}
		w.setWrite(nil)
		w.checkpointed(map[int32]int64{0: 21})
		if n := len(w.rows(schema.DeadLettersTable)); n != 1 {
			t.Errorf("%d dead letters, want 1", n)
		}
	})
}

// TestSegments looks at what an undisturbed owner sends: to each tablet contiguous segments from its start on.
func TestSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		type sent struct {
			tablet uint64
			seg    offsets.Segment
		}
		var all []sent
		sender := NewSender(SenderOptions{EntryRows: 30, Write: func(ctx context.Context, tablet uint64, entry []byte) (Answer, error) {
			p, err := batch.ParseWrite(entry)
			if err != nil {
				t.Error(err)
				return Answer{}, nil
			}
			a, err := w.write(ctx, tablet, entry)
			w.mu.Lock()
			for _, s := range p.Segments {
				all = append(all, sent{tablet, s})
			}
			w.mu.Unlock()
			return a, err
		}})
		defer sender.Close()
		n := w.connector(func(o *Options) { o.Sender, o.ChunkRows = sender, 7 })
		w.produce("app", 0, 0, 500)
		w.awaitRows(500)
		n.stop()
		next := map[uint64]int64{}
		for _, s := range all {
			if s.seg.Start != 0 || s.seg.First != next[s.tablet] || s.seg.Next <= s.seg.First {
				t.Fatalf("tablet %d: segment %s with start %d after %d", s.tablet, s.seg.Range, s.seg.Start, next[s.tablet])
			}
			next[s.tablet] = s.seg.Next
		}
		if len(next) != 4 || len(all) < 20 {
			t.Errorf("%d segments to %d tablets", len(all), len(next))
		}
	})
}

// TestFar brings a lane that lags by more than a segment can span up to its chunk first.
func TestFar(t *testing.T) {
	o := &owner{source: offsets.Source{Connector: "c"}, start: 5}
	o.dead.Store(false)
	c := &chunk{decoded: newDecoded(eventTable(), 4), schema: eventTable()}
	c.owner, c.span = o, offsets.Range{First: 5 + 1<<33, Next: 6 + 1<<33}
	c.offsets = append(c.offsets, c.span.First)
	for i, v := range []schema.Value{{Int: 1}, {Int: 2}, {Bytes: []byte("x")}, {}, {}} {
		c.rows.Columns[i].AppendValue(v)
	}
	c.seal()
	c.encodeKeys()
	pieces := []piece{{chunk: c, rows: []uint32{0}, lane: &lane{owner: o, next: 5}}}
	if far(pieces) == nil {
		t.Fatal("not far")
	}
	var b entryBuilder
	entry, _ := b.buildAdvance(far(pieces))
	p, err := batch.ParseWrite(entry)
	if err != nil || p.Batch.Rows != 0 || p.Segments[0].First != 5 || p.Segments[0].Next != c.span.First || p.Segments[0].Start != 5 {
		t.Fatalf("advance: %+v, %v", p, err)
	}
	pieces[0].lane.next = p.Segments[0].Next
	if far(pieces) != nil {
		t.Fatal("still far")
	}
	entry, _ = b.build(pieces)
	if p, err = batch.ParseWrite(entry); err != nil || p.Offset(0) != c.span.First {
		t.Fatalf("entry: %+v, %v", p, err)
	}
}
