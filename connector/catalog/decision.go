package catalog

import (
	"cmp"
	"slices"

	"nyala/offsets"
	"nyala/store/schema"
)

// Decision is one version of a connector's settings: of those that decide which row a record is, and whether it is one.
type Decision struct {
	Version  uint32 `json:"version"`  // entries carry it, tablets refuse those of an older one
	Settings string `json:"settings"` // all that decide, in one fixed form: equal text means equal decisions
	Schema   uint32 `json:"schema"`   // version of the table's schema that records are decoded under
	Since    Micros `json:"since"`
	// From is where it begins in each source, by source; below, an older one decides. Sources that are not listed it decides alone.
	From []Position `json:"from,omitempty"`
	// Replaced are the settings before, after they were forgotten, too: a node that still has them in its file is told apart
	// from one that has newer ones.
	Replaced string `json:"replaced,omitempty"`
}

// Position is an offset of a connector's source.
type Position struct {
	Topic     offsets.TopicID `json:"topic"`
	Partition int32           `json:"partition"`
	Next      int64           `json:"next"`
}

func (p Position) source(connector string) offsets.Source {
	return offsets.Source{Connector: connector, Topic: p.Topic, Partition: p.Partition}
}

// Change is a version of the settings on its way: every tablet is being made to refuse what was decided under older ones.
// Nothing is decided under it before it is known where it begins.
type Change struct {
	Version  uint32 `json:"version"`
	Settings string `json:"settings"`
	Schema   uint32 `json:"schema"`
	Since    Micros `json:"since"`
}

// Decision is the version in force.
func (c *Connector) Decision() Decision { return c.Decisions[len(c.Decisions)-1] }

// fence is what tablets must refuse of the connector: all that was decided before the newest version, in force or not.
func (c *Connector) fence() offsets.Fence {
	f := offsets.Fence{Connector: c.Name, Decision: c.Decision().Version}
	if c.Change != nil {
		f.Decision = c.Change.Version
	}
	return f
}

// fences are those that a tablet of the table is made with. No command of a change reaches a tablet that is made after it
// began, so the tablet has them from its birth.
func (s *Snapshot) fences(table string) []offsets.Fence {
	var list []offsets.Fence
	for _, c := range s.Connectors {
		if f := c.fence(); f.Decision > 1 && (c.Table == table || table == schema.DeadLettersTable) {
			list = append(list, f)
		}
	}
	return list
}

// Decides lists the tablets that know what was decided on records for a table: the table's own and those of the dead letters.
func (s *Snapshot) Decides(table string) []TabletID {
	var list []TabletID
	for _, t := range s.Tables {
		if t.Name != table && t.Name != schema.DeadLettersTable {
			continue
		}
		for _, p := range t.Partitions {
			list = append(list, p.Tablets...)
		}
	}
	return list
}

// Settled is the oldest version that may still decide on a record: older ones only decide below checkpoints.
func (c *Connector) Settled(checkpoint func(offsets.Source) (int64, bool)) uint32 {
	for i := len(c.Decisions) - 1; i > 0; i-- {
		past := true
		for _, p := range c.Decisions[i].From {
			next, ok := checkpoint(p.source(c.Name))
			past = past && ok && next >= p.Next
		}
		if past {
			return c.Decisions[i].Version
		}
	}
	return c.Decisions[0].Version
}

func (cmd ChangeSettings) apply(c *change) Result {
	old, ok := c.view().Connector(cmd.Connector)
	switch {
	case !ok:
		return refuse(ConnectorNotFound, "there is no connector %s", cmd.Connector)
	case old.Change != nil && *old.Change == Change{cmd.Version, cmd.Settings, old.Decision().Schema, old.Change.Since}:
		return c.unchanged()
	case old.Change != nil:
		return refuse(Conflict, "connector %s: its settings are being changed to decision version %d", old.Name, old.Change.Version)
	case cmd.Version != old.Decision().Version+1:
		return refuse(Stale, "connector %s: got decision version %d, want %d", old.Name, cmd.Version, old.Decision().Version+1)
	case cmd.Settings == "" || cmd.Settings == old.Decision().Settings:
		return refuse(Malformed, "connector %s: the settings of decision version %d are no others", old.Name, cmd.Version)
	}
	next := *old
	next.Change = &Change{cmd.Version, cmd.Settings, old.Decision().Schema, c.now}
	s := c.edit()
	s.Connectors = put(s.Connectors, &next, connectorName)
	return c.done()
}

func (cmd SettleSettings) apply(c *change) Result {
	old, ok := c.view().Connector(cmd.Connector)
	switch {
	case !ok:
		return refuse(ConnectorNotFound, "there is no connector %s", cmd.Connector)
	case old.Change == nil && old.Decision().Version == cmd.Version:
		return c.unchanged()
	case old.Change == nil || old.Change.Version != cmd.Version:
		return refuse(Stale, "connector %s: decision version %d is not what it changes to", old.Name, cmd.Version)
	case old.Change.Schema != old.Decision().Schema:
		return refuse(Conflict, "connector %s: decision version %d comes into force with the columns of table %s", old.Name, cmd.Version, old.Table)
	}
	next := c.settled(old, cmd.From)
	s := c.edit()
	s.Connectors = put(s.Connectors, next, connectorName)
	return c.done()
}

// settled is a connector whose change comes into force behind what tablets hold.
func (c *change) settled(old *Connector, held []Position) *Connector {
	next := *old
	next.Decisions = append(slices.Clone(old.Decisions), Decision{
		Version: old.Change.Version, Settings: old.Change.Settings, Schema: old.Change.Schema, Since: c.now,
		From: c.beginnings(old, held), Replaced: old.Decision().Settings,
	})
	next.Change = nil
	return &next
}

// beginnings is where the next version of c's settings begins: behind everything that tablets hold, and never below a
// checkpoint or an older version's beginning.
func (c *change) beginnings(old *Connector, held []Position) []Position {
	from := map[offsets.Source]int64{}
	raise := func(s offsets.Source, next int64) {
		if s.Connector == old.Name && next > from[s] {
			from[s] = next
		}
	}
	for _, p := range held {
		raise(p.source(old.Name), p.Next)
	}
	for _, p := range old.Decision().From {
		raise(p.source(old.Name), p.Next)
	}
	for s, next := range c.checkpoints.All() {
		raise(s, next)
	}
	list := make([]Position, 0, len(from))
	for s, next := range from {
		list = append(list, Position{s.Topic, s.Partition, next})
	}
	slices.SortFunc(list, func(a, b Position) int { return a.source("").Compare(b.source("")) })
	return list
}

func (cmd ForgetSettings) apply(c *change) Result {
	old, ok := c.view().Connector(cmd.Connector)
	if !ok {
		return refuse(ConnectorNotFound, "there is no connector %s", cmd.Connector)
	}
	if settled := old.Settled(c.checkpoints.Get); cmd.Below > settled {
		return refuse(Conflict, "connector %s: records are left that decision version %d decides", old.Name, settled)
	}
	i, _ := slices.BinarySearchFunc(old.Decisions, cmd.Below, func(d Decision, v uint32) int { return cmp.Compare(d.Version, v) })
	if i == 0 {
		return c.unchanged()
	}
	next := *old
	next.Decisions = slices.Clone(old.Decisions[i:])
	s := c.edit()
	s.Connectors = put(s.Connectors, &next, connectorName)
	return c.done()
}

// checkConnector is what must hold of a connector.
func (c *Connector) check(fault func(string, ...any)) {
	if len(c.Decisions) == 0 || c.Desired != Running && c.Desired != Paused {
		fault("connector %s: %d decision versions, desired %q", c.Name, len(c.Decisions), c.Desired)
		return
	}
	for i, d := range c.Decisions {
		if d.Version == 0 || i > 0 && d.Version <= c.Decisions[i-1].Version {
			fault("connector %s: decision version %d is 0, or not above the one before", c.Name, d.Version)
		}
		if i > 0 && d.Schema < c.Decisions[i-1].Schema {
			fault("connector %s: decision version %d is under schema version %d, the one before under %d", c.Name, d.Version, d.Schema, c.Decisions[i-1].Schema)
		}
		if !slices.IsSortedFunc(d.From, func(a, b Position) int { return a.source("").Compare(b.source("")) }) {
			fault("connector %s: the beginnings of decision version %d are not sorted", c.Name, d.Version)
		}
	}
	if c.Change != nil && c.Change.Version != c.Decision().Version+1 {
		fault("connector %s: changes from decision version %d to %d", c.Name, c.Decision().Version, c.Change.Version)
	}
}
