package raftlog

import "nyala/raftlog/wal"

// Point is a step of a group's log at which a test cuts the power of a node: see Options.Reached. Each is crossed by
// a test of its name.
type Point int

// The points of a group; those of the WAL below it come behind.
const (
	BootstrapTerm     Point = iota // the first term is safe, the first entry is not there
	Applied                        // the state machine has entries, and nobody was answered
	LogCut                         // entries below the durable index are gone
	ManifestReceived               // a manifest came from the leader
	ManifestPrepared               // its files are here
	ManifestRestored               // the state machine is what it says, and the log is as before
	ManifestInstalled              // the log begins behind it
	pointCount
)

var pointNames = [pointCount]string{
	"raftlog.bootstrap-term", "raftlog.applied", "raftlog.log-cut",
	"raftlog.manifest-received", "raftlog.manifest-prepared", "raftlog.manifest-restored", "raftlog.manifest-installed",
}

// String names the point in the whole program.
func (p Point) String() string {
	if p >= pointCount {
		return wal.Point(p - pointCount).String()
	}
	return pointNames[p]
}

// Points lists all of them.
func Points() []Point {
	all := make([]Point, int(pointCount)+len(wal.Points()))
	for i := range all {
		all[i] = Point(i)
	}
	return all
}

func (l *Log) reached(p Point) {
	if l.o.Reached != nil {
		l.o.Reached(p)
	}
}

// walReached is for the WAL's points, nil when nobody asks.
func (o *Options) walReached() func(wal.Point) {
	if o.Reached == nil {
		return nil
	}
	return func(p wal.Point) { o.Reached(pointCount + Point(p)) }
}
