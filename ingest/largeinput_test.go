package ingest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nyala/store/schema"
)

// largeTopics is a world whose brokers take messages of 64 MiB.
func largeTopics(t *testing.T, partitions int32) *world {
	return newWorld(t, map[string]int32{"app": partitions, "letters": 1}, kfake.BrokerConfigs(map[string]string{"message.max.bytes": fmt.Sprint(64 << 20)}))
}

// produceLarge sends each record in a batch of its own.
func (w *world) produceLarge(codec kgo.CompressionCodec, records ...*kgo.Record) {
	w.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.Dialer(w.net.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(128<<20), kgo.BrokerMaxWriteBytes(256<<20))
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	for _, r := range records {
		if err := c.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
	}
}

func largeEvent(id, size int) []byte {
	text := bytes.Repeat([]byte("x"), size)
	copy(text, fmt.Sprintf(`{"tenant":0,"id":%d,"text":"`, id))
	copy(text[size-2:], `"}`)
	return text
}

// TestLargeRecords has records of 20 MiB, which are rows; garbage of 20 MiB, which is kept in a dead letter; and records and rows
// beyond the limit, whose letters say so and keep nothing.
func TestLargeRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := largeTopics(t, 1)
		key := bytes.Repeat([]byte("k"), 20<<20)
		w.produceLarge(kgo.NoCompression(),
			&kgo.Record{Topic: "app", Value: event(0, 0)},
			&kgo.Record{Topic: "app", Value: largeEvent(1, 20<<20)},
			&kgo.Record{Topic: "app", Value: bytes.Repeat([]byte("g"), 20<<20)},
			&kgo.Record{Topic: "app", Value: largeEvent(3, recordBytesMax+1)},
			&kgo.Record{Topic: "app", Value: event(0, 4), Headers: []kgo.RecordHeader{{Key: "h", Value: key}}},
			&kgo.Record{Topic: "app", Value: largeEvent(5, 20<<20), Headers: []kgo.RecordHeader{{Key: "h", Value: key}}},
			&kgo.Record{Topic: "app", Value: event(0, 6)},
			&kgo.Record{Topic: "app", Key: key, Value: event(0, 7)},
		)
		w.addTable("twice", twiceTable(), -everything, everything)
		n := w.connector(func(o *Options) { o.DeadLetterTopic = "letters" })
		w.checkpointed(map[int32]int64{0: 8})
		if rows := w.rows("events"); len(rows) != 5 {
			t.Errorf("got %d rows, want 5", len(rows))
		}
		letters := w.letters()
		for at, want := range map[int64]string{
			2: "bad_syntax: ", 3: fmt.Sprintf("too_large: got a record of %d bytes, want at most %d", recordBytesMax+1, recordBytesMax), 5: "too_large: got a record of ",
		} {
			if !strings.HasPrefix(letters[at], want) {
				t.Errorf("letter %d: got %.100q, want %q", at, letters[at], want)
			}
		}
		for _, r := range w.rows(schema.DeadLettersTable) {
			if large := len(r) > 20<<20; large != strings.Contains(r, "bad_syntax") {
				t.Errorf("a letter of %d bytes: %.100q", len(r), r[:min(len(r), 100)])
			}
		}
		n.stop()
		w.produceLarge(kgo.NoCompression(), &kgo.Record{Topic: "app", Key: key, Value: []byte(`{"id":1}`)})
		w.connector(func(o *Options) { o.Table, o.Add = "twice", map[string]string{"a": "key", "b": "key"} })
		w.await("a letter of a row that is too large", func() bool { return strings.HasPrefix(w.letters()[8], "too_large: got a row of ") })
		w.noProblems()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.mu.held != 0 {
			t.Errorf("%d bytes of the budget are still held", w.mu.held)
		}
	})
}

func twiceTable() *schema.Schema {
	s := eventTable()
	s.Columns = append(s.Columns[1:2:2], schema.Column{Name: "a", Type: schema.Type{Kind: schema.String}}, schema.Column{Name: "b", Type: schema.Type{Kind: schema.String}})
	for i := range s.Columns {
		s.Columns[i].ID = schema.ColumnID(i + 1)
	}
	s.Key, s.Hash = []int{0}, []int{0}
	return s
}

// codecs lacks zstd, whose decoders are closed by a finalizer outside of the bubble: TestInflater has it.
var codecs = map[string]kgo.CompressionCodec{
	"gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(),
}

// TestDecompressionBomb has a batch that becomes too large: it is a gap, and the partition goes on; or the partition stops, by
// the policy. No more than the limit is ever decompressed of it.
func TestDecompressionBomb(t *testing.T) {
	for name, codec := range codecs {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := largeTopics(t, 1)
				w.produce("app", 0, 0, 3)
				w.produceLarge(codec, &kgo.Record{Topic: "app", Value: largeEvent(3, batchBytesMax+(1<<20))})
				w.produce("app", 0, 4, 2)
				failing := w.connector(func(o *Options) { o.BadRecords = BadRecordFail })
				w.await("a failed partition", func() bool { p := failing.partition(0); return p != nil && p.State == Failed })
				if r := failing.partition(0).Reason; !strings.HasPrefix(r, "batch_too_large: the batch of offsets 3 to 3 becomes more than 64 MiB") {
					t.Errorf("reason: %s", r)
				}
				w.checkpointed(map[int32]int64{0: 3})
				failing.stop()
				n := w.connector()
				w.checkpointed(map[int32]int64{0: 6})
				w.exactlyOnce(map[int32][]int{0: {0, 1, 2, -1, 4, 5}})
				gaps := w.rows(schema.GapsTable)
				if len(gaps) != 1 || !strings.Contains(gaps[0], "|0|3|app|4|app|batch_too_large: ") {
					t.Errorf("gaps: %q", gaps)
				}
				if most := n.mu.session.inflate.most.Load(); most > 1<<20 {
					t.Errorf("%d bytes were decompressed", most)
				}
			})
		})
	}
}

// TestInflater decompresses batches up to the limit and refuses larger ones, whatever the codec, without making them first; and puts
// off what comes after enough.
func TestInflater(t *testing.T) {
	f, err := newInflater(newRecordPool(1<<20), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for name, codec := range map[string]kgo.CompressionCodec{"gzip": codecs["gzip"], "snappy": codecs["snappy"], "lz4": codecs["lz4"], "zstd": kgo.ZstdCompression()} {
		sizes := []int{batchBytesMax, batchBytesMax + 1, 2 * batchBytesMax}
		if testing.Short() {
			sizes = sizes[1:2]
		}
		for _, size := range sizes {
			c, err := kgo.DefaultCompressor(codec)
			if err != nil {
				t.Fatal(err)
			}
			small, kind := c.Compress(new(bytes.Buffer), make([]byte, size))
			f.polled()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			out, err := f.Decompress(small, kind)
			runtime.ReadMemStats(&after)
			if size > batchBytesMax && !errors.Is(err, kgo.ErrMaxDecompress) || size <= batchBytesMax && (err != nil || len(out) != size) {
				t.Errorf("%s: %d bytes became %d, %v", name, size, len(out), err)
			}
			const own = 16<<20 + 2*lz4RoomMax // of a codec that is used for the first time: lz4 has two blocks of 4 MiB, and is tried with small buffers
			if made := after.TotalAlloc - before.TotalAlloc; made > 8*batchBytesMax+own {
				t.Errorf("%s: %d bytes were made of a batch of %d", name, made, size)
			}
			if size == batchBytesMax {
				if _, err := f.Decompress(small, kind); !errors.Is(err, errFetchFull) {
					t.Errorf("%s: a second batch: %v", name, err)
				}
			}
		}
	}
}

// TestManyBombs has batches that each become just less than too much, and one fetch could bring all of them.
func TestManyBombs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each, rounds, partitions = 8 << 20, 4, 6
		w := largeTopics(t, partitions)
		want := map[int32][]int{}
		for i := range rounds {
			for p := range int32(partitions) {
				w.produceLarge(kgo.Lz4Compression(), &kgo.Record{Topic: "app", Partition: p, Value: largeEvent(int(p)*100+i, each)})
				want[p] = append(want[p], int(p)*100+i)
			}
		}
		n := w.connector(func(o *Options) { o.SessionBytes = 8 << 20 })
		for p := range int32(partitions) {
			w.await("all of a partition", func() bool { return w.checkpoint(p) == rounds })
		}
		if rows := w.rows("events"); len(rows) != rounds*partitions {
			t.Errorf("got %d rows, want %d", len(rows), rounds*partitions)
		}
		w.noProblems()
		limit := n.mu.session.inflate.limit
		if most := n.mu.session.inflate.most.Load(); most > limit+3*each { // three brokers at once
			t.Errorf("%d MiB were decompressed between two polls, want at most %d MiB and a batch of each broker", most>>20, limit>>20)
		}
	})
}

// TestBrokenBatch has a batch that cannot be decompressed. The partition stands still and says so, without asking for it
// in a hot loop; others go on.
func TestBrokenBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 2})
		logged := &logBuffer{}
		w.logger = slog.New(slog.NewTextHandler(logged, nil))
		w.produce("app", 0, 0, 3)
		w.produceBroken()
		w.produce("app", 1, 100, 3)
		n := w.connector()
		w.await("the other partition", func() bool { return w.checkpoint(1) == 3 })
		w.await("a reason", func() bool {
			return strings.HasPrefix(n.partition(0).Reason, "nothing can be fetched from offset 3 on: unable to decompress batch")
		})
		time.Sleep(time.Minute)
		if p := n.partition(0); p.State != Running || p.Watermark != 3 {
			t.Errorf("got %+v", p)
		}
		n.stop()
		if lines := strings.Count(logged.text.String(), "fetch failed"); lines == 0 || lines > 70 {
			t.Errorf("a minute of a broken batch was worth %d lines", lines)
		}
	})
}

// produceBroken appends a batch to partition 0 whose records are no gzip, with a right checksum.
func (w *world) produceBroken() {
	w.t.Helper()
	b := kmsg.RecordBatch{Magic: 2, Attributes: 1, NumRecords: 1, PartitionLeaderEpoch: -1, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, Records: []byte("garbage")}
	b.Length = int32(49 + len(b.Records))
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	meta, err := kadm.NewClient(w.admin).Metadata(context.Background(), "app")
	if err != nil {
		w.t.Fatal(err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 1000
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = raw
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.TopicID, topic.Partitions = "app", meta.Topics["app"].ID, append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	resp, err := w.admin.Broker(int(meta.Topics["app"].Partitions[0].Leader)).Request(context.Background(), req)
	if err != nil {
		w.t.Fatal(err)
	}
	if code := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode; code != 0 {
		w.t.Fatal(kerr.ErrorForCode(code))
	}
}
