package broker

import (
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Hold makes consumers wait for records until release is called, which must happen before Close. With it a measurement
// begins when everything is in its place. release may be called more than once.
//
// A fetch that is held is answered when it has waited as long as it wants to, with nothing, as by a topic that has no
// new records: a client that gets no answer at all gives up its connection after a while, and is slow when it comes back.
func (b *Broker) Hold() (release func()) {
	released := make(chan struct{})
	b.cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-released:
			return nil, nil, false // not kept: later fetches do not come here
		default:
		}
		b.cluster.KeepControl()
		fetch := r.(*kmsg.FetchRequest) // of this key there is no other
		held := false
		b.cluster.SleepControl(func() {
			patience := time.NewTimer(time.Duration(fetch.MaxWaitMillis) * time.Millisecond)
			defer patience.Stop()
			select {
			case <-released:
			case <-patience.C:
				held = true
			}
		})
		if !held {
			return nil, nil, false
		}
		empty := fetch.ResponseKind().(*kmsg.FetchResponse)
		empty.SessionID = fetch.SessionID
		return empty, nil, true
	})
	return sync.OnceFunc(func() { close(released) })
}
