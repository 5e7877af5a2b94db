package catalog

import (
	"fmt"

	"nyala/offsets"
)

// change is a batch of commands being applied. It copies what it changes, so that views stay as they are.
type change struct {
	base        *Snapshot
	work        *Snapshot // a copy of base, made at the first change; nil until then
	checkpoints *offsets.Checkpoints
	index       uint64 // of the entry being applied
	now         Micros // of the entry: its proposer's clock, and never below an earlier one
	broken      mistake
}

// view is the state as of the command before.
func (c *change) view() *Snapshot {
	if c.work != nil {
		return c.work
	}
	return c.base
}

// edit is the state to change. A command calls it only when it can no longer be refused.
func (c *change) edit() *Snapshot {
	if c.work == nil {
		c.work = c.base.edit()
	}
	c.work.Generation = c.index
	return c.work
}

// run applies one entry.
func (c *change) run(index uint64, data []byte) Result {
	now, command, err := Parse(data)
	if err != nil {
		return refuse(Malformed, "%v", err)
	}
	c.index, c.now = index, max(c.now, now)
	if _, first := command.(InitCluster); !first && c.view().Cluster.ID == "" {
		return refuse(NotReady, "the cluster was not initialised yet")
	}
	return command.apply(c)
}

func (c *change) done() Result      { return Result{Generation: c.view().Generation} }
func (c *change) unchanged() Result { return Result{Code: Unchanged, Generation: c.view().Generation} }

func refuse(code Code, format string, args ...any) Result {
	return Result{Code: code, Reason: fmt.Sprintf(format, args...)}
}

func (cmd CreateCheckpoints) apply(c *change) Result {
	r := Result{Code: Unchanged, Values: make([]int64, len(cmd.Checkpoints))}
	for i, p := range cmd.Checkpoints {
		v, created := c.checkpoints.CreateIfAbsent(p.Source, p.Next)
		r.Values[i] = v
		if created {
			r.Code = Done
		}
	}
	return r
}

func (cmd RaiseCheckpoints) apply(c *change) Result {
	r := Result{Values: make([]int64, len(cmd.Checkpoints))}
	for i, p := range cmd.Checkpoints {
		r.Values[i] = c.broken.raise(c.checkpoints, p.Source, p.Next)
	}
	return r
}

func connectorName(c *Connector) string { return c.Name }

func (cmd SetConnector) apply(c *change) Result {
	if cmd.Name == "" || len(cmd.Name) > nameMax || (cmd.Desired != Running && cmd.Desired != Paused) {
		return refuse(Malformed, "connector %q, desired %q", cmd.Name, cmd.Desired)
	}
	next := &Connector{Name: cmd.Name, Table: cmd.Table}
	t, hasTable := c.view().Table(cmd.Table)
	if old, ok := c.view().Connector(cmd.Name); ok {
		*next = *old
		switch {
		case old.Decision().Settings != cmd.Settings || old.Table != cmd.Table:
			return refuse(SettingsChanged, "connector %s: its settings are not those of decision version %d", cmd.Name, old.Decision().Version)
		case old.Desired == cmd.Desired:
			return c.unchanged()
		}
	} else if hasTable && t.Change != nil {
		return refuse(Conflict, "connector %s: the columns of table %s are being changed to schema version %d", cmd.Name, t.Name, t.Change.Schema.Version)
	} else if hasTable {
		next.Decisions = []Decision{{Version: 1, Settings: cmd.Settings, Schema: t.Schema.Version, Since: c.now}}
	}
	next.Desired, next.Since = cmd.Desired, c.now
	if !hasTable {
		return refuse(TableNotFound, "connector %s: there is no table %s", cmd.Name, cmd.Table)
	}
	s := c.edit()
	s.Connectors = put(s.Connectors, next, connectorName)
	return c.done()
}
