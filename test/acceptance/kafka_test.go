//go:build kafka

package acceptance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"nyala/connector/api"
)

// TestExactlyOnceWithRealKafka: three node processes, Apache Kafka, and a transactional producer with aborts among its
// transactions, while nodes and broker are killed, stopped and woken, and the topic changes. Afterwards every committed record is one
// row with the right values, or in a gap that retention made, and nothing else is there.
func TestExactlyOnceWithRealKafka(t *testing.T) {
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	for i := range uint64(*rounds) {
		t.Run(fmt.Sprintf("seed=%d", first+i), func(t *testing.T) {
			r := begin(t, first+i, 4, policySkip)
			steps := shortSteps()
			if *long {
				steps = longSteps(r.rng)
			}
			r.run(steps, *events)
			r.settle()
			r.finish()
		})
	}
}

func shortSteps() []step {
	killOne := step{name: "kill a node", do: killOne}
	calm := step{name: "calm", do: calm}
	return []step{
		calm,
		{name: "4 to 16 partitions", quiet: true, do: grow(16)},
		killOne, calm,
		{name: "kill the broker", do: killBroker},
		killOne, calm, killOne,
		{name: "freeze the leader", do: freezeLeader},
		killOne, calm, killOne,
		{name: "kill all nodes", do: killAll},
		killOne, calm,
	}
}

// longSteps are all faults in random order; the topic grows in the first third, and is made again in the last.
func longSteps(rng *rand.Rand) []step {
	var steps []step
	add := func(n int, s step) {
		for range n {
			steps = append(steps, s)
		}
	}
	add(20, step{name: "kill a node", do: killOne})
	add(3, step{name: "kill all nodes", do: killAll})
	add(1, step{name: "freeze the leader", do: freezeLeader})
	add(1, step{name: "freeze an owner", do: freezeOwner})
	add(1, step{name: "freeze all nodes", do: freezeAll})
	add(1, step{name: "freeze the broker", do: freezeBroker})
	add(2, step{name: "crash loop", do: crashLoop})
	add(1, step{name: "lose a disk", do: wipe})
	add(2, step{name: "strangers in the group", do: churn})
	add(2, step{name: "kill the broker", do: killBroker})
	add(1, step{name: "restart the broker", do: stopBroker})
	add(1, step{name: "lose unread records", quiet: true, do: lose})
	rng.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	steps = slices.Insert(steps, 2*len(steps)/3, step{name: "delete the topic and make it again", quiet: true, do: recreate(8)})
	return slices.Insert(steps, 1+rng.IntN(len(steps)/3), step{name: "4 to 16 partitions", quiet: true, do: grow(16)})
}

// TestRetention deletes records before they are read. With on_offset_out_of_range: fail their partitions stop, say so, and the others
// go on; with skip the rows of nyala.gaps are exactly the lost offsets.
func TestRetention(t *testing.T) {
	r := begin(t, 1, 4, policyFail)
	r.must(r.producer.Produce(r.ctx, 20_000, 1000, abortEach))
	r.settle()
	checkpoints := map[int32]int64{}
	s := r.await("healthy", func(s api.Status) bool { return s.Healthy })
	for _, p := range sources(s) {
		checkpoints[p.Partition] = p.Checkpoint
	}
	for _, p := range r.cluster.Nodes {
		r.must(p.Stop())
	}
	r.loseUnread()
	for _, p := range r.cluster.Nodes {
		r.must(p.Start())
	}
	s = r.await("saying that offsets are lost", r.failedWhereDeleted)
	_, err := r.cluster.Run(r.ctx, 0, "status")
	if got := ExitStatus(err); got != 3 {
		r.Errorf("nyala status: exit status %d, want 3: %v", got, err)
	}
	r.say("status says: %v; %s", s.Reasons, s.Connectors[0].Partitions[0].Reason)
	if n := len(r.gaps()); n != 0 {
		r.Errorf("%d gaps with on_offset_out_of_range: fail, want none", n)
	}

	r.must(r.cluster.Replace(policyFail, policySkip))
	for _, p := range r.cluster.Nodes {
		r.must(p.Stop())
		r.must(p.Start())
	}
	r.settle()
	got := r.gaps()
	if len(got) != connectors*len(r.deleted) {
		r.Errorf("gaps: got %+v, want one of each connector of each of %v", got, r.deleted)
	}
	for _, g := range got {
		if g.First != checkpoints[g.Partition] {
			r.Errorf("gap %+v: want it to begin at the checkpoint, %d", g, checkpoints[g.Partition])
		}
	}
}

// failedWhereDeleted: the partitions that lost records have failed with a reason, and the others are read to their ends.
func (r *trial) failedWhereDeleted(s api.Status) bool {
	if s.Healthy || len(sources(s)) != int(r.partitions)*len(s.Connectors) {
		return false
	}
	for _, p := range sources(s) {
		if _, lost := r.deleted[p.Partition]; lost && (p.State != api.ConnectorFailed || p.Reason == "") ||
			!lost && (p.State != api.ConnectorRunning || p.LagRecords != 0) {
			return false
		}
	}
	return true
}
