package broker

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func start(t *testing.T, o Options) *Broker {
	t.Helper()
	b, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// consume reads n records of the topic t.
func consume(t *testing.T, b *Broker, n int) (records []*kgo.Record) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(b.Address()), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for len(records) < n {
		fetches := c.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

func TestLoadedEventsComeInTurn(t *testing.T) {
	b := start(t, Options{Topic: "t", Partitions: 2})
	const n = 2*runLength + 10
	size, err := Load(t.Context(), ProducerOptions{Address: b.Address(), Topic: "t"}, 2, n, NewGenerator(1, 1e15, 20, 0), func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
	if mean := float64(size) / n; math.Abs(mean-273) > 5 {
		t.Errorf("%.1f bytes an event, want about 273", mean)
	}
	want, got := map[int32][]string{}, map[int32]int{}
	g := NewGenerator(1, 1e15, 20, 0)
	var e Event
	for i := range n {
		g.Next(&e)
		p := int32(i / runLength % 2)
		want[p] = append(want[p], string(e.AppendJSON(nil)))
	}
	for _, r := range consume(t, b, n) {
		if w := want[r.Partition][r.Offset]; string(r.Value) != w {
			t.Fatalf("partition %d offset %d: got %s, want %s", r.Partition, r.Offset, r.Value, w)
		}
		got[r.Partition]++
	}
	if got[0] != runLength+10 || got[1] != runLength {
		t.Errorf("got %v", got)
	}
}

func TestPacerSaysWhereEachEventIs(t *testing.T) {
	b := start(t, Options{Topic: "t", Partitions: 3})
	producer, err := NewProducer(ProducerOptions{Address: b.Address(), Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	var acked [3][]string // kgo calls back from one goroutine for a partition
	p := Pacer{Producer: producer, Generator: NewGenerator(1, 0, 1, 0), Partitions: 3, Rate: 1e6,
		Acked: func(partition int32, offset int64, e *Event) {
			if offset != int64(len(acked[partition])) {
				t.Errorf("partition %d: offset %d comes %d-th", partition, offset, len(acked[partition]))
			}
			acked[partition] = append(acked[partition], string(e.AppendJSON(nil)))
		}}
	if err := p.Run(t.Context(), 3000); err != nil {
		t.Fatal(err)
	}
	if p.Produced() != 3000 {
		t.Fatalf("%d produced, want 3000", p.Produced())
	}
	for _, r := range consume(t, b, 3000) {
		if w := acked[r.Partition][r.Offset]; string(r.Value) != w {
			t.Fatalf("partition %d offset %d: got %s, want %s", r.Partition, r.Offset, r.Value, w)
		}
	}
}

func TestPacerEndsWithItsContext(t *testing.T) {
	b := start(t, Options{Topic: "t", Partitions: 1})
	producer, err := NewProducer(ProducerOptions{Address: b.Address(), Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	ctx, cancel := context.WithCancel(t.Context())
	p := Pacer{Producer: producer, Generator: NewGenerator(1, 0, 1, 0), Partitions: 1, Rate: 100_000}
	p.Acked = func(_ int32, offset int64, _ *Event) {
		if offset == 100 {
			cancel()
		}
	}
	if err := p.Run(ctx, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	if got := consume(t, b, int(p.Produced())); int64(len(got)) != p.Produced() {
		t.Errorf("%d records, %d acknowledged", len(got), p.Produced())
	}
}

func TestHeldBrokerGivesNothingBeforeItsRelease(t *testing.T) {
	b := start(t, Options{Topic: "t", Partitions: 1, Held: true})
	if _, err := Load(t.Context(), ProducerOptions{Address: b.Address(), Topic: "t"}, 1, 10, NewGenerator(1, 0, 1, 0), func(int64) {}); err != nil {
		t.Fatal(err)
	}
	asked := make(fetchHook, 1)
	c, err := kgo.NewClient(kgo.SeedBrokers(b.Address()), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.WithHooks(asked))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var released atomic.Bool
	early := make(chan bool)
	go func() {
		c.PollFetches(t.Context())
		early <- !released.Load()
	}()
	<-asked
	released.Store(true)
	b.Release()
	if <-early {
		t.Error("a held broker gave records")
	}
}

// fetchHook tells when a client has asked for records.
type fetchHook chan struct{}

func (h fetchHook) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key == int16(kmsg.Fetch) {
		select {
		case h <- struct{}{}:
		default:
		}
	}
}

func TestTakenAddressIsRefused(t *testing.T) {
	b := start(t, Options{Topic: "t", Partitions: 1})
	if _, err := Start(Options{Address: b.Address(), Topic: "t", Partitions: 1}); err == nil {
		t.Error("two brokers at one address")
	}
}
