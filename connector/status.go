package connector

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"nyala/configs"
	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/connector/export"
	"nyala/offsets"
	"nyala/store/schema"
)

// statusLimit is how long a node may take to say how it is before it counts as down.
const statusLimit = 2 * time.Second

// notReady says why this node does not serve yet, "" if it does.
func (n *Node) notReady() string {
	select {
	case <-n.ready:
	default:
		if p := n.phase.Load(); p != nil {
			return *p
		}
		return "starting"
	}
	view := n.catalog.Snapshot()
	for _, spec := range n.wanted.Tables {
		if _, ok := view.Table(spec.Name); !ok {
			return fmt.Sprintf("table %s is not made yet", spec.Name)
		}
	}
	for _, t := range view.ReplicasOn(n.member()) {
		g := n.groupOf(t.ID)
		if g == nil {
			what := fmt.Sprintf("tablet %d", t.ID)
			if reason := n.faultOf(what); reason != "" {
				return what + ": " + reason
			}
			return what + " is not open yet"
		}
		if s := g.Status(); s.Leader == "" {
			return fmt.Sprintf("tablet %d has no leader yet", t.ID)
		} else if s.Handled < s.Commit {
			return fmt.Sprintf("tablet %d has applied %d of %d entries", t.ID, s.Handled, s.Commit)
		} else if g.Replaying() { // it may not have been told yet that they are committed
			return fmt.Sprintf("tablet %d has applied %d of %d entries", t.ID, s.Applied, s.Last)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for what, reason := range n.mu.notReady {
		return what + ": " + reason
	}
	return ""
}

// local is what this node knows of itself.
func (n *Node) local() api.Local {
	out := api.Local{Replicas: map[string]api.Replica{}, Connectors: n.feedStatus(), Failures: map[string]string{}, Settings: map[string]string{}, Tables: map[string]string{}}
	for _, c := range n.wanted.Connectors {
		out.Settings[c.Name] = fingerprint(c.Settings)
	}
	for _, t := range n.wanted.Tables {
		out.Tables[t.Name] = definitionOf(t.Schema)
	}
	out.Node = api.Node{ID: n.options.Node, State: api.StateUp, HTTP: n.self.HTTP, Peer: n.self.Peer, Rack: n.self.Rack}
	if reason := n.notReady(); reason != "" {
		out.Node.State, out.Node.Reason = api.StateStarting, reason
	}
	if n.raft.Slow() && out.Node.Reason == "" {
		out.Node.Reason = "the disk of its log is slow: it leads nothing until writes take less than a second again"
	}
	budget := n.tablets.Budget()
	out.Node.MemoryUsed, out.Node.MemoryLimit = budget.Used(), budget.Limit()
	if u := budget.Usage(); u.Crowded {
		out.Node.Memory = fmt.Sprintf("filters and indexes of its rows on disk take %d MiB of memory, node.memory of %d MiB leaves %d MiB for them: give it more, or add nodes",
			u.Resident/mib, n.options.Config.Node.MemoryBytes/mib, budget.Limit()*3/4/mib)
	}
	n.mu.Lock()
	replicas := make([]*replica, 0, len(n.mu.replicas))
	for _, r := range n.mu.replicas {
		replicas = append(replicas, r)
	}
	for what, reason := range n.mu.notReady {
		out.Failures[what] = reason
	}
	n.mu.Unlock()
	n.repairStatus(out.Replicas)
	for _, r := range replicas {
		s := r.status(n.options.Node)
		out.Replicas[strconv.FormatUint(uint64(r.id), 10)] = s
		out.Node.Replicas++
		if s.Leader {
			out.Node.Leaders++
		}
	}
	return out
}

func (r *replica) status(node string) api.Replica {
	t, g := r.tablet.Status(), r.group.Status()
	out := api.Replica{
		Node: node, State: api.ReplicaRunning, Leader: g.State == "Leader",
		AppliedIndex: g.Applied, DurableIndex: t.Durable, Hash: hex.EncodeToString(t.Hash[:]),
		Rows: t.Rows, Bytes: t.Bytes, DiskRowSets: t.RowSets,
	}
	switch {
	case t.Failed != nil:
		out.State, out.Reason = api.ReplicaFailed, t.Failed.Error()
	case t.Damage != nil:
		out.State, out.Reason = api.ReplicaDamaged, "a file is copied from another replica: "+t.Damage.Error()
	case t.Fault != nil:
		out.Reason = t.Fault.Error()
	case t.Differs != nil:
		out.Reason = t.Differs.Error()
	}
	return out
}

// repairStatus describes the replicas that do not run because their files are damaged.
func (n *Node) repairStatus(out map[string]api.Replica) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, p := range n.mu.repairs {
		if n.mu.replicas[id] != nil {
			continue
		}
		reason := "rebuilding"
		if p.from != "" {
			reason += " from " + p.from
		}
		out[strconv.FormatUint(uint64(id), 10)] = api.Replica{Node: n.options.Node, State: api.ReplicaDamaged, Reason: reason + ": " + p.reason.Error()}
	}
}

// locals asks every node of the configuration how it is; one that does not answer is down.
func (n *Node) locals(ctx context.Context) map[string]api.Local {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	nodes := n.options.Config.Cluster.Nodes
	answers := make([]api.Local, len(nodes))
	var g errgroup.Group
	for i, c := range nodes {
		g.Go(func() error {
			if c.ID == n.options.Node {
				answers[i] = n.local()
				return nil
			}
			client := api.Client{Server: c.HTTP, HTTP: n.http}
			if err := client.Get(ctx, "/internal/v1/local", nil, &answers[i]); err != nil {
				answers[i].Node = api.Node{ID: c.ID, State: api.StateDown, Reason: err.Error(), HTTP: c.HTTP, Peer: c.Peer, Rack: c.Rack}
			}
			return nil
		})
	}
	g.Wait()
	out := map[string]api.Local{}
	for i, c := range nodes {
		out[c.ID] = answers[i]
	}
	return out
}

// status merges what all nodes say.
func (n *Node) status(ctx context.Context) api.Status {
	view, locals := n.catalog.Snapshot(), n.locals(ctx)
	s := api.Status{Cluster: n.options.Config.Cluster.Name, Durability: string(n.options.Config.Node.Durability), Version: n.options.Version}
	for _, c := range n.options.Config.Cluster.Nodes {
		node := locals[c.ID].Node
		s.Nodes = append(s.Nodes, node)
		if node.State != api.StateUp {
			s.Reasons = append(s.Reasons, fmt.Sprintf("node %s is %s: %s", node.ID, node.State, node.Reason))
		} else if node.Reason != "" {
			s.Reasons = append(s.Reasons, fmt.Sprintf("node %s: %s", node.ID, node.Reason))
		}
		if node.Memory != "" {
			s.Reasons = append(s.Reasons, fmt.Sprintf("node %s: %s", node.ID, node.Memory))
		}
	}
	if view.Cluster.ID == "" {
		s.Reasons = append(s.Reasons, "the cluster is not made yet")
	}
	n.tabletStatus(&s, view, locals)
	n.connectorStatus(&s, view, locals)
	if n.options.Config.Node.Durability == configs.PageCache {
		s.Durability = "page_cache (acknowledged rows are not safe from a power cut)"
	}
	s.Healthy = len(s.Reasons) == 0
	return s
}

func (n *Node) tabletStatus(s *api.Status, view *catalog.Snapshot, locals map[string]api.Local) {
	for _, table := range view.Tables {
		sum := api.Table{Name: table.Name}
		if what := n.columnsStatus(table, locals); what != "" {
			s.Warnings = append(s.Warnings, fmt.Sprintf("table %s: %s", table.Name, what))
		}
		for _, p := range table.Partitions {
			for bucket, id := range p.Tablets {
				t, ok := view.Tablet(id)
				if !ok {
					continue
				}
				out := mergeTablet(table, p, bucket, t, locals)
				s.Reasons = append(s.Reasons, replacing(fmt.Sprintf("tablet %s of %s", out.ID, table.Name), t)...)
				healthy := 0
				for _, r := range out.Replicas {
					if r.State == api.ReplicaRunning {
						healthy++
					}
				}
				if healthy < table.Replicas {
					s.UnderReplicated++
					s.Reasons = append(s.Reasons, fmt.Sprintf("tablet %s of %s has %d of %d replicas", out.ID, table.Name, healthy, table.Replicas))
				}
				if out.Leader == "" {
					s.Reasons = append(s.Reasons, fmt.Sprintf("tablet %s of %s has no leader", out.ID, table.Name))
				}
				sum.Rows += out.Rows
				sum.Bytes += out.Bytes
				sum.Tablets++
				s.Tablets = append(s.Tablets, out)
			}
		}
		s.Tables = append(s.Tables, sum)
	}
	if t, ok := view.Tablet(catalog.SystemTablet); ok {
		s.Reasons = append(s.Reasons, replacing("system group", t)...)
	}
	for _, spec := range n.wanted.Tables {
		if _, ok := view.Table(spec.Name); !ok {
			s.Reasons = append(s.Reasons, fmt.Sprintf("table %s is not made yet", spec.Name))
		}
	}
}

// replacing says of which replicas a group is not rid yet. One that is lost for good still has a vote until it is removed, which
// nobody gives: with it four vote, and two are no majority.
func replacing(what string, t *catalog.Tablet) (reasons []string) {
	for _, r := range t.Replicas {
		if r.Leaving {
			reasons = append(reasons, fmt.Sprintf("%s is replacing its replica on %s: until that is done no other node may fail", what, r.Node))
		}
	}
	return reasons
}

// mergeTablet puts a tablet together from its replicas; rows and bytes are the leader's, or those of
// the replica that has applied most.
func mergeTablet(table *catalog.Table, p catalog.Partition, bucket int, t *catalog.Tablet, locals map[string]api.Local) api.Tablet {
	out := api.Tablet{ID: strconv.FormatUint(uint64(t.ID), 10), Table: table.Name, Bucket: bucket, Range: rangeText(table.Schema, p)}
	var best api.Replica
	for _, r := range t.Replicas {
		l, known := locals[r.Node]
		have, runs := l.Replicas[out.ID]
		switch {
		case r.Leaving:
			have = api.Replica{Node: r.Node, State: api.ReplicaLeaving, Reason: "it was replaced"} // what runs on the node may be its successor
		case !r.Voter:
			have = api.Replica{Node: r.Node, State: api.ReplicaJoining, Reason: "it gets the files and the log"}
		case !known || l.Node.State == api.StateDown:
			have = api.Replica{Node: r.Node, State: api.ReplicaUnknown, Reason: l.Node.Reason}
		case !runs:
			have = api.Replica{Node: r.Node, State: api.ReplicaMissing, Reason: "not open yet"}
		}
		if have.Leader {
			out.Leader = r.Node
		}
		if have.Leader && !best.Leader || have.Leader == best.Leader && have.AppliedIndex > best.AppliedIndex {
			best = have
		}
		out.Replicas = append(out.Replicas, have)
	}
	out.Rows, out.Bytes = best.Rows, best.Bytes
	return out
}

func rangeText(s *schema.Schema, p catalog.Partition) string {
	if s.Range == nil {
		return ""
	}
	t := s.Columns[s.Range.Column].Type
	low := schema.AppendText([]byte("["), t, schema.Value{Int: p.Low})
	return string(append(schema.AppendText(append(low, ", "...), t, schema.Value{Int: p.High}), ')'))
}

// connectorStatus merges the partitions of each connector: the worst state is the connector's.
func (n *Node) connectorStatus(s *api.Status, view *catalog.Snapshot, locals map[string]api.Local) {
	for _, c := range n.options.Config.Connectors {
		out := api.Connector{Name: c.Name, Table: c.Table, State: api.ConnectorUnassigned, Reason: "no node reads it yet"}
		worst := -1
		for _, node := range n.options.Config.Cluster.Nodes {
			feed, ok := locals[node.ID].Connectors[c.Name]
			if !ok {
				continue
			}
			if rank := slices.Index(api.ConnectorStates, feed.State); rank > worst {
				worst, out.State, out.Reason = rank, feed.State, feed.Reason
			}
			for _, p := range feed.Partitions {
				out.Partitions = append(out.Partitions, p)
				out.LagRecords += p.LagRecords
				out.LagSeconds = max(out.LagSeconds, p.LagSeconds)
			}
		}
		out.Partitions = append(out.Partitions, n.unread(c.Name, out.Partitions)...)
		slices.SortFunc(out.Partitions, func(a, b api.Partition) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
		})
		for _, p := range out.Partitions {
			if p.State == api.ConnectorUnassigned {
				s.Reasons = append(s.Reasons, fmt.Sprintf("connector %s: partition %d of %s is read by no node just now", c.Name, p.Partition, p.Topic))
			}
		}
		if out.State != api.ConnectorRunning && out.State != api.ConnectorPaused {
			s.Reasons = append(s.Reasons, fmt.Sprintf("connector %s is %s: %s", c.Name, out.State, out.Reason))
		}
		if known, ok := view.Connector(c.Name); ok {
			out.Decision = known.Decision().Version
			if what := n.settingsStatus(known, locals); what != "" {
				s.Warnings = append(s.Warnings, fmt.Sprintf("connector %s: %s", c.Name, what))
				out.Reason = cmp.Or(out.Reason, what)
			}
		}
		s.Connectors = append(s.Connectors, out)
	}
}

// unread lists the partitions of a connector that have a checkpoint and that no node reads: for as long as
// the consumer group takes to give them to another one. Only topics of which some partition is read count:
// a topic that was deleted has checkpoints too.
func (n *Node) unread(connector string, read []api.Partition) []api.Partition {
	topics := map[string]string{}
	live := map[string]bool{}
	for _, p := range read {
		topics[p.TopicID] = p.Topic
		live[fmt.Sprint(p.TopicID, p.Partition)] = true
	}
	var out []api.Partition
	for _, c := range n.catalog.Checkpoints() {
		id := topicID(c.Source.Topic)
		topic, known := topics[id]
		if c.Source.Connector != connector || !known || live[fmt.Sprint(id, c.Source.Partition)] {
			continue
		}
		out = append(out, api.Partition{
			Topic: topic, TopicID: id, Partition: c.Source.Partition, State: api.ConnectorUnassigned, Reason: "no node reads it just now",
			Position: c.Next, Watermark: c.Next, Checkpoint: c.Next, End: -1,
		})
	}
	return out
}

// offsets lists where every source stands: its checkpoint from the catalog, the rest from the node
// that reads it.
func (n *Node) offsets(ctx context.Context) []api.Offset {
	type place struct {
		connector, topic string
		partition        int32
	}
	live := map[place]api.Partition{}
	for _, l := range n.locals(ctx) {
		for name, feed := range l.Connectors {
			for _, p := range feed.Partitions {
				live[place{name, p.TopicID, p.Partition}] = p
			}
		}
	}
	out := []api.Offset{}
	for _, c := range n.catalog.Checkpoints() {
		id := topicID(c.Source.Topic)
		o := api.Offset{Connector: c.Source.Connector, TopicID: id, Partition: c.Source.Partition, Checkpoint: c.Next, Watermark: c.Next}
		if p, ok := live[place{o.Connector, id, o.Partition}]; ok {
			o.Topic, o.Node, o.State, o.Reason = p.Topic, p.Node, p.State, p.Reason
			o.Position, o.End, o.Watermark = p.Position, p.End, max(p.Watermark, c.Next)
		}
		out = append(out, o)
	}
	return out
}

// topicID is a topic's id as UUIDs are written.
func topicID(id offsets.TopicID) string {
	return string(schema.AppendText(nil, schema.Type{Kind: schema.UUID}, schema.Value{Bytes: id[:]}))
}

// tableDetail is a table as GET /api/v1/tables/{t} shows it.
func tableDetail(t *catalog.Table) api.TableDetail {
	out := api.TableDetail{Name: t.Name, Schema: export.Schema(t.Schema), Replicas: t.Replicas, Buckets: t.Schema.Buckets, History: t.History.String()}
	for _, h := range t.Schema.Hash {
		out.Hash = append(out.Hash, t.Schema.Columns[h].Name)
	}
	for _, p := range t.Partitions {
		d := api.PartitionDetail{Range: rangeText(t.Schema, p), Low: p.Low, High: p.High}
		for _, id := range p.Tablets {
			d.Tablets = append(d.Tablets, strconv.FormatUint(uint64(id), 10))
		}
		out.Partitions = append(out.Partitions, d)
	}
	if t.Schema.Range != nil {
		out.RangeColumn = t.Schema.Columns[t.Schema.Range.Column].Name
	}
	return out
}
