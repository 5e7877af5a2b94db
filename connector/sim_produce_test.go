package connector

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// simCodecs are how batches are compressed, a seed all of its: where records of batches lie in memory, and who gets it next, depends on it.
var simCodecs = [...]kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression(), kgo.SnappyCompression()}

func (s *simulation) newClient(more ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(more, kgo.SeedBrokers(s.broker.ListenAddrs()...), kgo.Dialer(s.kafka.DialContext),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(8<<10), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.ProducerBatchCompression(simCodecs[s.seed%uint64(len(simCodecs))]), kgo.DisableClientMetrics())...)
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

func (s *simulation) producer() *kgo.Client {
	if s.client == nil {
		s.client = s.newClient()
	}
	return s.client
}

func (s *simulation) transactional() *kgo.Client {
	if s.transactor == nil {
		s.transactor = s.newClient(kgo.TransactionalID("sim"))
	}
	return s.transactor
}

// renewClients is for topics that changed: a client learns of it in minutes.
func (s *simulation) renewClients() {
	for _, c := range []*kgo.Client{s.client, s.transactor} {
		if c != nil {
			c.Close()
		}
	}
	s.client, s.transactor = nil, nil
}

// makeTopics makes those that newSimulation did not, with a first record that no compaction takes: kfake moves the start of a
// log to the first record that is left, as Kafka does not.
func (s *simulation) makeTopics() {
	for _, t := range topicsOf(s.streams) {
		if !t.compacted {
			continue
		}
		if err := s.broker.CreateTopic(t.name, t.begun, map[string]string{"cleanup.policy": "compact"}); err != nil {
			s.t.Fatal(err)
		}
		for p := range t.begun {
			key := keysRepeated + int64(p)
			r := &kgo.Record{Topic: t.name, Partition: p, Key: []byte{byte(p)}, Value: t.value(s.rng, key)}
			if err := s.producer().ProduceSync(context.Background(), r).FirstErr(); err != nil {
				s.t.Fatal(err)
			}
			t.sent(r, key, false, false)
		}
	}
}

func (s *simulation) produceSome() {
	for _, t := range topicsOf(s.streams) {
		n := s.rng.IntN(300)
		if s.rng.IntN(4) == 0 {
			s.transact(t, n)
			continue
		}
		for n > 0 {
			part := min(n, 1+s.rng.IntN(50))
			n -= part
			s.put(s.producer(), t, part, true)
		}
	}
}

// put produces n records and waits for them; those of an aborted transaction never were.
func (s *simulation) put(client *kgo.Client, t *topic, n int, committed bool) {
	type made struct {
		r            *kgo.Record
		key          int64
		deletes, bad bool
	}
	var all []made
	var records []*kgo.Record
	for range n {
		var m made
		m.r, m.key, m.deletes, m.bad = t.make(s.rng)
		all, records = append(all, m), append(records, m.r)
	}
	if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		s.t.Fatalf("produce to %s: %v", t.name, err)
	}
	for _, m := range all {
		if committed {
			t.sent(m.r, m.key, m.deletes, m.bad)
		}
	}
}

func (s *simulation) transact(t *topic, n int) {
	client := s.transactional()
	for n > 0 {
		part := min(n, 1+s.rng.IntN(60))
		n -= part
		committed := s.rng.IntN(3) > 0
		if err := client.BeginTransaction(); err != nil {
			s.t.Fatal(err)
		}
		s.put(client, t, part, committed)
		if err := client.EndTransaction(context.Background(), kgo.TransactionEndTry(committed)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// readEnds asks Kafka where each partition ends.
func (s *simulation) readEnds() {
	for _, t := range topicsOf(s.streams) {
		ends, err := kadm.NewClient(s.producer()).ListEndOffsets(context.Background(), t.name)
		if err != nil {
			s.t.Fatal(err)
		}
		ends.Each(func(o kadm.ListedOffset) { t.ends[o.Partition] = o.Offset })
	}
}
