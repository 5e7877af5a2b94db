package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ProducerOptions say where to and how a Producer produces.
type ProducerOptions struct {
	Address     string
	Topic       string
	Linger      time.Duration // how long a batch may wait to become larger; 0 means not at all
	BufferedMax int           // records that may be without an answer; 0 means 50,000
}

// Producer produces to chosen partitions with acks of all replicas, idempotently: within a partition,
// records get consecutive offsets in the order of Produce.
type Producer struct {
	client *kgo.Client
}

// NewProducer makes a producer; it connects when something is produced.
func NewProducer(o ProducerOptions) (*Producer, error) {
	if o.BufferedMax == 0 {
		o.BufferedMax = 50_000
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(o.Address), kgo.ClientID("nyala-producer"), kgo.DefaultProduceTopic(o.Topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(o.Linger), kgo.MaxBufferedRecords(o.BufferedMax),
	)
	if err != nil {
		return nil, fmt.Errorf("broker: producer: %w", err)
	}
	return &Producer{client}, nil
}

// Produce sends a value to a partition. It waits when too much is without an answer. acked is called with the
// record's offset, in the order of offsets for each partition, or with an error; it must not block. value must
// not be changed before.
func (p *Producer) Produce(ctx context.Context, partition int32, value []byte, acked func(offset int64, err error)) {
	p.client.Produce(ctx, &kgo.Record{Partition: partition, Value: value}, func(r *kgo.Record, err error) { acked(r.Offset, err) })
}

// Flush waits until everything has its answer.
func (p *Producer) Flush(ctx context.Context) error {
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("broker: producer: %w", err)
	}
	return nil
}

// Close ends the producer; what has no answer gets an error.
func (p *Producer) Close() { p.client.Close() }

// runLength is how many records in a row Load gives to one partition, about a batch.
const runLength = 4000

// Load produces n events of a generator as fast as it can, in runs to one partition after the other, and
// returns the bytes of their values once all are acknowledged. Batches are compressed with lz4.
func Load(ctx context.Context, o ProducerOptions, partitions int, n int64, g *Generator, progress func(done int64)) (bytes int64, err error) {
	o.Linger, o.BufferedMax = 20*time.Millisecond, 200_000
	p, err := NewProducer(o)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	var failed firstError
	var e Event
	for i := range n {
		if i%runLength == 0 {
			if err := failed.get(); err != nil {
				return bytes, err
			}
			progress(i)
		}
		g.Next(&e)
		value := e.AppendJSON(make([]byte, 0, 288))
		bytes += int64(len(value))
		p.Produce(ctx, int32(i/runLength%int64(partitions)), value, func(_ int64, err error) { failed.set(err) })
	}
	if err := errors.Join(p.Flush(ctx), failed.get()); err != nil {
		return bytes, err
	}
	progress(n)
	return bytes, nil
}

// firstError keeps the first of many.
type firstError struct{ err atomic.Pointer[error] }

func (f *firstError) set(err error) {
	if err != nil {
		err = fmt.Errorf("broker: producing: %w", err)
		f.err.CompareAndSwap(nil, &err)
	}
}

func (f *firstError) get() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Pacer produces events at a steady rate, each with the present as its time, one partition after the other.
type Pacer struct {
	Producer   *Producer
	Generator  *Generator
	Partitions int
	Rate       int // events a second
	// Acked is called for each acknowledged event with where it is, in the order of offsets for each
	// partition; nil: nobody asks. It must not block and not keep the event's memory.
	Acked func(partition int32, offset int64, e *Event)

	produced atomic.Int64
}

// tick is how often a Pacer catches up with its rate: often enough for records to come singly, not in bursts.
const tick = 2 * time.Millisecond

// Produced is the number of events acknowledged so far.
func (p *Pacer) Produced() int64 { return p.produced.Load() }

// Run produces until ctx is done or max events are sent, then waits for the last acknowledgement. A broker
// that is too slow lowers the rate: what was missed is not made up for beyond a tenth of a second.
func (p *Pacer) Run(ctx context.Context, max int64) error {
	var failed firstError
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last, due, sent := time.Now(), 0.0, int64(0)
	for sent < max && failed.get() == nil {
		select {
		case <-ctx.Done():
			max = sent
			continue
		case <-ticker.C:
		}
		now := time.Now()
		due = min(due+now.Sub(last).Seconds()*float64(p.Rate), float64(p.Rate)/10+1)
		last = now
		for ; due >= 1 && sent < max; due-- {
			p.send(ctx, int32(sent%int64(p.Partitions)), now.UnixMicro(), &failed)
			sent++
		}
	}
	// What is on its way is finished whatever ctx says: the caller counts on knowing what was produced.
	return errors.Join(p.Producer.Flush(context.WithoutCancel(ctx)), failed.get())
}

// inFlight is an event on its way; pooled.
type inFlight struct {
	event Event
	value []byte
}

var inFlights = sync.Pool{New: func() any { return &inFlight{value: make([]byte, 0, 320)} }}

func (p *Pacer) send(ctx context.Context, partition int32, now int64, failed *firstError) {
	f := inFlights.Get().(*inFlight)
	p.Generator.SetTime(now)
	p.Generator.Next(&f.event)
	f.value = f.event.AppendJSON(f.value[:0])
	p.Producer.Produce(context.WithoutCancel(ctx), partition, f.value, func(offset int64, err error) {
		if err != nil {
			failed.set(err)
			return // the client may still hold the value
		}
		if p.Acked != nil {
			p.Acked(partition, offset, &f.event)
		}
		p.produced.Add(1)
		inFlights.Put(f)
	})
}
