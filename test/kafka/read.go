package kafka

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Read visits the committed records of a topic of a producer's seed, each with the number of its event, from an offset of each
// partition on (nil: from their beginnings) to what is their end now. A record that is not byte for byte its event is an error.
func Read(ctx context.Context, addr, topic string, seed uint64, from []int64, visit func(partition int32, r Record, n int64) error) error {
	at, ends, err := bounds(ctx, addr, topic, from)
	if err != nil || len(at) == 0 {
		return err
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(addr),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // so that the end is reached
	)
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	defer client.Close()
	for len(ends) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("kafka: reading %s: %w", topic, err)
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			if r.Offset+1 >= ends[r.Partition] {
				delete(ends, r.Partition)
			}
			if r.Attrs.IsControl() {
				continue
			}
			n, hash, err := identify(seed, r.Value)
			if err == nil {
				err = visit(r.Partition, Record{r.Offset, hash}, n)
			}
			if err != nil {
				return fmt.Errorf("kafka: %s/%d: offset %d: %w", topic, r.Partition, r.Offset, err)
			}
		}
	}
	return nil
}

// bounds is where reading begins and ends; partitions in which nothing is to be read are left out.
func bounds(ctx context.Context, addr, topic string, from []int64) (at map[int32]kgo.Offset, ends map[int32]int64, err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return nil, nil, fmt.Errorf("kafka: %w", err)
	}
	defer client.Close()
	first, err := kadm.NewClient(client).ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, nil, fmt.Errorf("kafka: beginnings of %s: %w", topic, err)
	}
	last, err := kadm.NewClient(client).ListCommittedOffsets(ctx, topic)
	if err != nil {
		return nil, nil, fmt.Errorf("kafka: ends of %s: %w", topic, err)
	}
	at, ends = map[int32]kgo.Offset{}, map[int32]int64{}
	for p, o := range last[topic] {
		begin, _ := first.Lookup(topic, p)
		if o.Err != nil || begin.Err != nil {
			return nil, nil, fmt.Errorf("kafka: bounds of %s/%d: %v, %w", topic, p, begin.Err, o.Err)
		}
		if int(p) < len(from) {
			begin.Offset = max(begin.Offset, from[p])
		}
		if begin.Offset < o.Offset {
			at[p], ends[p] = kgo.NewOffset().At(begin.Offset), o.Offset
		}
	}
	return at, ends, nil
}

// identify finds out which event of a seed a record is.
func identify(seed uint64, value []byte) (n int64, hash uint64, err error) {
	const key = `"event_id":`
	_, text, _ := bytes.Cut(value, []byte(key))
	text, _, _ = bytes.Cut(text, []byte(","))
	if n, err = strconv.ParseInt(string(text), 10, 64); err != nil {
		return 0, 0, fmt.Errorf("no event: %s: %w", value, err)
	}
	e := EventAt(seed, n)
	if want := e.AppendJSON(make([]byte, 0, 256)); !bytes.Equal(want, value) {
		return 0, 0, fmt.Errorf("got %s, want %s", value, want)
	}
	return n, e.Hash(), nil
}
