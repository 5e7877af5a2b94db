package connector

import (
	"context"
	"syscall"
	"time"

	"nyala/store/vfs"
)

// fault is one thing that goes wrong.
type fault struct {
	name   string
	weight int
	do     func(s *simulation, id string)
}

const healWeight = 4

// faults is everything that the simulation does to a cluster. What lasts ends with the next heal.
var faults = []fault{
	{"crash", 4, (*simulation).crash},
	{"all crash", 2, func(s *simulation, _ string) {
		for _, id := range s.ids() {
			s.crash(id)
		}
	}},
	{"stop", 2, (*simulation).stopGracefully},
	{"isolate", 2, func(s *simulation, id string) {
		s.note("isolate %s", id)
		s.net.Isolate(id + ":7401")
		s.net.Isolate(id + ":7481")
	}},
	{"block", 2, func(s *simulation, id string) {
		other := s.anyNode()
		s.note("block %s->%s", id, other)
		s.block(id, other)
	}},
	{"split", 2, (*simulation).split},
	{"ring", 1, (*simulation).ring},
	{"bridge", 1, (*simulation).bridge},
	{"reset", 2, (*simulation).resetLinks},
	{"one message lost", 3, (*simulation).loseOne},
	{"far", 2, (*simulation).distance},
	{"loss", 1, func(s *simulation, _ string) {
		s.note("loss")
		s.net.SetLoss(0.002)
	}},
	{"slow network", 1, func(s *simulation, _ string) {
		s.note("slow network")
		s.net.SetLatency(0, 200*time.Millisecond)
	}},
	{"leaders move", 2, func(s *simulation, _ string) { s.moveLeaders() }},
	{"no kafka", 2, func(s *simulation, id string) {
		s.note("%s has no kafka", id)
		s.wires[id].set(true)
	}},
	{"stalled kafka", 2, func(s *simulation, id string) {
		s.note("kafka of %s stalls", id)
		s.wires[id].stall(true)
	}},
	{"kafka leaders move", 2, func(s *simulation, _ string) {
		s.note("kafka's leaders and coordinators move")
		s.broker.ShufflePartitionLeaders()
		s.broker.RehashCoordinators()
	}},
	{"partitions added", 1, (*simulation).addPartitions},
	{"retention", 3, (*simulation).deleteRecords},
	{"compaction", 3, func(s *simulation, _ string) {
		s.note("kafka compacts")
		s.broker.Compact()
	}},
	{"group errors", 3, (*simulation).failGroup},
	{"fetch errors", 2, (*simulation).failFetch},
	{"no coordinator", 2, (*simulation).loseCoordinator},
	{"broker stops", 2, (*simulation).stopBroker},
	{"clock jumps", 2, (*simulation).jumpClock},
	{"disk fails", 3, (*simulation).failDisk},
	{"disk full", 2, func(s *simulation, id string) {
		s.note("disk of %s is full", id)
		s.disks[id].add(vfs.Rule{Op: vfs.OpWrite, Short: s.rng.IntN(5000), Err: syscall.ENOSPC})
	}},
	{"disk slow", 2, func(s *simulation, id string) {
		s.note("disk of %s is slow", id)
		s.disks[id].add(vfs.Rule{Op: vfs.OpSync, Delay: 2 * time.Second})
	}},
	{"disk hangs", 2, (*simulation).hangDisk},
	{"power cut", 4, (*simulation).cutPower},
	{"wipe", 2, (*simulation).wipe},
	{"wipe behind", 1, (*simulation).wipeBehind},
	{"settings change", 4, (*simulation).changeSettings},
	{"crash at a point", 6, (*simulation).crashAtPoint},
	{"flush twice", 2, (*simulation).flushTwice},
	{"foreign commit", 1, (*simulation).commitForeign},
	{"slow files", 2, (*simulation).slowFlush},
	{"crash while installing", 3, (*simulation).crashInstalling},
	{"late owner", 2, (*simulation).lateOwner},
}

func (s *simulation) crash(id string) {
	if s.nodes[id] == nil {
		return
	}
	blocks := []float64{0, 0.5, 1, s.rng.Float64()}[s.rng.IntN(4)]
	entries := []float64{blocks, 0, 1}[s.rng.IntN(3)]
	s.note("crash %s, %.2f of its blocks and %.2f of its entries survive", id, blocks, entries)
	s.killApart(id, blocks, entries)
}

// wipe takes a node's disk away for good: at most once, and only while the others have everything, for what is
// promised is to bear the loss of a minority.
func (s *simulation) wipe(id string) {
	if s.wiped || s.nodes[id] == nil || !s.healthyAgain() {
		return
	}
	s.wiped = true
	if s.rng.IntN(2) == 0 {
		s.slowFlush(id) // members change between a Freeze and its manifest
	}
	s.note("wipe %s", id)
	s.kill(id, 0)
	s.disks[id] = newDisk(vfs.NewMem())
	s.boot(id)
}

func (s *simulation) moveLeaders() {
	s.note("leaders move")
	for _, id := range s.ids() {
		n := s.nodes[id]
		if n == nil {
			continue
		}
		for _, t := range n.catalog.Snapshot().Tablets {
			if g := n.groupOf(t.ID); g != nil && g.IsLeader() && s.rng.IntN(2) == 0 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				for _, m := range g.Members() {
					if m.Node != id && m.Voter {
						g.TransferLeadership(ctx, m.Node)
						break
					}
				}
				cancel()
			}
		}
	}
}
