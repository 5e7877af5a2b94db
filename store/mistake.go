package store

// mistake breaks one rule of the engine. Tests set it to prove that the model test would notice: each of these
// loses, doubles or revives a row, or lets replicas differ.
type mistake int

const (
	none             mistake = iota
	seenTaken                // rows below the ledger are not dropped
	holesTaken               // a segment that leaves a hole is not refused
	frozenUnseen             // lookups skip frozen MemRowSets
	lateForgotten            // a death between Freeze and Install is lost at Install
	lateImage                // a file leaves out rows by the deaths known when it is written
	vectorsNow               // a manifest has deaths from above its durable index
	vectorsNew               // a manifest has the deaths of the new file only, the others as they were
	ledgerNow                // a manifest has the ledger of when it is written
	membersNow               // a manifest has the membership of when it is written
	timestampNow             // a manifest has the last timestamp of when it is written
	anyOrder                 // flushes install in any order
	manifestUnsynced         // a manifest is not synced before it counts
	filesUnsynced            // files are not synced before a manifest names them
	horizonFree              // reads below the horizon are answered
)
