package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Record is what is remembered of a committed event: 16 bytes, so that millions of them fit.
type Record struct {
	Offset int64
	Hash   uint64 // Event.Hash
}

// Committed is the truth: the records that read_committed consumers see, by partition and offset.
type Committed struct {
	partitions [][]Record // ascending by offset
}

// Partitions is the number of partitions.
func (c *Committed) Partitions() int { return len(c.partitions) }

// Partition is the records of a partition, ascending by offset.
func (c *Committed) Partition(p int32) []Record { return c.partitions[p] }

// Len is the number of records.
func (c *Committed) Len() (n int) {
	for _, records := range c.partitions {
		n += len(records)
	}
	return n
}

// Hash is that of the record at an offset; false when no committed record is there.
func (c *Committed) Hash(p int32, offset int64) (uint64, bool) {
	if int(p) >= len(c.partitions) {
		return 0, false
	}
	records := c.partitions[p]
	i, found := slices.BinarySearchFunc(records, offset, func(r Record, o int64) int { return int(min(max(r.Offset-o, -1), 1)) })
	if !found {
		return 0, false
	}
	return records[i].Hash, true
}

// CreateTopic makes a topic of one replica.
func CreateTopic(ctx context.Context, addr, topic string, partitions int32) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		return fmt.Errorf("kafka: create topic %s: %w", topic, err)
	}
	return nil
}

// Producer writes the events of a seed to a topic in transactions. Events of aborted transactions have numbers of their own, so
// that one in a table is recognised. Not safe for concurrent use; Committed may be read between transactions.
type Producer struct {
	client    *kgo.Client
	topic     string
	seed      uint64
	next      int64 // the number of the next event
	committed Committed
	pending   struct { // of the transaction under way; the client's callbacks write, Transaction reads after its flush
		sync.Mutex
		partitions [][]Record
		err        error
	}
}

// NewProducer is a producer with a transactional id made of the topic and the seed: two with the same fence each other.
func NewProducer(addr, topic string, partitions int32, seed uint64) (*Producer, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(addr),
		kgo.DefaultProduceTopic(topic),
		kgo.TransactionalID(fmt.Sprintf("%s-%d", topic, seed)),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(100_000),
	)
	if err != nil {
		return nil, fmt.Errorf("kafka: producer: %w", err)
	}
	p := &Producer{client: client, topic: topic, seed: seed}
	p.committed.partitions = make([][]Record, partitions)
	p.pending.partitions = make([][]Record, partitions)
	return p, nil
}

// Committed is the truth so far; it grows with every committed transaction.
func (p *Producer) Committed() *Committed { return &p.committed }

// Close gives up the connections.
func (p *Producer) Close() { p.client.Close() }

// Produce writes transactions of `each` events until `events` more are committed; every `abortEvery`-th transaction is aborted
// after all its events were written (0: none).
func (p *Producer) Produce(ctx context.Context, events, each, abortEvery int) error {
	for n := 1; events > 0; n++ {
		size := min(each, events)
		commit := abortEvery == 0 || n%abortEvery != 0
		if err := p.Transaction(ctx, size, commit); err != nil {
			return err
		}
		if commit {
			events -= size
		}
	}
	return nil
}

// Transaction writes the next events, all of them acknowledged by the broker, and then commits or aborts.
func (p *Producer) Transaction(ctx context.Context, events int, commit bool) error {
	if err := p.client.BeginTransaction(); err != nil {
		return fmt.Errorf("kafka: begin: %w", err)
	}
	for range events {
		e := EventAt(p.seed, p.next)
		p.next++
		p.client.Produce(ctx, &kgo.Record{
			Value:     e.AppendJSON(make([]byte, 0, 256)),
			Partition: int32(mix(uint64(e.ID)) % uint64(len(p.committed.partitions))),
		}, p.acknowledged(e.Hash()))
	}
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("kafka: flush: %w", err)
	}
	if err := p.client.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		return fmt.Errorf("kafka: end of a transaction (commit %v): %w", commit, err)
	}
	return p.settle(commit)
}

func (p *Producer) acknowledged(hash uint64) func(*kgo.Record, error) {
	return func(r *kgo.Record, err error) {
		p.pending.Lock()
		defer p.pending.Unlock()
		if err != nil {
			p.pending.err = fmt.Errorf("kafka: produce to %s/%d: %w", p.topic, r.Partition, err)
			return
		}
		p.pending.partitions[r.Partition] = append(p.pending.partitions[r.Partition], Record{r.Offset, hash})
	}
}

// settle takes the records of the transaction that ended into the truth, or forgets them.
func (p *Producer) settle(commit bool) error {
	p.pending.Lock()
	defer p.pending.Unlock()
	for i, records := range p.pending.partitions {
		if commit && p.pending.err == nil {
			have := p.committed.partitions[i]
			for _, r := range records {
				if len(have) > 0 && have[len(have)-1].Offset >= r.Offset {
					return fmt.Errorf("kafka: %s/%d: offset %d acknowledged after %d", p.topic, i, r.Offset, have[len(have)-1].Offset)
				}
				have = append(have, r)
			}
			p.committed.partitions[i] = have
		}
		p.pending.partitions[i] = records[:0]
	}
	return p.pending.err
}
