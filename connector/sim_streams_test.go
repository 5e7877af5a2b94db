package connector

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// stream is a topic with its connector and table, and all that was ever produced to it.
type stream struct {
	name       string // of the topic, the connector and the table
	write      string // upsert, insert or changes
	repeat     bool   // keys come again, always in one partition
	ranged     bool   // the table has a range column
	skip       bool   // offsets that are lost before they are read become rows of nyala.gaps
	partitions int32  // now
	begun      int32  // at the start: what decides a key's partition

	keys    map[int64][]record // what happened to each key, in the order of its partition
	letters map[place]bool     // records that cannot be rows
	ends    map[int32]int64    // behind the last record or marker of each partition, as far as produced
	deleted map[int32]int64    // the log begins here
	next    int64              // key
}

type place struct {
	partition int32
	offset    int64
}

// record is what became of one key at one offset.
type record struct {
	place
	deletes bool
	hash    uint64
}

func hashOf(text []byte) uint64 {
	h := fnv.New64a()
	h.Write(text)
	return h.Sum64()
}

// newStreams draws the streams of a seed. The first has unique keys and everything else that a topic can have.
func newStreams(rng *rand.Rand) []*stream {
	streams := []*stream{{name: "events", write: "upsert", begun: 4}}
	others := []*stream{
		{name: "accounts", write: "upsert", repeat: true, begun: 2},
		{name: "state", write: "changes", repeat: true, begun: 2},
		{name: "measures", write: "insert", repeat: true, ranged: true, begun: 2},
		{name: "lossy", write: "insert", skip: true, begun: 2},
	}
	rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	streams = append(streams, others[:rng.IntN(3)]...)
	for _, s := range streams {
		s.partitions = s.begun
		s.keys, s.letters = map[int64][]record{}, map[place]bool{}
		s.ends, s.deleted = map[int32]int64{}, map[int32]int64{}
	}
	return streams
}

// streamsConfig has places for replicas, nodes and brokers.
func streamsConfig(streams []*stream) string {
	var tables, connectors strings.Builder
	for _, s := range streams {
		fmt.Fprintf(&tables, `
  - name: %s
    columns:
      - {name: at, type: timestamp}
      - {name: id, type: int64}
      - {name: text, type: string, nullable: true}
      - {name: kafka_partition, type: int32}
      - {name: kafka_offset, type: int64}
    hash: {columns: [id], buckets: %d}
`, s.name, 3-s.begun/2)
		if s.ranged {
			tables.WriteString("    primary_key: [at, id]\n    range: {column: at, every: 1d, ahead: 1}\n")
		} else {
			tables.WriteString("    primary_key: [id]\n")
		}
		policy := "fail"
		if s.skip {
			policy = "skip"
		}
		fmt.Fprintf(&connectors, `
  - name: %s
    topics: [%s]
    table: %s
    format: json
    write: %s
    on_offset_out_of_range: %s
    add: {kafka_offset: offset, kafka_partition: partition}
`, s.name, s.name, s.name, s.write, policy)
	}
	return `
cluster:
  name: test
  replicas: %d
  nodes:
%s
kafka:
  brokers: [%s]
tables:` + tables.String() + `
connectors:` + connectors.String()
}

// make draws one record: of a new key, of an old one, a deletion, or one that cannot be a row.
func (s *stream) make(rng *rand.Rand) (r *kgo.Record, key int64, deletes, bad bool) {
	key = s.next
	partition := int32(rng.IntN(int(s.partitions)))
	if s.repeat {
		key = rng.Int64N(60)
		partition = int32(key) % s.begun
	} else {
		s.next++
	}
	r = &kgo.Record{Topic: s.name, Partition: partition}
	switch n := rng.IntN(100); {
	case n < 4:
		r.Value = [][]byte{[]byte("garbage"), []byte(`{"id":"x"}`), []byte(`{"id":null,"at":5}`), {}}[rng.IntN(4)]
		return r, key, false, true
	case n < 30 && s.write == "changes":
		r.Key = fmt.Append(nil, key)
		return r, key, true, false
	}
	day := int64(0)
	if s.ranged {
		day = key%5 - 3 // a key has one time; some are late, some are early
	}
	at := bubbleStart.AddDate(0, 0, int(day)).UnixMilli() + key
	r.Value = fmt.Appendf(nil, `{"id":%d,"at":%d,"text":"event %d %x"}`, key, at, key, rng.Uint64())
	return r, key, false, false
}

// bubbleStart is when every bubble begins.
var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// textOf cuts the text out of what make wrote.
func textOf(value []byte) []byte {
	i := strings.Index(string(value), `"text":"`) + len(`"text":"`)
	return value[i : len(value)-2]
}

// sent remembers a record that is in Kafka.
func (s *stream) sent(r *kgo.Record, key int64, deletes, bad bool) {
	at := place{r.Partition, r.Offset}
	if bad {
		s.letters[at] = true
		return
	}
	rec := record{place: at, deletes: deletes}
	if !deletes {
		rec.hash = hashOf(textOf(r.Value))
	}
	s.keys[key] = append(s.keys[key], rec)
	slices.SortFunc(s.keys[key], func(a, b record) int { return cmp.Compare(a.offset, b.offset) })
}

func (s *simulation) producer() *kgo.Client {
	if s.client == nil {
		var err error
		s.client, err = kgo.NewClient(kgo.SeedBrokers(s.broker.ListenAddrs()...), kgo.Dialer(s.kafka.DialContext),
			kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(8<<10), kgo.MetadataMinAge(100*time.Millisecond),
			kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DisableClientMetrics())
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return s.client
}

func (s *simulation) transactional() *kgo.Client {
	if s.transactor == nil {
		var err error
		s.transactor, err = kgo.NewClient(kgo.SeedBrokers(s.broker.ListenAddrs()...), kgo.Dialer(s.kafka.DialContext),
			kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("sim"), kgo.MetadataMinAge(100*time.Millisecond),
			kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DisableClientMetrics())
		if err != nil {
			s.t.Fatal(err)
		}
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

func (s *simulation) produceSome() {
	for _, st := range s.streams {
		n := s.rng.IntN(300)
		if s.rng.IntN(4) == 0 {
			s.transact(st, n)
			continue
		}
		for n > 0 {
			part := min(n, 1+s.rng.IntN(50))
			n -= part
			s.put(s.producer(), st, part, true)
		}
	}
}

// put produces n records and waits for them; those of an aborted transaction never were.
func (s *simulation) put(client *kgo.Client, st *stream, n int, committed bool) {
	type made struct {
		r            *kgo.Record
		key          int64
		deletes, bad bool
	}
	var all []made
	var records []*kgo.Record
	for range n {
		var m made
		m.r, m.key, m.deletes, m.bad = st.make(s.rng)
		all, records = append(all, m), append(records, m.r)
	}
	if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		s.t.Fatalf("produce to %s: %v", st.name, err)
	}
	for _, m := range all {
		if committed {
			st.sent(m.r, m.key, m.deletes, m.bad)
		}
	}
}

func (s *simulation) transact(st *stream, n int) {
	client := s.transactional()
	for n > 0 {
		part := min(n, 1+s.rng.IntN(60))
		n -= part
		committed := s.rng.IntN(3) > 0
		if err := client.BeginTransaction(); err != nil {
			s.t.Fatal(err)
		}
		s.put(client, st, part, committed)
		if err := client.EndTransaction(context.Background(), kgo.TransactionEndTry(committed)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// readEnds asks Kafka where each partition ends.
func (s *simulation) readEnds() {
	for _, st := range s.streams {
		ends, err := kadm.NewClient(s.producer()).ListEndOffsets(context.Background(), st.name)
		if err != nil {
			s.t.Fatal(err)
		}
		ends.Each(func(o kadm.ListedOffset) { st.ends[o.Partition] = o.Offset })
	}
}
