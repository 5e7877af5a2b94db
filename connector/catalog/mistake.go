package catalog

import "nyala/offsets"

// mistake breaks one rule on purpose. Only tests set it, to prove that the simulation of whole clusters would notice.
type mistake int

const (
	_             mistake = iota
	checkpointSet         // a checkpoint is set, not raised
)

// raise raises a checkpoint, or sets it.
func (m mistake) raise(table *offsets.Checkpoints, s offsets.Source, next int64) int64 {
	if m == checkpointSet {
		old := table.Clone()
		*table = offsets.Checkpoints{}
		for o, at := range old.All() {
			if first, ok := old.Begun(o); ok {
				table.CreateIfAbsent(o, first)
			}
			if o != s {
				table.Raise(o, at)
			}
		}
	}
	return table.Raise(s, next)
}
