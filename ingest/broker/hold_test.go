package broker

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchHook tells when a client has asked for records.
type fetchHook chan struct{}

func (h fetchHook) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key == int16(kmsg.Fetch) {
		select {
		case h <- struct{}{}:
		default:
		}
	}
}

func TestHeldBrokerGivesNothingBeforeItsRelease(t *testing.T) {
	b, err := Start(Options{Topics: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	release := b.Hold()
	defer release()
	p, err := NewProducer(ProducerOptions{Brokers: b.Addresses(), Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Run(t.Context(), 10, 0); err != nil {
		t.Fatal(err)
	}
	asked := make(fetchHook, 1)
	c, err := kgo.NewClient(kgo.SeedBrokers(b.Addresses()...), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.WithHooks(asked), kgo.FetchMaxWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var released atomic.Bool
	early := make(chan bool)
	go func() {
		c.PollFetches(t.Context())
		early <- !released.Load()
	}()
	for range 3 { // a fetch that has waited long enough is answered, and the client asks again
		<-asked
	}
	released.Store(true)
	release()
	if <-early {
		t.Error("a held broker gave records")
	}
}
