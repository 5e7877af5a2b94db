package wal

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"nyala/store/vfs"
)

// BenchmarkAppend appends from several groups at once, as many entries in flight as there are
// groups, to a real disk.
func BenchmarkAppend(b *testing.B) {
	for _, groups := range []int{1, 4, 32} {
		for _, size := range []int{4 << 10, 64 << 10, 256 << 10} {
			b.Run(fmt.Sprintf("groups=%d/bytes=%d", groups, size), func(b *testing.B) {
				w, err := Open(vfs.OS(), b.TempDir(), Options{})
				check(b, err)
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(i * 7)
				}
				b.SetBytes(int64(size))
				b.ResetTimer()
				var next atomic.Int64
				var wg sync.WaitGroup
				for id := range groups {
					wg.Add(1)
					go func() {
						defer wg.Done()
						g := w.Group(uint64(id + 1))
						for i := uint64(1); next.Add(1) <= int64(b.N); i++ {
							if err := g.Append([]Record{{Index: i, Term: 1, Data: data}}); err != nil {
								b.Error(err)
								return
							}
							g.CutBelow(max(i, 100) - 99)
						}
					}()
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64(w.Stats().Records)/float64(w.Stats().Syncs), "records/sync")
				check(b, w.Close())
			})
		}
	}
}
