package connector

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nyala/configs"
	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/offsets"
)

// oddKeys is where the keys of odd records begin: records with fields that no column takes at first, which are rows or dead letters, as
// the settings at their offset want it. For two of the fields columns may come (appendedColumns), so that half of them have no
// unknown field any more.
const oddKeys = 1 << 31

func (t *topic) oddKey(n int64) int64 { return t.space + oddKeys + n }
func (t *topic) isOdd(key int64) bool { return key&oddKeys != 0 }

// oddFields begins the value of an odd record.
func (t *topic) oddFields(key int64) []byte {
	if alwaysUnknown(key) {
		return fmt.Appendf(nil, `{"more":%d,"else":1,"most":%d,`, key, -key)
	}
	return fmt.Appendf(nil, `{"more":%d,"most":%d,`, key, -key)
}

func alwaysUnknown(key int64) bool { return key%2 == 0 }

// refusing is a configuration with on_unknown_field: dead_letter, or ignore, for all connectors.
func refusing(c *configs.Config, on bool) *configs.Config {
	out := *c
	out.Connectors = slices.Clone(c.Connectors)
	for i := range out.Connectors {
		out.Connectors[i].OnUnknownField = configs.UnknownFieldIgnore
		if on {
			out.Connectors[i].OnUnknownField = configs.UnknownFieldDeadLetter
		}
	}
	return &out
}

// changeSettings gives all nodes another file, with other settings, more columns or both, and restarts them one after the other, but not always all of them. Records come in
// all the while, and often the network is slow: what was decided under the old settings is on its way when the new ones come.
func (s *simulation) changeSettings(string) {
	if s.rng.IntN(2) == 0 {
		s.note("slow network")
		s.net.SetLatency(0, 400*time.Millisecond)
	}
	kind := s.rng.IntN(4)
	if s.wide == len(appendedColumns) || kind < 2 {
		s.refuses = !s.refuses
	}
	if kind > 0 {
		s.wide = min(s.wide+1+s.rng.IntN(2), len(appendedColumns))
	}
	s.newest = widened(refusing(s.config, s.refuses), s.wide)
	s.note("the settings change: odd records are dead letters: %v; columns come: %d", s.refuses, s.wide)
	ids := s.ids()
	s.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	for _, id := range ids {
		if s.rng.IntN(6) == 0 {
			continue
		}
		s.produceSome()
		s.renew(id, s.rng.IntN(3) > 0)
		s.pause(time.Second)
	}
	for range 8 { // the leader takes a while to see that all have it
		s.produceSome()
		s.pause(600 * time.Millisecond)
	}
}

// renew restarts a node, which reads its file then.
func (s *simulation) renew(id string, orderly bool) {
	if orderly {
		s.stopGracefully(id)
	} else {
		s.crash(id)
	}
	if s.nodes[id] == nil {
		s.boot(id)
	}
}

// finishSettings restarts the nodes that still have an older file.
func (s *simulation) finishSettings() {
	for _, id := range s.ids() {
		if s.newest != nil && s.given[id] != s.newest {
			s.renew(id, true)
		}
	}
}

// compareOdd wants each odd record to be what the decision on its offset made of it, and nothing else; and the newest settings
// to be in force.
func (s *simulation) compareOdd(id string, st *stream, rows map[int64]row, letters map[place]bool, claims map[letter]bool, lost []lostRange) error {
	view, err := s.newestView(id) // settings that changed twice look like those of before
	if err != nil {
		return err
	}
	c, ok := view.Connector(st.connector)
	if !ok || c.Change != nil {
		return fmt.Errorf("%s: its settings change on %s", st.connector, id)
	}
	specs, err := connectorSpecs(cmp.Or(s.newest, s.config))
	if err != nil {
		return err
	}
	for _, spec := range specs {
		if spec.Name == c.Name && spec.Settings != c.Decision().Settings {
			return fmt.Errorf("%s: %s is in force on %s, want %s", c.Name, c.Decision().Settings, id, spec.Settings)
		}
	}
	t, ok := s.nodes[id].catalog.Snapshot().Table(st.table)
	if !ok || t.Change != nil || len(t.Schema.Columns) != len(rowColumns)+1+s.wide {
		return fmt.Errorf("%s: want %d columns to have come on %s", st.table, s.wide, id)
	}
	found := map[place]uint64{}
	for key, r := range rows {
		if st.owns(key) && st.isOdd(key) && !st.releases {
			if _, twice := found[r.place]; twice || st.odd[r.place].hash != r.hash {
				return &wrongRows{fmt.Sprintf("%s: the row %d of %v is there twice, or of no record", st.table, key, r.place)}
			}
			found[r.place] = r.hash
		}
	}
	begun, _ := s.begun(st)
	for at := range st.odd {
		_, isRow := found[at]
		gone := at.offset < begun[at.partition] || slices.ContainsFunc(lost, func(g lostRange) bool { return g.covers(at) })
		d := decisionAt(c, s.source(st, at.partition), at.offset)
		wanted := takes(t, d, st.odd[at].key)
		switch {
		case letters[at] && !wanted:
			if err := s.checkClaim(c, t, d, letter{st.flow(), at}, st.odd[at].key, isRow, claims); err != nil {
				return err
			}
		case isRow && letters[at]:
			return &wrongRows{fmt.Sprintf("%s: the record at %v is a row and a dead letter; %+v", c.Name, at, c.Decisions)}
		case !isRow && !letters[at] && !gone:
			return fmt.Errorf("%s: the record at %v is neither a row nor a dead letter", c.Name, at)
		case isRow != wanted && (isRow || letters[at]):
			return &wrongRows{fmt.Sprintf("%s: the record at %v is a row: %v, its settings want one: %v; %+v", c.Name, at, isRow, wanted, c.Decisions)}
		}
	}
	return nil
}

// decisionAt is the one that holds at an offset.
func decisionAt(c *catalog.Connector, source offsets.Source, offset int64) catalog.Decision {
	for i := len(c.Decisions) - 1; i > 0; i-- {
		j := slices.IndexFunc(c.Decisions[i].From, func(p catalog.Position) bool { return p.Topic == source.Topic && p.Partition == source.Partition })
		if j < 0 || c.Decisions[i].From[j].Next <= offset {
			return c.Decisions[i]
		}
	}
	return c.Decisions[0]
}

// TestSettingsChange restarts nodes one after the other with other settings: nothing changes before the last one has them, and
// status says for whom it waits; then the new ones hold behind all that was decided, on all nodes, also on one that comes
// back with the old file.
func TestSettingsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t, 1, broken{})
		defer s.end()
		s.startAll()
		s.produceSome()
		s.awaitTruth()
		version := func() uint32 {
			c, _ := s.nodes["n1"].catalog.Snapshot().Connector("events")
			return c.Decision().Version
		}
		warning := func(words string) {
			t.Helper()
			var st api.Status
			for range 100 {
				if st = s.nodes["n2"].status(context.Background()); slices.ContainsFunc(st.Warnings, func(w string) bool { return strings.Contains(w, words) }) {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
			t.Errorf("warnings %q, want %q", st.Warnings, words)
		}
		first := refusing(s.config, false)
		s.newest = refusing(s.config, true)
		for i, id := range s.ids() {
			if i > 0 {
				warning("waiting for " + strings.Join(s.ids()[i:], ", ") + " to be restarted")
				if got := version(); got != 1 {
					t.Fatalf("decision version %d before %s was restarted", got, id)
				}
			}
			s.renew(id, i%2 == 0)
			s.produceSome()
		}
		s.awaitTruth()
		if got := version(); got != 2 {
			t.Errorf("decision version %d, want 2", got)
		}
		s.newest, first = first, s.newest
		s.renew("n3", true)
		s.newest = first
		s.produceSome()
		s.awaitTruth()
		warning("n3 to be restarted with the configuration that n1, n2")
		if got := version(); got != 2 {
			t.Errorf("decision version %d, want 2", got)
		}
		s.compareReplicas()
		s.renewClients()
		s.stopAll()
	})
}
