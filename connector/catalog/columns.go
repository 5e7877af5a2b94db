package catalog

import (
	"fmt"
	"slices"
	"strings"

	"nyala/store/schema"
)

// TableChange is a version of a table's schema on its way: every tablet is being given its columns, and is being made to refuse what
// was decided under older ones. Reads do not show the columns, and nothing is decoded under them, before all tablets have them.
type TableChange struct {
	Schema *schema.Schema `json:"schema"`
	Since  Micros         `json:"since"`
}

// Newest is the schema on its way, else the one in force. Tablets are made with it, for no command of a change reaches a tablet that
// is made after it began.
func (t *Table) Newest() *schema.Schema {
	if t.Change != nil {
		return t.Change.Schema
	}
	return t.Schema
}

// SchemaAt is the schema as of one of its versions. The newest is no copy, so that all tablets of a table share it.
func (t *Table) SchemaAt(version uint32) *schema.Schema {
	s := t.Newest()
	if version < s.Version {
		return s.At(version)
	}
	return s
}

// writers are the connectors that write a table, by name.
func (s *Snapshot) writers(table string) (list []*Connector) {
	for _, c := range s.Connectors {
		if c.Table == table {
			list = append(list, c)
		}
	}
	return list
}

// Grown is the schema that a table gets by its definition: the newest one, and the columns that the definition has behind its.
// It is nil when there are none. The error says how else the two differ, or why a column cannot be appended.
func Grown(spec TableSpec, t *Table) (*schema.Schema, error) {
	is := t.TableSpec
	is.Schema = t.Newest()
	if d := differences(spec, is); len(d) > 0 {
		return nil, fmt.Errorf("catalog: table %s differs from its definition in the configuration: %s", t.Name, strings.Join(d, ", "))
	}
	fresh := appended(spec, is)
	if len(fresh) == 0 {
		return nil, nil
	}
	next := *is.Schema
	next.Version++
	next.Columns = slices.Clone(is.Schema.Columns)
	last := schema.ColumnID(0)
	for _, c := range next.Columns {
		last = max(last, c.ID)
	}
	for _, c := range fresh {
		last++
		c.ID, c.Since = last, next.Version
		next.Columns = append(next.Columns, c)
	}
	if strings.HasPrefix(t.Name, systemPrefix) {
		return nil, fmt.Errorf("catalog: table %s belongs to the system, and differs from its definition: new column %s", t.Name, fresh[0].Name)
	}
	if err := next.Follows(is.Schema); err != nil {
		return nil, fmt.Errorf("catalog: table %s differs from its definition in the configuration, and cannot be changed to it: %w", t.Name, err)
	}
	return &next, nil
}

func (cmd ChangeTable) apply(c *change) Result {
	t, ok := c.view().Table(cmd.Table)
	switch {
	case !ok:
		return refuse(TableNotFound, "there is no table %s", cmd.Table)
	case cmd.Schema == nil || strings.HasPrefix(t.Name, systemPrefix):
		return refuse(Malformed, "table %s: it belongs to the system, or the new schema is missing", t.Name)
	case t.Change != nil && t.Change.Schema.Equal(cmd.Schema) && cmd.begun(c.view().writers(t.Name)):
		return c.unchanged()
	case t.Change != nil:
		return refuse(Conflict, "table %s: its columns are being changed to schema version %d", t.Name, t.Change.Schema.Version)
	case cmd.Schema.Version != t.Schema.Version+1:
		return refuse(Stale, "table %s: got schema version %d, want %d", t.Name, cmd.Schema.Version, t.Schema.Version+1)
	}
	spec := t.TableSpec
	spec.Schema = cmd.Schema
	if err := spec.Validate(); err != nil {
		return refuse(Malformed, "%v", err)
	}
	if err := cmd.Schema.Follows(t.Schema); err != nil {
		return refuse(Malformed, "table %s: %v", t.Name, err)
	}
	writers := c.view().writers(t.Name)
	if len(writers) != len(cmd.Connectors) {
		return refuse(Stale, "table %s: got %d connectors, want the %d that write it", t.Name, len(cmd.Connectors), len(writers))
	}
	for i, k := range writers {
		switch got := cmd.Connectors[i]; {
		case got.Connector != k.Name || got.Version != k.Decision().Version+1:
			return refuse(Stale, "table %s: got connector %s with decision version %d, want %s with %d", t.Name, got.Connector, got.Version, k.Name, k.Decision().Version+1)
		case k.Change != nil:
			return refuse(Conflict, "connector %s: its settings are being changed to decision version %d", k.Name, k.Change.Version)
		case got.Settings == "":
			return refuse(Malformed, "connector %s: decision version %d has no settings", k.Name, got.Version)
		}
	}
	next := *t
	next.Change = &TableChange{cmd.Schema, c.now}
	s := c.edit()
	s.Tables = put(s.Tables, &next, tableID)
	for i, k := range writers {
		changed := *k
		changed.Change = &Change{cmd.Connectors[i].Version, cmd.Connectors[i].Settings, cmd.Schema.Version, c.now}
		s.Connectors = put(s.Connectors, &changed, connectorName)
	}
	return c.done()
}

// begun tells whether the connectors change to what the command says.
func (cmd ChangeTable) begun(writers []*Connector) bool {
	return slices.EqualFunc(cmd.Connectors, writers, func(want ChangeSettings, k *Connector) bool {
		return k.Change != nil && want == ChangeSettings{k.Name, k.Change.Version, k.Change.Settings}
	})
}

func (cmd SettleTable) apply(c *change) Result {
	t, ok := c.view().Table(cmd.Table)
	switch {
	case !ok:
		return refuse(TableNotFound, "there is no table %s", cmd.Table)
	case t.Change == nil && t.Schema.Version == cmd.Version:
		return c.unchanged()
	case t.Change == nil || t.Change.Schema.Version != cmd.Version:
		return refuse(Stale, "table %s: schema version %d is not what it changes to", t.Name, cmd.Version)
	}
	writers := c.view().writers(t.Name)
	same := slices.EqualFunc(cmd.Connectors, writers, func(got SettleSettings, k *Connector) bool {
		return got.Connector == k.Name && k.Change != nil && got.Version == k.Change.Version
	})
	if !same {
		return refuse(Stale, "table %s: the %d connectors are not what its %d change to", t.Name, len(cmd.Connectors), len(writers))
	}
	next := *t
	next.Schema, next.Change = t.Change.Schema, nil
	s := c.edit()
	s.Tables = put(s.Tables, &next, tableID)
	for i, k := range writers {
		s.Connectors = put(s.Connectors, c.settled(k, cmd.Connectors[i].From), connectorName)
	}
	return c.done()
}

// withoutTable is a connector whose table was dropped: one that is made under its name begins with the first columns again.
func (c *Connector) withoutTable() *Connector {
	next := *c
	next.Decisions = slices.Clone(c.Decisions)
	for i := range next.Decisions {
		next.Decisions[i].Schema = 1
	}
	if c.Change != nil {
		next.Change = &Change{c.Change.Version, c.Change.Settings, 1, c.Change.Since}
	}
	return &next
}

// checkChange is what must hold of a table whose columns change: all its connectors change with it, and no others.
func (s *Snapshot) checkChange(t *Table, fault func(string, ...any)) {
	if t.Change != nil && (t.Change.Schema == nil || t.Change.Schema.Follows(t.Schema) != nil) {
		fault("table %s: what it changes to does not follow schema version %d", t.Name, t.Schema.Version)
		return
	}
	for _, k := range s.writers(t.Name) {
		if len(k.Decisions) == 0 {
			continue
		}
		comes := k.Change != nil && k.Change.Schema != k.Decision().Schema
		if comes != (t.Change != nil) || comes && k.Change.Schema != t.Change.Schema.Version {
			fault("table %s: connector %s does not change with its columns", t.Name, k.Name)
		}
	}
}
