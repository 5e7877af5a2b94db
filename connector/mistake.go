package connector

import "nyala/connector/catalog"

// mistake breaks one rule on purpose. Only tests set it, to prove that the simulation would notice. Those of the other
// rooms have files of this name there.
type mistake int

const (
	none              mistake = iota
	ackEarly                  // rows are acknowledged before they are applied
	ackUnknown                // an entry of unknown fate counts as applied
	ackRefused                // a refusal counts as an acknowledgement
	gaveUp                    // an entry of unknown fate is not sent again
	checkpointSent            // the checkpoint is what was read, not what was decided
	startWanted               // an owner starts at the group's commit, not at the checkpoint
	startUnwritten            // the first start is not written down
	incarnationKept           // a node that lost its disk comes back under its old incarnation
	walUnsynced               // the log is not synced
	filesUnsynced             // a tablet's files are not synced
	manifestUnsynced          // manifests are not synced
	dirsUnsynced              // directories are not synced
	fenceLeftOut              // settings change without a fence against the older ones
	readBeforeFence           // where new settings begin is read before the fence
	beginsForgotten           // new settings decide from the beginning
	columnsLeftOut            // tablets are not given the columns that come
	columnsUndecided          // all records are decoded under the newest columns, whatever their decision says
	replayMarkedEarly         // a replay marks a claim before its row is sent
	replayForgotten           // what an interrupted replay has claimed, no other one carries out
)

// startsUnwritten is where sources start if what this node believes counts: its own view of their checkpoints, else what it
// would begin with.
func (n *Node) startsUnwritten(c catalog.CreateCheckpoints) (starts []int64) {
	for _, p := range c.Checkpoints {
		if at, ok := n.catalog.Checkpoint(p.Source); ok {
			p.Next = at
		}
		starts = append(starts, p.Next)
	}
	return starts
}
