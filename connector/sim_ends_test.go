package connector

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nyala/store/vfs"
)

// TestHungDisk has a disk that never answers again: the node gives up, others take over, and closing it ends although
// the disk does not, also where a flush, or the copy of one, hangs there.
func TestHungDisk(t *testing.T) {
	for _, flushing := range []bool{false, true} {
		t.Run(fmt.Sprintf("flushing=%v", flushing), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testHungDisk(t, flushing) })
		})
	}
}

func testHungDisk(t *testing.T, flushing bool) {
	c := newCluster(t, 3, 3, 1)
	c.startAll()
	c.produce(0, 500)
	c.await("n1", 500)
	c.awaitHealthy("n1")
	d := c.disks["n2"]
	d.hang = make(chan struct{})
	if flushing {
		d.add(vfs.Rule{Op: vfs.OpSync, Path: "*.parquet", Hang: d.hang})
		for _, tb := range c.nodes["n1"].tablets.Tablets() {
			if c.nodes["n2"].isLeaderOf(tb.Spec().ID) { // nobody would end its flush
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := c.nodes["n1"].tablets.Checkpoint(ctx, tb.Spec().ID); err != nil && !c.nodes["n2"].isLeaderOf(tb.Spec().ID) {
				t.Fatal(err)
			}
			cancel()
		}
		time.Sleep(time.Second)
	}
	d.add(vfs.Rule{Op: vfs.OpSync, Hang: d.hang})
	c.produce(500, 1000)
	select {
	case <-c.nodes["n2"].Done():
	case <-time.After(time.Minute):
		t.Error("the node did not give up")
	}
	closed := make(chan struct{})
	go func() {
		err := c.nodes["n2"].Close()
		if flushing && (err == nil || !strings.Contains(err.Error(), "its disk hangs")) {
			t.Errorf("closing: %v", err)
		}
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Error("closing did not end")
	}
	c.await("n1", 1000)
	old := c.disks["n2"]
	c.disks["n2"] = newDisk(old.Crash(c.rng, 0.5))
	old.release()
	<-closed
	c.net.Host("n2:7401").Crash()
	c.net.Host("n2:7481").Crash()
	c.start("n2")
	c.await("n2", 1000)
	c.awaitHealthy("n1")
	c.stopAll()
}

// TestTopicRecreated deletes a topic and makes it again under its name: status says so.
func TestTopicRecreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.startAll()
		c.produce(0, 100)
		c.await("n1", 100)
		c.awaitHealthy("n1")
		if err := c.broker.DeleteTopic("app"); err != nil {
			t.Fatal(err)
		}
		if err := c.broker.CreateTopic("app", 4, nil); err != nil {
			t.Fatal(err)
		}
		named := false
		for range 600 {
			s := c.nodes["n3"].status(context.Background())
			named = !s.Healthy && len(s.Connectors) == 1 && s.Connectors[0].State == "failed"
			for _, p := range s.Connectors[0].Partitions {
				named = named && p.State == "topic_recreated"
			}
			if named && slices.ContainsFunc(s.Reasons, func(r string) bool { return strings.Contains(r, "topic app") }) {
				break
			}
			named = false
			time.Sleep(100 * time.Millisecond)
		}
		if s := c.nodes["n3"].status(context.Background()); !named {
			t.Errorf("status: %v %+v", s.Reasons, s.Connectors)
		}
		c.stopAll()
	})
}

// TestWipedNode loses a node's disk: it comes back as another incarnation, is given every replica again, and the
// old one is nowhere any more.
func TestWipedNode(t *testing.T) {
	for _, id := range []string{"n1", "n3"} { // the one that makes clusters, and another
		t.Run(id, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSimulation(t, 1, broken{})
				defer s.end()
				s.faults = nil
				s.startAll()
				s.produceSome()
				s.awaitTruth()
				s.awaitCalm("n2")
				old := s.nodes[id].identity.Incarnation
				s.wipe(id)
				if s.nodes[id].identity.Incarnation == old {
					t.Fatal("the wiped node has its old incarnation")
				}
				s.produceSome()
				s.awaitTruth()
				s.compareReplicas()
				s.renewClients()
				s.stopAll()
			})
		})
	}
}
