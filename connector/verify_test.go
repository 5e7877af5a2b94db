package connector

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/configs"
	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/connector/query"
	"nyala/ingest"
	"nyala/store/batch"
	"nyala/store/schema"
)

// verification is what a client got.
type verification struct {
	steps       []string
	differences []api.Difference
	result      *api.Verification
}

// verify asks a node over HTTP to compare a table with its topics.
func (c *cluster) verify(id, table string) (*verification, error) {
	return c.verifyWithin(context.Background(), id, table)
}

func (c *cluster) verifyWithin(ctx context.Context, id, table string) (*verification, error) {
	client := api.Client{Server: id + ":7481", HTTP: c.nodes[id].http}
	res, err := client.Do(ctx, http.MethodGet, "/api/v1/tables/"+table+"/verify", url.Values{"values": {"true"}}, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	v := &verification{}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		var e api.VerifyEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, err
		}
		switch {
		case e.Progress != nil && (len(v.steps) == 0 || v.steps[len(v.steps)-1] != e.Progress.Step):
			v.steps = append(v.steps, e.Progress.Step)
		case e.Difference != nil:
			v.differences = append(v.differences, *e.Difference)
		case e.Result != nil:
			v.result = e.Result
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if text := res.Trailer.Get(api.ErrorTrailer); text != "" {
		return nil, errors.New(text)
	}
	if v.result == nil {
		return nil, errors.New("no result")
	}
	return v, nil
}

// wantExact verifies and wants everything to be checked and right.
func (c *cluster) wantExact(id, table string, rows int64) *verification {
	c.t.Helper()
	v, err := c.verify(id, table)
	if err != nil {
		c.t.Fatalf("verify: %v", err)
	}
	if r := v.result; !r.Exact || !r.Complete || r.Differences != 0 || r.Rows != rows {
		c.t.Fatalf("verify: %s, differences %s, want %d rows and no difference", text(v.result), text(v.differences), rows)
	}
	return v
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(b)
}

func TestVerifyExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.startAll()
		c.produce(0, 2000)
		c.await("n1", 2000)
		c.kill("n2", 0.5)
		c.produce(2000, 3000)
		c.await("n1", 3000)
		c.start("n2")
		c.awaitHealthy("n1")
		time.Sleep(2 * time.Second)
		for _, id := range []string{"n1", "n2", "n3"} {
			v := c.wantExact(id, "events", 3000)
			if v.result.Records != 3000 || len(v.result.Sources) != 4 || v.result.Open != 0 {
				t.Errorf("on %s: %s", id, text(v.result))
			}
		}
		c.stopAll()
	})
}

// write puts a row into the tablet where its key belongs, as a direct writer without a source would.
func (c *cluster) write(id, table string, op batch.Op, row ...schema.Value) {
	c.t.Helper()
	n := c.nodes[id]
	view, ok := n.catalog.Snapshot().Table(table)
	if !ok {
		c.t.Fatalf("no table %s", table)
	}
	rows := batch.NewBuilder(view.Schema.Columns, 1)
	for i, v := range row {
		rows.Columns[i].AppendValue(v)
	}
	b := rows.View()
	hash := make([]uint64, 1)
	batch.HashRows(view.Schema, &b, 0, 1, hash)
	p := view.Partitions[0]
	if r := view.Schema.Range; r != nil {
		if p, ok = view.Partition(b.Columns[r.Column].Int(0)); !ok {
			c.t.Fatalf("no range for %v", row)
		}
	}
	tablet := p.Tablets[schema.BucketOf(hash[0], len(p.Tablets))]
	c.writeTo(id, tablet, view.Schema.Version, op, b)
}

func (c *cluster) writeTo(id string, tablet catalog.TabletID, version uint32, op batch.Op, b batch.Batch) {
	c.t.Helper()
	entry := batch.AppendWrite(nil, &batch.Write{
		Header: batch.Header{Kind: batch.KindWrite, SchemaVersion: version}, Batches: []batch.Batch{b}, Refs: []batch.Ref{{}}, Op: op,
	})
	answer, err := c.nodes[id].writeRows(context.Background(), uint64(tablet), entry)
	if err != nil || answer.Status != ingest.Applied {
		c.t.Fatalf("write to tablet %d: %+v, %v", tablet, answer, err)
	}
}

func number(v int64) schema.Value    { return schema.Value{Int: v} }
func words(text string) schema.Value { return schema.Value{Bytes: []byte(text)} }

// eventAt is the row of the table events that a record makes.
func eventAt(id int64, text string, partition, offset int64) []schema.Value {
	return []schema.Value{number(id % 7), number(id), words(text), number(partition), number(offset)}
}

// where finds a record of produce: partition and offset of an id.
func (c *cluster) where(id string, event int64) (partition, offset int64) {
	c.t.Helper()
	r, err := c.nodes[id].read(context.Background(), "events", query.Request{
		Columns: []string{"kafka_partition", "kafka_offset"}, Where: []string{fmt.Sprintf("id = %d", event)}})
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.stream.Close()
	b, err := r.stream.Next()
	if err != nil || b.Rows != 1 {
		c.t.Fatalf("event %d: %v", event, err)
	}
	return b.Columns[0].Int(0), b.Columns[1].Int(0)
}

// TestVerifyNamesDifferences changes, removes, adds and misplaces rows behind the back of ingest.
func TestVerifyNamesDifferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.startAll()
		c.produce(0, 500)
		c.await("n1", 500)
		time.Sleep(2 * time.Second)
		p1, o1 := c.where("n1", 100)
		p2, o2 := c.where("n1", 200)
		c.write("n1", "events", batch.Upsert, eventAt(100, "forged", p1, o1)...)
		c.write("n2", "events", batch.Delete, eventAt(200, "", 0, 0)...)
		c.write("n3", "events", batch.Insert, eventAt(1000, "of nobody", 1, 7)...)
		v, err := c.verify("n2", "events")
		if err != nil {
			t.Fatal(err)
		}
		if r := v.result; r.Exact || r.Complete || r.Differences != 3 || r.Rows != 500 || r.NotCheckable != 0 {
			t.Errorf("result %s", text(r))
		}
		got := map[string]string{}
		for _, d := range v.differences {
			at := "nowhere"
			if d.Partition != nil {
				at = fmt.Sprintf("%s %d/%d", d.Topic, *d.Partition, *d.Offset)
			}
			got[d.Kind] = fmt.Sprintf("%s at %s, columns %v, record %q, row %q", d.Key, at, d.Columns, d.Record["text"], d.Row["text"])
		}
		for kind, want := range map[string]string{
			api.OtherRow:   fmt.Sprintf(`tenant=2, id=100 at app %d/%d, columns [text], record "event 100", row "forged"`, p1, o1),
			api.MissingRow: fmt.Sprintf(`tenant=4, id=200 at app %d/%d, columns [], record "event 200", row ""`, p2, o2),
			api.ExtraRow:   `tenant=6, id=1000 at nowhere, columns [], record "", row "of nobody"`,
		} {
			if got[kind] != want {
				t.Errorf("%s: got %s, want %s", kind, got[kind], want)
			}
		}
		c.stopAll()
	})
}

// verifySome compares a table with its topic in the middle of it all, if that is possible, and never finds a difference.
func (s *simulation) verifySome(step int) {
	st, id := s.streams[step%len(s.streams)], s.ids()[step%len(s.ids())]
	if s.nodes[id] == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*lookLimit)
	defer cancel()
	v, err := s.verifyWithin(ctx, id, st.table)
	if err != nil {
		s.note("verify %s on %s: %v", st.name, id, err)
		return
	}
	s.note("verify %s on %s: %s", st.name, id, text(v.result))
	if !v.result.Exact {
		s.t.Fatalf("verify %s on %s: %s, differences %s", st.name, id, text(v.result), text(v.differences))
	}
}

// verifyAll wants every table to be exact; only what Kafka has deleted may be beyond proof, and what was replayed under earlier settings.
func (s *simulation) verifyAll(id string) {
	s.t.Helper()
	for _, st := range s.streams {
		v, err := s.cluster.verify(id, st.table)
		for range 3 { // a message may be left to be lost
			if err != nil {
				v, err = s.cluster.verify(id, st.table)
			}
		}
		if err != nil {
			s.t.Fatalf("verify %s: %v", st.name, err)
		}
		gone := int64(0)
		for _, source := range v.result.Sources {
			gone += source.Gone + source.Gaps + source.Compacted
		}
		if r := v.result; !r.Exact || r.Open > 0 || r.NotCheckable > s.replaying.carriedOut() && gone == 0 {
			s.t.Fatalf("verify %s: %s, differences %s", st.name, text(r), text(v.differences))
		}
	}
}

// differences lists what was found as text: kind, key, place, columns.
func (v *verification) list() []string {
	var out []string
	for _, d := range v.differences {
		at := "nowhere"
		if d.Partition != nil {
			at = fmt.Sprintf("%s/%d/%d", d.Topic, *d.Partition, *d.Offset)
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s at %s %s", d.Kind, d.Key, at, strings.Join(d.Columns, ","))))
	}
	slices.Sort(out)
	return out
}

func (c *cluster) wantDifferences(id, table string, want ...string) *verification {
	c.t.Helper()
	v, err := c.verify(id, table)
	if err != nil {
		c.t.Fatalf("verify: %v", err)
	}
	if got := v.list(); !slices.Equal(got, want) || v.result.Exact {
		c.t.Fatalf("verify: got %q, want %q; %s", got, want, text(v.result))
	}
	return v
}

// send produces values to a partition of the topic app, in their order.
func (c *cluster) send(partition int32, values ...string) {
	c.t.Helper()
	c.sendKeyed(partition, "k", values...)
}

func (c *cluster) sendKeyed(partition int32, key string, values ...string) {
	c.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.broker.ListenAddrs()...), kgo.DefaultProduceTopic("app"),
		kgo.Dialer(c.kafka.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	for _, v := range values {
		if err := client.ProduceSync(context.Background(), &kgo.Record{Partition: partition, Key: []byte(key), Value: []byte(v)}).FirstErr(); err != nil {
			c.t.Fatal(err)
		}
	}
}

// awaitRead waits until the checkpoint of a partition of the topic app is there.
func (c *cluster) awaitRead(id string, partition int32, next int64) {
	c.t.Helper()
	for range 600 {
		for _, o := range c.nodes[id].offsets(context.Background()) {
			if o.Partition == partition && o.Checkpoint >= next {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatalf("partition %d is not read up to %d", partition, next)
}

// TestVerifyDeadLetters removes, changes and adds dead letters.
func TestVerifyDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1, 1)
		c.startAll()
		c.send(0, `{"tenant":1,"id":1}`, "bad 1", "bad 2", `{"tenant":1,"id":2}`, "bad 4")
		c.awaitRead("n1", 0, 5)
		if v := c.wantExact("n1", "events", 2); v.result.DeadLetters != 3 || v.result.Records != 5 {
			t.Errorf("result %s", text(v.result))
		}
		letter := func(offset int64) []schema.Value {
			in, err := c.nodes["n1"].read(context.Background(), schema.DeadLettersTable, query.Request{Where: []string{"offset < 3"}})
			if err != nil {
				t.Fatal(err)
			}
			defer in.stream.Close()
			b, err := in.stream.Next()
			if err != nil {
				t.Fatal(err)
			}
			var row []schema.Value
			for i := range b.Columns {
				row = append(row, b.Columns[i].Value(0))
			}
			row[schema.DeadLetters().Position("offset")] = number(offset)
			return row
		}
		c.write("n1", schema.DeadLettersTable, batch.Delete, letter(1)...)
		forged := letter(2)
		forged[schema.DeadLetters().Position("value")] = words("forged")
		c.write("n1", schema.DeadLettersTable, batch.Upsert, forged...)
		c.write("n1", schema.DeadLettersTable, batch.Insert, letter(3)...)
		c.write("n1", schema.DeadLettersTable, batch.Insert, letter(1000)...) // beyond what was read: not of this snapshot
		c.wantDifferences("n1", "events", "extra dead letter  at app/0/3", "missing dead letter  at app/0/1", "other dead letter  at app/0/2")
		c.stopAll()
	})
}

// TestVerifyMisplacedRow has a row in a bucket where nobody would look for it: twice there, by its key.
func TestVerifyMisplacedRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1, 1)
		c.startAll()
		c.produce(0, 20)
		c.await("n1", 20)
		time.Sleep(2 * time.Second)
		view, _ := c.nodes["n1"].catalog.Snapshot().Table("events")
		rows := batch.NewBuilder(view.Schema.Columns, 1)
		partition, offset := c.where("n1", 3)
		for i, v := range eventAt(3, "event 3", partition, offset) {
			rows.Columns[i].AppendValue(v)
		}
		hash, b := make([]uint64, 1), rows.View()
		batch.HashRows(view.Schema, &b, 0, 1, hash)
		wrong := view.Partitions[0].Tablets[1-schema.BucketOf(hash[0], 2)]
		c.writeTo("n1", wrong, view.Schema.Version, batch.Insert, b)
		c.wantDifferences("n1", "events", "doubled row tenant=3, id=3 at nowhere", "misplaced row tenant=3, id=3 at nowhere")
		c.stopAll()
	})
}

// TestVerifyAfterRetention has records that Kafka has deleted: their rows are not checkable, and a row that is wrong among the
// others is found all the same.
// TestVerifyCannot is about everything that keeps a verification from beginning.
func TestVerifyCannot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := strings.Replace(clusterConfig, "connectors:", `  - name: alone
    columns: [{name: id, type: int64}]
    primary_key: [id]
    hash: {columns: [id], buckets: 1}
connectors:`, 1)
		c := newClusterOf(t, 1, 1, 1, config, kfake.NumBrokers(1), kfake.Ports(9092), kfake.SeedTopics(2, "app"))
		c.startAll()
		c.produce(0, 10)
		c.await("n1", 10)
		for table, want := range map[string]string{
			"nothing":               "404 table_not_found",
			schema.DeadLettersTable: "400 system_table",
			"alone":                 "400 no_connector",
		} {
			_, err := c.verify("n1", table)
			var remote *api.RemoteError
			if !errors.As(err, &remote) || fmt.Sprintf("%d %s", remote.Status, remote.Code) != want {
				t.Errorf("table %s: %v, want %s", table, err, want)
			}
		}
		c.nodes["n1"].verifying.Store(true)
		if _, err := c.verify("n1", "events"); err == nil || !strings.Contains(err.Error(), "verifies a table already") {
			t.Errorf("a second one: %v", err)
		}
		c.nodes["n1"].verifying.Store(false)
		c.wires["n1"].set(true)
		if _, err := c.verify("n1", "events"); err == nil || !strings.Contains(err.Error(), "does not answer") || !strings.Contains(err.Error(), "9092") {
			t.Errorf("without kafka: %v", err)
		}
		c.stopAll()
	})
}

// TestVerifyReplays has rows that come out of dead letters: some are claimed and not carried out yet, the others are marked.
func TestVerifyReplays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1, 1)
		c.startAll()
		c.awaitTables("n1")
		c.produce(0, 40)
		c.await("n1", 40)
		time.Sleep(2 * time.Second)
		topic := c.nodes["n1"].catalog.Checkpoints()[0].Source.Topic
		rows := ingest.SystemRows(schema.DeadLetters())
		for at := range int64(30) { // offsets beyond what was read, so that nobody asks Kafka for them
			for i, v := range []schema.Value{
				{Bytes: topic[:]}, {}, number(1000 + at), words("app"), words("app"), number(5_000_000),
				schema.Null, words(goodEvent(int(1000 + at))), schema.Null, words("decode"), words("bad_type"), number(6_000_000),
			} {
				rows.Columns[i].AppendValue(v)
			}
		}
		w := ingest.TableWriter{Router: c.nodes["n1"].router, Write: c.nodes["n1"].writeRows}
		if err := w.WriteRows(context.Background(), schema.DeadLettersTable, rows, batch.Insert); err != nil {
			t.Fatal(err)
		}
		if got, err := c.replayOn("n1", replayRequest{limit: 20}); err != nil || got.Replayed != 20 {
			t.Fatalf("replay: %+v, %v", got, err)
		}
		c.wantExact("n1", "events", 60)
		interrupted := errors.New("interrupted")
		c.nodes["n1"].options.replays.after = func(_ context.Context, step string) error {
			if step == "claimed" {
				return interrupted
			}
			return nil
		}
		if _, err := c.replayOn("n1", replayRequest{}); err == nil {
			t.Fatal("the second replay was not interrupted")
		}
		c.wantExact("n1", "events", 60)
		c.nodes["n1"].options.replays.after = nil
		if _, err := c.replayOn("n1", replayRequest{}); err != nil {
			t.Fatal(err)
		}
		c.wantExact("n1", "events", 70)
		c.write("n1", "events", batch.Upsert, number(1005%3), number(1005), words("forged"), number(0), number(1005))
		c.wantDifferences("n1", "events", "other row tenant=0, id=1005 at dead letters/0/5")
		c.stopAll()
	})
}

// TestVerifyChangedSettings has a connector whose settings change from inserts to upserts, and from refusing unknown fields to
// ignoring them; letters of the older settings are replayed under the newer.
func TestVerifyChangedSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := strings.Replace(clusterConfig, "format: json\n", "format: json\n    write: insert\n    on_unknown_field: dead_letter\n", 1)
		c := newClusterOf(t, 1, 1, 1, config, kfake.NumBrokers(1), kfake.Ports(9092), kfake.SeedTopics(1, "app"))
		c.startAll()
		c.send(0, `{"tenant":1,"id":1,"text":"a"}`, `{"tenant":1,"id":1,"text":"b"}`, `{"tenant":1,"id":2,"x":0}`, `{"tenant":1,"id":3,"text":"c"}`, `{"tenant":1,"id":4,"x":0}`)
		c.awaitRead("n1", 0, 5)
		c.wantExact("n1", "events", 2)
		c.kill("n1", 1)
		c.config.Connectors[0].Write, c.config.Connectors[0].OnUnknownField = configs.WriteUpsert, configs.UnknownFieldIgnore
		c.start("n1")
		for range 600 {
			if k, ok := c.nodes["n1"].catalog.Snapshot().Connector("app"); ok && k.Decision().Version == 2 && k.Change == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		c.send(0, `{"tenant":1,"id":3,"text":"d"}`, `{"tenant":1,"id":3,"text":"e","x":0}`, `{"tenant":1,"id":5}`)
		c.awaitRead("n1", 0, 8)
		v := c.wantExact("n1", "events", 3)
		if v.result.DeadLetters != 2 || v.result.Records != 8 {
			t.Errorf("result %s", text(v.result))
		}
		time.Sleep(2 * time.Minute) // a claim soon after the change might have been decided by the older settings
		if got, err := c.replayOn("n1", replayRequest{}); err != nil || got.Replayed != 2 {
			t.Fatalf("replay: %+v, %v", got, err)
		}
		c.wantExact("n1", "events", 5)
		c.write("n1", "events", batch.Upsert, number(1), number(1), words("b"), number(0), number(1))
		c.write("n1", "events", batch.Upsert, number(1), number(3), words("d"), number(0), number(5))
		c.write("n1", "events", batch.Delete, number(1), number(4), words(""), number(0), number(0))
		c.wantDifferences("n1", "events", "missing row  at dead letters/0/1", "other row tenant=1, id=1 at app/0/0 text,kafka_offset",
			"other row tenant=1, id=3 at app/0/6 text,kafka_offset")
		c.stopAll()
	})
}
