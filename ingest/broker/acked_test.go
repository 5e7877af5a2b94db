package broker

import (
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestAckedSaysWhereEachEventIs(t *testing.T) {
	b, err := Start(Options{Partitions: 3, Topics: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	const events = 3000
	var acked [3][]string // kgo calls back in order for a partition
	p, err := NewProducer(ProducerOptions{Brokers: b.Addresses(), Topic: "t", Partitions: 3, Linger: time.Millisecond,
		Acked: func(partition int32, offset int64, e *Event) {
			if offset != int64(len(acked[partition])) {
				t.Errorf("partition %d: offset %d comes %d-th", partition, offset, len(acked[partition]))
			}
			acked[partition] = append(acked[partition], string(e.AppendJSON(nil)))
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Run(t.Context(), events, 0); err != nil {
		t.Fatal(err)
	}
	readEach(t, b, (&net.Dialer{}).DialContext, "t", events, func(r *kgo.Record) {
		if want := acked[r.Partition][r.Offset]; string(r.Value) != want {
			t.Fatalf("partition %d offset %d: got %s, want %s", r.Partition, r.Offset, r.Value, want)
		}
	})
}
