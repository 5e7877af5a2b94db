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
)

// A change of the settings that decide about records (docs/exactly-once.md): the leader of the system group begins it when all
// nodes have the same new ones in their files, makes every tablet that knows of decisions refuse the older ones, reads how
// far those came, and puts the new ones in force behind that. Each step is in a log, and doing one again does nothing, so the
// next leader goes on wherever this one stopped.

const (
	fencesAtOnce  = 16 // tablets that are asked at a time
	decisionsKept = 16 // versions; older ones are forgotten. `nyala verify` needs them for the records they decided
)

// settingsFault begins the name of the fault that a change does not come on.
const settingsFault = "settings of "

// progress is how far this node, as leader, has come with a change. A fence holds for ever, and behind it a ledger stands still
// for the connector, so what was read once need not be read again.
type progress struct {
	version uint32
	held    map[catalog.TabletID][]catalog.Position
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
		c, ok := n.catalog.Snapshot().Connector(name)
		if !ok {
			return nil, fmt.Errorf("connector: connector %s is not in the catalog", name)
		}
		if c.Change != nil {
			return nil, fmt.Errorf("connector: decision version %d is coming: %w", c.Change.Version, ingest.ErrChanging)
		}
		if k := cache.Load(); k != nil && k.of == c {
			return k.decisions, nil
		}
		d, err := decisions(c)
		if err != nil {
			return nil, err
		}
		if n.options.broken == beginsForgotten {
			d.Each = []ingest.Decision{{Settings: d.Each[len(d.Each)-1].Settings}}
		}
		cache.Store(&known{c, d})
		return d, nil
	}
}

// decisions turns what the catalog keeps into what ingest takes.
func decisions(c *catalog.Connector) (*ingest.Decisions, error) {
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
		out.Each = append(out.Each, ingest.Decision{Settings: s, From: from})
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

// tendSettings takes a step of every change that is under way. Only systemDuties calls it.
func (n *Node) tendSettings(ctx context.Context, view *catalog.Snapshot) {
	for _, c := range view.Connectors {
		if c.Change != nil {
			n.changeSettings(ctx, view, c)
			continue
		}
		delete(n.changes, c.Name)
		n.clearFault(settingsFault + c.Name)
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

// changeSettings fences the tablets and, when all are, puts the new version in force. What is not done in time is done in a later round.
func (n *Node) changeSettings(ctx context.Context, view *catalog.Snapshot, c *catalog.Connector) {
	p := n.changes[c.Name]
	if p == nil || p.version != c.Change.Version {
		p = &progress{c.Change.Version, map[catalog.TabletID][]catalog.Position{}}
		n.changes[c.Name] = p
	}
	ctx, cancel := context.WithTimeout(ctx, n.logLimit())
	defer cancel()
	ids := view.Decides(c)
	held := make([][]catalog.Position, len(ids))
	errs := make([]error, len(ids))
	var g errgroup.Group
	g.SetLimit(fencesAtOnce)
	for i, id := range ids {
		if _, done := p.held[id]; done {
			continue
		}
		g.Go(func() error {
			held[i], errs[i] = n.fence(ctx, id, offsets.Fence{Connector: c.Name, Decision: c.Change.Version})
			return nil
		})
	}
	_ = g.Wait()
	what := settingsFault + c.Name
	var from []catalog.Position
	for i, id := range ids {
		if _, done := p.held[id]; !done && errs[i] == nil {
			p.held[id] = held[i]
		}
		from = append(from, p.held[id]...)
	}
	if err := errors.Join(errs...); err != nil {
		n.fault(what, fmt.Errorf("connector: %d of %d tablets refuse the older settings of %s so far: %w", len(ids)-failures(errs), len(ids), c.Name, err))
		return
	}
	n.clearFault(what)
	n.run(ctx, catalog.SettleSettings{Connector: c.Name, Version: c.Change.Version, From: highest(from)})
}

func failures(errs []error) (count int) {
	for _, err := range errs {
		if err != nil {
			count++
		}
	}
	return count
}

// fence makes a tablet refuse older decisions of a connector, and then reads how far they came there. The order matters: what
// is read before may be overtaken by an entry that is on its way.
func (n *Node) fence(ctx context.Context, id catalog.TabletID, f offsets.Fence) ([]catalog.Position, error) {
	if n.options.broken == readBeforeFence {
		read, err := n.held(ctx, id, f.Connector, 0)
		if err != nil {
			return nil, err
		}
		_, err = n.proposeFence(ctx, id, f)
		return read, err
	}
	at := int64(0)
	if n.options.broken != fenceLeftOut {
		var err error
		if at, err = n.proposeFence(ctx, id, f); err != nil {
			return nil, err
		}
	}
	return n.held(ctx, id, f.Connector, at)
}

// proposeFence returns the timestamp of the fence in the tablet.
func (n *Node) proposeFence(ctx context.Context, id catalog.TabletID, f offsets.Fence) (int64, error) {
	out, err := n.write(ctx, id, store.FenceEntry(f))
	if err != nil {
		return 0, err
	}
	r, err := store.ParseResult(out)
	if err == nil {
		err = r.Err()
	}
	return r.Timestamp, err
}

// held is how far a tablet has a connector's sources.
func (n *Node) held(ctx context.Context, id catalog.TabletID, connector string, at int64) ([]catalog.Position, error) {
	ledger, err := n.ledgerOf(ctx, id, at)
	if err != nil {
		return nil, err
	}
	var out []catalog.Position
	for _, l := range ledger {
		if l.source.Connector == connector {
			out = append(out, catalog.Position{Topic: l.source.Topic, Partition: l.source.Partition, Next: l.next})
		}
	}
	return out, nil
}

// highest keeps the highest position of each source.
func highest(all []catalog.Position) []catalog.Position {
	top := map[catalog.Position]int64{}
	for _, p := range all {
		key := catalog.Position{Topic: p.Topic, Partition: p.Partition}
		top[key] = max(top[key], p.Next)
	}
	out := []catalog.Position{}
	for p, next := range top {
		p.Next = next
		out = append(out, p)
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
	var old, present, fresh []string // nodes, by what their files have
	prints := map[string]bool{}
	for _, node := range n.options.Config.Cluster.Nodes {
		l := locals[node.ID]
		print, ok := l.Settings[c.Name]
		switch {
		case l.Node.State == api.StateDown || !ok:
		case print == force:
			present = append(present, node.ID)
		case print == before:
			old = append(old, node.ID)
		default:
			fresh = append(fresh, node.ID)
			prints[print] = true
		}
	}
	behind := slices.Sorted(slices.Values(append(old, present...)))
	switch {
	case len(prints) > 1:
		return fmt.Sprintf("its settings differ on %s: give all nodes the same configuration", strings.Join(fresh, ", "))
	case len(fresh) > 0 && len(behind) > 0:
		return fmt.Sprintf("its settings change: waiting for %s to be restarted with the new configuration that %s has", strings.Join(behind, ", "), strings.Join(fresh, ", "))
	case len(fresh) > 0:
		return "its settings are about to change"
	case len(old) > 0 && len(present) > 0:
		return fmt.Sprintf("its settings have changed: %s to be restarted with the configuration that %s has", strings.Join(old, ", "), strings.Join(present, ", "))
	case len(old) > 0:
		return "its settings are about to change back"
	}
	return ""
}
