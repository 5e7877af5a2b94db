package broker

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestPrepared sends events at a rate and reads all of them back, with the times at which they were sent.
func TestPrepared(t *testing.T) {
	aheads := []int64{0, 100, 10_000}
	if testing.Short() { // the race detector makes the compression a hundred times slower
		aheads = aheads[1:2]
	}
	for _, ahead := range aheads {
		t.Run(fmt.Sprint(ahead), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testPrepared(t, ahead) }) })
	}
}

func testPrepared(t *testing.T, ahead int64) {
	var network kfake.VirtualNetwork
	b, err := Start(Options{Ports: []int{9092}, Partitions: 3, Topics: []string{"events"}, Listen: network.Listen})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	const count, rate = 1500, 1230
	p, err := Prepare(ProducerOptions{Brokers: b.Addresses(), Dial: network.DialContext, Topic: "events", Partitions: 3, FirstID: 7}, count, rate, ahead)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	time.Sleep(time.Minute) // what is prepared is not sent yet
	begin := time.Now()
	if err := p.Send(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took, want := time.Since(begin).Seconds(), float64(count)/rate; took < want || took > want+0.1 || p.Acked() != count {
		t.Errorf("%d acknowledged after %.2f s, want %d after %.2f", p.Acked(), took, count, want)
	}
	ids := map[int64]bool{}
	readEach(t, b, network.DialContext, "events", count, func(r *kgo.Record) {
		addID(t, ids, r)
		if after, due := r.Timestamp.Sub(begin), time.Duration(r.Offset*3)*time.Second/rate; after < due || after > due+2*tick {
			t.Fatalf("offset %d of partition %d was sent after %v, want %v", r.Offset, r.Partition, after, due)
		}
	})
	if !ids[8] || !ids[7+count] {
		t.Errorf("ids from %v to %v, want 8 to %d", ids[8], ids[7+count], 7+count)
	}
}

// TestPreparedGivenUp: what is not sent, and not even made yet, holds up nobody.
func TestPreparedGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		b, err := Start(Options{Ports: []int{9092}, Topics: []string{"events"}, Listen: network.Listen})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		p, err := Prepare(ProducerOptions{Brokers: b.Addresses(), Dial: network.DialContext, Topic: "events"}, 1_000_000, 1000, 50)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Send(ctx); err != nil {
			t.Error(err)
		}
		if n := p.Acked(); n < 900 || n > 1000 {
			t.Errorf("%d acknowledged in a second, want some 1000", n)
		}
		p.Close()
	})
}
