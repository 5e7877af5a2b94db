package connector

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"nyala/connector/catalog"
	"nyala/raftlog"
)

const (
	dutyInterval    = time.Second
	transferLimit   = 3 * time.Second
	transfersAtOnce = 2 // leaders handed over in a round, so that ingestion never stands still everywhere
)

// systemDuties is what the leader of the system group does: it names the cluster, makes the tables and
// the ranges whose time comes, and replaces the replicas of nodes that lost their data.
func (n *Node) systemDuties(ctx context.Context) {
	for ctx.Err() == nil {
		view := n.catalog.Snapshot()
		if n.system().IsLeader() {
			n.initCluster(ctx, view)
			n.planTables(ctx, view)
			n.tendSettings(ctx, view)
			n.followers(ctx, view)
		} else {
			n.clearFaults("command ") // the leader has its own
			n.clearFaults("configuration")
			n.clearFaults(settingsFault)
			n.clearFaults(columnsFault)
		}
		select {
		case <-view.Superseded():
		case <-time.After(dutyInterval):
		case <-ctx.Done():
		}
	}
}

func (n *Node) initCluster(ctx context.Context, view *catalog.Snapshot) {
	if view.Cluster.ID != "" {
		return
	}
	id, err := n.clusterID()
	if err != nil {
		n.fault("cluster", err)
		return
	}
	c := catalog.InitCluster{Name: n.options.Config.Cluster.Name, ID: id}
	for _, m := range n.system().Members() {
		c.System = append(c.System, catalog.Member{Node: m.Node, Incarnation: m.Incarnation})
	}
	n.run(ctx, c)
}

// run proposes a command whose refusal only means to try again in the next round.
func (n *Node) run(ctx context.Context, c catalog.Command) {
	ctx, cancel := context.WithTimeout(ctx, n.logLimit())
	defer cancel()
	what := "command " + c.Kind().String()
	_, err := n.propose(ctx, c)
	var refused *catalog.RefusedError
	switch {
	case err == nil:
	case errors.As(err, &refused) && refused.Code == catalog.TooFewNodes:
		n.log.Debug("waiting for nodes", "command", c.Kind(), "reason", refused.Reason)
	default:
		n.fault(what, err)
	}
}

func (n *Node) planTables(ctx context.Context, view *catalog.Snapshot) {
	if view.Cluster.ID == "" {
		return
	}
	n.clearFaults("command ") // a command that is no longer planned is no fault any more
	commands, errs := catalog.Plan(n.wanted, view, catalog.Micros(n.options.Now().UnixMicro()))
	for _, c := range append(commands, catalog.Replacements(view)...) {
		if change, ok := c.(catalog.ChangeSettings); ok && !n.agreed(ctx, change) {
			continue // status says whom it waits for
		}
		if change, ok := c.(catalog.ChangeTable); ok && !n.agreedColumns(ctx, change) {
			continue
		}
		n.run(ctx, c)
	}
	if err := errors.Join(errs...); err != nil {
		n.fault("configuration", err)
	} else {
		n.clearFault("configuration")
	}
}

// followers adds every registered node that does not vote in the system group as one that follows it,
// for each node routes by its own catalog; and removes followers that no longer exist.
func (n *Node) followers(ctx context.Context, view *catalog.Snapshot) {
	system, ok := view.Tablet(catalog.SystemTablet)
	if !ok {
		return
	}
	members := n.system().Members()
	for _, node := range view.Nodes {
		_, votes := system.Replica(node.Member())
		in := slices.ContainsFunc(members, func(m raftlog.Member) bool { return m.Node == node.Name && m.Incarnation == node.Incarnation })
		if votes || in {
			continue
		}
		n.change(ctx, catalog.SystemTablet, n.system().AddNonvoter, raftlog.Member{Node: node.Name, Incarnation: node.Incarnation})
	}
	for _, m := range members {
		node, known := view.Node(m.Node)
		_, listed := system.Replica(catalog.Member{Node: m.Node, Incarnation: m.Incarnation})
		if !m.Voter && !listed && known && node.Incarnation != m.Incarnation {
			n.change(ctx, catalog.SystemTablet, n.system().Remove, m)
		}
	}
}

// change carries out one change of a group's membership; what fails is tried again in the next round.
func (n *Node) change(ctx context.Context, id catalog.TabletID, do func(context.Context, raftlog.Member) error, m raftlog.Member) bool {
	ctx, cancel := context.WithTimeout(ctx, n.logLimit())
	defer cancel()
	err := do(ctx, m)
	if err != nil {
		n.log.Debug("membership not changed yet", "tablet", id, "member", m.Node, "error", err)
	}
	return err == nil
}

// groupDuties is what the leader of any group does for it: members join and leave as the catalog
// says, the catalog hears of it, and leadership goes where it is wanted.
func (n *Node) groupDuties(ctx context.Context) {
	for ctx.Err() == nil {
		view := n.catalog.Snapshot()
		for _, t := range view.Tablets {
			if g := n.groupOf(t.ID); g != nil && g.IsLeader() && ctx.Err() == nil {
				n.tendMembers(ctx, view, t, g)
			}
		}
		n.moveLeaders(ctx, view)
		select {
		case <-view.Superseded():
		case <-time.After(dutyInterval):
		case <-ctx.Done():
		}
	}
}

func (n *Node) groupOf(id catalog.TabletID) *raftlog.Group {
	if id == catalog.SystemTablet {
		return n.system()
	}
	if r := n.replica(id); r != nil {
		return r.group
	}
	return nil
}

// tendMembers takes one step of 3-4-3: add who joins, promote who has caught up, remove who leaves once
// nobody is joining; then report what the group has.
func (n *Node) tendMembers(ctx context.Context, view *catalog.Snapshot, t *catalog.Tablet, g *raftlog.Group) {
	members := g.Members()
	joining := false
	for _, r := range t.Replicas {
		i := slices.IndexFunc(members, func(m raftlog.Member) bool { return m.Node == r.Node && m.Incarnation == r.Incarnation })
		m := raftlog.Member{Node: r.Node, Incarnation: r.Incarnation}
		switch {
		case !r.Leaving && !r.Voter && i < 0:
			joining = true
			n.change(ctx, t.ID, g.AddNonvoter, m)
		case !r.Leaving && i >= 0 && !members[i].Voter:
			joining = true
			n.change(ctx, t.ID, g.Promote, m)
		}
	}
	for _, r := range t.Replicas {
		if r.Leaving && !joining && slices.ContainsFunc(members, func(m raftlog.Member) bool { return m.Node == r.Node && m.Incarnation == r.Incarnation }) {
			n.change(ctx, t.ID, g.Remove, raftlog.Member{Node: r.Node, Incarnation: r.Incarnation})
		}
	}
	n.reportMembers(ctx, view, t, g)
}

// reportMembers tells the catalog what the group has, if that is not what the catalog says.
func (n *Node) reportMembers(ctx context.Context, view *catalog.Snapshot, t *catalog.Tablet, g *raftlog.Group) {
	members, index := g.Committed()
	if index <= t.MembersIndex {
		return
	}
	report := catalog.UpdateReplicas{Tablet: t.ID, Index: index}
	for _, m := range members {
		r := catalog.Replica{Member: catalog.Member{Node: m.Node, Incarnation: m.Incarnation}, Voter: m.Voter}
		if _, listed := t.Replica(r.Member); m.Voter || listed {
			report.Group = append(report.Group, r) // mere followers of the system group are not replicas
		}
	}
	slices.SortFunc(report.Group, func(a, b catalog.Replica) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Incarnation, b.Incarnation))
	})
	n.run(ctx, report)
}

// moveLeaders hands a few of this node's groups to the nodes that should lead them.
func (n *Node) moveLeaders(ctx context.Context, view *catalog.Snapshot) {
	leaders := map[catalog.TabletID]string{}
	for _, t := range view.Tablets {
		if g := n.groupOf(t.ID); g != nil && g.IsLeader() {
			leaders[t.ID] = n.options.Node
		}
	}
	for _, t := range catalog.Rebalance(view, leaders, transfersAtOnce) {
		n.transfer(ctx, t.Tablet, t.To)
	}
}

func (n *Node) transfer(ctx context.Context, id catalog.TabletID, to string) {
	ctx, cancel := context.WithTimeout(ctx, transferLimit)
	defer cancel()
	if g := n.groupOf(id); g != nil {
		if err := g.TransferLeadership(ctx, to); err != nil {
			n.log.Debug("leadership not moved yet", "tablet", id, "to", to, "error", err)
		}
	}
}

// handOver gives all leaderships of a stopping node to whoever has the log; it gives up with ctx.
func (n *Node) handOver(ctx context.Context) {
	view := n.catalog.Snapshot()
	for _, t := range view.Tablets {
		g := n.groupOf(t.ID)
		if g == nil || !g.IsLeader() {
			continue
		}
		for _, m := range g.Members() {
			if m.Voter && m.Node != n.options.Node && ctx.Err() == nil && g.IsLeader() {
				n.transfer(ctx, t.ID, m.Node)
			}
		}
	}
}
