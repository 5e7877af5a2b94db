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
)

// TestLargeRecord brings records of 20 MiB through three nodes, memory and files, and over a power cut.
func TestLargeRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterOf(t, 3, 3, 1, clusterConfig, kfake.NumBrokers(1), kfake.Ports(9092), kfake.SeedTopics(4, "app"),
			kfake.BrokerConfigs(map[string]string{"message.max.bytes": fmt.Sprint(64 << 20)}))
		c.startAll()
		client, err := kgo.NewClient(kgo.SeedBrokers(c.broker.ListenAddrs()...), kgo.DefaultProduceTopic("app"), kgo.Dialer(c.kafka.DialContext),
			kgo.ProducerBatchMaxBytes(32<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Repeat("large text ", 20<<20/11)
		for i, value := range []string{`{"tenant":1,"id":0,"text":"` + text + `"}`, text, `{"tenant":1,"id":2,"text":"small"}`} {
			if err := client.ProduceSync(context.Background(), &kgo.Record{Key: []byte{byte(i)}, Value: []byte(value)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		client.Close()
		c.await("n1", 2)
		time.Sleep(30 * time.Second) // all is in files
		for _, id := range []string{"n1", "n2", "n3"} {
			c.kill(id, 0)
		}
		c.startAll()
		c.await("n2", 2)
		rows, err := c.table("n3", "events", "text")
		if err != nil || len(rows) != 2 || len(rows[0])+len(rows[1]) != len(text)+len("small") {
			t.Errorf("got %d rows, %v", len(rows), err)
		}
		letters, err := c.table("n3", "nyala.dead_letters", "value")
		if err != nil || len(letters) != 1 || len(letters[0]) < len(text) {
			t.Errorf("got %d letters, %v", len(letters), err)
		}
		c.stopAll()
	})
}
