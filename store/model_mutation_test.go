package store

import "testing"

// TestModelFindsMistakes breaks one rule at a time: a test that cannot see that proves nothing.
func TestModelFindsMistakes(t *testing.T) {
	names := map[mistake]string{
		seenTaken: "seenTaken", holesTaken: "holesTaken", frozenUnseen: "frozenUnseen", lateForgotten: "lateForgotten",
		lateImage: "lateImage", vectorsNow: "vectorsNow", vectorsNew: "vectorsNew", ledgerNow: "ledgerNow", membersNow: "membersNow", timestampNow: "timestampNow",
		anyOrder: "anyOrder", manifestUnsynced: "manifestUnsynced", filesUnsynced: "filesUnsynced",
		schemaNow: "schemaNow", schemaLost: "schemaLost", schemaStrict: "schemaStrict", horizonFree: "horizonFree", keysUnlisted: "keysUnlisted", rangesNarrow: "rangesNarrow", partsShort: "partsShort",
	}
	for k := none + 1; k <= partsShort; k++ {
		if names[k] == "" {
			continue // the simulation of whole clusters must see it
		}
		t.Run(names[k], func(t *testing.T) {
			for seed := range uint64(200) {
				if err := runModel(t, seed, 150, k); err != nil {
					t.Logf("found by seed %d: %v", seed, err)
					return
				}
			}
			t.Error("not found")
		})
	}
}
