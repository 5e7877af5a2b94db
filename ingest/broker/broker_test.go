package broker

import (
	"context"
	"encoding/json"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestProduce produces at a rate for a while and reads everything back.
func TestProduce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		b, err := Start(Options{Brokers: 2, Ports: []int{9092, 9093}, Partitions: 3, Topics: []string{"events"}, Listen: network.Listen})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		p, err := NewProducer(ProducerOptions{Brokers: b.Addresses(), Dial: network.DialContext, Topic: "events", Partitions: 3, Codec: "none"})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := p.Run(ctx, 0, 1000); err != nil {
			t.Fatal(err)
		}
		if err := p.Run(context.Background(), 500, 0); err != nil {
			t.Fatal(err)
		}
		n := p.Acked()
		if n < 5300 || n > 5500 || n != p.Produced() {
			t.Errorf("%d events acknowledged of %d, want about 5500", n, p.Produced())
		}
		total := int64(0)
		for partition := range int32(3) {
			total += b.End("events", partition)
		}
		if total != n {
			t.Errorf("the log has %d events, want %d", total, n)
		}
		ids := map[int64]bool{}
		readEach(t, b, network.DialContext, "events", int(n), func(r *kgo.Record) { addID(t, ids, r) })
		for id := int64(1); id <= n; id++ {
			if !ids[id] {
				t.Fatalf("event %d is missing", id)
			}
		}
		if err := b.DeleteRecords("events", 0, 10); err != nil {
			t.Error(err)
		}
		if err := b.CreateTopic("more", 0); err != nil || b.End("more", 2) != 0 || b.End("more", 3) != -1 {
			t.Errorf("topic more: %v", err)
		}
		if b.Commit("nobody", "events", 0) != -1 {
			t.Error("a commit of nobody")
		}
	})
}

// readEach reads n records of a topic from its start.
func readEach(t *testing.T, b *Broker, dial func(context.Context, string, string) (net.Conn, error), topic string, n int, each func(*kgo.Record)) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(b.Addresses()...), kgo.Dialer(dial), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for read := 0; read < n; {
		c.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) {
			read++
			each(r)
		})
	}
}

// addID adds the id of a record's event, which must be a new one.
func addID(t *testing.T, ids map[int64]bool, r *kgo.Record) {
	t.Helper()
	var e struct {
		ID      int64  `json:"event_id"`
		Session string `json:"session"`
	}
	if err := json.Unmarshal(r.Value, &e); err != nil || len(e.Session) != 36 || ids[e.ID] {
		t.Fatalf("event %s: %v", r.Value, err)
	}
	ids[e.ID] = true
}

// TestEventSize holds the events against the reference: 274 bytes on average.
func TestEventSize(t *testing.T) {
	g := NewGenerator(1, 1_795_000_000_000_000, 20, 0)
	bytes := 0
	var e Event
	for range 10_000 {
		g.Next(&e)
		bytes += len(e.AppendJSON(nil))
	}
	if mean := float64(bytes) / 10_000; mean < 270 || mean > 278 {
		t.Errorf("events have %.1f bytes on average, want about 274", mean)
	}
}

func TestUnknownCodec(t *testing.T) {
	if _, err := NewProducer(ProducerOptions{Codec: "rot13"}); err == nil {
		t.Error("codec rot13 was accepted")
	}
}
