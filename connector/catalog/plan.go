package catalog

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"nyala/store/schema"
)

// systemPrefix begins the names of the tables that every cluster has; users' tables may not use it.
const systemPrefix = "nyala."

// SystemTables are the tables that every cluster has.
func SystemTables(replicas int) []TableSpec {
	return []TableSpec{
		{Name: schema.DeadLettersTable, Schema: schema.DeadLetters(), Replicas: replicas},
		{Name: schema.GapsTable, Schema: schema.Gaps(), Replicas: replicas},
		{Name: schema.ReplaysTable, Schema: schema.Replays(), Replicas: replicas},
	}
}

// ConnectorSpec is a connector as the configuration has it.
type ConnectorSpec struct {
	Name     string
	Table    string
	Settings string // all that take part in decisions on records, in one fixed form
}

// Wanted is what the configuration file asks for.
type Wanted struct {
	Tables     []TableSpec
	Connectors []ConnectorSpec
}

// Plan lists the commands that bring the state to what is wanted at a time: tables and connectors that
// are absent, ranges whose time comes, ranges whose time is over. Tables and connectors that are not wanted are
// left alone. What differs from its definition is an error that names the difference: changing it is
// another operation's work. Errors do not keep the other commands from being run, in their order. The leader
// of the system group plans again when the view changed, and from time to time: a plan for a new table only
// creates it. Settings of a connector that are not those in force become a ChangeSettings, and columns that were appended to a table
// a ChangeTable with the settings of its connectors; the caller runs these once all nodes have them.
func Plan(w Wanted, s *Snapshot, now Micros) ([]Command, []error) {
	var commands []Command
	var errs []error
	differ := map[string]bool{} // tables: settings may speak of columns that they do not have, or not yet
	for _, spec := range w.Tables {
		t, exists := s.Table(spec.Name)
		if exists && spec.RangesMax == 0 && spec.Schema != nil && spec.Schema.Range != nil {
			spec.RangesMax = t.RangesMax
		}
		spec = spec.WithDefaults()
		if err := spec.Validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		if !exists { // its ranges and connectors come with the next plan: there may be too few nodes yet
			commands = append(commands, CreateTable{spec})
			continue
		}
		differ[spec.Name] = t.Change != nil
		switch next, err := Grown(spec, t); {
		case err != nil:
			differ[spec.Name] = true
			errs = append(errs, err)
		case next != nil:
			differ[spec.Name] = true
			if c, ok := planColumns(w, s, t, next); ok {
				commands = append(commands, c)
			}
		}
		ranges, err := planRanges(t, now)
		commands = append(commands, ranges...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	for _, spec := range w.Connectors {
		c, exists := s.Connector(spec.Name)
		_, hasTable := s.Table(spec.Table)
		planned := slices.ContainsFunc(w.Tables, func(t TableSpec) bool { return t.Name == spec.Table })
		switch {
		case !exists && !hasTable && planned:
		case !exists && !hasTable:
			errs = append(errs, fmt.Errorf("catalog: connector %s: there is no table %s", spec.Name, spec.Table))
		case !exists && differ[spec.Table]:
		case !exists:
			commands = append(commands, SetConnector{Name: spec.Name, Table: spec.Table, Settings: spec.Settings, Desired: Running})
		case c.Table != spec.Table:
			errs = append(errs, fmt.Errorf("catalog: connector %s writes table %s, and the configuration says %s", c.Name, c.Table, spec.Table))
		case c.Change == nil && c.Decision().Settings != spec.Settings && !differ[spec.Table]:
			commands = append(commands, ChangeSettings{Connector: c.Name, Version: c.Decision().Version + 1, Settings: spec.Settings})
		}
	}
	return commands, errs
}

// planColumns changes a table and all its connectors in one step. It waits while one of them changes.
func planColumns(w Wanted, s *Snapshot, t *Table, next *schema.Schema) (ChangeTable, bool) {
	c := ChangeTable{Table: t.Name, Schema: next}
	if t.Change != nil {
		return c, false
	}
	for _, k := range s.writers(t.Name) {
		if k.Change != nil {
			return c, false
		}
		settings := k.Decision().Settings
		if i := slices.IndexFunc(w.Connectors, func(o ConnectorSpec) bool { return o.Name == k.Name && o.Table == t.Name }); i >= 0 {
			settings = w.Connectors[i].Settings
		}
		c.Connectors = append(c.Connectors, ChangeSettings{k.Name, k.Decision().Version + 1, settings})
	}
	return c, true
}

// planRanges is for tables that are partitioned by time; others get their ranges when records need them.
func planRanges(t *Table, now Micros) ([]Command, error) {
	value, timed := t.timeOf(now)
	if !timed {
		return nil, nil
	}
	var commands []Command
	r := t.Schema.Range
	if t.Retain > 0 && value > math.MinInt64+t.Retain {
		if below := r.RangeOf(value - t.Retain); below <= value && below > t.Floor {
			commands = append(commands, DropRanges{t.Name, below})
		}
	}
	if t.Ahead == 0 {
		return commands, nil
	}
	var errs []error
	for i := range t.Ahead + 1 { // the current one too
		low := r.RangeOf(value)
		_, exists := t.Partition(value)
		_, refused := slices.BinarySearch(t.Refused, low)
		switch {
		case refused:
			errs = append(errs, fmt.Errorf("catalog: table %s: the range from %d, %d ahead of now, was refused when the table had too many", t.Name, low, i))
		case !exists && low >= t.Floor: // a clock may go back
			commands = append(commands, EnsureRange{Table: t.Name, Value: value, Scheduled: true})
		}
		if value > math.MaxInt64-2*r.Every {
			break
		}
		value += r.Every
	}
	return commands, errors.Join(errs...)
}

// Replacements lists what to replace because a node came back with an empty data directory: each of
// its replicas of an earlier incarnation, once. It is carried out only while the group has a healthy majority.
func Replacements(s *Snapshot) []Command {
	var commands []Command
	for _, t := range s.Tablets {
		if slices.ContainsFunc(t.Replicas, func(r Replica) bool { return !r.Leaving && !r.Voter && s.current(r.Member) }) {
			continue // one at a time
		}
		if r, ok := s.lost(t); ok {
			n, _ := s.Node(r.Node)
			commands = append(commands, ReplaceReplica{Tablet: t.ID, Old: r.Member, New: n.Member()})
		}
	}
	return commands
}

// lost is a replica of t whose node has a new incarnation that is not among the replicas: one that was
// joining before any other, since a tablet takes no second one while it waits for that.
func (s *Snapshot) lost(t *Tablet) (found Replica, ok bool) {
	for _, r := range t.Replicas {
		n, known := s.Node(r.Node)
		if !known || r.Leaving || n.Incarnation == r.Incarnation || (ok && r.Voter) {
			continue
		}
		if _, joined := t.Replica(n.Member()); !joined {
			found, ok = r, true
		}
	}
	return found, ok
}

// current tells whether the member is the node as it is now.
func (s *Snapshot) current(m Member) bool {
	n, ok := s.Node(m.Node)
	return ok && n.Incarnation == m.Incarnation
}

// differences names the parts of a definition in which two differ, but for columns that were appended.
func differences(got, want TableSpec) []string {
	var d []string
	note := func(same bool, format string, args ...any) {
		if !same {
			d = append(d, fmt.Sprintf(format, args...))
		}
	}
	note(got.Replicas == want.Replicas, "replicas %d (it has %d)", got.Replicas, want.Replicas)
	note(got.History == want.History, "history %s (it has %s)", got.History, want.History)
	note(got.Ahead == want.Ahead, "ahead %d (it has %d)", got.Ahead, want.Ahead)
	note(got.Retain == want.Retain, "retain %s (it has %s)", intervalText(got.Schema, got.Retain), intervalText(want.Schema, want.Retain))
	note(got.RangesMax == want.RangesMax, "limit of ranges %d (it has %d)", got.RangesMax, want.RangesMax)
	g, w := got.Schema, want.Schema
	note(g.Buckets == w.Buckets, "buckets %d (it has %d)", g.Buckets, w.Buckets)
	note(slices.Equal(names(g, g.Key), names(w, w.Key)), "primary key %v (it has %v)", names(g, g.Key), names(w, w.Key))
	note(slices.Equal(names(g, g.Hash), names(w, w.Hash)), "hash columns %v (it has %v)", names(g, g.Hash), names(w, w.Hash))
	note(rangeText(g) == rangeText(w), "range %s (it has %s)", rangeText(g), rangeText(w))
	for i, c := range g.Columns {
		p := w.Position(c.Name)
		if p < 0 && i >= len(w.Columns) {
			continue
		}
		if p < 0 {
			note(false, "new column %s, which is not behind all others", c.Name)
			continue
		}
		note(p == i, "position %d of column %s (it has %d)", i+1, c.Name, p+1)
		note(columnText(c) == columnText(w.Columns[p]), "column %s (it has %s)", columnText(c), columnText(w.Columns[p]))
	}
	for _, c := range w.Columns {
		note(g.Position(c.Name) >= 0, "column %s is gone", c.Name)
	}
	return d
}

// appended are the columns that got has behind as many as want has, and want has not.
func appended(got, want TableSpec) []schema.Column {
	fresh := got.Schema.Columns[min(len(want.Schema.Columns), len(got.Schema.Columns)):]
	return slices.DeleteFunc(slices.Clone(fresh), func(c schema.Column) bool { return want.Schema.Position(c.Name) >= 0 })
}

func names(s *schema.Schema, positions []int) []string {
	list := make([]string, len(positions))
	for i, p := range positions {
		list[i] = s.Columns[p].Name
	}
	return list
}

func rangeText(s *schema.Schema) string {
	if s.Range == nil {
		return "none"
	}
	return fmt.Sprintf("%s every %s", s.Columns[s.Range.Column].Name, intervalText(s, s.Range.Every))
}

// intervalText prints a distance between values of the range column.
func intervalText(s *schema.Schema, n int64) string {
	if s.Range != nil && s.Columns[s.Range.Column].Type.Kind == schema.Timestamp {
		if n%microsPerDay == 0 {
			return fmt.Sprintf("%d days", n/microsPerDay)
		}
		return fmt.Sprintf("%g seconds", float64(n)/1e6)
	}
	if s.Range != nil && s.Columns[s.Range.Column].Type.Kind == schema.Date {
		return fmt.Sprintf("%d days", n)
	}
	return fmt.Sprint(n)
}

// columnText leaves the id out: a definition does not choose it.
func columnText(c schema.Column) string {
	text := c.Name + " " + c.Type.String()
	if c.Nullable {
		text += " nullable"
	}
	if c.Default != nil {
		text += " default " + string(schema.AppendText(nil, c.Type, *c.Default))
	}
	return text
}
