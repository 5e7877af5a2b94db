package catalog

// Point is a step of the catalog's way to its file at which a test cuts the power of a node: see Options.Reached. Each
// is crossed by a test of its name.
type Point int

// The points.
const (
	Saving Point = iota // the file is about to be replaced
	Saved               // it is, and memory has the durable state before
	pointCount
)

var pointNames = [pointCount]string{"catalog.saving", "catalog.saved"}

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
