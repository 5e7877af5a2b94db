package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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

// Find is the place in Partition(p) of the record at an offset; false when no committed record is there.
func (c *Committed) Find(p int32, offset int64) (int, bool) {
	if int(p) >= len(c.partitions) {
		return 0, false
	}
	return slices.BinarySearchFunc(c.partitions[p], offset, func(r Record, o int64) int { return cmp.Compare(r.Offset, o) })
}

// Producer writes the events of a seed to a topic in transactions. Events of aborted transactions have numbers of their own, so
// that one in a table is recognised. A transaction whose end is not known, since the broker died over it or another producer has
// fenced this one, is looked up in the topic. Not safe for concurrent use; Committed may be read between transactions.
type Producer struct {
	client    *kgo.Client
	addr      string
	topic     string
	seed      uint64
	next      int64 // the number of the next event
	lookedUp  int
	committed Committed
	before    []int       // records of each partition before the last committed transaction
	doubt     atomic.Bool // the broker ended since the last transaction was committed
	doubted   []int       // before of when that was noticed; nil: nothing is in doubt
}

// pending is the acknowledged records of one transaction. The client's callbacks write; they may come late.
type pending struct {
	mu struct {
		sync.Mutex
		partitions [][]Record
		err        error
	}
}

// NewProducer is a producer with a transactional id made of the topic and the seed: two with the same fence each other.
func NewProducer(addr, topic string, partitions int32, seed uint64) (*Producer, error) {
	p := &Producer{addr: addr, topic: topic, seed: seed}
	p.committed.partitions = make([][]Record, partitions)
	return p, p.connect()
}

func (p *Producer) connect() (err error) {
	p.client, err = kgo.NewClient(
		kgo.SeedBrokers(p.addr),
		kgo.DefaultProduceTopic(p.topic),
		kgo.TransactionalID(fmt.Sprintf("%s-%d", p.topic, p.seed)),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(100_000),
	)
	if err != nil {
		return fmt.Errorf("kafka: producer: %w", err)
	}
	return nil
}

// Committed is the truth so far; it grows with every committed transaction.
func (p *Producer) Committed() *Committed { return &p.committed }

// LookedUp is how many transactions had to be looked up in the topic.
func (p *Producer) LookedUp() int { return p.lookedUp }

// BrokerEnds is called, from anywhere, before a broker is killed or stopped; Recheck once it is back and no transaction is written.
func (p *Producer) BrokerEnds() { p.doubt.Store(true) }

// Recheck takes what became of the last transactions before a broker ended out of the topic. Kafka 4.3.1 acknowledges a commit when the
// coordinator's log has it, and writes the markers to the partitions afterwards. One that begins again may find that it knows no leaders yet,
// takes the partitions for deleted, and completes the transaction without markers; then the next one decides what becomes of it.
func (p *Producer) Recheck(ctx context.Context) error {
	p.notice()
	if p.doubted == nil {
		return nil
	}
	if err := p.abortAll(ctx); err != nil {
		return err
	}
	for i := range p.committed.partitions {
		n := 0 // a partition that came later
		if i < len(p.doubted) {
			n = p.doubted[i]
		}
		p.committed.partitions[i] = p.committed.partitions[i][:n:n]
	}
	p.doubted = nil
	return p.readOn(ctx, func(int32, Record, int64) error { return nil })
}

// abortAll aborts a transaction in all partitions, and with it one that has no marker there, and waits for the markers.
func (p *Producer) abortAll(ctx context.Context) error {
	for {
		if err := p.settle(ctx); err != nil {
			return err
		}
		first := p.next
		p.next += int64(100 * len(p.committed.partitions)) // which leave none out
		if p.transaction(ctx, first, false) == nil {
			return p.settle(ctx)
		}
	}
}

// notice keeps where the transactions begin that are in doubt.
func (p *Producer) notice() {
	if p.doubt.Swap(false) && p.doubted == nil {
		p.doubted = append([]int{}, p.before...)
	}
}

// Close gives up the connections.
func (p *Producer) Close() { p.client.Close() }

// Grow is called after the topic was given more partitions: from now on the producer writes to all of them.
func (p *Producer) Grow(partitions int32) error {
	p.committed.partitions = append(p.committed.partitions, make([][]Record, int(partitions)-len(p.committed.partitions))...)
	p.client.Close() // it does not know the new ones
	return p.connect()
}

// Renew is called after the topic was deleted and made again: it returns the truth of the old one and goes on with the next events.
func (p *Producer) Renew(partitions int32) (*Committed, error) {
	old := p.committed
	p.before, p.doubted = nil, nil
	p.committed.partitions = make([][]Record, partitions)
	p.client.Close()
	return &old, p.connect()
}

// Produce writes transactions of `each` events until `events` more are committed; every `abortEvery`-th transaction is aborted
// after all its events were written (0: none).
func (p *Producer) Produce(ctx context.Context, events, each, abortEvery int) error {
	for n := 1; events > 0; n++ {
		committed, err := p.Transaction(ctx, min(each, events), abortEvery == 0 || n%abortEvery != 0)
		if err != nil {
			return err
		}
		events -= committed
	}
	return nil
}

// Transaction writes the next events, all of them acknowledged by the broker, and then commits or aborts. It returns how many
// events are committed.
func (p *Producer) Transaction(ctx context.Context, events int, commit bool) (int, error) {
	first, before := p.next, p.committed.Len()
	p.next += int64(events)
	if err := p.transaction(ctx, first, commit); err != nil {
		if looked := p.lookUp(ctx, first); looked != nil {
			return 0, errors.Join(err, looked)
		}
	}
	return p.committed.Len() - before, nil
}

// transaction writes the events from first on. After an error it is not known what became of it.
func (p *Producer) transaction(ctx context.Context, first int64, commit bool) error {
	if err := p.client.BeginTransaction(); err != nil {
		return fmt.Errorf("kafka: begin: %w", err)
	}
	held := &pending{}
	held.mu.partitions = make([][]Record, len(p.committed.partitions))
	for n := first; n < p.next; n++ {
		e := EventAt(p.seed, n)
		p.client.Produce(ctx, &kgo.Record{
			Value:     e.AppendJSON(make([]byte, 0, 256)),
			Partition: int32(mix(uint64(e.ID)) % uint64(len(p.committed.partitions))),
		}, held.acknowledged(e.Hash()))
	}
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("kafka: flush: %w", err)
	}
	held.mu.Lock()
	defer held.mu.Unlock()
	if held.mu.err != nil {
		return held.mu.err
	}
	if err := p.client.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		return fmt.Errorf("kafka: end of a transaction (commit %v): %w", commit, err)
	}
	if commit {
		return p.commit(held.mu.partitions)
	}
	return nil
}

func (h *pending) acknowledged(hash uint64) func(*kgo.Record, error) {
	return func(r *kgo.Record, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if err != nil {
			h.mu.err = fmt.Errorf("kafka: produce to %s/%d: %w", r.Topic, r.Partition, err)
			return
		}
		h.mu.partitions[r.Partition] = append(h.mu.partitions[r.Partition], Record{r.Offset, hash})
	}
}

// lookUp takes what became of the last transaction, whose events begin with first, out of the topic.
func (p *Producer) lookUp(ctx context.Context, first int64) error {
	p.lookedUp++
	if err := p.settle(ctx); err != nil {
		return err
	}
	return p.readOn(ctx, func(partition int32, r Record, n int64) error {
		if n < first || n >= p.next {
			return fmt.Errorf("kafka: %s/%d: offset %d has event %d, want one of [%d, %d)", p.topic, partition, r.Offset, n, first, p.next)
		}
		return nil
	})
}

// settle connects anew, when there is a broker, which ends a transaction that is open.
func (p *Producer) settle(ctx context.Context) error {
	for {
		p.client.Close() // one that has failed to get its producer's id does not try again
		if err := p.connect(); err != nil {
			return err
		}
		_, _, err := p.client.ProducerID(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kafka: producer: %w: %w", ctx.Err(), err)
		case <-time.After(askAgain):
		}
	}
}

// readOn takes what is in the topic behind the last committed records, and may be by check.
func (p *Producer) readOn(ctx context.Context, check func(partition int32, r Record, n int64) error) error {
	from := make([]int64, len(p.committed.partitions))
	for i, records := range p.committed.partitions {
		if n := len(records); n > 0 {
			from[i] = records[n-1].Offset + 1
		}
	}
	found := make([][]Record, len(from))
	err := Read(ctx, p.addr, p.topic, p.seed, from, func(partition int32, r Record, n int64) error {
		found[partition] = append(found[partition], r)
		return check(partition, r, n)
	})
	if err != nil {
		return err
	}
	return p.commit(found)
}

// commit takes over the records of committed transactions. What is in doubt begins before the last one, and none that are not there move that on.
func (p *Producer) commit(partitions [][]Record) error {
	p.notice()
	if !slices.ContainsFunc(partitions, func(records []Record) bool { return len(records) > 0 }) {
		return nil
	}
	p.before = p.before[:0]
	for _, records := range p.committed.partitions {
		p.before = append(p.before, len(records))
	}
	return p.committed.add(partitions)
}

// add takes over the records of a committed transaction.
func (c *Committed) add(partitions [][]Record) error {
	for i, records := range partitions {
		for _, r := range records {
			have := c.partitions[i]
			if n := len(have); n > 0 && have[n-1].Offset >= r.Offset {
				return fmt.Errorf("kafka: partition %d: offset %d acknowledged after %d", i, r.Offset, have[n-1].Offset)
			}
			c.partitions[i] = append(have, r)
		}
	}
	return nil
}
