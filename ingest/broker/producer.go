package broker

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ProducerOptions of a Producer.
type ProducerOptions struct {
	Brokers    []string
	Dial       func(ctx context.Context, network, address string) (net.Conn, error) // nil means the ordinary way
	Topic      string
	Partitions int    // of the topic; events go to them in turn
	Run        int    // consecutive events to the same partition; 0 means 1
	Codec      string // none, lz4 (the default), snappy, zstd, gzip
	Seed       uint64
	FirstID    int64         // ids of events begin behind this
	Start      time.Time     // event time of the first one; zero means that event times follow the clock
	Step       time.Duration // between events' times when Start is given; 0 means 20 µs
	Linger     time.Duration // 0 means 5 ms
	// Each is called with each event before it is encoded, by the goroutine of Run, and may change it. nil means that nobody asks.
	Each func(e *Event)
	// Acked is called for each acknowledged event with where it is, in the order of offsets within a partition, from
	// several goroutines. It must not block. nil means that nobody asks.
	Acked func(partition int32, offset int64, e *Event)
}

// Producer sends reference events. One goroutine may call Run at a time; the counts may be read by any.
type Producer struct {
	options   ProducerOptions
	client    *kgo.Client
	generator *Generator
	next      int64
	produced  atomic.Int64
	acked     atomic.Int64
	bytes     atomic.Int64
	failed    atomic.Pointer[error]
}

// NewProducer connects lazily. Close it in the end.
func NewProducer(o ProducerOptions) (*Producer, error) {
	o.Partitions, o.Run = max(o.Partitions, 1), max(o.Run, 1)
	if o.Step == 0 {
		o.Step = 20 * time.Microsecond
	}
	if o.Linger == 0 {
		o.Linger = 5 * time.Millisecond
	}
	codec, err := codecOf(o.Codec)
	if err != nil {
		return nil, err
	}
	client, err := o.client(kgo.DefaultProduceTopic(o.Topic), kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(o.Linger),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(100_000))
	if err != nil {
		return nil, fmt.Errorf("broker: producer: %w", err)
	}
	p := &Producer{options: o, client: client}
	p.generator = NewGenerator(o.Seed, o.Start.UnixMicro(), o.Step.Microseconds(), o.FirstID)
	return p, nil
}

func (o *ProducerOptions) client(opts ...kgo.Opt) (*kgo.Client, error) {
	opts = append(opts, kgo.SeedBrokers(o.Brokers...), kgo.ClientID("nyala-producer"), kgo.DisableClientMetrics())
	if o.Dial != nil {
		opts = append(opts, kgo.Dialer(o.Dial))
	}
	return kgo.NewClient(opts...)
}

func codecOf(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "", "lz4":
		return kgo.Lz4Compression(), nil
	case "none":
		return kgo.NoCompression(), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	}
	return kgo.CompressionCodec{}, fmt.Errorf("broker: codec %q is unknown, want none, lz4, snappy, zstd or gzip", name)
}

// Close ends the client; what is not acknowledged by then is lost.
func (p *Producer) Close() { p.client.Close() }

// Produced is the number of events handed to the client, Acked those that are in the log, and Bytes the length of
// the values handed over.
func (p *Producer) Produced() int64 { return p.produced.Load() }

// Acked is the number of events that the broker has acknowledged.
func (p *Producer) Acked() int64 { return p.acked.Load() }

// Bytes is the length of all values produced.
func (p *Producer) Bytes() int64 { return p.bytes.Load() }

// Run produces count events (0: without end) at rate a second (0: as fast as it goes) until ctx is done, and
// waits until all that it produced are acknowledged. The error is that of a lost event; ctx being done is none.
func (p *Producer) Run(ctx context.Context, count, rate int64) error {
	begin := time.Now()
	for n := int64(0); count == 0 || n < count; {
		due := int64(runMax)
		if rate > 0 {
			due = int64(time.Since(begin).Seconds()*float64(rate)) - n
		}
		if count > 0 {
			due = min(due, count-n)
		}
		for range due {
			if ctx.Err() != nil {
				return p.flush()
			}
			p.one()
			n++
		}
		if rate > 0 && !wait(ctx, tick) || ctx.Err() != nil {
			break
		}
	}
	return p.flush()
}

const (
	runMax = 1000                  // events between looks at the clock when there is no rate
	tick   = 10 * time.Millisecond // between bursts when there is one
)

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *Producer) one() {
	if p.options.Start.IsZero() {
		p.generator.SetTime(time.Now().UnixMicro())
	}
	var e Event
	p.generator.Next(&e)
	if p.options.Each != nil {
		p.options.Each(&e)
	}
	value := e.AppendJSON(make([]byte, 0, 320))
	partition := int32(p.next / int64(p.options.Run) % int64(p.options.Partitions))
	p.next++
	p.produced.Add(1)
	p.bytes.Add(int64(len(value)))
	p.client.Produce(context.Background(), &kgo.Record{Value: value, Partition: partition}, func(r *kgo.Record, err error) {
		if err != nil {
			p.failed.CompareAndSwap(nil, &err)
			return
		}
		if p.options.Acked != nil {
			p.options.Acked(r.Partition, r.Offset, &e)
		}
		p.acked.Add(1)
	})
}

// flush waits for what is under way, with no end: the broker may be away for a while.
func (p *Producer) flush() error {
	if err := p.client.Flush(context.Background()); err != nil {
		return fmt.Errorf("broker: producer: %w", err)
	}
	if err := p.failed.Load(); err != nil {
		return fmt.Errorf("broker: producer: an event was lost: %w", *err)
	}
	return nil
}
