package connector

// mistake breaks one rule on purpose. Only tests set it, to prove that the simulation would notice.
type mistake int

const (
	none             mistake = iota
	ackEarly                 // rows are acknowledged before they are applied
	ackUnknown               // an entry of unknown fate counts as applied
	checkpointSent           // the checkpoint is what was read, not what was decided
	incarnationKept          // a node that lost its disk comes back under its old incarnation
	walUnsynced              // the log is not synced
	filesUnsynced            // a tablet's files are not synced
	manifestUnsynced         // manifests are not synced
	dirsUnsynced             // directories are not synced
	storeMistakes            // those of the store begin behind this one, in its order (store/mistake.go)
)
