package catalog

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"nyala/store/vfs"
)

// TestCheckFinds breaks one invariant after the other.
func TestCheckFinds(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(3)
	r.want(Done, CreateTable{events("flat", 2, 0)})
	r.want(Done, CreateTable{events("ranged", 2, 1)})
	r.want(Done, EnsureRange{Table: "ranged", Value: day(1)})
	r.want(Done, EnsureRange{Table: "ranged", Value: day(2)})
	r.want(Done, SetConnector{Name: "app", Table: "flat", Desired: Running})
	good, err := json.Marshal(r.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, c := range []struct {
		name   string
		damage func(*Snapshot)
	}{
		{"format", func(s *Snapshot) { s.Format = 2 }},
		{"order", func(s *Snapshot) { s.Nodes[0], s.Nodes[1] = s.Nodes[1], s.Nodes[0] }},
		{"nil", func(s *Snapshot) { s.Tablets[2] = nil }},
		{"table id", func(s *Snapshot) { s.NextTable = 2 }},
		{"table name", func(s *Snapshot) { s.Tables[1].Name = "flat" }},
		{"schema", func(s *Snapshot) { s.Tables[1].Schema.Key = nil }},
		{"tablet id", func(s *Snapshot) { s.NextTablet = 4 }},
		{"partition gone", func(s *Snapshot) { s.Tables[0].Partitions = nil }},
		{"bounds without range", func(s *Snapshot) { s.Tables[0].Partitions[0].High = 1 }},
		{"alignment", func(s *Snapshot) { s.Tables[1].Partitions[1].Low++ }},
		{"overlap", func(s *Snapshot) { s.Tables[1].Partitions[1] = s.Tables[1].Partitions[0] }},
		{"floor", func(s *Snapshot) { s.Tables[1].Floor = 2 * microsPerDay }},
		{"refused and there", func(s *Snapshot) { s.Tables[1].Refused = []int64{microsPerDay, 0} }},
		{"bucket", func(s *Snapshot) { s.Tables[1].Partitions[0].Tablets = []TabletID{4} }},
		{"tablet gone", func(s *Snapshot) { s.Tablets = s.Tablets[:6] }},
		{"replica twice", func(s *Snapshot) { s.Tablets[1].Replicas[1] = s.Tablets[1].Replicas[0] }},
		{"foreign node", func(s *Snapshot) { s.Nodes = s.Nodes[1:] }},
		{"leader", func(s *Snapshot) { s.Tablets[0].Leader = "n9" }},
		{"bootstrap", func(s *Snapshot) { s.Tablets[1].Bootstrap[0].Incarnation = "x" }},
		{"connector", func(s *Snapshot) { s.Connectors[0].Decisions = nil }},
		{"decision version", func(s *Snapshot) { s.Connectors[0].Decisions[0].Version = 0 }},
		{"beginnings", func(s *Snapshot) { s.Connectors[0].Decisions[0].From = []Position{{Partition: 2}, {Partition: 1}} }},
		{"change", func(s *Snapshot) { s.Connectors[0].Change = &Change{Version: 3, Schema: 1} }},
	} {
		s, err := parseState(good)
		if err != nil {
			t.Fatal(err)
		}
		c.damage(s)
		faults := s.Check()
		if len(faults) == 0 {
			t.Errorf("%s: not found", c.name)
		}
		fmt.Fprintf(&text, "%s:\n", c.name)
		for _, f := range faults {
			fmt.Fprintf(&text, "  %v\n", f)
		}
	}
	golden(t, "check", text.String())
}
