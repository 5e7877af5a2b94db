package ingest

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nyala/offsets"
)

func TestConsume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 2})
		w.produce("app", 0, 0, 1000)
		n := w.connector()
		w.produce("app", 1, 0, 500)
		w.awaitRows(1500)
		w.checkpointed(map[int32]int64{0: 1000, 1: 500})
		w.exactlyOnce(map[int32][]int{0: ids(1000), 1: ids(500)})
		st := n.Status()
		if st.State != Running || st.LagRecords != 0 || len(st.Partitions) != 2 || st.Counters.Rows != 1500 {
			t.Errorf("status: %+v", st)
		}
		n.stop()
		if w.mu.held != 0 {
			t.Errorf("%d bytes are still acquired", w.mu.held)
		}
	})
}

// TestRebalance moves partitions between two nodes, back and forth, while records flow.
func TestRebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 4})
		const rounds, each = 6, 200
		nodes := []*node{w.connector()}
		for round := range rounds {
			for p := range int32(4) {
				w.produce("app", p, round*each, each)
			}
			switch round {
			case 1, 3:
				nodes = append(nodes, w.connector())
			case 2, 4:
				nodes[0].stop()
				nodes = nodes[1:]
			}
			time.Sleep(time.Duration(round) * time.Second)
		}
		want := map[int32][]int{}
		ends := map[int32]int64{}
		for p := range int32(4) {
			want[p], ends[p] = ids(rounds*each), rounds*each
		}
		w.awaitRows(4 * rounds * each)
		w.checkpointed(ends)
		w.exactlyOnce(want)
	})
}

// TestCrash kills a node that has sent, applied and not checkpointed; another one goes on at the checkpoint.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 2})
		n := w.connector()
		w.produce("app", 0, 0, 500)
		w.awaitRows(500)
		n.crash()
		w.produce("app", 0, 500, 500)
		w.produce("app", 1, 0, 10)
		w.connector()
		w.awaitRows(1010)
		w.checkpointed(map[int32]int64{0: 1000, 1: 10})
		w.exactlyOnce(map[int32][]int{0: ids(1000), 1: ids(10)})
	})
}

// TestLost drops a member from the group behind its back: it has lost its partitions, must not commit, and
// joins again.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 2})
		n := w.connector()
		w.produce("app", 0, 0, 100)
		w.awaitRows(100)
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID})
		w.produce("app", 0, 100, 100)
		time.Sleep(10 * time.Second)
		w.produce("app", 1, 0, 100)
		w.awaitRows(300)
		w.checkpointed(map[int32]int64{0: 200, 1: 100})
		w.exactlyOnce(map[int32][]int{0: ids(200), 1: ids(100)})
		if p := n.partition(0); p == nil || p.Start == 0 {
			t.Errorf("partition 0 was not lost and assigned again: %+v", p)
		}
	})
}

// TestLateAnswers has a write outlive the ownership of its rows: the answer must not be committed.
func TestLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		w.setWrite(func(uint64, int) writeFault { return writeFails })
		n := w.connector(func(o *Options) { o.DrainTimeout = time.Second })
		w.produce("app", 0, 0, 10)
		time.Sleep(5 * time.Second)
		other := w.connector()
		n.stop() // its rows are still unanswered when it has left
		if c := w.commit(0); c > 0 {
			t.Fatalf("commit at %d of unanswered records", c)
		}
		w.setWrite(nil)
		w.awaitRows(10)
		w.checkpointed(map[int32]int64{0: 10})
		w.exactlyOnce(map[int32][]int{0: ids(10)})
		if p := other.partition(0); p == nil || p.Start != 0 {
			t.Errorf("the second owner began at %+v, want 0", p)
		}
	})
}

// TestUnknownFate loses answers and leaders at random: entries are sent again until they are answered.
func TestUnknownFate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 3})
		random := rand.New(rand.NewPCG(1, 2))
		w.setWrite(func(uint64, int) writeFault {
			return []writeFault{writeWorks, writeFails, writeUnknown}[random.IntN(3)]
		})
		w.connector(func(o *Options) { o.ChunkRows = 50 })
		for p := range int32(3) {
			w.produce("app", p, 0, 700)
		}
		w.awaitRows(2100)
		w.checkpointed(map[int32]int64{0: 700, 1: 700, 2: 700})
		w.exactlyOnce(map[int32][]int{0: ids(700), 1: ids(700), 2: ids(700)})
	})
}

// TestRefused has tablets refuse entries now and then: owners begin again at their checkpoints.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 3})
		w.setWrite(func(_ uint64, n int) writeFault {
			if n%7 == 3 && n < 60 {
				return writeHole
			}
			return writeWorks
		})
		n := w.connector(func(o *Options) { o.ChunkRows = 50 })
		for p := range int32(3) {
			w.produce("app", p, 0, 700)
		}
		w.awaitRows(2100)
		w.checkpointed(map[int32]int64{0: 700, 1: 700, 2: 700})
		w.exactlyOnce(map[int32][]int{0: ids(700), 1: ids(700), 2: ids(700)})
		if n.Status().Counters.Restarts == 0 {
			t.Error("no owner was restarted")
		}
	})
}

// TestLeaderMove moves partition leaders between brokers.
func TestLeaderMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 2})
		w.connector()
		for round := range 5 {
			w.produce("app", 0, round*100, 100)
			if err := w.cluster.MoveTopicPartition("app", 0, int32(round%3)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		w.awaitRows(500)
		w.checkpointed(map[int32]int64{0: 500})
		w.exactlyOnce(map[int32][]int{0: ids(500)})
	})
}

// TestCheckpointWins starts with a commit that differs from the checkpoint.
func TestCheckpointWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		n := w.connector()
		w.produce("app", 0, 0, 100)
		w.checkpointed(map[int32]int64{0: 100})
		n.stop()
		w.setCommit("app", 0, 30)
		w.produce("app", 0, 100, 100)
		n = w.connector()
		w.checkpointed(map[int32]int64{0: 200})
		w.exactlyOnce(map[int32][]int{0: ids(200)})
		if p := n.partition(0); p.Start != 100 {
			t.Errorf("began at %d, want the checkpoint 100", p.Start)
		}
	})
}

// TestStart has no checkpoint: the group's commit counts, else start_from.
func TestStart(t *testing.T) {
	for _, c := range []struct {
		name   string
		commit int64
		start  Start
		want   int64
	}{
		{"earliest", -1, Start{}, 0},
		{"latest", -1, Start{Latest: true}, 100},
		{"time", -1, Start{Time: time.UnixMilli(1_000_050_000)}, 50},
		{"time after the end", -1, Start{Time: time.UnixMilli(2_000_000_000)}, 100},
		{"commit", 40, Start{Latest: true}, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, map[string]int32{"app": 1})
				for i := range 100 {
					w.produceRecords(&kgo.Record{Topic: "app", Value: event(0, i), Timestamp: time.UnixMilli(1_000_000_000 + int64(i)*1000)})
				}
				if c.commit >= 0 {
					w.setCommit("app", 0, c.commit)
				}
				n := w.connector(func(o *Options) { o.Start = c.start })
				w.await("assignment", func() bool { return n.partition(0) != nil })
				if got := n.partition(0).Start; got != c.want || w.checkpoint(0) < c.want {
					t.Fatalf("began at %d with checkpoint %d, want %d", got, w.checkpoint(0), c.want)
				}
				w.produce("app", 0, 100, 1)
				w.awaitRows(101 - int(c.want))
				w.noProblems()
			})
		})
	}
}

// TestNoCheckpointNoStart keeps the system group silent: nothing is sent before it has answered.
func TestNoCheckpointNoStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		w.setStuck(true)
		n := w.connector()
		w.produce("app", 0, 0, 10)
		time.Sleep(20 * time.Second)
		if st := n.Status(); len(w.rows("events")) != 0 || st.State != Starting || !strings.Contains(st.Reason, "checkpoints") {
			t.Fatalf("%d rows, %+v", len(w.rows("events")), st)
		}
		w.setStuck(false)
		w.checkpointed(map[int32]int64{0: 10})
		w.setStuck(true)
		w.produce("app", 0, 10, 10)
		w.awaitRows(20)
		time.Sleep(5 * time.Second)
		if c := w.commit(0); c != 10 {
			t.Errorf("commit at %d ahead of the checkpoint 10", c)
		}
		w.setStuck(false)
		w.checkpointed(map[int32]int64{0: 20})
		w.exactlyOnce(map[int32][]int{0: ids(20)})
	})
}

// TestBrokersDown starts while no broker answers, and later loses all of them.
func TestBrokersDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		w.setDown(true)
		n := w.connector()
		time.Sleep(30 * time.Second)
		if st := n.Status(); st.State != Starting || !strings.Contains(st.Reason, "network is down") {
			t.Errorf("status: %+v", st)
		}
		w.setDown(false)
		w.produce("app", 0, 0, 10)
		w.awaitRows(10)
		w.await("a clear status", func() bool { return n.Status().Reason == "" })
		w.checkpointed(map[int32]int64{0: 10})
		w.exactlyOnce(map[int32][]int{0: ids(10)})
	})
}

// TestSlowCheckpoint has a checkpoint under way while a partition moves: the commit that follows it must not come
// after the new owner's.
func TestSlowCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 2})
		slow := false
		w.connector(func(o *Options) {
			raise := o.RaiseCheckpoints
			o.RaiseCheckpoints = func(ctx context.Context, next map[offsets.Source]int64) error {
				w.mu.Lock()
				wait := slow
				slow = false
				w.mu.Unlock()
				err := raise(ctx, next)
				if wait {
					time.Sleep(4 * time.Second) // the answer is late
				}
				return err
			}
		})
		both := func(from int) {
			w.produce("app", 0, from, 100)
			w.produce("app", 1, from, 100)
		}
		both(0)
		w.checkpointed(map[int32]int64{0: 100, 1: 100})
		w.mu.Lock()
		slow = true
		w.mu.Unlock()
		both(100)
		w.await("the slow checkpoint", func() bool { return w.checkpoint(0) == 200 && w.checkpoint(1) == 200 })
		w.connector()
		both(200)
		last := [2]int64{}
		for range 300 {
			time.Sleep(50 * time.Millisecond)
			for p := range int32(2) {
				c := w.commit(p)
				if c < last[p] {
					t.Fatalf("commit of partition %d went back from %d to %d", p, last[p], c)
				}
				last[p] = c
			}
		}
		w.checkpointed(map[int32]int64{0: 300, 1: 300})
		w.exactlyOnce(map[int32][]int{0: ids(300), 1: ids(300)})
	})
}
