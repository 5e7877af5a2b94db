package connector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/ingest"
	"nyala/offsets"
	"nyala/store"
	"nyala/store/schema"
)

// A change of the settings that decide about records, or of a table's columns (docs/exactly-once.md): the leader of the system group
// begins it when all nodes have the same new ones in their files, gives every tablet of the table the columns, makes every tablet that
// knows of decisions refuse the older ones, reads how far those came, and puts the new ones in force behind that. Each step is in a log,
// and doing one again does nothing, so the next leader goes on wherever this one stopped.

const (
	fencesAtOnce  = 16 // tablets that are asked at a time
	decisionsKept = 16 // versions; older ones are forgotten. `nyala verify` needs them for the records they decided
)

// Beginnings of the names of faults: a change does not come on.
const (
	settingsFault = "settings of "
	columnsFault  = "columns of "
)

// progress is how far this node, as leader, has come with a change. A fence holds for ever, and behind it a ledger stands still
// for its connectors, so what was read once need not be read again.
type progress struct {
	version uint32
	held    map[catalog.TabletID][]ledgerNext
}

// decisionsOf is what ingest asks before each chunk. It answers from the catalog and never from this node's file: nodes that
// are restarted one after the other have different files.
func (n *Node) decisionsOf(name string) func() (*ingest.Decisions, error) {
	type known struct {
		of        *catalog.Connector
		decisions *ingest.Decisions
	}
	var cache atomic.Pointer[known]
	return func() (*ingest.Decisions, error) {
		view := n.catalog.Snapshot()
		c, ok := view.Connector(name)
		if !ok {
			return nil, fmt.Errorf("connector: connector %s is not in the catalog", name)
		}
		if c.Change != nil {
			return nil, fmt.Errorf("connector: decision version %d is coming: %w", c.Change.Version, ingest.ErrChanging)
		}
		if k := cache.Load(); k != nil && k.of == c {
			return k.decisions, nil
		}
		t, ok := view.Table(c.Table)
		if !ok {
			return nil, fmt.Errorf("connector: connector %s writes table %s, which is not in the catalog", name, c.Table)
		}
		d, err := decisions(c, t)
		if err != nil {
			return nil, err
		}
		if n.options.broken == beginsForgotten {
			d.Each = []ingest.Decision{{Settings: d.Each[len(d.Each)-1].Settings, Schema: t.Schema}}
		}
		if n.options.broken == columnsUndecided {
			for i := range d.Each {
				d.Each[i].Schema = t.Schema
			}
		}
		cache.Store(&known{c, d})
		return d, nil
	}
}

// decisions turns what the catalog keeps into what ingest takes.
func decisions(c *catalog.Connector, t *catalog.Table) (*ingest.Decisions, error) {
	out := &ingest.Decisions{Version: c.Decision().Version}
	for _, d := range c.Decisions {
		s, err := parseSettings(d.Settings)
		if err != nil {
			return nil, fmt.Errorf("connector: settings of %s, decision version %d: %w", c.Name, d.Version, err)
		}
		from := map[offsets.Source]int64{}
		for _, p := range d.From {
			from[offsets.Source{Connector: c.Name, Topic: p.Topic, Partition: p.Partition}] = p.Next
		}
		out.Each = append(out.Each, ingest.Decision{Settings: s, Schema: t.SchemaAt(d.Schema), From: from})
	}
	return out, nil
}

// agreed tells whether all nodes that are up have these settings in their files, and a majority is up. While they are restarted
// one after the other, the old settings stay in force everywhere.
func (n *Node) agreed(ctx context.Context, change catalog.ChangeSettings) bool {
	up := 0
	for _, l := range n.locals(ctx) {
		if l.Node.State == api.StateDown {
			continue
		}
		if up++; l.Settings[change.Connector] != fingerprint(change.Settings) {
			return false
		}
	}
	return up > len(n.options.Config.Cluster.Nodes)/2
}

// transition is a change that is under way: of a connector's settings, or of a table's columns with all connectors that write it.
type transition struct {
	what       string // names it, and its fault
	version    uint32 // of the settings, or of the schema
	table      string
	schema     *schema.Schema // that the table's tablets are given; nil: it stays what it is
	connectors []*catalog.Connector
}

// transitions lists what is under way.
func transitions(view *catalog.Snapshot) (list []transition) {
	changing := map[string]bool{} // tables
	for _, t := range view.Tables {
		if t.Change == nil {
			continue
		}
		changing[t.Name] = true
		c := transition{columnsFault + t.Name, t.Change.Schema.Version, t.Name, t.Change.Schema, nil}
		for _, k := range view.Connectors {
			if k.Table == t.Name {
				c.connectors = append(c.connectors, k)
			}
		}
		list = append(list, c)
	}
	for _, c := range view.Connectors {
		if c.Change != nil && !changing[c.Table] {
			list = append(list, transition{settingsFault + c.Name, c.Change.Version, c.Table, nil, []*catalog.Connector{c}})
		}
	}
	return list
}

// tendSettings takes a step of every change that is under way. Only systemDuties calls it.
func (n *Node) tendSettings(ctx context.Context, view *catalog.Snapshot) {
	under := map[string]bool{}
	for _, c := range transitions(view) {
		under[c.what] = true
		n.carryOn(ctx, view, c)
	}
	for what := range n.changes {
		if !under[what] {
			delete(n.changes, what)
			n.clearFault(what)
		}
	}
	for _, c := range view.Connectors {
		if c.Change != nil {
			continue
		}
		kept := n.options.decisionsKept
		if kept == 0 {
			kept = decisionsKept
		}
		if over := len(c.Decisions) - kept; over > 0 {
			if below := min(c.Decisions[over].Version, c.Settled(n.catalog.Checkpoint)); below > c.Decisions[0].Version {
				n.run(ctx, catalog.ForgetSettings{Connector: c.Name, Below: below})
			}
		}
	}
}

// carryOn prepares the tablets and, when all are, puts the new version in force. What is not done in time is done in a later round.
func (n *Node) carryOn(ctx context.Context, view *catalog.Snapshot, c transition) {
	p := n.changes[c.what]
	if p == nil || p.version != c.version {
		p = &progress{c.version, map[catalog.TabletID][]ledgerNext{}}
		n.changes[c.what] = p
		n.reached(ChangeBegun)
	}
	ctx, cancel := context.WithTimeout(ctx, n.logLimit())
	defer cancel()
	ids := view.Decides(c.table)
	held := make([][]ledgerNext, len(ids))
	errs := make([]error, len(ids))
	var g errgroup.Group
	g.SetLimit(fencesAtOnce)
	for i, id := range ids {
		if _, done := p.held[id]; done {
			continue
		}
		g.Go(func() error {
			held[i], errs[i] = n.prepare(ctx, view, id, c)
			return nil
		})
	}
	_ = g.Wait()
	var all []ledgerNext
	for i, id := range ids {
		if _, done := p.held[id]; !done && errs[i] == nil {
			p.held[id] = held[i]
		}
		all = append(all, p.held[id]...)
	}
	if err := errors.Join(errs...); err != nil {
		n.fault(c.what, fmt.Errorf("connector: %d of %d tablets are ready for the new %s so far: %w", len(ids)-failures(errs), len(ids), c.what, err))
		return
	}
	n.clearFault(c.what)
	n.reached(TabletsFenced)
	n.run(ctx, c.settle(all))
	n.reached(ChangeSettled)
}

// settle is the command that puts a change in force, for which all tablets are ready that hold what is given.
func (c transition) settle(held []ledgerNext) catalog.Command {
	var each []catalog.SettleSettings
	for _, k := range c.connectors {
		each = append(each, catalog.SettleSettings{Connector: k.Name, Version: k.Change.Version, From: highest(k.Name, held)})
	}
	if c.schema != nil {
		return catalog.SettleTable{Table: c.table, Version: c.version, Connectors: each}
	}
	return each[0]
}

func failures(errs []error) (count int) {
	for _, err := range errs {
		if err != nil {
			count++
		}
	}
	return count
}

// prepare gives a tablet the new columns, makes it refuse older decisions, and then reads how far they came there. The order matters:
// what is read before may be overtaken by an entry that is on its way.
func (n *Node) prepare(ctx context.Context, view *catalog.Snapshot, id catalog.TabletID, c transition) ([]ledgerNext, error) {
	t, ok := view.Tablet(id)
	if !ok {
		return nil, fmt.Errorf("connector: tablet %d is not in the catalog", id)
	}
	if of, _ := view.TableByID(t.Table); c.schema != nil && of.Name == c.table && n.options.broken != columnsLeftOut {
		if _, err := n.command(ctx, id, store.SchemaEntry(c.schema)); err != nil {
			return nil, err
		}
		n.reached(ColumnsAppended)
	}
	if len(c.connectors) == 0 {
		return nil, nil
	}
	if n.options.broken == readBeforeFence {
		read, err := n.ledgerOf(ctx, id, 0)
		if err != nil {
			return nil, err
		}
		_, err = n.fence(ctx, id, c)
		return read, err
	}
	at, err := n.fence(ctx, id, c)
	if err != nil {
		return nil, err
	}
	return n.ledgerOf(ctx, id, at)
}

// fence makes a tablet refuse the older decisions of all connectors of a change. It returns the timestamp of the last fence.
func (n *Node) fence(ctx context.Context, id catalog.TabletID, c transition) (at int64, err error) {
	for _, k := range c.connectors {
		if n.options.broken == fenceLeftOut {
			break
		}
		if at, err = n.command(ctx, id, store.FenceEntry(offsets.Fence{Connector: k.Name, Decision: k.Change.Version})); err != nil {
			return 0, err
		}
	}
	return at, nil
}

// command has a tablet carry a command out, and returns its timestamp there.
func (n *Node) command(ctx context.Context, id catalog.TabletID, entry []byte) (int64, error) {
	out, err := n.write(ctx, id, entry)
	if err != nil {
		return 0, err
	}
	r, err := store.ParseResult(out)
	if err == nil {
		err = r.Err()
	}
	return r.Timestamp, err
}

// highest keeps the highest position of each source of a connector.
func highest(connector string, held []ledgerNext) []catalog.Position {
	top := map[offsets.Source]int64{}
	for _, l := range held {
		if l.source.Connector == connector {
			top[l.source] = max(top[l.source], l.next)
		}
	}
	out := []catalog.Position{}
	for s, next := range top {
		out = append(out, catalog.Position{Topic: s.Topic, Partition: s.Partition, Next: next})
	}
	return out
}

// settingsStatus says, in a sentence, what is going on with a connector's settings; "" when all nodes have those in force.
func (n *Node) settingsStatus(c *catalog.Connector, locals map[string]api.Local) string {
	if c.Change != nil {
		return fmt.Sprintf("its settings change to decision version %d: tablets are being made to refuse what was decided under the older ones", c.Change.Version)
	}
	force, before := fingerprint(c.Decision().Settings), ""
	if r := c.Decision().Replaced; r != "" {
		before = fingerprint(r)
	}
	return n.filesStatus("settings", locals, func(l *api.Local) string { return l.Settings[c.Name] }, func(print string) fileAge {
		switch print {
		case force:
			return presentFile
		case before:
			return oldFile
		}
		return newFile
	})
}

// fileAge is how a node's file compares to what is in force.
type fileAge int

const (
	oldFile     fileAge = iota // has what was in force before
	presentFile                // has what is in force
	newFile                    // has something else
)

// filesStatus compares the files of all nodes in one thing, of which each has a fingerprint, or none.
func (n *Node) filesStatus(what string, locals map[string]api.Local, printOf func(*api.Local) string, ageOf func(print string) fileAge) string {
	var old, present, fresh []string // nodes, by what their files have
	prints := map[string]bool{}
	for _, node := range n.options.Config.Cluster.Nodes {
		l := locals[node.ID]
		print := printOf(&l)
		if l.Node.State == api.StateDown || print == "" {
			continue
		}
		switch ageOf(print) {
		case presentFile:
			present = append(present, node.ID)
		case oldFile:
			old = append(old, node.ID)
		default:
			fresh = append(fresh, node.ID)
			prints[print] = true
		}
	}
	behind := slices.Sorted(slices.Values(append(old, present...)))
	switch {
	case len(prints) > 1:
		return fmt.Sprintf("its %s differ on %s: give all nodes the same configuration", what, strings.Join(fresh, ", "))
	case len(fresh) > 0 && len(behind) > 0:
		return fmt.Sprintf("its %s change: waiting for %s to be restarted with the new configuration that %s has", what, strings.Join(behind, ", "), strings.Join(fresh, ", "))
	case len(fresh) > 0:
		return "its " + what + " are about to change"
	case len(old) > 0 && len(present) > 0:
		return fmt.Sprintf("its %s have changed: %s to be restarted with the configuration that %s has", what, strings.Join(old, ", "), strings.Join(present, ", "))
	case len(old) > 0:
		return "its " + what + " are about to change back"
	}
	return ""
}
