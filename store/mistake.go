package store

import (
	"math"
	"slices"

	"nyala/offsets"
	"nyala/store/batch"
)

// mistake breaks one rule of the engine. Tests set it to prove that the model test, or the simulation of whole clusters,
// would notice: each of these loses, doubles or revives a row, or lets replicas differ. The simulation knows them by number: new
// ones come last.
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
	anyOrder                 // flushes install in any order, and several are under way
	manifestUnsynced         // a manifest is not synced before it counts
	filesUnsynced            // files are not synced before a manifest names them
	horizonFree              // reads below the horizon are answered
	seenLess                 // the row just below the ledger is not dropped
	seenMore                 // the row at the ledger is dropped
	seenWhole                // an entry that begins below the ledger is dropped, not its rows
	ledgerSet                // the ledger is set, not raised
	ledgerLeft               // a tablet is copied without its ledger
	cutEarly                 // the log is cut before the manifest is durable
	schemaNow                // a manifest has the schema of when it is written
	schemaLost               // a manifest forgets the columns that were appended
	schemaStrict             // rows of an older schema are refused
	lettersSeen              // dead letters are dropped by the ledger, not by their key
	keysUnlisted             // a DiskRowSet counts as listed in the key directory, and its keys are not in it
	rangesNarrow             // the last key of a rowset is taken for one that is beyond its range
	partsShort               // the parts of a rowset's ranges know its first entry only
)

// floor is the offset below which the rows of a segment were seen, where the ledger is at next.
func (m mistake) floor(g offsets.Segment, next int64) int64 {
	switch {
	case m == seenTaken:
		return 0
	case m == seenLess:
		return next - 1
	case m == seenMore:
		return next + 1
	case m == seenWhole && g.First < next:
		return max(next, g.Next)
	}
	return next
}

// drops tells whether all of an entry is dropped: letters that the ledger is past.
func (m mistake) drops(p *batch.Parsed, l *offsets.Ledger) bool {
	return m == lettersSeen && p.Noted && !slices.ContainsFunc(p.Segments, func(g offsets.Segment) bool { return g.Next > l.Next(g.Source) })
}

// advance makes the ledger what it is after a segment.
func (m mistake) advance(l *offsets.Ledger, g offsets.Segment) {
	switch m {
	case holesTaken:
		g.Start = max(g.Start, g.First) // as if the sender had begun there
	case ledgerSet:
		old := l.Clone()
		*l = offsets.Ledger{}
		for _, f := range old.Fences() {
			l.Fence(f)
		}
		for s, next := range old.All() {
			if s != g.Source {
				l.Advance(offsets.Segment{Source: s, Decision: math.MaxUint32, Range: offsets.Range{Next: next}})
			}
		}
		g.Start = max(g.Start, g.First)
	}
	l.Advance(g)
}

// cutBefore lets the log go before the files and the manifest are there.
func (t *Tablet) cutBefore(f *frozenRowSet) {
	if t.broken != cutEarly {
		return
	}
	t.mu.Lock()
	t.mu.durable = f.manifest.durable
	t.mu.Unlock()
	if t.manager.options.Durable != nil {
		t.manager.options.Durable(t.spec.ID)
	}
}

// wait tells whether the next Freeze waits for the last one's Install. With one flush at a time there is one order only, so several
// are under way where that does not matter.
func (m mistake) wait(frozen []*frozenRowSet) bool {
	return len(frozen) > 0 && m != anyOrder || len(frozen) > 2
}

// inOrder lists frozen MemRowSets in the order in which they are to be installed.
func (m mistake) inOrder(frozen []*frozenRowSet) []*frozenRowSet {
	if m == anyOrder {
		frozen = slices.Clone(frozen)
		slices.Reverse(frozen)
	}
	return frozen
}
