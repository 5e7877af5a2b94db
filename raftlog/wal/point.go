package wal

// Point is a step of a write or of a segment's life at which a test cuts the power: see Options.Reached. Each is
// crossed by a test of its name.
type Point int

// The points.
const (
	Written         Point = iota // a drain is written, and not synced
	Synced                       // it is safe, and nobody was answered
	SegmentBegun                 // a new segment is about to be written to
	SegmentFilling               // a file is about to be filled for a segment to come
	SegmentRecycled              // it is, and waits for its use
	SegmentRemoving              // a file is about to be removed, for there are enough
	pointCount
)

var pointNames = [pointCount]string{"wal.written", "wal.synced", "wal.segment-begun", "wal.segment-filling", "wal.segment-recycled", "wal.segment-removing"}

// String names the point in the whole program.
func (p Point) String() string { return pointNames[p] }

// Points lists all of them.
func Points() []Point {
	all := make([]Point, pointCount)
	for i := range all {
		all[i] = Point(i)
	}
	return all
}

func (o *Options) reached(p Point) {
	if o.Reached != nil {
		o.Reached(p)
	}
}
