package connector

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/configs"
	"nyala/connector/catalog"
	"nyala/offsets"
)

var (
	simSeed   = flag.Uint64("sim.seed", 0, "run the simulation of this seed only, or from it on")
	simSeeds  = flag.Int("sim.seeds", 0, "how many seeds to simulate; 0 means 300, or 4 with -short, or 1 with -sim.seed")
	simDump   = flag.String("sim.dump", "", "write all goroutines to this file when a seed fails: for what is stuck")
	simAll    = flag.Bool("sim.all", false, "also make the mistakes that take a hundred seeds to be seen")
	simBroken = flag.Int("sim.mistake", 0, "the rule that is broken on purpose")
)

// TestSimulation runs whole clusters under faults, a seed each, while records come in: see the table of
// faults, the streams, and the oracles. A failing seed prints itself and what was done, and is run again with -sim.seed.
func TestSimulation(t *testing.T) {
	first, count := uint64(1), 300
	if testing.Short() {
		count = 4
	}
	if *simSeed != 0 {
		first, count = *simSeed, 1
	}
	if *simSeeds != 0 {
		count = *simSeeds
	}
	if count > seedsInside && !*simInside && *simBroken == 0 {
		spread(t, first, count)
		return
	}
	for seed := first; seed < first+uint64(count); seed++ {
		passed := t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, seed, brokenBy(*simBroken)) })
		})
		if *simInside {
			fmt.Printf(verdict, seed, passed)
		}
	}
}

// simulation is a cluster, what was produced to it, and what was seen of it.
type simulation struct {
	*cluster
	began      time.Time
	streams    []*stream
	client     *kgo.Client // nil: to be made
	transactor *kgo.Client
	marks      map[offsets.Source]int64                      // the last checkpoints seen
	ledgers    map[catalog.TabletID]map[offsets.Source]int64 // the last ledgers seen
	snapshots  []snapshot
	faults     []fault // that this seed may have
	wiped      bool
	newest     *configs.Config      // that an operator has given to the nodes; nil: the first one
	refuses    bool                 // it makes dead letters of odd records
	wide       int                  // so many columns it appends to every table
	replaying  *replays             // nil: dead letters are not replayed
	refusals   []*kfake.FaultHandle // what Kafka answers with errors
	trace      []string
}

const simSteps = 12

// simBrokers is how many nodes Kafka has, simPort the port of the first.
const simBrokers, simPort = 3, 9092

func newSimulation(t *testing.T, seed uint64, rules broken) *simulation {
	streams := newStreams(rand.New(rand.NewPCG(seed, 2)))
	nodes, replicas := simSize(rand.New(rand.NewPCG(seed, 3)))
	kafka := []kfake.Opt{kfake.NumBrokers(simBrokers), kfake.Ports(simPort, simPort+1, simPort+2)}
	for _, t := range topicsOf(streams) {
		if !t.compacted {
			kafka = append(kafka, kfake.SeedTopics(t.begun, t.name))
		}
	}
	s := &simulation{
		cluster: newClusterOf(t, nodes, replicas, seed, streamsConfig(streams), kafka...),
		began:   time.Now(), streams: streams, marks: map[offsets.Source]int64{}, ledgers: map[catalog.TabletID]map[offsets.Source]int64{},
	}
	s.broken = rules
	s.flush = FlushOptions{Bytes: 4 << 10 << (2 * s.rng.IntN(3)), Age: []time.Duration{time.Second, 3 * time.Second, 10 * time.Second}[s.rng.IntN(3)]}
	if slices.ContainsFunc(streams, func(st *stream) bool { return st.short }) && s.rng.IntN(2) == 0 {
		s.flush = FlushOptions{Bytes: 1 << 20, Age: 100 * time.Second} // rows die, and their history ends, before they are in a file
	}
	if seed%3 == 0 { // keys of rows on disk are read when they are looked for
		s.flush.Keys = 1
	}
	// What groups without work do is the greater part of a seed's cost.
	s.timings.Heartbeat, s.timings.Commit = time.Duration(1+seed%2)*time.Second, time.Second
	s.segment = []int64{0, 256 << 10}[s.rng.IntN(2)]
	if s.rng.IntN(2) == 0 { // those who lag are sent files, not the log
		s.timings.Retain, s.timings.PinGrace = time.Second, time.Second
	}
	for _, f := range faults { // each seed has about half of them, so that some meet undisturbed by the others
		if s.rng.IntN(2) == 0 {
			s.faults = append(s.faults, f)
		}
	}
	if s.rng.IntN(2) == 0 {
		s.skewClocks()
	}
	if s.rng.IntN(4) == 0 { // many small entries, each a moment to look back at
		s.entry = 16
		s.traps.moments = &moments{nodes: map[string]*Node{}}
	}
	s.net.SetLatency(0, 2*time.Millisecond)
	s.makeTopics()
	return s
}

// simSize is how many nodes a seed has, and how many replicas each of its tablets. Each node more is dear.
func simSize(rng *rand.Rand) (nodes, replicas int) {
	switch n := rng.IntN(20); {
	case n < 2:
		return 5, 3
	case n < 3:
		return 5, 5
	}
	return 3, 3
}

func simulate(t *testing.T, seed uint64, rules broken) {
	s := newSimulation(t, seed, rules)
	defer s.end()
	defer s.watchNodes()()
	s.prepareReplays()
	if s.rng.IntN(6) == 0 {
		s.crashAtPoint("") // in the first start
	}
	if s.rng.IntN(2) == 0 {
		s.produceSome() // records that start_from: latest leaves out
	}
	s.startAll()
	for step := range simSteps {
		s.produceSome()
		s.disturb()
		if s.replaying != nil && step == simSteps/2 {
			s.changeSettings("")
		}
		s.replaySome()
		s.pause(3 * time.Second)
		s.tendStopped()
		s.checkSeen()
		s.checkMarks()
		s.takeSnapshot()
		if step%4 == 3 {
			s.verifySome(step/4 + int(seed))
		}
		s.takeLedger()
		s.checkSums()
	}
	s.healAll()
	time.Sleep(2 * time.Second)
	s.healAll() // a node asks itself every second whether it can go on, and no supervisor looks after it from here on
	s.finishSettings()
	s.produceSome()
	s.awaitTruth()
	s.replayAll()
	s.compareReplicas()
	s.checkSeen()
	s.checkOnce()
	s.repeatSnapshots()
	s.verifyAll("n1")
	if s.traps.moments != nil {
		s.lookBack()
	}
	s.checkMarks()
	s.renewClients()
	s.stopAll()
}

// end takes apart what a failure has left, or the bubble's end would hide it.
func (s *simulation) end() {
	s.note("end")
	if s.t.Failed() && !s.talks() {
		s.t.Logf("seed %d:\n%s", s.seed, strings.Join(s.trace, "\n"))
	}
	if !s.t.Failed() {
		return
	}
	if *simDump != "" {
		stacks := make([]byte, 16<<20)
		if err := os.WriteFile(*simDump, stacks[:runtime.Stack(stacks, true)], 0o644); err != nil {
			s.t.Log(err)
		}
	}
	s.renewClients()
	s.net.SetLoss(0)
	for _, id := range s.ids() {
		s.wires[id].stall(false)
		if s.nodes[id] != nil {
			s.kill(id, 0)
		}
	}
	s.broker.Close()
}

func (s *simulation) note(format string, args ...any) {
	line := fmt.Sprintf("%8.3fs ", time.Since(s.began).Seconds()) + fmt.Sprintf(format, args...)
	s.trace = append(s.trace, line)
	if s.talks() {
		fmt.Println(line)
	}
}

// talks tells whether somebody watches a seed.
func (s *simulation) talks() bool { return testing.Verbose() && !*simInside }

// pause lets up to limit of the bubble's time pass.
func (s *simulation) pause(limit time.Duration) {
	time.Sleep(time.Duration(s.rng.Int64N(int64(limit))))
}

func (s *simulation) anyNode() string {
	ids := s.ids()
	return ids[s.rng.IntN(len(ids))]
}

func (s *simulation) ids() []string {
	var ids []string
	for _, n := range s.config.Cluster.Nodes {
		ids = append(ids, n.ID)
	}
	return ids
}

// disturb does one thing to the cluster, or takes all back.
func (s *simulation) disturb() {
	total := healWeight
	for _, f := range s.faults {
		total += f.weight
	}
	n := s.rng.IntN(total)
	for _, f := range s.faults {
		if n -= f.weight; n < 0 {
			f.do(s, s.anyNode())
			break
		}
	}
	if n >= 0 {
		s.healAll()
	}
	if s.rng.IntN(2) == 0 {
		s.restartSome()
	}
}

func (s *simulation) restartSome() {
	for _, id := range s.ids() {
		if s.nodes[id] == nil && s.rng.IntN(3) > 0 {
			s.boot(id)
		}
	}
}

// boot starts a node; only on a disk that fails it may say that it cannot.
func (s *simulation) boot(id string) {
	s.note("start %s", id)
	s.given[id] = s.newest
	err := s.tryStart(id)
	if err == nil {
		return
	}
	if len(s.disks[id].rules) == 0 {
		s.t.Fatalf("start %s: %v", id, err)
	}
	s.note("%s does not start: %v", id, err)
	s.disks[id] = newDisk(s.disks[id].Crash(s.rng, 0.5))
}

// tendStopped does what a supervisor of processes does: a node that says that it cannot go on is ended. Some of them
// lose power on top.
func (s *simulation) tendStopped() {
	for _, id := range s.ids() {
		n := s.nodes[id]
		if n == nil {
			continue
		}
		select {
		case <-n.Done():
		default:
			if !s.trapped(id) {
				continue
			}
		}
		s.note("%s stopped by itself", id)
		s.kill(id, []float64{0, 0.5, 1}[s.rng.IntN(3)])
	}
}

// healAll ends all faults. Nodes whose disks failed are started again if they stopped.
func (s *simulation) healAll() {
	s.note("heal")
	s.disarm()
	s.healNetwork()
	for _, id := range s.ids() {
		s.wires[id].set(false)
		s.wires[id].stall(false)
		s.disks[id].heal()
	}
	s.healKafka()
	s.tendStopped()
	for _, id := range s.ids() {
		if s.nodes[id] == nil {
			s.boot(id)
		}
	}
}

// stopGracefully drains a node, as SIGTERM does.
func (s *simulation) stopGracefully(id string) {
	n := s.nodes[id]
	if n == nil || s.disks[id].hang != nil {
		return
	}
	s.note("stop %s", id)
	if err := n.Stop(context.Background()); err != nil {
		s.note("stop of %s: %v", id, err)
	}
	delete(s.nodes, id)
	s.disks[id].heal()
	s.net.Host(id + ":7401").Crash()
	s.net.Host(id + ":7481").Crash()
}
