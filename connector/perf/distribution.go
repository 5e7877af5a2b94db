package perf

import (
	"cmp"
	"slices"
)

// distribution is weighted values, all of them: a measurement has some ten thousand.
type distribution struct {
	values []weighted
	sorted bool
}

type weighted struct {
	value  float64
	weight int
}

func (d *distribution) add(value float64, weight int) {
	d.values, d.sorted = append(d.values, weighted{value, weight}), false
}

func (d *distribution) weight() (n int64) {
	for _, v := range d.values {
		n += int64(v.weight)
	}
	return n
}

// quantile is the least value that a share q of the weight does not exceed; 0 of nothing.
func (d *distribution) quantile(q float64) float64 {
	if !d.sorted {
		slices.SortFunc(d.values, func(a, b weighted) int { return cmp.Compare(a.value, b.value) })
		d.sorted = true
	}
	sum, want := int64(0), q*float64(d.weight())
	for _, v := range d.values {
		if sum += int64(v.weight); float64(sum) >= want {
			return v.value
		}
	}
	return 0
}
