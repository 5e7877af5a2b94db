//go:build kafka

package acceptance

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/connector/api"
	"nyala/test/kafka"
)

// faultsShown is how many faults of a comparison are printed one by one.
const faultsShown = 10

// faults counts what is wrong and prints the first of it.
type faults struct {
	r     *trial
	count int
}

func (f *faults) add(format string, args ...any) {
	f.r.Helper()
	if f.count++; f.count <= faultsShown {
		f.r.Errorf(format, args...)
	}
}

// settle waits until everything is read, and compares topic, table and offsets with what was committed.
func (r *trial) settle() {
	r.Helper()
	r.await("done reading", func(s api.Status) bool {
		lag := int64(0)
		for _, c := range s.Connectors {
			lag += c.LagRecords
		}
		return s.Healthy && r.reads(s) && lag == 0
	})
	r.say("all is read")
	f := &faults{r: r}
	now := r.compareTopic(f)
	lost := r.compareGaps(f)
	rows, gone, back := r.compareRows(f, now, lost)
	r.compareLatest(f, now.latest)
	if n := r.count("nyala.dead_letters"); n != 0 {
		f.add("%d dead letters, want none", n)
	}
	if n := r.count("events"); n != rows {
		f.add("scan --count: got %d rows, a scan has %d", n, rows)
	}
	if f.count > 0 {
		v, err := r.verification("events")
		r.Fatalf("%d faults; nyala verify events: %d differences, %v, %v", f.count, v.Differences, v.Kinds, err)
	}
	r.compareOffsets()
	r.verify(rows, gone, now.records, back)
	r.verifyLatest(back)
	r.say("exactly once: %d rows; %d transactions were looked up, %d gaps", rows, r.producer.LookedUp(), len(lost))
}

// topicNow is what is in the topic.
type topicNow struct {
	records int
	begins  []int64 // the first record of each partition; -1 when there is none
	latest  map[latestKey]latestRow
}

// compareTopic holds what is in the topic against what the producer remembers. What retention deleted may be there again: a broker
// that is killed forgets up to a minute of it.
func (r *trial) compareTopic(f *faults) topicNow {
	now := topicNow{begins: slices.Repeat([]int64{-1}, int(r.partitions)), latest: map[latestKey]latestRow{}}
	want, kept := r.producer.Committed(), make([]int, r.partitions)
	r.must(kafka.Read(r.ctx, r.broker.Addr(), topic, 1, nil, func(p int32, got kafka.Record, n int64) error {
		if i, found := want.Find(p, got.Offset); !found || want.Partition(p)[i] != got {
			f.add("topic: partition %d offset %d was not committed, or with other values", p, got.Offset)
		}
		if now.records++; now.begins[p] < 0 {
			now.begins[p] = got.Offset
		}
		if got.Offset >= r.deleted[p] {
			kept[p]++
			now.latest[latestKey{p, kafka.EventAt(1, n).Tenant}] = latestRow{n, got.Offset}
		}
		return nil
	}))
	for p := range r.partitions {
		gone, _ := want.Find(p, r.deleted[p])
		if got, want := kept[p], len(want.Partition(p))-gone; got != want {
			f.add("topic: partition %d has %d records from offset %d on, want %d", p, got, r.deleted[p], want)
		}
	}
	return now
}

// gap is a row of nyala.gaps.
type gap struct {
	TopicID   string `json:"topic_id"`
	Topic     string `json:"topic"`
	Connector string `json:"connector"`
	Partition int32  `json:"partition"`
	First     int64  `json:"first"`
	Next      int64  `json:"next"`
	Reason    string `json:"reason"`
}

// gaps are the rows of nyala.gaps.
func (r *trial) gaps() (out []gap) {
	text, err := r.cluster.Run(r.ctx, r.cluster.Any(), "scan", "nyala.gaps", "--format", "ndjson")
	r.must(err)
	for line := range strings.Lines(string(text)) {
		var g gap
		r.must(json.Unmarshal([]byte(line), &g))
		out = append(out, g)
	}
	return out
}

// compareGaps holds the gaps against what was deleted of this life of the topic: at most one of a source, that ends there.
func (r *trial) compareGaps(f *faults) []gap {
	type source struct {
		connector string
		partition int32
	}
	all, of := r.gaps(), map[source]int{}
	for _, g := range all {
		if g.Topic != topic || g.Reason != "out_of_range" || g.First >= g.Next {
			f.add("gap: %+v", g)
		}
		if g.TopicID != r.topicIDs[len(r.topicIDs)-1] {
			continue
		}
		at := source{g.Connector, g.Partition}
		if of[at]++; of[at] > 1 || g.Next != r.deleted[g.Partition] {
			f.add("gap: %+v: want one of the source, that ends at %d", g, r.deleted[g.Partition])
		}
	}
	return all
}

// heldLife is which records of a life of the topic are in the table.
type heldLife struct {
	*kafka.Committed
	topicID string
	seen    [][]bool
}

// compareRows reads the whole table and holds every row against what was committed in one of the topic's lives. A record that is
// not there must be in a gap. It returns the number of rows, how many of them have a record that is no longer in Kafka, and how many records of
// gaps are in Kafka again.
func (r *trial) compareRows(f *faults, now topicNow, lost []gap) (rows, gone, back int) {
	var lives []heldLife
	for i, c := range append(r.lives[:len(r.lives):len(r.lives)], r.producer.Committed()) {
		life := heldLife{Committed: c, topicID: r.topicIDs[i]}
		for p := range c.Partitions() {
			life.seen = append(life.seen, make([]bool, len(c.Partition(int32(p)))))
		}
		lives = append(lives, life)
	}
	r.scan(func(e kafka.Event, partition int32, offset int64) {
		rows++
		hash, known := e.Hash(), false
		for n, life := range lives {
			i, found := life.Find(partition, offset)
			if !found || life.Partition(partition)[i].Hash != hash {
				continue
			}
			if known = true; life.seen[partition][i] {
				f.add("partition %d offset %d is there twice", partition, offset)
			}
			life.seen[partition][i] = true
			if n < len(lives)-1 || now.begins[partition] < 0 || offset < now.begins[partition] {
				gone++
			}
		}
		if !known {
			f.add("partition %d offset %d was not committed with these values: %+v", partition, offset, e)
		}
	})
	for n, life := range lives {
		for p := range life.Partitions() {
			for i, seen := range life.seen[p] {
				offset := life.Partition(int32(p))[i].Offset
				switch {
				case seen:
				case !accounted(lost, life.topicID, int32(p), offset):
					f.add("partition %d offset %d is missing, and in no gap", p, offset)
				case n == len(lives)-1 && now.begins[p] >= 0 && offset >= now.begins[p]:
					back++
				}
			}
		}
	}
	return rows, gone, back
}

// verify has the product compare the table with the topic, too. It must find what was found here: what is in Kafka again although a
// gap says that it is lost is a difference to it, and nothing else is.
func (r *trial) verify(rows, gone, records, back int) {
	v, err := r.verification("events")
	r.must(err)
	if v.Exact != (back == 0) || v.Kinds["missing row"] != int64(back) || v.Differences != v.Kinds["missing row"]+v.Kinds["gap of a record"] || v.Rows != int64(rows) || v.NotCheckable != int64(gone) || v.Records != int64(records) {
		r.Fatalf("nyala verify: %v, %d rows, %d not checkable, %d records; want %d missing rows, %d rows, %d not checkable, %d records",
			v.Kinds, v.Rows, v.NotCheckable, v.Records, back, rows, gone, records)
	}
}

// verification is what `nyala verify` says of a table.
func (r *trial) verification(table string) (v api.Verification, err error) {
	out, err := r.cluster.Run(r.ctx, r.cluster.Any(), "verify", table, "--json")
	if s := ExitStatus(err); s != 0 && s != 3 {
		return v, err
	}
	return v, json.Unmarshal(out, &v)
}

func accounted(lost []gap, topicID string, partition int32, offset int64) bool {
	for _, g := range lost {
		if g.Connector == "app-events" && g.TopicID == topicID && g.Partition == partition && g.First <= offset && offset < g.Next {
			return true
		}
	}
	return false
}

// scan visits every row of the table.
func (r *trial) scan(visit func(e kafka.Event, partition int32, offset int64)) {
	cmd := r.cluster.Command(r.ctx, r.cluster.Any(), "scan", "events", "--format", "csv")
	var words bytes.Buffer
	cmd.Stderr = &words
	pipe, err := cmd.StdoutPipe()
	r.must(err)
	r.must(cmd.Start())
	in := csv.NewReader(bufio.NewReaderSize(pipe, 1<<20))
	in.ReuseRecord = true
	_, err = in.Read()
	r.must(err)
	for {
		row, err := in.Read()
		if err == io.EOF {
			break
		}
		r.must(err)
		e, partition, offset, err := parseRow(row)
		r.must(err)
		visit(e, partition, offset)
	}
	if err := cmd.Wait(); err != nil {
		r.Fatalf("scan: %v: %s", err, words.String())
	}
}

func parseRow(row []string) (e kafka.Event, partition int32, offset int64, err error) {
	number := func(s string, bits int) int64 {
		v, perr := strconv.ParseInt(s, 10, bits)
		if perr != nil && err == nil {
			err = perr
		}
		return v
	}
	e.Tenant = int32(number(row[0], 32))
	at, terr := time.Parse(time.RFC3339Nano, row[1])
	if terr != nil {
		return e, 0, 0, terr
	}
	e.TimeMicros, e.ID, e.User = at.UnixMicro(), number(row[2], 64), number(row[3], 64)
	id, herr := hex.DecodeString(strings.ReplaceAll(row[4], "-", ""))
	if herr != nil || len(id) != 16 {
		return e, 0, 0, fmt.Errorf("session %q: %w", row[4], herr)
	}
	copy(e.Session[:], id)
	if e.HasURL = row[5] != ""; e.HasURL {
		e.URL = row[5]
	}
	if e.HasValue = row[6] != ""; e.HasValue {
		if e.Value, terr = strconv.ParseFloat(row[6], 64); terr != nil {
			return e, 0, 0, terr
		}
	}
	return e, int32(number(row[7], 32)), number(row[8], 64), err
}

func (r *trial) count(table string) int {
	out, err := r.cluster.Run(r.ctx, r.cluster.Any(), "scan", table, "--count")
	r.must(err)
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	r.must(err)
	return n
}

// compareOffsets: checkpoint, Kafka commit and lag come to agree.
func (r *trial) compareOffsets() {
	client, err := kgo.NewClient(kgo.SeedBrokers(r.broker.Addr()))
	r.must(err)
	defer client.Close()
	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(r.ctx, topic)
	r.must(err)
	deadline := time.Now().Add(patience)
	for {
		s, err := r.cluster.Status(r.ctx, r.cluster.Any())
		r.must(err)
		var differ []string
		for _, c := range s.Connectors {
			commits, err := admin.FetchOffsets(r.ctx, "nyala-"+c.Name)
			r.must(err)
			for _, p := range c.Partitions {
				end, _ := ends.Lookup(topic, p.Partition)
				commit, _ := commits.Lookup(topic, p.Partition)
				if p.Checkpoint != end.Offset || commit.At != p.Checkpoint || p.LagRecords != 0 {
					differ = append(differ, fmt.Sprintf("%s, partition %d: checkpoint %d, commit %d, end %d, lag %d",
						c.Name, p.Partition, p.Checkpoint, commit.At, end.Offset, p.LagRecords))
				}
			}
		}
		if len(differ) == 0 && r.reads(s) {
			return
		}
		if time.Now().After(deadline) {
			r.Fatalf("checkpoint, commit and lag differ:\n%s", strings.Join(differ, "\n"))
		}
		time.Sleep(askAgain)
	}
}

// finish compares the files of the replicas of each tablet where they are durable to the same index, stops all nodes as an operator
// would, and has `nyala check` read every byte that they leave.
func (r *trial) finish() {
	s := r.await("healthy, with files to compare", func(s api.Status) bool {
		return s.Healthy && len(pairs(s)) > 0
	})
	for _, p := range pairs(s) {
		if p[0].Hash != p[1].Hash {
			r.Errorf("%s and %s differ at durable index %d: %s, %s", p[0].Node, p[1].Node, p[0].DurableIndex, p[0].Hash, p[1].Hash)
		}
	}
	for _, p := range r.cluster.Nodes {
		r.must(p.Stop())
	}
	for _, p := range r.cluster.Nodes {
		out, err := r.cluster.Run(r.ctx, 0, "check", p.Data)
		if err != nil {
			r.Errorf("check %s: %v\n%s", p.ID, err, out)
		}
	}
	r.sayResumes()
	r.sayErrors()
	r.say("files of %d pairs of replicas are equal, and every directory is whole", len(pairs(s)))
}

var logged = regexp.MustCompile(`level=ERROR msg=("[^"]*"|\S+).*`)

// sayErrors says which nodes ended by themselves, and what they called errors. A panic is not allowed.
func (r *trial) sayErrors() {
	count, first := map[string]int{}, map[string]string{}
	for _, p := range r.cluster.Nodes {
		text, err := os.ReadFile(p.Log)
		r.must(err)
		if bytes.Contains(text, []byte("\ngoroutine ")) {
			r.Errorf("%s panicked: %s", p.ID, p.Log)
		}
		for _, m := range logged.FindAllSubmatch(text, -1) {
			if msg := string(m[1]); count[msg] == 0 {
				first[msg] = string(m[0])
			}
			count[string(m[1])]++
		}
		if len(p.deaths) > 0 {
			r.say("%s ended by itself: %v", p.ID, p.deaths)
		}
	}
	for _, msg := range slices.Sorted(maps.Keys(count)) {
		r.say("nodes logged %s %d times, first: %s", msg, count[msg], first[msg])
	}
}

// pairs are replicas of the same tablet at the same durable index.
func pairs(s api.Status) (out [][2]api.Replica) {
	for _, tablet := range s.Tablets {
		for _, a := range tablet.Replicas {
			for _, b := range tablet.Replicas {
				if a.DurableIndex == b.DurableIndex && a.DurableIndex > 0 && a.Node < b.Node {
					out = append(out, [2]api.Replica{a, b})
				}
			}
		}
	}
	return out
}
