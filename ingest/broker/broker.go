package broker

import (
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Options of a Broker.
type Options struct {
	Address    string // host:port; empty means a free port of the loopback interface
	Topic      string
	Partitions int
	// Held makes consumers wait for their first record until Release, so that a measurement can begin with
	// everything in place.
	Held bool
}

// Broker is a Kafka broker of one node and one topic that keeps all records in memory, for ever.
type Broker struct {
	cluster *kfake.Cluster
	open    func() // lets fetches go
}

// Start starts a broker. An address that is taken is an error.
func Start(o Options) (*Broker, error) {
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(int32(o.Partitions), o.Topic)}
	if o.Address != "" {
		// kfake chooses its port itself or listens at a port of the loopback interface; the address is ours.
		opts = append(opts, kfake.ListenFn(func(network, _ string) (net.Listener, error) { return net.Listen(network, o.Address) }))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("broker: listening at %q: %w", o.Address, err)
	}
	b := &Broker{cluster: cluster, open: func() {}}
	if o.Held {
		b.hold()
	}
	return b, nil
}

// hold makes every fetch wait until open is called.
func (b *Broker) hold() {
	released := make(chan struct{})
	b.open = sync.OnceFunc(func() { close(released) })
	b.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-released:
			return nil, nil, false // not kept: later fetches come here no more
		default:
		}
		b.cluster.KeepControl()
		b.cluster.SleepControl(func() { <-released })
		return nil, nil, false
	})
}

// Release lets consumers read; it may be called more than once.
func (b *Broker) Release() { b.open() }

// Address is where the broker listens.
func (b *Broker) Address() string { return strings.Join(b.cluster.ListenAddrs(), ",") }

// Close ends the broker, and what it kept is gone.
func (b *Broker) Close() {
	b.open()
	b.cluster.Close()
}
