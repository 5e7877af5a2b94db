package connector

// Point is a step of a change of settings or columns at which a test cuts the power of the node that leads the system group. Each is
// crossed by a test of its name.
type Point int

// The points.
const (
	ChangeBegun     Point = iota // the catalog says that a change is coming, and no tablet knows of it
	ColumnsAppended              // a tablet has the new columns, and takes older decisions still
	TabletsFenced                // all tablets are ready, and the catalog does not know it
	ChangeSettled                // it was told
	pointCount
)

var pointNames = [pointCount]string{"connector.change-begun", "connector.columns-appended", "connector.tablets-fenced", "connector.change-settled"}

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

func (n *Node) reached(p Point) {
	if n.options.reached != nil {
		n.options.reached(p.String())
	}
}
