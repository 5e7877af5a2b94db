package ingest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestFetchSize: a client begins small, grows while fetches become what they should, and shrinks at once when they do not.
func TestFetchSize(t *testing.T) {
	f := newFetchSize(8 << 20)
	read := func(broker int32, wire, memory, records int) {
		f.OnFetchBatchRead(kgo.BrokerMetadata{NodeID: broker}, "t", 0, kgo.FetchBatchMetrics{CompressedBytes: wire, UncompressedBytes: memory, NumRecords: records})
	}
	bytes, partition, changed := f.adjust(4)
	if bytes != 1<<20 || partition != 128<<10 || !changed {
		t.Fatal(bytes, partition, changed)
	}
	for range 5 {
		read(1, 1<<20, 1<<20, 0)
		bytes, partition, _ = f.adjust(4)
	}
	if bytes != 8<<20 || partition != 512<<10 {
		t.Fatalf("%d bytes, %d of a partition, for records that stay as they are", bytes, partition)
	}
	if _, _, changed = f.adjust(4); changed {
		t.Fatal("nothing has changed")
	}
	if _, partition, _ = f.adjust(1000); partition != 8<<20/32 {
		t.Fatalf("%d bytes of each of 1000 partitions", partition)
	}
	read(1, 1<<20, 16<<20, 0)
	if bytes, _, _ = f.adjust(1000); bytes != 512<<10 {
		t.Fatalf("%d bytes when they become 16 times as many", bytes)
	}
	read(1, 1<<20, 16<<20, 0)
	read(2, 1<<20, 16<<20, 0)
	if bytes, _, _ = f.adjust(1000); bytes != 256<<10 {
		t.Fatalf("%d bytes from each of two brokers", bytes)
	}
	read(1, 1<<20, 1<<30, 1<<20)
	if bytes, _, _ = f.adjust(1000); bytes != fetchBytesMin {
		t.Fatalf("%d bytes after a bomb", bytes)
	}
	if tiny := newFetchSize(1); tiny.mu.bytes != fetchBytesMin {
		t.Fatalf("%d bytes with next to no memory", tiny.mu.bytes)
	}
}
