//go:build kafka

package kafka

import (
	"context"
	"errors"
	"testing"
	"time"
)

const (
	topic      = "app-events"
	partitions = 8
)

// A read_committed consumer of a real broker sees what the producer says is committed and nothing else, before and after a kill.
func TestTransactionsThroughARealBroker(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	begin := time.Now()
	broker, err := Start(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	t.Logf("started in %s", time.Since(begin))
	if err := CreateTopic(ctx, broker.Addr(), topic, partitions); err != nil {
		t.Fatal(err)
	}
	producer, err := NewProducer(broker.Addr(), topic, partitions, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	begin = time.Now()
	if err := producer.Produce(ctx, 100_000, 5000, 4); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d events committed in %s", producer.Committed().Len(), time.Since(begin))
	compare(ctx, t, broker.Addr(), producer.Committed(), 100_000)

	if err := broker.Kill(); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	if err := broker.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("restarted after a kill in %s", time.Since(begin))
	if err := producer.Produce(ctx, 1_000, 100, 3); err != nil {
		t.Fatal(err)
	}
	compare(ctx, t, broker.Addr(), producer.Committed(), 101_000)
	begin = time.Now()
	if err := broker.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped in %s", time.Since(begin))
}

// A transaction whose end the producer does not learn is looked up: it is in the topic whole, or not at all.
func TestTransactionsOfUnknownFate(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	broker, err := Start(ctx, Options{HeapBytes: 512 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	if err := CreateTopic(ctx, broker.Addr(), topic, 2); err != nil {
		t.Fatal(err)
	}
	producer, err := NewProducer(broker.Addr(), topic, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for round := range 3 {
		if err := producer.Produce(ctx, 1000, 100, 3); err != nil {
			t.Fatal(err)
		}
		fence(ctx, t, broker.Addr())
		if err := producer.Produce(ctx, 1000, 100, 3); err != nil {
			t.Fatal(err)
		}
		if producer.LookedUp() != round+1 {
			t.Errorf("%d transactions were looked up after %d fences", producer.LookedUp(), round+1)
		}
	}
	producer.BrokerEnds()
	if err := errors.Join(broker.Kill(), broker.Restart(ctx), producer.Recheck(ctx)); err != nil {
		t.Fatal(err)
	}
	left := producer.Committed().Len()
	if left != 6000 && left != 5900 { // the broker was killed before it wrote the end of the last one
		t.Fatalf("%d events committed, want 6000, or 100 less", left)
	}
	if err := GrowTopic(ctx, broker.Addr(), topic, 5); err != nil {
		t.Fatal(err)
	}
	if err := producer.Grow(5); err != nil {
		t.Fatal(err)
	}
	if err := producer.Produce(ctx, 1000, 100, 3); err != nil {
		t.Fatal(err)
	}
	if len(producer.Committed().Partition(4)) == 0 {
		t.Error("nothing was written to a new partition")
	}
	compare(ctx, t, broker.Addr(), producer.Committed(), left+1000)
}

// fence takes the producer's transactional id from it.
func fence(ctx context.Context, t *testing.T, addr string) {
	t.Helper()
	other, err := NewProducer(addr, topic, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, _, err := other.client.ProducerID(ctx); err != nil {
		t.Fatal(err)
	}
}

func compare(ctx context.Context, t *testing.T, addr string, want *Committed, events int) {
	t.Helper()
	if want.Len() != events {
		t.Fatalf("%d events committed, want %d", want.Len(), events)
	}
	read := 0
	err := Read(ctx, addr, topic, 1, nil, func(p int32, r Record, _ int64) error {
		read++
		if i, found := want.Find(p, r.Offset); !found || want.Partition(p)[i] != r {
			t.Fatalf("%d/%d is read but was not committed, or another event was", p, r.Offset)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read != events {
		t.Errorf("%d events read, want %d", read, events)
	}
}
