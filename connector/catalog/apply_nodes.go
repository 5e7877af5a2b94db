package catalog

import "slices"

func (cmd InitCluster) apply(c *change) Result {
	if cmd.Name == "" || cmd.ID == "" || len(cmd.System) == 0 || len(cmd.System) > replicasMax {
		return refuse(Malformed, "cluster %q, id %q with %d members", cmd.Name, cmd.ID, len(cmd.System))
	}
	if old := c.view().Cluster; old.ID != "" {
		if old.Name != cmd.Name {
			return refuse(WrongCluster, "this is cluster %s, not %s", old.Name, cmd.Name)
		}
		return c.unchanged()
	}
	members := slices.Clone(cmd.System)
	slices.SortFunc(members, Member.compare)
	if len(slices.Compact(slices.Clone(members))) != len(members) {
		return refuse(Malformed, "a member of the system group is doubled")
	}
	s := c.edit()
	s.Cluster = Cluster{Name: cmd.Name, ID: cmd.ID, Created: c.now}
	// Its group exists already, so there is no Bootstrap.
	system := &Tablet{ID: SystemTablet, Leader: members[0].Node}
	for _, m := range members {
		system.Replicas = append(system.Replicas, Replica{Member: m, Voter: true})
	}
	s.Tablets = put(s.Tablets, system, tabletID)
	return c.done()
}

func (cmd RegisterNode) apply(c *change) Result {
	cluster := c.view().Cluster
	switch {
	case cmd.Name == "" || cmd.Incarnation == "" || len(cmd.Name) > nameMax || len(cmd.Incarnation) > nameMax:
		return refuse(Malformed, "node %q, incarnation %q", cmd.Name, cmd.Incarnation)
	case cmd.Cluster != "" && cmd.Cluster != cluster.ID:
		return refuse(WrongCluster, "node %s has data of the cluster with id %s; this is %s with id %s", cmd.Name, cmd.Cluster, cluster.Name, cluster.ID)
	}
	next := &Node{
		Name: cmd.Name, Incarnation: cmd.Incarnation, Peer: cmd.Peer, HTTP: cmd.HTTP, Rack: cmd.Rack,
		Registered: c.now, State: NodeUp, Since: c.now,
	}
	if old, ok := c.view().Node(cmd.Name); ok {
		if slices.Contains(old.Past, cmd.Incarnation) {
			return refuse(NodeReplaced, "node %s: its data directory %s was replaced by %s, and may not come back", cmd.Name, cmd.Incarnation, old.Incarnation)
		}
		next.Past = old.Past
		if old.State == NodeDraining {
			next.State = NodeDraining
		}
		if old.State == next.State {
			next.Since = old.Since
		}
		if old.Incarnation != cmd.Incarnation {
			next.Past = append(slices.Clone(old.Past), old.Incarnation)
		} else {
			next.Registered = old.Registered
			if same := *old; same.Peer == next.Peer && same.HTTP == next.HTTP && same.Rack == next.Rack && same.State == next.State {
				return c.unchanged()
			}
		}
	}
	s := c.edit()
	s.Nodes = put(s.Nodes, next, func(n *Node) string { return n.Name })
	return c.done()
}

func (cmd SetNodeState) apply(c *change) Result {
	if cmd.State != NodeUp && cmd.State != NodeDown && cmd.State != NodeDraining {
		return refuse(Malformed, "node %s: state %q", cmd.Name, cmd.State)
	}
	old, ok := c.view().Node(cmd.Name)
	if !ok || old.Incarnation != cmd.Incarnation {
		return refuse(NodeNotFound, "there is no node %s#%s", cmd.Name, cmd.Incarnation)
	}
	if old.State == cmd.State {
		return c.unchanged()
	}
	next := *old
	next.State, next.Since = cmd.State, c.now
	s := c.edit()
	s.Nodes = put(s.Nodes, &next, func(n *Node) string { return n.Name })
	return c.done()
}
