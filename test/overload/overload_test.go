//go:build linux && overload

package overload

import (
	"testing"
	"time"

	"nyala/connector/api"
)

func TestThousandPartitions(t *testing.T) {
	w := newWorld(t, setting{nodes: 1, partitions: 1000, buckets: 64, memory: "512MiB"})
	const records = 3_000_000
	if _, err := w.broker.ask(order{Flood: flood{Records: records, Size: 150, Run: 100}}); err != nil {
		t.Fatal(err)
	}
	go func() {
		for range 5 {
			time.Sleep(1500 * time.Millisecond)
			w.profile()
		}
	}()
	w.await("all assigned, no lag", 5*time.Minute, func(s *api.Status) bool { return partitions(s) == 1000 && lag(s) == 0 })
	w.checkRows(records)
	w.checkMemory(512 << 20)
}
