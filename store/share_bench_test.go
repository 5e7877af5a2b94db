package store

import (
	"math/rand/v2"
	"testing"

	"nyala/store/batch"
	"nyala/store/vfs"
)

// BenchmarkBury is what it costs a replica that copied a file to find where rows that died are in it: by a look-up for each, or by sorting the
// keys of all. sortShare is chosen by the two.
func BenchmarkBury(b *testing.B) {
	const rows = 256 << 10
	s := newSingle(b, vfs.NewMem())
	rng := rand.New(rand.NewPCG(1, 1))
	for range rows / 4096 {
		var values []int64
		for range 4096 {
			values = append(values, rng.Int64(), 1)
		}
		s.apply(pairs(batch.Upsert, values...), 0)
	}
	s.apply(freezeCommand{after: s.mu.lastFreeze}.entry(), 0)
	if err := s.work(); err != nil {
		b.Fatal(err)
	}
	f := s.mu.frozen[0]
	d, err := s.adopt(f, f.encoded.added[0], obtained{flushSuffix, f.encoded.rowOf})
	if err != nil {
		b.Fatal(err)
	}
	defer d.release()
	b.Run("lookup", func(b *testing.B) {
		for range b.N {
			if err := f.bury(d, death{rng.Uint32N(rows), 1 << 60}, nil); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/death")
	})
	b.Run("sort", func(b *testing.B) {
		var w worker
		for range b.N {
			w.gather(f.schema, f, false)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
	})
}
