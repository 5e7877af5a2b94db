package offsets

import (
	"iter"
	"maps"
	"slices"
)

// positions is a table source -> next offset: what a Ledger and Checkpoints have in common. A map and not a sorted list, since
// every apply looks up and raises a few sources, while listings are rare; they sort, so that no map order ever shows.
type positions map[Source]int64

// raise sets the position of s to at least next and returns it. The table must exist.
func (p positions) raise(s Source, next int64) int64 {
	v, ok := p[s]
	if !ok || next > v {
		p[s] = next
		return next
	}
	return v
}

// sorted is the sources in the order of Source.Compare.
func (p positions) sorted() []Source {
	return slices.SortedFunc(maps.Keys(p), Source.Compare)
}

func (p positions) all() iter.Seq2[Source, int64] {
	return func(yield func(Source, int64) bool) {
		for _, s := range p.sorted() {
			if !yield(s, p[s]) {
				return
			}
		}
	}
}
