package connector

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"nyala/connector/catalog"
	"nyala/store/vfs"
)

// running lists the replicas of events that run on a node.
func (c *cluster) running(id string) (ids []catalog.TabletID) {
	n := c.nodes[id]
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, r := range n.mu.replicas {
		if r.tablet.Spec().Table == "events" {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestStartKnown: a node that starts runs the replicas that it has before there is a leader of the system group, but makes none.
func TestStartKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.startAll()
		c.produce(0, 400)
		c.await("n1", 400)
		c.awaitHealthy("n1")
		time.Sleep(3 * time.Second) // the catalog is saved
		for _, id := range []string{"n1", "n2", "n3"} {
			c.kill(id, 0.5)
		}
		c.start("n1")
		time.Sleep(200 * time.Millisecond)
		if has := c.running("n1"); len(has) != 2 {
			t.Errorf("tablets %v run alone, want 2", has)
		}
		select {
		case <-c.nodes["n1"].ready:
			t.Error("a node alone is ready")
		default:
		}
		c.start("n2")
		c.start("n3")
		for _, id := range []string{"n1", "n2", "n3"} {
			c.await(id, 400)
		}
		c.produce(400, 500)
		c.await("n2", 500)
		c.awaitHealthy("n3")
		c.stopAll()
	})
}

// TestStartKnownOfDropped: a table was dropped, and made again, while a node was away. It runs what it has, until its catalog has caught up, and
// deletes it then.
func TestStartKnownOfDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.startAll()
		c.produce(0, 400)
		c.await("n1", 400)
		c.awaitHealthy("n1")
		time.Sleep(3 * time.Second)
		old := c.running("n3")
		c.kill("n3", 1)
		pause := catalog.SetConnector{Name: "app", Table: "events", Desired: catalog.Paused}
		pause.Settings = c.nodes["n1"].catalog.Snapshot().Connectors[0].Decision().Settings
		for _, command := range []catalog.Command{pause, catalog.DropTable{Table: "events"}} {
			if _, err := c.nodes["n1"].propose(t.Context(), command); err != nil {
				t.Fatal(err)
			}
		}
		c.start("n3")
		early := false
		for range 2000 {
			if has := c.running("n3"); len(has) == len(old) && has[0] <= max(old[0], old[1]) {
				early = true
				break
			}
			time.Sleep(time.Millisecond)
		}
		if !early {
			t.Error("what the node has did not run before it was told")
		}
		c.awaitHealthy("n1")
		time.Sleep(5 * time.Second)
		for _, id := range old {
			if _, err := c.disks["n3"].Stat(fmt.Sprintf("data/n3/tablets/%d/manifest", id)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("tablet %d was dropped, and is there: %v", id, err)
			}
			if c.nodes["n3"].replica(id) != nil {
				t.Errorf("tablet %d was dropped, and runs", id)
			}
		}
		c.stopAll()
	})
}

// TestStartKnownOfReplaced: the old data directory of a node that has another one now. It is refused, and what it has ends.
func TestStartKnownOfReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.startAll()
		c.produce(0, 400)
		c.await("n1", 400)
		c.awaitHealthy("n1")
		time.Sleep(3 * time.Second)
		c.kill("n3", 1)
		old := c.disks["n3"]
		c.disks["n3"] = newDisk(vfs.NewMem())
		c.start("n3")
		c.awaitHealthy("n1")
		c.kill("n3", 1)
		now := c.disks["n3"]
		c.disks["n3"] = old
		c.start("n3")
		time.Sleep(5 * time.Second)
		if has := c.running("n3"); len(has) != 0 {
			t.Errorf("tablets %v run in a directory that was replaced", has)
		}
		c.produce(400, 500)
		c.await("n1", 500)
		c.kill("n3", 1)
		c.disks["n3"] = now
		c.start("n3")
		c.await("n3", 500)
		c.awaitHealthy("n1")
		c.stopAll()
	})
}
