package connector

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nyala/connector/api"
	"nyala/store/vfs"
)

// TestOverload: producers are far more than ten times as fast as the disk, which takes 5 MB a second and 50 ms for an fsync,
// and there is much more to read than memory. Memory stays within its limit, every partition moves in every interval,
// what waits says so and goes on, and in the end all is there once.
func TestOverload(t *testing.T) {
	for nodes := 1; nodes <= 3; nodes += 2 {
		t.Run(fmt.Sprintf("nodes=%d", nodes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { overload(t, nodes) })
		})
	}
}

func overload(t *testing.T, nodes int) {
	const partitions, records, size = 16, 64_000, 500
	config := strings.ReplaceAll(clusterConfig, "buckets: 2", "buckets: 8")
	c := newClusterOf(t, nodes, nodes, 1, config, kfake.NumBrokers(1), kfake.Ports(9092), kfake.SeedTopics(partitions, "app"))
	c.broker.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		// In a session kfake serves those first that it served last, where Kafka lets each have its turn. Without one the client does.
		q := r.(*kmsg.FetchRequest)
		q.SessionID, q.SessionEpoch = 0, -1
		c.broker.KeepControl()
		return nil, nil, false
	})
	c.config.Node.MemoryBytes = 6 << 20 // less than a user may set: what a bubble can hold is little
	c.flush, c.segment = FlushOptions{}, 1<<20
	for id := range c.disks {
		c.disks[id].faulty = vfs.NewFaulty(vfs.NewSlow(c.disks[id].Mem, 5_000_000, 50*time.Millisecond))
	}
	for p := range int32(partitions) {
		values := make([]string, records/partitions)
		for i := range values {
			values[i] = fmt.Sprintf(`{"tenant":%d,"id":%d,"text":"%0*d"}`, p, i, size, i*i)
		}
		c.send(p, values...)
	}
	c.startAll()
	defer c.stopAll()
	begin := time.Now()
	w := overloaded{t: t, c: c, began: begin, low: map[int32]int64{}}
	for w.read() < records {
		if time.Since(begin) > 10*time.Minute {
			t.Fatalf("after %s: %d of %d records are through: %v", time.Since(begin), w.read(), records, w.status.Reasons)
		}
		w.watch(5 * time.Second)
	}
	if !w.paused {
		t.Error("nothing ever waited for memory")
	}
	c.await("n1", records)
	t.Logf("%d records through after %s; at most %d%% of the memory for rows in use", records, time.Since(begin).Round(time.Second), w.most)
}

// overloaded watches a cluster that has too much to do.
type overloaded struct {
	t      *testing.T
	c      *cluster
	began  time.Time
	status api.Status
	low    map[int32]int64 // watermarks at the end of the last interval
	ready  bool            // all tablets had leaders then
	paused bool            // something waited for memory
	most   int64           // of memory in use, per cent
}

// read is how many records are through.
func (w *overloaded) read() (n int64) {
	w.status = w.c.nodes["n1"].status(w.t.Context())
	for _, p := range w.status.Connectors[0].Partitions {
		n += p.Watermark
	}
	return n
}

// watch lets an interval pass. Every partition that was read before it, and is behind, must have moved, if all tablets had leaders
// by then: the first interval of three nodes with such disks ends while they are still being made.
func (w *overloaded) watch(interval time.Duration) {
	for end := time.Now().Add(interval); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for id, n := range w.c.nodes {
			b := n.tablets.Budget()
			// What other nodes have read becomes rows here, too, and what is on its way counts twice for a moment.
			others := int64(len(w.c.nodes)) * divide(w.c.config.Node.MemoryBytes).records
			w.most = max(w.most, 100*b.Used()/b.Limit())
			if b.Used() > b.Limit()+b.Limit()/10+others {
				w.t.Fatalf("%s: %d of %d bytes in use", id, b.Used(), b.Limit())
			}
			for _, f := range n.feedStatus() {
				if strings.HasPrefix(f.Reason, api.PausedMemory) {
					w.paused = true
				} else if f.Reason != "" {
					w.t.Errorf("%s: %s", id, f.Reason)
				}
			}
		}
	}
	w.read()
	for _, p := range w.status.Connectors[0].Partitions {
		before, known := w.low[p.Partition]
		if known && w.ready && p.Watermark == before && p.LagRecords > 0 {
			w.t.Errorf("after %s: partition %d stands at %d for %s: %s", time.Since(w.began), p.Partition, before, interval, p.Reason)
		}
		if p.State == api.ConnectorRunning {
			w.low[p.Partition] = p.Watermark
		}
	}
	w.ready = !slices.ContainsFunc(w.status.Tablets, func(t api.Tablet) bool { return t.Leader == "" })
}
