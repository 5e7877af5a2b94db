package ingest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// inflater bounds what fetched batches become in memory: a hundred kilobytes may become a gigabyte.
//
// A batch that would become more than batchBytesMax is cut off there, and is nothing that could be read (session.tooLarge). And once
// the batches between two polls have become more than limit, no further one is decompressed until the next poll. The client takes that for a
// broken batch at the end of a fetch: it gives out what came before it, and fetches it again. The first batch after a
// poll is always let through, so every partition comes on in its turn.
type inflater struct {
	kgo.Decompressor
	pool  *recordPool
	limit int64
	since atomic.Int64 // bytes that batches have become since the last poll
	most  atomic.Int64 // the greatest that since was
}

// batchBytesMax is what a batch may become. No record that could be a row is larger (recordBytesMax).
const batchBytesMax = 64 << 20

// errFetchFull is how a batch is put off.
var errFetchFull = errors.New("ingest: the fetches of this poll are large enough")

// newInflater uses the pool's memory. The library bounds only the decompressors that it makes for a client, so one is made to
// be asked for its decompressor; it never connects.
func newInflater(pool *recordPool, limit int64) (*inflater, error) {
	client, err := kgo.NewClient(kgo.MaxDecompressBatchBytes(batchBytesMax), kgo.WithPools(pool), kgo.DisableClientMetrics(),
		kgo.Dialer(func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	d, ok := client.OptValue(kgo.WithDecompressor).(kgo.Decompressor)
	must(ok, "the client has no decompressor")
	return &inflater{Decompressor: d, pool: pool, limit: limit}, nil
}

// Decompress implements kgo.Decompressor.
func (f *inflater) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if f.since.Load() > f.limit {
		return nil, errFetchFull
	}
	var out []byte
	var err error
	whole := false
	if codec == kgo.CodecLz4 {
		out, whole = f.pool.inflateLZ4(src)
	}
	if !whole {
		out, err = f.Decompressor.Decompress(src, codec)
	}
	if err == nil && codec != kgo.CodecNone {
		f.pool.inflated(out)
	}
	since := f.since.Add(int64(len(out)))
	for most := f.most.Load(); since > most && !f.most.CompareAndSwap(most, since); most = f.most.Load() {
	}
	return out, err
}

// polled is called after each poll, which gives out all that was fetched.
func (f *inflater) polled() { f.since.Store(0) }

// tooLarge deals with a batch that is cut off, by the policy for bad records: how many records it has, and what is in them, is
// not known, so its offsets become a gap.
func (s *session) tooLarge(o *owner, err *kgo.ErrDecompressTooLarge) {
	why := fmt.Sprintf("batch_too_large: the batch of offsets %d to %d becomes more than %d MiB when it is decompressed", err.Offset, err.NextOffset-1, batchBytesMax>>20)
	if s.options.BadRecords == BadRecordFail {
		o.fail(Failed, why+"; to go on without it, set on_bad_record: dead_letter, which writes it down in nyala.gaps")
		return
	}
	s.options.Logger.Warn("offsets lost", "topic", o.topic, "partition", o.source.Partition, "first", err.Offset, "next", err.NextOffset, "reason", "batch_too_large")
	s.command(command{kind: skipGap, owner: o, start: err.NextOffset, why: why})
}
