package wal

import (
	"sync"
	"syscall"
	"testing"
	"time"

	"nyala/store/vfs"
)

// BenchmarkDisk appends 1 GiB to a real disk, in records of 256 KiB from 4 groups at once, and tells
// the processor time of the process for it, the tidier's included. That is what a node has less of
// than the disk has speed. Run it with -benchtime 1x.
//
//   - fresh: nothing is cut, every segment is in a file that was made for it.
//   - recycled: old entries are cut, after a while every file has been used before.
func BenchmarkDisk(b *testing.B) {
	const warmUp, measured = 512 << 20, 1 << 30
	for _, bench := range []struct {
		name   string
		warmUp int64
		keep   uint64 // entries of each group
	}{
		{"fresh", 0, measured},
		{"recycled", warmUp, 128},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				w, err := Open(vfs.OS(), b.TempDir(), Options{WriteTimeout: time.Minute})
				check(b, err)
				appendBytes(b, w, bench.warmUp, bench.keep)
				b.StartTimer()
				before := processorTime(b)
				appendBytes(b, w, measured, bench.keep)
				b.ReportMetric((processorTime(b) - before).Seconds(), "cpu-s")
				b.ReportMetric(float64(w.mu.nextSlot), "files")
				b.StopTimer()
				check(b, w.Close())
			}
		})
	}
}

// appendBytes appends so many bytes from 4 goroutines, and lets each group keep so many entries.
func appendBytes(b *testing.B, w *WAL, bytes int64, keep uint64) {
	const groups, size = 4, 256 << 10
	var wg sync.WaitGroup
	for id := range uint64(groups) {
		wg.Go(func() {
			g := w.Group(id + 1)
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(i * 7)
			}
			for range bytes / size / groups {
				i := max(1, g.Next())
				if err := g.Append([]Record{{Index: i, Term: 1, Data: data}}); err != nil {
					b.Error(err)
					return
				}
				check(b, g.CutBelow(max(i, keep)-keep))
			}
		})
	}
	wg.Wait()
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
