//go:build kafka

package acceptance

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nyala/connector/api"
	"nyala/test/kafka"
)

var (
	long   = flag.Bool("chaos", false, "the long form: every fault, in an order that the seed decides")
	events = flag.Int("chaos.events", 2_000_000, "events that are committed at least")
	seed   = flag.Uint64("chaos.seed", 0, "decides the order of the faults and what they hit; 0: one is chosen")
	rounds = flag.Int("chaos.rounds", 1, "how often, each time with the next seed")
	folder = flag.String("chaos.dir", "", "where the folders of runs are made; that of a failed one stays")
)

const (
	topic = "app-events"

	policyFail = "on_offset_out_of_range: fail"
	policySkip = "on_offset_out_of_range: skip"

	eachTxn    = 5_000
	abortEach  = 4 // transactions: one of so many is aborted
	connectors = 2
	trickle    = 500
	limit      = 90 * time.Minute // of a run: a bound for what hangs, and no claim
	patience   = 10 * time.Minute // of one wait
)

// trial is one run: a broker, three nodes and a producer in a folder of their own.
type trial struct {
	*testing.T
	ctx        context.Context
	begin      time.Time
	rng        *rand.Rand
	dir        string
	broker     *kafka.Broker
	cluster    *Cluster
	producer   *kafka.Producer
	seed       uint64
	partitions int32
	lives      []*kafka.Committed // of the topic, before it was deleted
	topicIDs   []string           // of all its lives
	deleted    map[int32]int64    // below these offsets records of this life are gone from the topic
	watching   sync.WaitGroup
	resumes    resumes
}

// begin starts broker, topic and nodes.
func begin(t *testing.T, seed uint64, partitions int32, policy string) *trial {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	r := &trial{T: t, ctx: ctx, begin: time.Now(), rng: rand.New(rand.NewPCG(seed, 0)), seed: seed, partitions: partitions, deleted: map[int32]int64{}}
	var err error
	r.dir, err = os.MkdirTemp(*folder, fmt.Sprintf("nyala-%s-", strings.ReplaceAll(t.Name(), "/", "-")))
	r.must(err)
	r.say("seed %d, in %s", seed, r.dir)
	t.Cleanup(func() { r.end(cancel) })
	r.must(os.Mkdir(filepath.Join(r.dir, "kafka"), 0o755))
	r.broker, err = kafka.Start(ctx, kafka.Options{Dir: filepath.Join(r.dir, "kafka"), HeapBytes: 512 << 20})
	r.must(err)
	r.must(kafka.CreateTopic(ctx, r.broker.Addr(), topic, partitions))
	r.cluster, err = New(build(t, r.dir), r.dir, r.broker.Addr(), 3)
	r.must(err)
	r.must(r.cluster.Replace(policyFail, policy))
	for _, p := range r.cluster.Nodes {
		r.must(p.Start())
	}
	r.producer, err = kafka.NewProducer(r.broker.Addr(), topic, partitions, 1)
	r.must(err)
	s := r.await("reading all partitions", func(s api.Status) bool { return s.Healthy && r.reads(s) })
	r.topicIDs = []string{s.Connectors[0].Partitions[0].TopicID}
	r.say("cluster and broker are up")
	return r
}

func build(t *testing.T, dir string) string {
	t.Helper()
	binary := filepath.Join(dir, "nyala")
	cmd := exec.Command("go", "build", "-o", binary, "nyala")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// end stops everything. The folder of a failed run stays, with logs, nodes' data and broker's data.
func (r *trial) end(cancel context.CancelFunc) {
	cancel()
	r.watching.Wait()
	if r.cluster != nil {
		for _, p := range r.cluster.Nodes {
			if r.Failed() {
				r.Logf("%s:\n%s", p.ID, p.Tail())
			}
		}
		r.cluster.Close()
	}
	if r.producer != nil {
		r.producer.Close()
	}
	if r.broker != nil {
		if err := r.broker.Close(); err != nil {
			r.Error(err)
		}
	}
	if r.Failed() {
		r.Logf("seed %d failed; logs and data are in %s", r.seed, r.dir)
		return
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.Error(err)
	}
}

func (r *trial) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *trial) say(format string, args ...any) {
	r.Helper()
	r.Logf("%7.1f s  %s", time.Since(r.begin).Seconds(), fmt.Sprintf(format, args...))
}

func (r *trial) await(what string, wanted func(api.Status) bool) api.Status {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	s, err := r.cluster.Await(ctx, what, wanted)
	r.must(err)
	return s
}

// pause waits for a random time.
func (r *trial) pause(most time.Duration) { time.Sleep(time.Duration(r.rng.Int64N(int64(most)))) }

// reads tells whether nodes read every partition of the topic's present life, for each connector, and no other.
func (r *trial) reads(s api.Status) bool {
	for _, c := range s.Connectors {
		for _, p := range c.Partitions {
			if p.Node == "" || p.State != api.ConnectorRunning || len(r.topicIDs) > len(r.lives) && p.TopicID != r.topicIDs[len(r.lives)] {
				return false
			}
		}
		if len(c.Partitions) != int(r.partitions) {
			return false
		}
	}
	return len(s.Connectors) > 0
}

// sources are the partitions of all connectors.
func sources(s api.Status) (out []api.Partition) {
	for _, c := range s.Connectors {
		out = append(out, c.Partitions...)
	}
	return out
}

// step is something that happens to the cluster while events are produced; or, quiet, before that.
type step struct {
	name  string
	quiet bool
	do    func(*trial)
}

// run carries out steps; each has its share of the events, and no fewer are produced for as long as it takes.
func (r *trial) run(steps []step, events int) {
	share := events / len(steps)
	for i, s := range steps {
		r.say("step %d of %d: %s", i+1, len(steps), s.name)
		if s.quiet {
			s.do(r)
			r.must(r.producer.Produce(r.ctx, share, eachTxn, abortEach))
			continue
		}
		stop, produced := make(chan struct{}), make(chan error, 1)
		go func() { produced <- r.produce(share, stop) }()
		s.do(r)
		close(stop)
		r.must(<-produced)
		r.must(r.producer.Recheck(r.ctx))
		r.revive()
	}
}

// produce writes its share as fast as it can, and then a trickle until it is stopped.
func (r *trial) produce(share int, stop chan struct{}) error {
	err := r.producer.Produce(r.ctx, share, min(eachTxn, share), abortEach)
	for n := 1; err == nil; n++ {
		select {
		case <-stop:
			return nil
		case <-time.After(askAgain):
			_, err = r.producer.Transaction(r.ctx, trickle, n%abortEach != 0)
		}
	}
	return err
}

// revive starts nodes again that ended by themselves, as a service manager would: one gives up when its machine was stopped for too
// long in the middle of a write.
func (r *trial) revive() {
	for _, p := range r.cluster.Nodes {
		if p.bury() {
			r.say("%s ended by itself: %s\n%s", p.ID, p.deaths[len(p.deaths)-1], p.Tail())
			r.must(p.Start())
		}
	}
}
