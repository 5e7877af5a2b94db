package connector

import (
	"testing"
	"testing/synctest"
	"time"

	"nyala/store/vfs"
)

// leads counts what a node leads.
func (c *cluster) leads(id string) (n int) {
	node := c.nodes[id]
	for _, t := range node.catalog.Snapshot().Tablets {
		if g := node.groupOf(t.ID); g != nil && g.IsLeader() {
			n++
		}
	}
	return n
}

// TestLeaderDiskHangs hangs the disk of a node that leads and reads Kafka, under writes: rows of all partitions go on being readable
// within 3 seconds, long before the log's deadline ends the node; when the disk answers again, the node leads again. It hangs as soon as the
// node leads anything, when leaderships are still being handed to those who should have them.
func TestLeaderDiskHangs(t *testing.T) {
	for _, id := range []string{"n1", "n2", "n3"} { // n1 leads the system group
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 3, 3, 1)
			c.startAll()
			c.produce(0, 500)
			c.await("n1", 500)
			c.awaitHealthy("n1")
			other := map[string]string{"n1": "n2", "n2": "n3", "n3": "n1"}[id]
			for range 600 {
				if c.leads(id) > 0 {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			if c.leads(id) == 0 {
				t.Fatalf("%s leads nothing", id)
			}
			c.disks[id].hang = make(chan struct{})
			c.disks[id].add(vfs.Rule{Op: vfs.OpSync, Hang: c.disks[id].hang})
			begin := time.Now()
			c.produce(500, 600)
			c.await(other, 600)
			took := time.Since(begin)
			t.Logf("%s: rows of all partitions after %v", id, took)
			if took > 3*time.Second {
				t.Errorf("%s: rows are readable after %v, want less than 3s", id, took)
			}
			time.Sleep(2 * time.Second)
			if n := c.leads(id); n > 0 {
				t.Errorf("%s leads %d groups with a hung disk", id, n)
			}
			c.disks[id].heal()
			c.produce(600, 700)
			c.await(id, 700)
			for range 600 {
				if c.leads(id) > 0 {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			if c.leads(id) == 0 {
				t.Errorf("%s does not lead again", id)
			}
			c.awaitHealthy(other)
			c.stopAll()
		})
	}
}

// TestSlowDisk has a disk whose every sync takes 2 s: its node leads nothing for longer than a moment, and writes do not wait for it.
func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.startAll()
		c.produce(0, 300)
		c.await("n1", 300)
		c.awaitHealthy("n1")
		c.disks["n2"].add(vfs.Rule{Op: vfs.OpSync, Delay: 2 * time.Second})
		total, led, late := 300, 0, 0
		for range 20 {
			c.produce(total, total+20)
			total += 20
			begin := time.Now()
			c.await("n1", total)
			took := time.Since(begin)
			if took > 4*time.Second {
				late++
			}
			time.Sleep(2 * time.Second)
			if c.leads("n2") > 0 {
				led++
			}
		}
		if led > 4 || late > 2 {
			t.Errorf("of 20 rounds the slow node led in %d, and rows were late in %d", led, late)
		}
		c.disks["n2"].heal()
		c.await("n2", total)
		time.Sleep(30 * time.Second)
		if c.leads("n2") == 0 {
			t.Error("n2 does not lead again")
		}
		c.awaitHealthy("n1")
		c.stopAll()
	})
}

// TestAllDisksStandStill has the disks of all nodes answer nothing for a while, as when they are one storage that has a hiccup: rows are
// readable again soon after. Of the nodes those that led have more in their logs, and count as slow; the others could not win.
func TestAllDisksStandStill(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		for _, still := range []map[string]time.Duration{
			{"n1": 2100 * time.Millisecond, "n2": 2100 * time.Millisecond, "n3": 2100 * time.Millisecond},
			{"n1": 2500 * time.Millisecond, "n2": 2500 * time.Millisecond, "n3": 2500 * time.Millisecond},
			{"n1": 1960 * time.Millisecond, "n2": 1100 * time.Millisecond, "n3": 1200 * time.Millisecond},
		} {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, 3, seed+1)
				c.startAll()
				c.produce(0, 500)
				c.await("n1", 500)
				c.awaitHealthy("n1")
				time.Sleep(20 * time.Second)
				for id, d := range still {
					c.disks[id].hang = make(chan struct{})
					c.disks[id].add(vfs.Rule{Op: vfs.OpSync, Hang: c.disks[id].hang})
					time.AfterFunc(d, c.disks[id].heal)
				}
				for total := 520; total <= 1100; total += 20 {
					begin := time.Now()
					c.produce(total-20, total)
					c.await("n1", total)
					if took := time.Since(begin); took > 5*time.Second {
						t.Errorf("seed %d, disks stood still for %v: rows are readable after %v, want less than 5s", seed+1, still, took)
					}
					time.Sleep(200 * time.Millisecond)
				}
				c.awaitHealthy("n1")
				c.stopAll()
			})
		}
	}
}

// TestAllDisksSlow: when all are slow nobody takes what another gives away, and when they are fast again all goes on.
func TestAllDisksSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.startAll()
		c.produce(0, 100)
		c.await("n1", 100)
		ids := []string{"n1", "n2", "n3"}
		for _, id := range ids {
			c.disks[id].add(vfs.Rule{Op: vfs.OpSync, Delay: 1500 * time.Millisecond})
		}
		c.produce(100, 150)
		time.Sleep(time.Minute)
		moved := int64(0)
		for _, id := range ids {
			moved += c.nodes[id].raft.Stats().Transfers
			c.disks[id].heal()
		}
		if moved > 3 {
			t.Errorf("leaderships were given away %d times", moved)
		}
		c.await("n1", 150)
		c.awaitHealthy("n1")
		c.stopAll()
	})
}

// TestAllDisksSlowFromTheStart loses the power of all nodes and starts them again on disks whose every sync takes longer than an
// election's first patience: they elect leaders all the same, and rows come in.
func TestAllDisksSlowFromTheStart(t *testing.T) {
	for _, delay := range []time.Duration{500 * time.Millisecond, 900 * time.Millisecond, 1500 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 3, 3, 1)
			c.startAll()
			c.produce(0, 100)
			c.await("n1", 100)
			c.awaitHealthy("n1")
			ids := []string{"n1", "n2", "n3"}
			for _, id := range ids {
				c.kill(id, 0.5)
				c.disks[id].add(vfs.Rule{Op: vfs.OpSync, Delay: delay})
			}
			c.startAll()
			c.produce(100, 150)
			begin := time.Now()
			for checkpoints := int64(0); checkpoints < 150; time.Sleep(time.Second) {
				checkpoints = 0
				for _, o := range c.nodes["n1"].offsets(t.Context()) {
					checkpoints += o.Checkpoint
				}
				if time.Since(begin) > 3*time.Minute {
					t.Fatalf("%v a sync: %d records of 150 are decided after 3 minutes", delay, checkpoints)
				}
			}
			for _, id := range ids {
				c.disks[id].heal()
			}
			c.await("n1", 150)
			c.awaitHealthy("n1")
			c.stopAll()
		})
	}
}
