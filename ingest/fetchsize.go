package ingest

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// fetchSize chooses how many bytes a fetch asks for, so that what it becomes in memory stays near a target.
//
// The client decompresses a whole fetch before it can be polled, and nobody can stop it in the middle: what a batch
// grows to is known afterwards only. So a client begins with small fetches, and what they became says how large the next ones may
// be. A batch that is larger than what was asked for comes all the same, alone: that is Kafka's rule, without which a
// partition would stand still.
type fetchSize struct {
	target int64 // bytes of records in memory that all brokers' fetches together should become
	max    int32 // bytes on the wire
	mu     struct {
		sync.Mutex
		wire, memory int64          // of batches since the last adjust
		brokers      map[int32]bool // that sent them
		growth       float64        // bytes in memory for each on the wire; falls slowly, rises at once
		bytes        int32          // asked for now
		told         [2]int32       // the last answer of adjust
	}
}

const (
	fetchBytesMin       = 64 << 10
	fetchBytesMax       = 16 << 20  // of one fetch, all partitions of a broker
	fetchBytesFirst     = 1 << 20   // of a new client
	fetchBytesFair      = 192 << 10 // of a new client with little memory: with less, a broker may serve the same few partitions again and again
	firstShare          = 8         // of the largest fetch: nobody knows yet what it becomes
	fetchPartitionBytes = 512 << 10 // small enough to stay in cache until it is decoded
	// Of a fetch each partition gets its share, as long as there are not too many: then it takes several to serve all, and the broker
	// sees to it that each has its turn. Shares that are too small make chunks that are too small.
	fetchPartitionsMin = 8
	fetchPartitionsMax = 32
	growthDecay        = 0.9
)

func newFetchSize(target int64) *fetchSize {
	f := &fetchSize{target: target, max: int32(min(fetchBytesMax, max(target, fetchBytesMin)))}
	f.mu.brokers, f.mu.growth = map[int32]bool{}, 1
	f.mu.bytes = min(f.max, fetchBytesFirst, max(fetchBytesFair, f.max/firstShare))
	return f
}

// OnFetchBatchRead implements kgo.HookFetchBatchRead.
func (f *fetchSize) OnFetchBatchRead(meta kgo.BrokerMetadata, _ string, _ int32, m kgo.FetchBatchMetrics) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.wire += int64(m.CompressedBytes)
	f.mu.memory += int64(m.UncompressedBytes) + int64(m.NumRecords)*recordStructBytes
	if m.CompressionType != 0 { // the buffer that it was decompressed into may be larger
		f.mu.memory += max(0, int64(decompressRoom(m.CompressedBytes)-m.UncompressedBytes))
	}
	if len(f.mu.brokers) == 0 || !f.mu.brokers[meta.NodeID] {
		f.mu.brokers[meta.NodeID] = true
	}
}

// adjust is called after a poll; it says what the next fetches should ask for, and whether that is new.
func (f *fetchSize) adjust(partitions int) (bytes, partition int32, changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.wire > 0 {
		f.mu.growth = max(float64(f.mu.memory)/float64(f.mu.wire), growthDecay*f.mu.growth)
		want := float64(f.target) / f.mu.growth / float64(max(len(f.mu.brokers), 1))
		want = max(fetchBytesMin, min(want, float64(f.max), 2*float64(f.mu.bytes)))
		f.mu.bytes = int32(want)
		f.mu.wire, f.mu.memory = 0, 0
		clear(f.mu.brokers)
	}
	bytes, partition = f.mu.bytes, partitionOf(f.mu.bytes, partitions)
	changed = f.mu.told != [2]int32{bytes, partition}
	f.mu.told = [2]int32{bytes, partition}
	return bytes, partition, changed
}

func partitionOf(bytes int32, partitions int) int32 {
	return min(fetchPartitionBytes, bytes/int32(min(max(partitions, fetchPartitionsMin), fetchPartitionsMax)))
}
