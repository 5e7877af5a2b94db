package offsets

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// decided is the naive tracker: a set of offsets.
type decided struct {
	low int64
	set map[int64]bool
}

func (d *decided) done(r Range) {
	for o := r.First; o < r.Next; o++ {
		d.set[o] = true
	}
	for d.set[d.low] {
		d.low++
	}
}

// pending counts the runs of decided offsets above the watermark.
func (d *decided) pending() (n int) {
	for o := range d.set {
		if o >= d.low && !d.set[o-1] {
			n++
		}
	}
	return n
}

func TestTrackerAgainstASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(0, 20).Draw(t, "start")
		tracker, model := NewTracker(start), &decided{start, map[int64]bool{}}
		ranges := rapid.Custom(func(t *rapid.T) Range {
			first := rapid.Int64Range(0, 80).Draw(t, "first")
			return Range{first, first + rapid.Int64Range(-1, 8).Draw(t, "length")}
		})
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			before := tracker.Low()
			if rapid.Bool().Draw(t, "batch") {
				batch := rapid.SliceOfN(ranges, 0, 12).Draw(t, "ranges")
				slices.SortFunc(batch, func(a, b Range) int { return int(a.First - b.First) })
				tracker.DoneAll(batch)
				for _, r := range batch {
					model.done(r)
				}
			} else {
				r := ranges.Draw(t, "range")
				tracker.Done(r)
				model.done(r)
			}
			if tracker.Low() < before {
				t.Fatalf("the watermark went back from %d to %d", before, tracker.Low())
			}
			if tracker.Low() != model.low || tracker.Pending() != model.pending() {
				t.Fatalf("low %d pending %d, want %d and %d; above %v", tracker.Low(), tracker.Pending(), model.low, model.pending(), tracker.above)
			}
		}
	})
}

func TestTrackerTakesHugeRanges(t *testing.T) {
	tracker := NewTracker(5)
	tracker.Done(Range{10, math.MaxInt64})
	if tracker.Low() != 5 || tracker.Pending() != 1 {
		t.Fatalf("low %d pending %d, want 5 and 1", tracker.Low(), tracker.Pending())
	}
	tracker.Done(Range{math.MinInt64, 10})
	if tracker.Low() != math.MaxInt64 || tracker.Pending() != 0 {
		t.Fatalf("low %d pending %d, want the largest and 0", tracker.Low(), tracker.Pending())
	}
}

func TestTrackerRefusesDisorder(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("ranges out of order were taken")
		}
	}()
	NewTracker(0).DoneAll([]Range{{5, 6}, {3, 4}})
}

// Four tablets' batches of 4096 rows that interleave at random, in flight together and applied in a changing order: the
// common load of a busy partition.
func BenchmarkTrackerDoneAll(b *testing.B) {
	const tablets, rows = 4, 4096
	b.ReportAllocs()
	batches := make([][]Range, tablets)
	low, state, rounds := int64(0), uint64(1), 0
	tracker := NewTracker(0)
	for b.Loop() {
		for t := range batches {
			batches[t] = batches[t][:0]
		}
		for o := low; o < low+tablets*rows; o++ {
			state = state*6364136223846793005 + 1442695040888963407
			t := state >> 33 % tablets
			if n := len(batches[t]); n > 0 && batches[t][n-1].Next == o {
				batches[t][n-1].Next++
			} else {
				batches[t] = append(batches[t], Range{o, o + 1})
			}
		}
		low += tablets * rows
		for i := range batches {
			tracker.DoneAll(batches[(i+rounds)%tablets])
		}
		rounds++
		if tracker.Low() != low {
			b.Fatalf("low %d, want %d", tracker.Low(), low)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(low), "ns/offset")
}
