package connector

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// addPartitions gives a topic without repeated keys one more partition.
func (s *simulation) addPartitions(string) {
	for _, t := range topicsOf(s.streams) {
		if t.repeat || t.partitions > 6 {
			continue
		}
		s.note("a partition for %s", t.name)
		s.renewClients() // the controller may be another
		r, err := kadm.NewClient(s.producer()).CreatePartitions(context.Background(), 1, t.name)
		if err == nil {
			err = r.Error()
		}
		if errors.Is(err, kerr.NotController) {
			s.note("kafka's controller is away")
			continue
		}
		if err != nil {
			s.t.Fatal(err)
		}
		t.partitions++
		s.renewClients()
	}
}

// deleteRecords lets Kafka's retention take what may not have been read yet.
func (s *simulation) deleteRecords(string) {
	for _, st := range s.streams {
		if !st.skip {
			continue
		}
		s.readEnds()
		for p := range st.partitions {
			end := st.ends[p]
			_, read := s.marks[s.source(st, p)]
			if end <= st.deleted[p] || !read || s.rng.IntN(2) == 0 { // what nobody began to read is not lost
				continue
			}
			to := st.deleted[p] + 1 + s.rng.Int64N(end-st.deleted[p])
			s.note("%s/%d: records below %d are deleted", st.name, p, to)
			st.deleted[p] = to
			if err := s.broker.DeleteRecords(st.name, p, to); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// groupErrors are what a coordinator may answer to each request of a member.
var groupErrors = map[kmsg.Key][]*kerr.Error{
	kmsg.OffsetCommit: {kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.UnknownMemberID, kerr.IllegalGeneration,
		kerr.RebalanceInProgress, kerr.RequestTimedOut},
	kmsg.OffsetFetch:     {kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.UnstableOffsetCommit},
	kmsg.Heartbeat:       {kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress},
	kmsg.JoinGroup:       {kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.UnknownMemberID},
	kmsg.SyncGroup:       {kerr.NotCoordinator, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress},
	kmsg.FindCoordinator: {kerr.CoordinatorNotAvailable},
	kmsg.LeaveGroup:      {kerr.NotCoordinator, kerr.UnknownMemberID},
}

// fetchErrors are what a leader may answer that has lost its place or its disk, or knows nothing yet.
var fetchErrors = []*kerr.Error{
	kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.KafkaStorageError, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch,
	kerr.OffsetNotAvailable, kerr.OffsetOutOfRange, kerr.RequestTimedOut,
}

// refuse makes Kafka answer with errors until the next heal.
func (s *simulation) refuse(f kfake.Fault) {
	s.refusals = append(s.refusals, s.broker.Fault(f))
}

// failGroup makes some requests of a group's members fail.
func (s *simulation) failGroup(string) {
	group := "nyala-" + s.streams[s.rng.IntN(len(s.streams))].connector
	keys := []kmsg.Key{kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.Heartbeat, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.FindCoordinator, kmsg.LeaveGroup}
	for range 1 + s.rng.IntN(3) {
		key := keys[s.rng.IntN(len(keys))]
		f := kfake.Fault{Keys: []kmsg.Key{key}, Group: group, Count: 1 + s.rng.IntN(6), Err: groupErrors[key][s.rng.IntN(len(groupErrors[key]))]}
		s.note("%d times %s of %s: %s", f.Count, key.Name(), group, f.Err.Message)
		s.refuse(f)
	}
}

// failFetch makes some fetches of a topic fail.
func (s *simulation) failFetch(string) {
	f := kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: s.streams[s.rng.IntN(len(s.streams))].name, Count: 1 + s.rng.IntN(20)}
	f.Err = fetchErrors[s.rng.IntN(len(fetchErrors))]
	s.note("%d fetches of %s: %s", f.Count, f.Topic, f.Err.Message)
	s.refuse(f)
}

// loseCoordinator keeps a node from its groups' coordinators, while it fetches and is heard by its peers: it goes on as an
// owner of what the group has given to others.
func (s *simulation) loseCoordinator(id string) {
	s.note("%s has no coordinator", id)
	is := func(instance *string) bool { return instance != nil && *instance == id }
	s.refuse(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Heartbeat, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.OffsetCommit}, Count: -1, Err: kerr.CoordinatorNotAvailable,
		When: func(r kmsg.Request) bool {
			switch r := r.(type) {
			case *kmsg.HeartbeatRequest:
				return is(r.InstanceID)
			case *kmsg.JoinGroupRequest:
				return is(r.InstanceID)
			case *kmsg.SyncGroupRequest:
				return is(r.InstanceID)
			case *kmsg.OffsetCommitRequest:
				return is(r.InstanceID)
			}
			return false
		},
	})
}

// stopBroker keeps all nodes from one of Kafka's, until the next heal. Its partitions and groups stay there, as if Kafka had
// nobody to give them to; other faults move them.
func (s *simulation) stopBroker(string) {
	addr := s.broker.ListenAddrs()[s.rng.IntN(simBrokers)]
	s.note("broker %s stops", addr)
	for _, id := range s.ids() {
		s.wires[id].refuse(addr)
	}
}

// healKafka ends all that Kafka does to us.
func (s *simulation) healKafka() {
	for _, r := range s.refusals {
		r.Remove()
	}
	s.refusals = nil
	for _, id := range s.ids() {
		s.wires[id].refuse("")
	}
}

// groupPatience is longer than any rebalance may take.
const groupPatience = 90 * time.Second

// freeGroups is for a fault of kfake, not of ours: it begins to wait for the members of a group anew whenever one of
// them joins again, where Kafka has one deadline, so that members that give up and come back in turn wait for ever.
// With one of them left the wait has an end.
func (s *simulation) freeGroups() {
	stuck := map[string]int32{}
	for _, st := range s.streams {
		if g := s.broker.GroupInfo("nyala-" + st.connector); g != nil && g.State == "PreparingRebalance" {
			stuck["nyala-"+st.connector] = g.Epoch
		}
	}
	if len(stuck) == 0 {
		return
	}
	for end := time.Now().Add(groupPatience); time.Now().Before(end); time.Sleep(time.Second) {
		for name, epoch := range stuck {
			if g := s.broker.GroupInfo(name); g == nil || g.State != "PreparingRebalance" || g.Epoch != epoch {
				delete(stuck, name)
			}
		}
		if len(stuck) == 0 {
			return
		}
	}
	s.note("kfake's groups are stuck: %v", stuck)
	for _, id := range s.ids()[1:] {
		s.kill(id, 1)
	}
	time.Sleep(groupPatience)
	for _, id := range s.ids()[1:] {
		s.boot(id)
	}
}
