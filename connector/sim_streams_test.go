package connector

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// topic is all that was ever produced to a topic.
type topic struct {
	name       string
	space      int64 // its keys begin here, so that those of the topics of a table differ
	repeat     bool  // keys come again, always in one partition
	deletes    bool  // some records have no value
	ranged     bool  // the table has a range column; rows are of several days
	far        bool  // some rows are of a year long past
	compacted  bool  // the log loses records that others supersede
	releases   bool  // all records are deletes
	partitions int32 // now
	begun      int32 // at the start: what decides a key's partition

	keys    map[int64][]record // what happened to each key, in the order of its partition
	letters map[place]bool     // records that cannot be rows
	odd     map[place]record   // records that are rows or dead letters, as the settings want it
	ends    map[int32]int64    // behind the last record or marker of each partition, as far as produced
	deleted map[int32]int64    // the log begins here
	next    int64              // key
}

// stream is a topic on its way through a connector into a table.
type stream struct {
	*topic
	connector string
	table     string
	write     string // upsert, insert or changes
	skip      bool   // offsets that are lost before they are read become rows of nyala.gaps
	latest    bool   // what was there before the connector is not read
	regex     bool   // the connector finds its topic by a pattern
	short     bool   // the table has the shortest history there is
	rival     *topic // the same keys come by another topic, into the same table: what is there is a question of who was first
}

type place struct {
	partition int32
	offset    int64
}

// record is what became of one key at one offset.
type record struct {
	place
	key     int64 // of an odd one
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
	of := func(t *topic, write string) *stream {
		t.partitions = t.begun
		t.keys, t.letters, t.odd = map[int64][]record{}, map[place]bool{}, map[place]record{}
		t.ends, t.deleted = map[int32]int64{}, map[int32]int64{}
		return &stream{topic: t, connector: t.name, table: t.name, write: write}
	}
	events := of(&topic{name: "events", begun: 4}, "upsert")
	twin := &stream{topic: events.topic, connector: "twin", table: "twin", write: "insert"}
	guests := of(&topic{name: "guests", begun: 2, space: 1 << 32}, "upsert") // two connectors write one table
	guests.table = events.table
	visits := of(&topic{name: "visits", begun: 2, space: 2 << 32}, "upsert") // one connector reads two topics
	visits.table, visits.connector = events.table, events.connector
	lossy := of(&topic{name: "lossy", begun: 2}, "insert")
	lossy.skip = true
	latest := of(&topic{name: "latest", begun: 2}, "insert")
	latest.latest = true
	accounts := of(&topic{name: "accounts", repeat: true, begun: 2}, "upsert")
	accounts.regex = rng.IntN(2) == 0
	state := of(&topic{name: "state", repeat: true, deletes: true, begun: 2}, "changes")
	claims := of(&topic{name: "claims", repeat: true, begun: 2}, "insert") // inserts and deletes in one table
	releases := of(&topic{name: "releases", repeat: true, deletes: true, releases: true, begun: 2}, "changes")
	releases.table, releases.rival, claims.rival = claims.table, claims.topic, releases.topic
	for _, st := range []*stream{accounts, state, claims} {
		st.short = rng.IntN(3) == 0
	}
	others := [][]*stream{
		{twin}, {guests}, {visits}, {lossy}, {latest}, {accounts}, {state}, {claims, releases},
		{of(&topic{name: "measures", repeat: true, ranged: true, far: rng.IntN(2) == 0, begun: 2}, "insert")},
		{of(&topic{name: "profiles", repeat: true, compacted: true, begun: 2}, "upsert")},
	}
	rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	return append([]*stream{events}, slices.Concat(others[:min(2, rng.IntN(4))]...)...)
}

// topicsOf lists each topic once.
func topicsOf(streams []*stream) []*topic {
	var topics []*topic
	for _, st := range streams {
		if !slices.Contains(topics, st.topic) {
			topics = append(topics, st.topic)
		}
	}
	return topics
}

// streamsConfig has places for replicas, nodes and brokers.
func streamsConfig(streams []*stream) string {
	var tables, connectors strings.Builder
	made := map[string]bool{}
	for _, st := range streams {
		if !made["table "+st.table] {
			tables.WriteString(st.tableConfig())
		}
		if !made["connector "+st.connector] {
			connectors.WriteString(st.connectorConfig(streams))
		}
		made["table "+st.table], made["connector "+st.connector] = true, true
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

func (s *stream) tableConfig() string {
	text := fmt.Sprintf(`
  - name: %s
    columns:
      - {name: at, type: timestamp}
      - {name: id, type: int64}
      - {name: text, type: string, nullable: true}
      - {name: kafka_partition, type: int32}
      - {name: kafka_offset, type: int64}
    hash: {columns: [id], buckets: %d}
`, s.table, 3-s.begun/2)
	if s.short {
		text += "    history: 1s\n"
	}
	if s.ranged {
		return text + "    primary_key: [at, id]\n    range: {column: at, every: 1d, ahead: 1}\n"
	}
	return text + "    primary_key: [id]\n"
}

func (s *stream) connectorConfig(streams []*stream) string {
	var topics []string
	for _, st := range streams {
		if st.connector == s.connector {
			topics = append(topics, st.name)
		}
	}
	from := "topics: [" + strings.Join(topics, ", ") + "]"
	if s.regex {
		from = "topics_regex: '" + s.name[:3] + ".*'"
	}
	policy, start := "fail", "earliest"
	if s.skip {
		policy = "skip"
	}
	if s.latest {
		start = "latest"
	}
	return fmt.Sprintf(`
  - name: %s
    %s
    table: %s
    format: json
    write: %s
    start_from: %s
    on_offset_out_of_range: %s
    add: {kafka_offset: offset, kafka_partition: partition}
`, s.connector, from, s.table, s.write, start, policy)
}

// keysRepeated is how many keys a topic has whose keys come again.
const keysRepeated = 60

// make draws one record: of a new key, of an old one, a deletion, or one that cannot be a row.
func (t *topic) make(rng *rand.Rand) (r *kgo.Record, key int64, deletes, bad bool) {
	key = t.space + t.next
	partition := int32(rng.IntN(int(t.partitions)))
	t.next++
	if t.repeat {
		key = rng.Int64N(keysRepeated)
		partition = int32(key) % t.begun
	}
	r = &kgo.Record{Topic: t.name, Partition: partition}
	if t.compacted {
		r.Key = fmt.Append(nil, "key ", key)
	}
	switch n := rng.IntN(100); {
	case n < 4:
		r.Value = [][]byte{[]byte("garbage"), []byte(`{"id":"x"}`), []byte(`{"id":null,"at":5}`), {}}[rng.IntN(4)]
		if t.compacted {
			r.Key = fmt.Append(nil, "bad ", t.next) // nothing supersedes it
		}
		return r, key, false, true
	case n < 30 && t.deletes || t.releases:
		r.Key = fmt.Append(nil, key)
		return r, key, true, false
	case n >= 90:
		key = t.oddKey(t.next)
		r.Key = nil
		if t.compacted {
			r.Key = fmt.Append(nil, "odd ", t.next)
		}
		r.Value = append(t.oddFields(key), t.value(rng, key)[1:]...)
		return r, key, false, false
	}
	r.Value = t.value(rng, key)
	return r, key, false, false
}

func (t *topic) value(rng *rand.Rand, key int64) []byte {
	day := int64(0)
	if t.ranged {
		day = key%5 - 3 // a key has one time; some are late, some are early
		if t.far && day == -3 {
			day = -400
		}
	}
	at := bubbleStart.AddDate(0, 0, int(day)).UnixMilli() + key%1000
	return fmt.Appendf(nil, `{"id":%d,"at":%d,"text":"event %d %x"}`, key, at, key, rng.Uint64())
}

// bubbleStart is when every bubble begins.
var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// textOf cuts the text out of what make wrote.
func textOf(value []byte) []byte {
	i := strings.Index(string(value), `"text":"`) + len(`"text":"`)
	return value[i : len(value)-2]
}

// sent remembers a record that is in Kafka.
func (t *topic) sent(r *kgo.Record, key int64, deletes, bad bool) {
	at := place{r.Partition, r.Offset}
	if bad {
		t.letters[at] = true
		return
	}
	rec := record{place: at, deletes: deletes}
	if !deletes {
		rec.hash = hashOf(textOf(r.Value))
	}
	if t.isOdd(key) {
		rec.key = key
		t.odd[at] = rec
		return
	}
	t.keys[key] = append(t.keys[key], rec)
	slices.SortFunc(t.keys[key], func(a, b record) int { return cmp.Compare(a.offset, b.offset) })
}
