package perf

import (
	"fmt"
	"math/rand/v2"

	"nyala/ingest/broker"
)

// keySample remembers the primary keys of some of the first events, each as likely as any other (Vitter's algorithm R), and gives
// them to later events in random order.
type keySample struct {
	want, of int64 // how many, of how many
	seen     int64
	keys     []eventKey
	next     int
	random   *rand.Rand
}

type eventKey struct {
	tenant   int32
	time, id int64
}

func newKeySample(want, of int64) *keySample {
	return &keySample{want: want, of: of, random: rand.New(rand.NewPCG(1, uint64(of)))}
}

// see is told of each event as it is produced.
func (s *keySample) see(e *broker.Event) { s.add(eventKey{e.Tenant, e.EventTime, e.EventID}) }

func (s *keySample) add(k eventKey) {
	if s.want == 0 || s.seen == s.of {
		return
	}
	s.seen++
	if int64(len(s.keys)) < s.want {
		s.keys = append(s.keys, k)
	} else if at := s.random.Int64N(s.seen); at < s.want {
		s.keys[at] = k
	}
}

// shuffle prepares so many keys to be given.
func (s *keySample) shuffle(n int64) error {
	if n > int64(len(s.keys)) {
		return fmt.Errorf("perf: broker: %d keys are wanted, %d are known", n, len(s.keys))
	}
	s.random.Shuffle(len(s.keys), func(i, j int) { s.keys[i], s.keys[j] = s.keys[j], s.keys[i] })
	s.next = 0
	return nil
}

// give makes an event one of a row that is there already.
func (s *keySample) give(e *broker.Event) {
	k := s.keys[s.next]
	s.next++
	e.Tenant, e.EventTime, e.EventID = k.tenant, k.time, k.id
}
