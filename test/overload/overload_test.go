//go:build linux && overload

package overload

import (
	"testing"
	"time"

	"nyala/connector/api"
)

// mib is a mebibyte.
const mib = 1 << 20

// flooded produces a flood while the nodes take it in, and waits until there is no lag any more.
func (w *world) flooded(limit time.Duration, partitionCount int, floods ...flood) {
	w.t.Helper()
	for i := range floods {
		if i > 0 {
			floods[i].First = floods[i-1].First + floods[i-1].Records
		}
		if _, err := w.broker.ask(order{Flood: floods[i]}); err != nil {
			w.t.Fatal(err)
		}
	}
	w.await("all assigned, no lag", limit, func(s *api.Status) bool { return partitions(s) == partitionCount && lag(s) == 0 })
	last := floods[len(floods)-1]
	w.checkRows(last.First + last.Records)
}

// TestThousandPartitions: a thousand partitions in 64 tablets, more data than memory.
func TestThousandPartitions(t *testing.T) {
	w := newWorld(t, setting{nodes: 1, partitions: 1000, buckets: 64, memory: "512MiB"})
	w.flooded(5*time.Minute, 1000, flood{Records: 3_000_000, Size: 150, Run: 100})
	w.checkMemory(512 * mib)
}

// TestThreeNodes: the same where each row is in the memory of three nodes, whoever read it.
func TestThreeNodes(t *testing.T) {
	w := newWorld(t, setting{nodes: 3, partitions: 1000, buckets: 64, memory: "512MiB"})
	w.flooded(8*time.Minute, 1000, flood{Records: 1_500_000, Size: 150, Run: 100})
	w.checkMemory(512 * mib)
}

// TestSlowDisk: the producer is far more than ten times as fast as the disk, which gets three times as much as there is memory.
func TestSlowDisk(t *testing.T) {
	w := newWorld(t, setting{nodes: 1, partitions: 100, buckets: 8, memory: "128MiB", args: []string{"-rate", "10000000", "-sync", "20ms"}})
	w.flooded(5*time.Minute, 100, flood{Records: 1_000_000, Size: 200, Run: 50, Codec: "lz4"})
	w.checkMemory(128 * mib)
}

// TestSlowFollower: one node of three has a slow disk. The others are a majority and go on; it gets their entries all the same.
func TestSlowFollower(t *testing.T) {
	w := newWorld(t, setting{nodes: 3, partitions: 100, buckets: 8, memory: "256MiB", args: []string{"-rate", "10000000", "-sync", "20ms"}})
	w.flooded(8*time.Minute, 100, flood{Records: 2_000_000, Size: 150, Run: 100})
	w.await("the slow node has all", 8*time.Minute, func(s *api.Status) bool { return s.Healthy })
	w.checkMemory(256 * mib)
}

// TestHotTablet: nine of ten rows belong to one of 64 tablets.
func TestHotTablet(t *testing.T) {
	w := newWorld(t, setting{nodes: 1, partitions: 200, buckets: 64, memory: "256MiB"})
	w.flooded(5*time.Minute, 200, flood{Records: 2_000_000, Size: 150, Run: 100, Hot: 90})
	w.checkMemory(256 * mib)
}

// TestLargeRecords: records of 20 MiB between ordinary ones, each larger than a fetch, a chunk, an entry.
func TestLargeRecords(t *testing.T) {
	w := newWorld(t, setting{nodes: 1, partitions: 50, buckets: 8, memory: "512MiB"})
	f := flood{Records: 100_000, Size: 150, Run: 10, Large: 20 * mib}
	w.flooded(5*time.Minute, 50, f, f, f, f)
	w.checkMemory(512 * mib)
}
