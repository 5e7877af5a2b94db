package perf

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"nyala/connector/child"
	"nyala/ingest/broker"
)

const (
	topic = "events"
	group = "nyala-events" // of the connector, by default
)

// eventsBegin is the time of the first event loaded, microseconds since 1970: the same in every measurement.
const eventsBegin = 1_795_000_000_000_000

// eventsStep is between the times of two events loaded.
const eventsStep = 20 * time.Microsecond

// request is one line to the broker's process.
type request struct {
	Load       int64 `json:"load,omitempty"`    // events to produce as fast as possible
	Release    bool  `json:"release,omitempty"` // consumers may read
	Hold       bool  `json:"hold,omitempty"`    // consumers must wait again
	Rate       int64 `json:"rate,omitempty"`    // events a second, for Millis
	Millis     int64 `json:"millis,omitempty"`
	Again      int64 `json:"again,omitempty"`      // events to produce as fast as possible, with keys of Upserts, each once
	Partitions int   `json:"partitions,omitempty"` // first line: what to start
	Upserts    int64 `json:"upserts,omitempty"`    // first line: how many random keys to remember, of the first Stored events
	Stored     int64 `json:"stored,omitempty"`
}

// answer is one line from it. A request is answered by any number of lines with Done below its end, and one with End.
type answer struct {
	Address string `json:"address,omitempty"`
	Done    int64  `json:"done,omitempty"` // events acknowledged so far
	End     bool   `json:"end,omitempty"`
	Error   string `json:"error,omitempty"`
}

// brokerGarbage is how much garbage, in percent of what it holds, the broker's process makes before it collects. A heap that grows to twice the
// events that are made beforehand touches as much fresh memory, and the processors of a virtual machine are busy with that, not with what is measured.
const brokerGarbage = 15

// brokerCommand is the broker's process. It ends when its standard input does.
func brokerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "broker", Hidden: true, Args: cobra.NoArgs,
		Short: "Run an embedded broker for perf, which talks to it through this process's standard input and output",
		RunE: func(c *cobra.Command, _ []string) error {
			debug.SetGCPercent(brokerGarbage)
			s := &brokerServer{out: json.NewEncoder(c.OutOrStdout())}
			defer s.close()
			in := json.NewDecoder(bufio.NewReader(c.InOrStdin()))
			for {
				var r request
				if err := in.Decode(&r); err == io.EOF {
					return nil
				} else if err != nil {
					return fmt.Errorf("perf: broker: %w", err)
				}
				a, err := s.serve(c.Context(), r)
				if a.End = true; err != nil {
					a.Error = err.Error()
				}
				if err := s.out.Encode(a); err != nil {
					return fmt.Errorf("perf: broker: %w", err)
				}
			}
		},
	}
}

type brokerServer struct {
	out        *json.Encoder
	broker     *broker.Broker
	partitions int
	produced   int64
	release    func()
	keys       *keySample
	commits    []int64 // of each partition: below, records have been given back
}

func (s *brokerServer) close() {
	if s.broker != nil {
		s.release()
		s.broker.Close()
	}
}

func (s *brokerServer) serve(ctx context.Context, r request) (a answer, err error) {
	switch {
	case r.Partitions > 0:
		s.partitions, s.keys, s.commits = r.Partitions, newKeySample(r.Upserts, r.Stored), make([]int64, r.Partitions)
		if s.broker, err = broker.Start(broker.Options{Topics: []string{topic}, Partitions: r.Partitions}); err != nil {
			return a, err
		}
		s.release = s.broker.Hold()
		a.Address = s.broker.Addresses()[0]
		return a, nil
	case r.Release:
		s.release()
		return a, nil
	case r.Hold:
		s.release = s.broker.Hold()
		return a, nil
	case r.Load > 0:
		return s.produce(ctx, r.Load, s.bulk(s.keys.see))
	case r.Again > 0:
		if err := s.keys.shuffle(r.Again); err != nil {
			return a, err
		}
		return s.produce(ctx, r.Again, s.bulk(s.keys.give))
	case r.Rate > 0:
		return s.send(ctx, max(r.Rate*r.Millis/1000, 1), r.Rate)
	}
	return a, errors.New("perf: broker: an empty request")
}

// bulk is how events are loaded: their times go on where those before ended, as in a topic that is read from its begin.
func (s *brokerServer) bulk(each func(*broker.Event)) broker.ProducerOptions {
	return broker.ProducerOptions{Run: 4000, Linger: 20 * time.Millisecond, Each: each, Step: eventsStep,
		Start: time.UnixMicro(eventsBegin).Add(time.Duration(s.produced) * eventsStep)}
}

// progressEvery is how often a request that takes long says how far it is, and how often what was read is given back.
const progressEvery = 100 * time.Millisecond

// preparedBytes is what an event takes that is made and compressed, and preparedAhead how many are before the first one is sent: for them
// is an eighth of the memory that this machine has to give, some 400 MiB where it does not tell.
const preparedBytes = 110

func preparedAhead() int64 {
	if free := memoryAvailable(); free > 0 {
		return max(free/8/preparedBytes, 1)
	}
	return 4_000_000
}

// send produces at a rate what was made before, so that a freshness is that of the nodes and not of the making of their load. Of more than
// preparedAhead events the rest are made meanwhile.
func (s *brokerServer) send(ctx context.Context, count, rate int64) (a answer, err error) {
	p, err := broker.Prepare(s.to(broker.ProducerOptions{}), count, rate, preparedAhead())
	if err != nil {
		return a, err
	}
	defer p.Close()
	return s.await(func() error { return p.Send(ctx) }, p.Acked)
}

func (s *brokerServer) produce(ctx context.Context, count int64, o broker.ProducerOptions) (a answer, err error) {
	p, err := broker.NewProducer(s.to(o))
	if err != nil {
		return a, err
	}
	defer p.Close()
	return s.await(func() error { return p.Run(ctx, count, 0) }, p.Acked)
}

// to fills in where events go and which come next.
func (s *brokerServer) to(o broker.ProducerOptions) broker.ProducerOptions {
	o.Brokers, o.Topic, o.Partitions = s.broker.Addresses(), topic, s.partitions
	o.Seed, o.FirstID = uint64(s.produced)+1, s.produced
	return o
}

// await runs a production and tells how far it is.
func (s *brokerServer) await(run func() error, acked func() int64) (a answer, err error) {
	done := make(chan error, 1)
	go func() { done <- run() }()
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			a.Done = acked()
			s.produced += a.Done
			return a, err
		case <-ticker.C:
			if err := s.out.Encode(answer{Done: acked()}); err != nil {
				return a, errors.Join(fmt.Errorf("perf: broker: %w", err), <-done)
			}
			if err := s.giveBack(); err != nil {
				return a, errors.Join(err, <-done)
			}
		}
	}
}

// giveBack deletes what the group of the connector has committed, as retention does in the end: a long measurement would fill
// the memory otherwise. A commit is behind the checkpoint that a restart goes on from.
func (s *brokerServer) giveBack() error {
	for partition := range s.commits {
		at := s.broker.Commit(group, topic, int32(partition))
		if at <= s.commits[partition] {
			continue
		}
		if err := s.broker.DeleteRecords(topic, int32(partition), at); err != nil {
			return err
		}
		s.commits[partition] = at
	}
	return nil
}

// brokerProcess is the other end of it.
type brokerProcess struct {
	address string
	process *child.Process
	in      io.WriteCloser
	out     *json.Decoder
}

// startBroker starts this program again as a broker. Where no kernel ends it with us, it ends because its standard input does.
func startBroker(o options) (*brokerProcess, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("perf: which program is this: %w", err)
	}
	b := &brokerProcess{}
	cmd := exec.Command(program, "perf", "broker")
	cmd.Stderr = os.Stderr
	var out io.ReadCloser
	b.in, err = cmd.StdinPipe()
	if err == nil {
		out, err = cmd.StdoutPipe()
	}
	if err != nil {
		return nil, fmt.Errorf("perf: broker: %w", err)
	}
	b.out = json.NewDecoder(bufio.NewReader(out))
	if b.process, err = child.Start(cmd); err != nil {
		return nil, fmt.Errorf("perf: broker: %w", err)
	}
	a, err := b.ask(request{Partitions: o.partitions, Upserts: o.upserts, Stored: o.stored}, nil)
	if err != nil {
		b.close()
		return nil, err
	}
	b.address = strings.Split(a.Address, ",")[0]
	return b, nil
}

// ask sends a request and waits for its end.
func (b *brokerProcess) ask(r request, progress func(done int64)) (answer, error) {
	if err := json.NewEncoder(b.in).Encode(r); err != nil {
		return answer{}, fmt.Errorf("perf: the broker's process is gone: %w", err)
	}
	for {
		var a answer
		if err := b.out.Decode(&a); err != nil {
			return a, fmt.Errorf("perf: the broker's process is gone: %w", err)
		}
		if a.Error != "" {
			return a, errors.New(a.Error)
		}
		if progress != nil && a.Done > 0 {
			progress(a.Done)
		}
		if a.End {
			return a, nil
		}
	}
}

// kill ends the process at once.
func (b *brokerProcess) kill() { b.process.Signal(syscall.SIGKILL) }

// close ends the process and waits for it.
func (b *brokerProcess) close() {
	_ = b.in.Close() // it may have ended already
	<-b.process.Done()
}
