package broker

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Hold makes consumers wait for records until release is called, which must happen before Close. With it a measurement
// begins when everything is in its place. release may be called more than once.
func (b *Broker) Hold() (release func()) {
	released := make(chan struct{})
	b.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-released:
			return nil, nil, false // not kept: later fetches do not come here
		default:
		}
		b.cluster.KeepControl()
		b.cluster.SleepControl(func() { <-released })
		return nil, nil, false
	})
	return sync.OnceFunc(func() { close(released) })
}
