package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nyala/offsets"
	"nyala/store/schema"
)

// TestOutOfRangeFail lets retention overtake a consumer that was away.
func TestOutOfRangeFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 2})
		n := w.connector()
		w.produce("app", 0, 0, 100)
		w.checkpointed(map[int32]int64{0: 100})
		n.stop()
		w.produce("app", 0, 100, 100)
		if err := w.cluster.DeleteRecords("app", 0, 150); err != nil {
			t.Fatal(err)
		}
		n = w.connector()
		w.await("a failed partition", func() bool { p := n.partition(0); return p != nil && p.State == Failed })
		if r := n.partition(0).Reason; r != "offset 100 is out of range: the log begins at 150 and ends at 200; to go on at 150 with a row in nyala.gaps, set on_offset_out_of_range: skip and restart this node" {
			t.Errorf("reason: %s", r)
		}
		if st := n.Status(); st.State != Failed || !strings.HasPrefix(st.Reason, "app/0: offset 100 is out of range") {
			t.Errorf("status: %+v", st)
		}
		w.produce("app", 1, 0, 10)
		w.awaitRows(110) // the other partition goes on
		w.exactlyOnce(map[int32][]int{0: ids(100), 1: ids(10)})
		if c := w.checkpoint(0); c != 100 {
			t.Errorf("checkpoint %d, want 100", c)
		}
	})
}

// TestOutOfRangeSkip does the same and goes on behind the gap.
func TestOutOfRangeSkip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		skip := func(o *Options) { o.OutOfRange = OutOfRangeSkip }
		n := w.connector(skip)
		w.produce("app", 0, 0, 100)
		w.checkpointed(map[int32]int64{0: 100})
		n.stop()
		w.produce("app", 0, 100, 100)
		if err := w.cluster.DeleteRecords("app", 0, 150); err != nil {
			t.Fatal(err)
		}
		n = w.connector(skip)
		w.checkpointed(map[int32]int64{0: 200})
		want := ids(200)
		for i := 100; i < 150; i++ {
			want[i] = -1
		}
		w.exactlyOnce(map[int32][]int{0: want})
		gaps := w.rows(schema.GapsTable)
		if len(gaps) != 1 || !strings.Contains(gaps[0], "|0|100|app|150|app|out_of_range|") {
			t.Errorf("gaps: %q", gaps)
		}
		if c := n.Status().Counters; c.Lost != 50 {
			t.Errorf("lost %d offsets, want 50", c.Lost)
		}
	})
}

// TestGapGrows has retention go on after a gap was written down, but not checkpointed: the next owner finds a longer one
// from the same offset on, and all of it is accounted for.
func TestGapGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		skip := func(o *Options) { o.OutOfRange = OutOfRangeSkip }
		n := w.connector(skip)
		w.produce("app", 0, 0, 100)
		w.checkpointed(map[int32]int64{0: 100})
		n.stop()
		w.produce("app", 0, 100, 100)
		for _, first := range []int64{150, 180} {
			if err := w.cluster.DeleteRecords("app", 0, first); err != nil {
				t.Fatal(err)
			}
			n = w.connector(skip, func(o *Options) {
				o.RaiseCheckpoints = func(ctx context.Context, _ map[offsets.Source]int64) error {
					return errors.New("no majority")
				}
			})
			w.await("a gap", func() bool { return n.Status().Counters.Lost > 0 && len(w.rows(schema.GapsTable)) > 0 })
			time.Sleep(time.Second)
			n.crash()
		}
		var ends []string
		for _, gap := range w.rows(schema.GapsTable) {
			for _, end := range []string{"|0|100|app|150|app|", "|0|100|app|180|app|"} {
				if strings.Contains(gap, end) {
					ends = append(ends, end)
				}
			}
		}
		if len(ends) != 2 {
			t.Errorf("gaps: %q, want one up to 150 and one up to 180", w.rows(schema.GapsTable))
		}
	})
}

// TestTruncated has a checkpoint beyond the log's end: offsets would be given anew. No policy goes on there.
func TestTruncated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		w.produce("app", 0, 0, 10)
		id := offsets.TopicID(w.cluster.TopicInfo("app").TopicID)
		w.mu.checkpoints.Raise(offsets.Source{Connector: "app", Topic: id}, 50)
		n := w.connector(func(o *Options) { o.OutOfRange = OutOfRangeSkip })
		w.await("a failed partition", func() bool { p := n.partition(0); return p != nil && p.State == Failed })
		if r := n.partition(0).Reason; !strings.Contains(r, "unclean leader election") {
			t.Errorf("reason: %s", r)
		}
		w.produce("app", 0, 10, 100)
		time.Sleep(10 * time.Second)
		if got := w.rows("events"); len(got) != 0 {
			t.Errorf("rows of given-anew offsets: %q", got)
		}
	})
}

// TestRewritten has records at offsets that the log had before under a newer leader epoch.
func TestRewritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &worker{owner: &owner{position: 5}}
		for _, c := range []struct {
			offset int64
			epoch  int32
			want   string
		}{
			{5, 3, ""}, {6, 3, ""}, {9, 4, ""}, {10, -1, ""}, {11, 4, ""}, {12, 3, "leader epoch went back from 4 to 3"}, {2, 4, "offset went back from 5 to 2"},
		} {
			got := o.check(&kgo.Record{Offset: c.offset, LeaderEpoch: c.epoch})
			if (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
				t.Errorf("offset %d epoch %d: got %q, want %q", c.offset, c.epoch, got, c.want)
			}
		}
	})
}

// TestRecreated deletes a topic and makes it again under its name: another source.
func TestRecreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		n := w.connector()
		w.produce("app", 0, 0, 100)
		w.checkpointed(map[int32]int64{0: 100})
		if err := w.cluster.DeleteTopic("app"); err != nil {
			t.Fatal(err)
		}
		if err := w.cluster.CreateTopic("app", 1, nil); err != nil {
			t.Fatal(err)
		}
		w.await("state TOPIC_RECREATED", func() bool { p := n.partition(0); return p != nil && p.State == TopicRecreated })
		w.admin.PurgeTopicsFromClient("app")
		w.produce("app", 0, 1000, 50)
		time.Sleep(10 * time.Second)
		if got := len(w.rows("events")); got != 100 {
			t.Errorf("%d rows before the restart, want 100", got)
		}
		n.Restart()
		w.awaitRows(150)
		w.await("a running partition", func() bool { p := n.partition(0); return p != nil && p.State == Running && p.Watermark == 50 })
		w.noProblems()
		if n := w.mu.checkpoints.Len(); n != 2 {
			t.Errorf("%d sources, want 2", n)
		}
	})
}

// TestRecreatedMeanwhile makes a topic again between the assignment of its partition and the client's question whether
// the record before is still the same: the broker answers that, by the topic's name, of the new topic.
func TestRecreatedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		n := w.connector()
		w.produce("app", 0, 0, 100)
		w.await("a commit", func() bool { p := n.partition(0); return p != nil && p.Committed == 100 })
		n.crash()
		asked, recreated := make(chan struct{}), make(chan struct{})
		ask := sync.OnceFunc(func() { close(asked) })
		w.cluster.ControlKey(kmsg.OffsetForLeaderEpoch.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
			ask()
			w.cluster.SleepControl(func() { <-recreated })
			return nil, nil, false
		})
		n = w.connector()
		<-asked
		if err := w.cluster.DeleteTopic("app"); err != nil {
			t.Fatal(err)
		}
		if err := w.cluster.CreateTopic("app", 1, nil); err != nil {
			t.Fatal(err)
		}
		close(recreated)
		w.await("state TOPIC_RECREATED", func() bool { p := n.partition(0); return p != nil && p.State == TopicRecreated })
		if r := n.partition(0).Reason; strings.Contains(r, "unclean") {
			t.Errorf("reason: %s", r)
		}
		w.noProblems()
	})
}

// TestPartitionAddedWhileAway adds a partition while all static members are away for a moment: they are given their
// old shares when they come back, and the new partition is read all the same.
func TestPartitionAddedWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 3})
		var nodes []*node
		start := func() {
			nodes = nil
			for i := range 3 {
				nodes = append(nodes, w.connector(func(o *Options) { o.Instance = fmt.Sprint("n", i) }))
			}
		}
		reads := func(p int32) bool {
			return slices.ContainsFunc(nodes, func(n *node) bool { return n.partition(p) != nil })
		}
		start()
		w.await("the old partitions", func() bool { return reads(0) && reads(1) && reads(2) })
		time.Sleep(20 * time.Second) // the group is stable
		for _, n := range nodes {
			n.crash()
		}
		if _, err := kadm.NewClient(w.admin).CreatePartitions(context.Background(), 1, "app"); err != nil {
			t.Fatal(err)
		}
		start()
		time.Sleep(4 * metadataAge)
		for p := range int32(4) {
			if !reads(p) {
				t.Errorf("nobody reads partition %d", p)
			}
		}
	})
}

// TestStaleCommit finds a commit that belongs to a deleted topic of the same name.
func TestStaleCommit(t *testing.T) {
	s := &session{options: &Options{Name: "app"}}
	o := s.options.withDefaults()
	s.options = &o
	at := place{"app", 0}
	old, fresh := offsets.TopicID{1}, offsets.TopicID{2}
	s.mu.commits = map[place]string{at: commitMetadata + old.String()}
	if c := s.candidate(at, fresh, kgo.EpochOffset{Offset: 7}); c.commit.Offset != -1 {
		t.Errorf("commit of a deleted topic counts: %d", c.commit.Offset)
	}
	if c := s.candidate(at, old, kgo.EpochOffset{Offset: 7}); c.commit.Offset != 7 {
		t.Errorf("commit of this topic does not count: %d", c.commit.Offset)
	}
	s.mu.commits[at] = "somebody else's"
	if c := s.candidate(at, fresh, kgo.EpochOffset{Offset: 7}); c.commit.Offset != 7 {
		t.Errorf("a tool's commit does not count: %d", c.commit.Offset)
	}
}
