//go:build kafka

package acceptance

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/connector/api"
	"nyala/test/kafka"
)

const (
	frozenFor  = 20 * time.Second // twice the group's session timeout
	strangers  = 10
	crashes    = 6
	strangerIn = 2 * time.Second
)

func calm(*trial) {}

// killOne kills a node while events are produced, and starts it again.
func killOne(r *trial) {
	p := r.cluster.Nodes[r.rng.IntN(len(r.cluster.Nodes))]
	r.pause(time.Second)
	resumed := r.watchResume(p.ID)
	p.Kill()
	resumed()
	r.say("%s is killed", p.ID)
	r.pause(2 * time.Second)
	r.must(p.Start())
}

func killAll(r *trial) {
	r.pause(time.Second)
	resumed := r.watchResume("")
	for _, p := range r.cluster.Nodes {
		p.Kill()
	}
	resumed()
	r.say("all nodes are killed")
	for _, p := range r.cluster.Nodes {
		r.must(p.Start())
	}
}

// crashLoop kills a node again and again while it starts.
func crashLoop(r *trial) {
	p := r.cluster.Nodes[r.rng.IntN(len(r.cluster.Nodes))]
	r.say("%s is killed %d times", p.ID, crashes)
	for range crashes {
		p.Kill()
		r.must(p.Start())
		r.pause(2 * time.Second)
	}
}

// wipe kills a node, takes its data away, and waits until it has all of it back from the others.
func wipe(r *trial) {
	r.await("healthy", func(s api.Status) bool { return s.Healthy })
	p := r.cluster.Nodes[r.rng.IntN(len(r.cluster.Nodes))]
	p.Kill()
	r.must(os.RemoveAll(p.Data))
	r.say("%s is killed, and its data are gone", p.ID)
	r.must(p.Start())
	r.await("healthy", func(s api.Status) bool { return s.Healthy })
	r.say("%s has its replicas again", p.ID)
}

// freezeAll stops every node, as a machine does that sleeps; all of them wake up as zombies.
func freezeAll(r *trial) {
	r.await("healthy", func(s api.Status) bool { return s.Healthy })
	r.pause(time.Second)
	for _, p := range r.cluster.Nodes {
		p.Freeze()
	}
	r.say("all nodes are stopped")
	time.Sleep(frozenFor)
	for _, p := range r.cluster.Nodes {
		p.Thaw()
	}
	r.say("all nodes are woken")
}

// freezeBroker stops the broker for so long that no connection to it lives.
func freezeBroker(r *trial) {
	r.pause(time.Second)
	r.broker.Freeze()
	r.say("the broker is stopped")
	time.Sleep(frozenFor)
	r.broker.Thaw()
	r.say("the broker is woken")
}

// freezeLeader stops the node that leads most tablets, and wakes it when others have long led them.
func freezeLeader(r *trial) {
	s := r.await("healthy", func(s api.Status) bool { return s.Healthy })
	r.freeze("most tablets", func(p *Process) (n int) {
		for _, node := range s.Nodes {
			if node.ID == p.ID {
				n = node.Leaders
			}
		}
		return n
	})
}

// freezeOwner stops the node that reads most partitions, and wakes it, a zombie, when others have read on.
func freezeOwner(r *trial) {
	s := r.await("reading all partitions", func(s api.Status) bool { return s.Healthy && r.reads(s) })
	r.freeze("most partitions", func(p *Process) (n int) {
		for _, k := range sources(s) {
			if k.Node == p.ID {
				n++
			}
		}
		return n
	})
}

func (r *trial) freeze(what string, of func(*Process) int) {
	frozen := r.cluster.Nodes[0]
	for _, p := range r.cluster.Nodes {
		if of(p) > of(frozen) {
			frozen = p
		}
	}
	r.say("%s, which has %s (%d), is stopped", frozen.ID, what, of(frozen))
	frozen.Freeze()
	defer frozen.Thaw()
	woken := time.Now().Add(frozenFor)
	r.await("taken over", func(s api.Status) bool {
		others := r.reads(s)
		for _, p := range sources(s) {
			others = others && p.Node != frozen.ID
		}
		for _, t := range s.Tablets {
			others = others && t.Leader != "" && t.Leader != frozen.ID
		}
		return others
	})
	r.say("others have taken over all that %s had", frozen.ID)
	time.Sleep(time.Until(woken))
	r.say("%s is woken", frozen.ID)
}

// churn has strangers join the consumer group and leave it, one after the other.
func churn(r *trial) {
	held, before := 0, r.checkpointed()
	for range strangers {
		n, err := r.stranger()
		r.must(err)
		if n > 0 {
			held++
		}
	}
	r.say("%d strangers were in the group for %s each; %d were given partitions; checkpoints rose by %d meanwhile", strangers, strangerIn, held, r.checkpointed()-before)
}

// checkpointed is the sum of the checkpoints of the group that strangers join.
func (r *trial) checkpointed() (sum int64) {
	at, err := r.cluster.Offsets(r.ctx, r.cluster.Any())
	if err != nil {
		r.say("offsets are not known: %v", err)
	}
	for _, o := range at {
		if o.Connector == "app-events" {
			sum += o.Checkpoint
		}
	}
	return sum
}

// stranger is a member of the group that reads what it is given, throws it away and commits nothing.
func (r *trial) stranger() (given int, err error) {
	partitions := map[int32]bool{}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(r.broker.Addr()),
		kgo.ConsumerGroup("nyala-app-events"),
		kgo.ConsumeTopics(topic),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, fresh map[string][]int32) {
			for _, p := range fresh[topic] {
				partitions[p] = true
			}
		}),
	)
	if err != nil {
		return 0, fmt.Errorf("acceptance: stranger: %w", err)
	}
	ctx, cancel := context.WithTimeout(r.ctx, strangerIn)
	defer cancel()
	for ctx.Err() == nil {
		client.PollFetches(ctx)
	}
	client.LeaveGroup()
	client.Close() // the callbacks have ended
	return len(partitions), nil
}

// killBroker kills the broker, and starts it again on what was written.
func killBroker(r *trial) {
	r.pause(time.Second)
	r.producer.BrokerEnds()
	r.must(r.broker.Kill())
	r.say("the broker is killed")
	r.pause(3 * time.Second)
	r.must(r.broker.Restart(r.ctx))
	r.say("the broker is back")
}

// stopBroker restarts the broker as an operator would.
func stopBroker(r *trial) {
	r.pause(time.Second)
	r.producer.BrokerEnds()
	r.must(r.broker.Stop())
	r.must(r.broker.Restart(r.ctx))
	r.say("the broker was stopped and is back")
}

// grow gives the topic more partitions.
func grow(partitions int32) func(*trial) {
	return func(r *trial) {
		r.must(kafka.GrowTopic(r.ctx, r.broker.Addr(), topic, partitions))
		r.must(r.producer.Grow(partitions))
		r.partitions = partitions
	}
}

// lose kills all nodes, and retention deletes records that they have not read from about half of the partitions.
func lose(r *trial) {
	for _, p := range r.cluster.Nodes {
		p.Kill()
	}
	r.loseUnread()
	for _, p := range r.cluster.Nodes {
		r.must(p.Start())
	}
}

// loseUnread produces while no node runs, and deletes a part of that, and all before, from every other partition.
func (r *trial) loseUnread() {
	before := make([]int, r.partitions)
	for p := range before {
		before[p] = len(r.producer.Committed().Partition(int32(p)))
	}
	r.must(r.producer.Produce(r.ctx, 1000*int(r.partitions), 1000, abortEach))
	below := map[int32]int64{}
	for p := range r.partitions {
		if p%2 == 1 {
			continue
		}
		records := r.producer.Committed().Partition(p)
		below[p] = records[before[p]+r.rng.IntN(len(records)-before[p])].Offset + int64(r.rng.IntN(2))
		r.deleted[p] = below[p]
	}
	r.must(kafka.DeleteRecords(r.ctx, r.broker.Addr(), topic, below))
	r.say("no node runs, and records are deleted below these offsets: %v", below)
}

// recreate deletes the topic after all of it was read, and makes it again; by chance while no node runs. Nodes that run say so, and go on
// with the new one when what they say is done.
func recreate(partitions int32) func(*trial) {
	return func(r *trial) {
		r.settle()
		away := r.rng.IntN(2) == 0
		if away {
			for _, p := range r.cluster.Nodes {
				r.must(p.Stop())
			}
		}
		r.must(kafka.DeleteTopic(r.ctx, r.broker.Addr(), topic))
		r.must(kafka.CreateTopic(r.ctx, r.broker.Addr(), topic, partitions))
		old, err := r.producer.Renew(partitions)
		r.must(err)
		r.lives, r.partitions, r.deleted = append(r.lives, old), partitions, map[int32]int64{}
		r.say("the topic is deleted and made again")
		r.must(r.producer.Produce(r.ctx, 1000, 1000, 0))
		if !away {
			r.awaitRecreated()
		}
		for _, p := range r.cluster.Nodes {
			r.must(p.Stop())
			r.must(p.Start())
		}
		s := r.await("reading the new topic", func(s api.Status) bool {
			return s.Healthy && r.reads(s) && !slices.Contains(r.topicIDs, sources(s)[0].TopicID)
		})
		r.topicIDs = append(r.topicIDs, sources(s)[0].TopicID)
	}
}

// awaitRecreated waits until status says of all partitions that their topic is another one, and what to do.
func (r *trial) awaitRecreated() {
	s := r.await("saying that the topic is another one", func(s api.Status) bool {
		for _, p := range sources(s) {
			if p.State != "topic_recreated" || !strings.Contains(p.Reason, "restart this node") {
				return false
			}
		}
		return len(sources(s)) > 0 && !s.Healthy
	})
	r.say("status says: %v", s.Reasons)
}
