package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Prepared are events at a rate that are made and compressed beforehand, as on another machine: to send them takes next to
// nothing of the processor that a measurement is about. Of more than fit into memory the rest are made meanwhile, for half of what a
// Producer takes, but not before half of those that fit are sent: whoever reads them is not disturbed while it begins.
type Prepared struct {
	options ProducerOptions
	client  *kgo.Client
	first   []burst    // of what is made before any is sent: half of it
	bursts  chan burst // made and not sent yet; closed behind the last one
	cancel  context.CancelFunc
	maker   sync.WaitGroup
	acked   atomic.Int64
}

// burst is what is due at one tick: a batch for each partition that gets events.
type burst struct {
	events  int64
	batches []preparedBatch
}

type preparedBatch struct {
	partition int32
	bytes     []byte // a record batch of the Kafka protocol, lz4
}

// Where a record batch has its checksum, of all behind it, and the times of its first and last record.
const (
	batchCRC   = 17
	batchSum   = 21
	batchTimes = 27
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Prepare makes count events, rate a second, for a cluster of one broker, and returns when ahead of them are made. Their event times follow
// the clock from now on; the records' times are those of sending. Of the options Brokers, Dial, Topic, Partitions, Seed and FirstID count.
// Close it in the end.
func Prepare(o ProducerOptions, count, rate, ahead int64) (*Prepared, error) {
	o.Partitions = max(o.Partitions, 1)
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(kmsg.Produce.Int16(), 12) // 13 names topics by id
	client, err := o.client(kgo.MaxVersions(versions))
	if err != nil {
		return nil, fmt.Errorf("broker: prepare: %w", err)
	}
	compressor, err := kgo.DefaultCompressor(kgo.Lz4Compression())
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("broker: prepare: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	half := ahead * int64(time.Second/tick) / rate / 2
	p := &Prepared{options: o, client: client, first: make([]burst, 0, half), bursts: make(chan burst, max(1, half)), cancel: cancel}
	ready := make(chan struct{})
	p.maker.Go(func() {
		p.fill(ctx, compressor, count, rate, sync.OnceFunc(func() { close(ready) }))
	})
	<-ready
	return p, nil
}

// fill makes all bursts. ready is called when as many are made as are kept ahead, or all of them.
func (p *Prepared) fill(ctx context.Context, compressor kgo.Compressor, count, rate int64, ready func()) {
	defer close(p.bursts)
	defer ready()
	start := time.Now().UnixMicro()
	g := NewGenerator(p.options.Seed, start, 1, p.options.FirstID)
	records := make([][]byte, p.options.Partitions)
	counts := make([]int32, p.options.Partitions)
	var compressed bytes.Buffer
	var value []byte
	for made, ticks := int64(0), int64(1); made < count; ticks++ {
		due := min(rate*ticks*int64(tick)/int64(time.Second), count) - made
		for i := range records {
			records[i], counts[i] = records[i][:0], 0
		}
		var e Event
		for i := range due {
			g.SetTime(start + (made+i)*int64(time.Second/time.Microsecond)/rate)
			g.Next(&e)
			part := int((made + i) % int64(len(records)))
			value = e.AppendJSON(value[:0])
			records[part] = appendRecord(records[part], counts[part], value)
			counts[part]++
		}
		b := burst{events: due}
		for part, n := range counts {
			if n == 0 {
				continue
			}
			compressed.Reset()
			body, _ := compressor.Compress(&compressed, records[part])
			b.batches = append(b.batches, preparedBatch{int32(part), encodeBatch(body, n)})
		}
		made += due
		if len(p.first) < cap(p.first) {
			p.first = append(p.first, b)
			continue
		}
		if len(p.bursts) == cap(p.bursts) {
			ready()
		}
		select {
		case p.bursts <- b:
		case <-ctx.Done():
			return
		}
	}
}

func appendRecord(to []byte, i int32, value []byte) []byte {
	r := kmsg.NewRecord()
	r.OffsetDelta, r.Value = i, value
	at := len(to)
	to = r.AppendTo(to)
	r.Length = int32(len(to) - at - 1) // it was 0, which takes a byte
	return r.AppendTo(to[:at])
}

// encodeBatch makes a record batch of n records without times and checksum.
func encodeBatch(records []byte, n int32) []byte {
	b := kmsg.NewRecordBatch()
	b.PartitionLeaderEpoch, b.Magic, b.Attributes = -1, 2, int16(kgo.CodecLz4)
	b.LastOffsetDelta, b.NumRecords, b.Records = n-1, n, records
	b.ProducerID, b.ProducerEpoch, b.FirstSequence = -1, -1, -1
	out := b.AppendTo(nil)
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-12))
	return out
}

// stamp gives all records of a batch a time.
func stamp(b []byte, millis int64) {
	binary.BigEndian.PutUint64(b[batchTimes:], uint64(millis))
	binary.BigEndian.PutUint64(b[batchTimes+8:], uint64(millis))
	binary.BigEndian.PutUint32(b[batchCRC:], crc32.Checksum(b[batchSum:], castagnoli))
}

// Send produces the events, each burst in its moment, whether or not the broker has answered the ones before, until ctx is done,
// and waits for the answers. The error is that of a lost burst; ctx being done is none. It may be called once.
func (p *Prepared) Send(ctx context.Context) error {
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	due := time.Now()
	for b := range p.inOrder {
		due = due.Add(tick)
		if !wait(ctx, time.Until(due)) || failed.Load() != nil {
			break
		}
		req := p.request(&b)
		wg.Go(func() {
			if err := p.send(req); err != nil {
				failed.CompareAndSwap(nil, &err)
				return
			}
			p.acked.Add(b.events)
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return fmt.Errorf("broker: an event was lost: %w", *err)
	}
	return nil
}

// inOrder yields all bursts, and gives up their memory.
func (p *Prepared) inOrder(yield func(burst) bool) {
	for i := range p.first {
		b := p.first[i]
		if p.first[i] = (burst{}); !yield(b) {
			return
		}
	}
	for b := range p.bursts {
		if !yield(b) {
			return
		}
	}
}

func (p *Prepared) request(b *burst) *kmsg.ProduceRequest {
	t := kmsg.NewProduceRequestTopic()
	t.Topic = p.options.Topic
	now := time.Now().UnixMilli()
	for _, batch := range b.batches {
		stamp(batch.bytes, now)
		part := kmsg.NewProduceRequestTopicPartition()
		part.Partition, part.Records = batch.partition, batch.bytes
		t.Partitions = append(t.Partitions, part)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.Topics = -1, 30_000, append(req.Topics, t)
	return req
}

func (p *Prepared) send(req *kmsg.ProduceRequest) error {
	resp, err := req.RequestWith(context.Background(), p.client)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, part := range t.Partitions {
			if err := kerr.ErrorForCode(part.ErrorCode); err != nil {
				return fmt.Errorf("%s/%d: %w", t.Topic, part.Partition, err)
			}
		}
	}
	return nil
}

// Acked is the number of events that the broker has acknowledged.
func (p *Prepared) Acked() int64 { return p.acked.Load() }

// Close ends the client. What is made and not sent is given up.
func (p *Prepared) Close() {
	p.cancel()
	p.maker.Wait()
	p.client.Close()
}
