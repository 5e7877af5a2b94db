package connector

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/connector/query"
	"nyala/offsets"
	"nyala/store/batch"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run the simulation of this seed only")
	simSeeds = flag.Int("sim.seeds", 50, "how many seeds to simulate")
)

// TestSimulation runs whole clusters under faults, a seed each: crashes of nodes with 0 to 100 % of the unsynced
// bytes surviving, of all nodes at once, partitions between nodes and to Kafka, slow networks, leader moves
// and loss of connections, while records come in. A failing seed is run again with -sim.seed.
func TestSimulation(t *testing.T) {
	first, count := uint64(1), *simSeeds
	if *simSeed != 0 {
		first, count = *simSeed, 1
	}
	if testing.Short() {
		count = min(count, 4)
	}
	for seed := first; seed < first+uint64(count); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		})
	}
}

// simulation is a cluster, what was produced to it, and the last checkpoints seen.
type simulation struct {
	*cluster
	truth map[int64]uint64 // partition<<40|offset -> hash of the record
	next  int
	marks map[offsets.Source]int64
	trace []string
}

const simSteps = 12

func simulate(t *testing.T, seed uint64) {
	s := &simulation{cluster: newCluster(t, 3, 3, seed), truth: map[int64]uint64{}, marks: map[offsets.Source]int64{}}
	defer func() {
		if t.Failed() {
			t.Logf("seed %d: %v", seed, s.trace)
			for _, id := range s.ids() { // or the bubble's end would hide the failure
				s.crash(id)
			}
			s.broker.Close()
		}
	}()
	s.net.SetLatency(0, 2*time.Millisecond)
	s.startAll()
	for range simSteps {
		s.produceSome()
		s.fault()
		s.pause(3 * time.Second)
		s.checkMarks()
	}
	s.healAll()
	s.produceSome()
	s.awaitTruth()
	s.compareReplicas()
	s.checkMarks()
	s.stopAll()
}

func (s *simulation) note(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf(format, args...))
}

// pause lets up to limit of the bubble's time pass.
func (s *simulation) pause(limit time.Duration) {
	time.Sleep(time.Duration(s.rng.Int64N(int64(limit))))
}

func hashOf(text []byte) uint64 {
	h := fnv.New64a()
	h.Write(text)
	return h.Sum64()
}

func (s *simulation) produceSome() {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.broker.ListenAddrs()...), kgo.DefaultProduceTopic("app"),
		kgo.Dialer(s.kafka.DialContext), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerBatchMaxBytes(8<<10))
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	for range s.rng.IntN(400) {
		text := fmt.Sprintf("event %d %x", s.next, s.rng.Uint64())
		value := fmt.Sprintf(`{"tenant":%d,"id":%d,"text":%q}`, s.next%7, s.next, text)
		s.next++
		r := client.ProduceSync(context.Background(), &kgo.Record{Value: []byte(value)})
		rec, err := r.First()
		if err != nil {
			s.t.Fatal(err)
		}
		s.truth[int64(rec.Partition)<<40|rec.Offset] = hashOf([]byte(text))
	}
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

// fault does one thing to the cluster, or takes one back.
func (s *simulation) fault() {
	id := s.anyNode()
	switch s.rng.IntN(9) {
	case 0, 1:
		s.crash(id)
	case 2:
		s.note("all crash")
		for _, id := range s.ids() {
			s.crash(id)
		}
	case 3:
		s.note("isolate %s", id)
		s.net.Isolate(id + ":7401")
		s.net.Isolate(id + ":7481")
	case 4:
		other := s.anyNode()
		s.note("block %s->%s", id, other)
		s.net.Block(id+":7401", other+":7401")
	case 5:
		s.note("%s has no kafka", id)
		s.wires[id].set(true)
	case 6:
		s.note("loss")
		s.net.SetLoss(0.002)
	case 7:
		s.note("leaders move")
		s.moveLeaders()
	case 8:
		s.note("heal")
		s.healAll()
	}
	if s.rng.IntN(2) == 0 {
		s.restartSome()
	}
}

func (s *simulation) crash(id string) {
	if s.nodes[id] == nil {
		return
	}
	survive := []float64{0, 0.5, 1, s.rng.Float64()}[s.rng.IntN(4)]
	s.note("crash %s %.2f", id, survive)
	s.kill(id, survive)
}

func (s *simulation) restartSome() {
	for _, id := range s.ids() {
		if s.nodes[id] == nil && s.rng.IntN(3) > 0 {
			s.note("start %s", id)
			s.start(id)
		}
	}
}

func (s *simulation) moveLeaders() {
	for id, n := range s.nodes {
		view := n.catalog.Snapshot()
		for _, t := range view.Tablets {
			if g := n.groupOf(t.ID); g != nil && g.IsLeader() && s.rng.IntN(2) == 0 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				for _, m := range g.Members() {
					if m.Node != id {
						g.TransferLeadership(ctx, m.Node)
						break
					}
				}
				cancel()
			}
		}
	}
}

func (s *simulation) healAll() {
	s.net.SetLoss(0)
	for _, id := range s.ids() {
		s.net.Rejoin(id + ":7401")
		s.net.Rejoin(id + ":7481")
		s.wires[id].set(false)
	}
	for _, id := range s.ids() {
		if s.nodes[id] == nil {
			s.start(id)
		}
	}
}

// checkMarks reads the checkpoints through the log of the system group, if it can: they never go back.
func (s *simulation) checkMarks() {
	for _, n := range s.nodes {
		if n.system() == nil {
			continue
		}
		list := catalog.CreateCheckpoints{Checkpoints: n.catalog.Checkpoints()}
		if len(list.Checkpoints) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		r, err := n.propose(ctx, list)
		cancel()
		if err != nil {
			continue
		}
		for i, c := range list.Checkpoints {
			if old := s.marks[c.Source]; r.Values[i] < old {
				s.t.Fatalf("checkpoint of %s went back from %d to %d", c.Source, old, r.Values[i])
			}
			s.marks[c.Source] = r.Values[i]
		}
		return
	}
}

// awaitTruth waits until the table is what was produced: each offset once, with its text; and until every
// checkpoint is at the end of its partition.
func (s *simulation) awaitTruth() {
	s.t.Helper()
	var err error
	deadline := time.Now().Add(3 * time.Minute)
	for {
		if err = s.compareTruth("n1"); err == nil {
			err = s.compareCheckpoints("n2")
		}
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			st := s.nodes["n1"].status(context.Background())
			s.t.Fatalf("%v; status %v %+v", err, st.Reasons, st.Connectors)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if err := s.compareTruth("n3"); err != nil {
		s.t.Fatal(err)
	}
}

func (s *simulation) compareTruth(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := s.nodes[id].read(ctx, "events", query.Request{Columns: []string{"kafka_partition", "kafka_offset", "text"}})
	if err != nil {
		return err
	}
	defer r.stream.Close()
	return s.compareRows(r.stream)
}

func (s *simulation) compareRows(in query.Stream) error {
	seen := map[int64]bool{}
	err := pour(in, func(b *batch.Batch) error {
		for i := range b.Rows {
			at := b.Columns[0].Int(i)<<40 | b.Columns[1].Int(i)
			if seen[at] {
				s.t.Fatalf("partition %d offset %d is there twice", at>>40, at&(1<<40-1))
			}
			seen[at] = true
			if want, ok := s.truth[at]; !ok || want != hashOf(b.Columns[2].Bytes(i)) {
				s.t.Fatalf("partition %d offset %d: %q was never produced", at>>40, at&(1<<40-1), b.Columns[2].Bytes(i))
			}
		}
		return nil
	})
	if err == nil && len(seen) != len(s.truth) {
		err = fmt.Errorf("got %d offsets, want %d", len(seen), len(s.truth))
	}
	return err
}

func (s *simulation) compareCheckpoints(id string) error {
	for _, o := range s.nodes[id].offsets(context.Background()) {
		end := int64(0)
		for at := range s.truth {
			if int32(at>>40) == o.Partition {
				end = max(end, at&(1<<40-1)+1)
			}
		}
		if o.Checkpoint < end {
			return fmt.Errorf("checkpoint of partition %d is %d, want %d", o.Partition, o.Checkpoint, end)
		}
	}
	return nil
}

// compareReplicas flushes everything and holds replicas' files against each other, and each replica's rows
// against the truth.
func (s *simulation) compareReplicas() {
	s.t.Helper()
	at, err := s.nodes["n1"].settle(context.Background(), s.tablets(), 0)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, id := range s.ids() {
		if err := s.compareReplica(id, at); err != nil {
			s.t.Fatalf("replicas of %s: %v", id, err)
		}
	}
	time.Sleep(30 * time.Second) // two FlushAges: everything is in files
	status := s.awaitHealthy("n1")
	compared := 0
	for _, tablet := range status.Tablets {
		slices.SortFunc(tablet.Replicas, func(a, b api.Replica) int { return int(a.DurableIndex) - int(b.DurableIndex) })
		for i := 1; i < len(tablet.Replicas); i++ {
			a, b := tablet.Replicas[i-1], tablet.Replicas[i]
			if a.DurableIndex != b.DurableIndex {
				continue
			}
			compared++
			if a.Hash != b.Hash {
				s.t.Fatalf("tablet %s at durable index %d: %s has %s, %s has %s", tablet.ID, a.DurableIndex, a.Node, a.Hash, b.Node, b.Hash)
			}
		}
	}
	if compared == 0 {
		s.t.Fatal("no two replicas are durable to the same index")
	}
}

func (s *simulation) tablets() []catalog.TabletID {
	t, ok := s.nodes["n1"].catalog.Snapshot().Table("events")
	if !ok {
		s.t.Fatal("n1 does not know the table")
	}
	var ids []catalog.TabletID
	for _, p := range t.Partitions {
		ids = append(ids, p.Tablets...)
	}
	return ids
}

// compareReplica reads a node's own replicas as of a settled timestamp.
func (s *simulation) compareReplica(id string, at int64) error {
	n := s.nodes[id]
	t, ok := n.catalog.Snapshot().Table("events")
	for end := time.Now().Add(time.Minute); !ok; t, ok = n.catalog.Snapshot().Table("events") {
		if time.Now().After(end) {
			return fmt.Errorf("%s does not know the table", id)
		}
		time.Sleep(100 * time.Millisecond)
	}
	plan, err := query.Bind("events", t.Schema, query.Request{Columns: []string{"kafka_partition", "kafka_offset", "text"}})
	if err != nil {
		return err
	}
	var all joined
	for _, tablet := range s.tablets() {
		r := n.replica(tablet)
		for end := time.Now().Add(time.Minute); r == nil || r.tablet.LastTimestamp() < at; r = n.replica(tablet) {
			if time.Now().After(end) {
				return fmt.Errorf("tablet %d is behind", tablet)
			}
			time.Sleep(100 * time.Millisecond)
		}
		scan, err := r.scan(plan, at, false)
		if err != nil {
			return err
		}
		all = append(all, scan)
	}
	defer all.Close()
	return s.compareRows(&all)
}

// joined is several streams as one.
type joined []query.Stream

func (j *joined) Next() (*batch.Batch, error) {
	b, err := (*j)[0].Next()
	if err != nil && len(*j) > 1 {
		(*j)[0].Close()
		*j = (*j)[1:]
		return j.Next()
	}
	return b, err
}

func (j *joined) Close() error { return (*j)[0].Close() }
