//go:build kafka

package kafka

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
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

func compare(ctx context.Context, t *testing.T, addr string, want *Committed, events int) {
	t.Helper()
	if want.Len() != events {
		t.Fatalf("%d events committed, want %d", want.Len(), events)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(addr),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // so that the end is reached
	)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	open, seen, written := map[int32]int64{}, 0, int64(0)
	ends.Each(func(o kadm.ListedOffset) {
		written += o.Offset
		if o.Offset > 0 {
			open[o.Partition] = o.Offset
		}
	})
	if written <= int64(events) {
		t.Fatalf("%d offsets written for %d events: nothing was aborted", written, events)
	}
	for len(open) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= open[r.Partition] {
				delete(open, r.Partition)
			}
			if r.Attrs.IsControl() {
				return
			}
			seen++
			hash, there := want.Hash(r.Partition, r.Offset)
			if !there {
				t.Fatalf("%d/%d is read but was not committed", r.Partition, r.Offset)
			}
			if hash != parse(t, r.Value).Hash() {
				t.Fatalf("%d/%d: another event than was committed: %s", r.Partition, r.Offset, r.Value)
			}
		})
	}
	if seen != want.Len() {
		t.Errorf("%d events read, want %d", seen, want.Len())
	}
}
