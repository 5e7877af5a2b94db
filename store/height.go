package store

import (
	"bytes"
	"slices"
)

// height is the most rowsets whose key bounds have a key in common: what a lookup may have to ask, and
// what compaction is there to lower.
func height(disks []*diskRowSet) (most int) {
	type edge struct {
		key  []byte
		open bool
	}
	var edges []edge
	for _, d := range disks {
		lo, hi := d.Bounds()
		edges = append(edges, edge{lo, true}, edge{hi, false})
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if c := bytes.Compare(a.key, b.key); c != 0 {
			return c
		}
		if a.open == b.open {
			return 0
		}
		if a.open {
			return -1
		}
		return 1
	})
	now := 0
	for _, e := range edges {
		if !e.open {
			now--
			continue
		}
		now++
		most = max(most, now)
	}
	return most
}
