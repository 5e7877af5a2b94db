package connector

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"nyala/connector/query"
	"nyala/store/vfs"
)

// TestReadFromHungDisk reads by way of a node whose disk does not answer reads any more: the rows come from the other replicas. Of
// a table that is nowhere else the reader is not kept waiting for longer than it wants to wait.
func TestReadFromHungDisk(t *testing.T) {
	for _, replicas := range []int{3, 1} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 3, replicas, 1)
			c.startAll()
			c.produce(0, 2000)
			c.await("n1", 2000)
			var holder string // of the table's first tablet
			for id, n := range c.nodes {
				if err := n.Checkpoint(context.Background()); err != nil {
					t.Fatal(err)
				}
				table, _ := n.catalog.Snapshot().Table("events")
				if n.replica(table.Partitions[0].Tablets[0]) != nil {
					holder = id
				}
			}
			d := c.disks[holder]
			d.hang = make(chan struct{})
			d.add(vfs.Rule{Op: vfs.OpRead, Path: "*.parquet", Hang: d.hang})
			begin := time.Now()
			rows, err := c.rows(holder)
			switch took := time.Since(begin); {
			case replicas == 3 && (err != nil || len(rows) != 2000):
				t.Errorf("%d rows, %v, want 2000", len(rows), err)
			case replicas == 1 && err == nil:
				t.Error("rows of a disk that does not answer")
			case took > 21*time.Second:
				t.Errorf("%d replicas: the answer took %v", replicas, took)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			r, err := c.nodes[holder].read(ctx, "events", query.Request{Columns: []string{"text"}})
			for err == nil {
				_, err = r.stream.Next()
			}
			if !errors.Is(err, context.DeadlineExceeded) && replicas == 1 {
				t.Errorf("read with a deadline: %v", err)
			}
			if r != nil {
				r.stream.Close()
			}
			d.heal()
			c.await("n1", 2000)
			c.stopAll()
		})
	}
}
