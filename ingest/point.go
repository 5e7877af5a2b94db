package ingest

// Point is a step between Kafka and an acknowledged record at which a test cuts the power of a node: see
// Options.Reached. Each is crossed by a test of its name.
type Point int

// The points, in the order in which a record passes them.
const (
	CheckpointCreated Point = iota // the system group has the start of a source
	OwnerBegan                     // an owner is there and has sent nothing
	Fetched                        // records came from Kafka
	Decoded                        // they are columns
	Routed                         // each row has its tablet
	LetterSending                  // a dead letter is about to be queued
	GapSending                     // so are offsets that were lost
	EntryBuilt                     // rows are an entry
	Proposing                      // the entry is about to be proposed
	Answered                       // it was applied, and nobody has counted it
	LetterWritten                  // dead letters were applied, and nobody has counted them
	GapWritten                     // so was a gap
	Tracked                        // a watermark may have moved
	CheckpointRaising              // checkpoints are about to be raised
	CheckpointRaised               // they are, and Kafka does not know
	Committed                      // Kafka knows
	Revoking                       // partitions are taken away
	Drained                        // what was sent of them is decided
	pointCount
)

var pointNames = [pointCount]string{
	"ingest.checkpoint-created", "ingest.owner-began", "ingest.fetched", "ingest.decoded", "ingest.routed", "ingest.letter-sending",
	"ingest.gap-sending", "ingest.entry-built", "ingest.proposing", "ingest.answered", "ingest.letter-written", "ingest.gap-written",
	"ingest.tracked", "ingest.checkpoint-raising", "ingest.checkpoint-raised", "ingest.committed", "ingest.revoking", "ingest.drained",
}

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

func (o *SenderOptions) reached(p Point) {
	if o.Reached != nil {
		o.Reached(p)
	}
}
