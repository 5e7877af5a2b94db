package connector

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/connector/query"
	"nyala/store/batch"
	"nyala/store/schema"
)

func TestVerifyAfterRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1, 1)
		c.startAll()
		c.send(0, `{"tenant":1,"id":0,"text":"a"}`, `{"tenant":1,"id":1,"text":"b"}`, "bad", `{"tenant":1,"id":3,"text":"c"}`, `{"tenant":1,"id":0,"text":"d"}`)
		c.awaitRead("n1", 0, 5)
		if err := c.broker.DeleteRecords("app", 0, 3); err != nil {
			t.Fatal(err)
		}
		v, err := c.verify("n1", "events")
		if err != nil {
			t.Fatal(err)
		}
		if r := v.result; !r.Exact || r.Complete || r.NotCheckable != 2 || r.Rows != 3 || r.Sources[0].Gone != 3 || r.Sources[0].First != 3 {
			t.Errorf("result %s, differences %s", text(r), text(v.differences))
		}
		c.write("n1", "events", batch.Upsert, number(1), number(3), words("forged"), number(0), number(3))
		c.write("n1", "events", batch.Insert, number(1), number(77), words("of nobody, or of one who is gone"), number(0), number(1))
		v = c.wantDifferences("n1", "events", "other row tenant=1, id=3 at app/0/3 text")
		if v.result.NotCheckable != 3 {
			t.Errorf("not checkable: %s", text(v.result))
		}
		c.stopAll()
	})
}

// TestVerifyFromLatest begins in the middle of a topic: what lies below is nobody's business.
func TestVerifyFromLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := strings.Replace(clusterConfig, "format: json\n", "format: json\n    start_from: latest\n", 1)
		c := newClusterOf(t, 1, 1, 1, config, kfake.NumBrokers(1), kfake.Ports(9092), kfake.SeedTopics(2, "app"))
		c.send(0, `{"tenant":1,"id":0}`, `{"tenant":1,"id":1}`)
		c.startAll()
		c.awaitRead("n1", 0, 2)
		v := c.wantExact("n1", "events", 0)
		if v.result.Records != 0 {
			t.Errorf("before anything came: %s", text(v.result))
		}
		c.send(0, `{"tenant":1,"id":2}`)
		c.awaitRead("n1", 0, 3)
		v = c.wantExact("n1", "events", 1)
		if s := v.result.Sources[0]; s.Begun != 2 || s.First != 2 || s.Records != 1 || s.Gone != 0 {
			t.Errorf("source %+v", s)
		}
		c.stopAll()
	})
}

// TestVerifyRecreatedTopic cannot read what was there before. That explains rows without a record, but no record without a row.
func TestVerifyRecreatedTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := strings.Replace(clusterConfig, "format: json\n", "format: json\n    write: insert\n", 1)
		c := newClusterOf(t, 1, 1, 1, config, kfake.NumBrokers(1), kfake.Ports(9092), kfake.SeedTopics(4, "app"))
		c.startAll()
		c.produce(0, 40)
		c.await("n1", 40)
		time.Sleep(2 * time.Second)
		if err := c.broker.DeleteTopic("app"); err != nil {
			t.Fatal(err)
		}
		if err := c.broker.CreateTopic("app", 5, nil); err != nil {
			t.Fatal(err)
		}
		v, err := c.verify("n1", "events")
		if err != nil {
			t.Fatal(err)
		}
		if r := v.result; !r.Exact || r.Complete || r.NotCheckable != 40 || r.Sources[0].Reason == "" {
			t.Errorf("result %s", text(r))
		}
		if err := c.nodes["n1"].Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		c.start("n1")
		c.send(4, `{"tenant":1,"id":100}`, `{"tenant":1,"id":101}`, `{"tenant":1,"id":102}`)
		c.await("n1", 43)
		c.write("n1", "events", batch.Delete, number(1), number(101), words(""), number(0), number(0))
		v = c.wantDifferences("n1", "events", "missing row tenant=1, id=101 at app/4/1")
		if v.result.NotCheckable != 40 {
			t.Errorf("result %s", text(v.result))
		}
		c.stopAll()
	})
}

// TestVerifyCompacted has a topic out of the middle of which Kafka has deleted records that the table has rows of.
func TestVerifyCompacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := strings.Replace(clusterConfig, "format: json\n", "format: json\n    write: insert\n", 1)
		c := newClusterOf(t, 1, 1, 1, config, kfake.NumBrokers(1), kfake.Ports(9092))
		if err := c.broker.CreateTopic("app", 1, map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "segment.ms": "1"}); err != nil {
			t.Fatal(err)
		}
		c.startAll()
		c.sendKeyed(0, "other", `{"tenant":1,"id":1000}`) // stays, and the log begins with it
		for i := range 20 {                               // all with one Kafka key
			c.send(0, fmt.Sprintf(`{"tenant":1,"id":%d,"text":"first"}`, i), "bad")
			time.Sleep(10 * time.Millisecond)
		}
		c.awaitRead("n1", 0, 41)
		c.wantExact("n1", "events", 21)
		c.broker.Compact()
		v, err := c.verify("n1", "events")
		if err != nil {
			t.Fatal(err)
		}
		if r := v.result; !r.Exact || r.Complete || r.NotCheckable < 30 || r.Sources[0].Compacted < 30 {
			t.Errorf("result %s, differences %s", text(r), text(v.differences))
		}
		c.stopAll()
	})
}

// TestVerifyBatchThatIsTooLarge has a batch that ingest leaves out as a gap: it must be in nyala.gaps, and is not read here either.
func TestVerifyBatchThatIsTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterOf(t, 1, 1, 1, clusterConfig, kfake.NumBrokers(1), kfake.Ports(9092), kfake.SeedTopics(1, "app"))
		c.startAll()
		c.send(0, `{"tenant":1,"id":0}`)
		client, err := kgo.NewClient(kgo.SeedBrokers(c.broker.ListenAddrs()...), kgo.Dialer(c.kafka.DialContext),
			kgo.ProducerBatchCompression(kgo.GzipCompression()), kgo.ProducerBatchMaxBytes(128<<20), kgo.BrokerMaxWriteBytes(256<<20))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if err := client.ProduceSync(context.Background(), &kgo.Record{Topic: "app", Value: make([]byte, 65<<20)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		c.send(0, `{"tenant":1,"id":2}`)
		c.awaitRead("n1", 0, 3)
		if v := c.wantExact("n1", "events", 2); v.result.Sources[0].Gaps != 1 {
			t.Errorf("result %s", text(v.result))
		}
		in, err := c.nodes["n1"].read(context.Background(), schema.GapsTable, query.Request{})
		if err != nil {
			t.Fatal(err)
		}
		defer in.stream.Close()
		b, err := in.stream.Next()
		if err != nil {
			t.Fatal(err)
		}
		var gap []schema.Value
		for i := range b.Columns {
			gap = append(gap, b.Columns[i].Value(0))
		}
		c.write("n1", schema.GapsTable, batch.Delete, gap...)
		c.wantDifferences("n1", "events", "missing gap  at app/0/1")
		c.stopAll()
	})
}
