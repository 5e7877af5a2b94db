package catalog

import "slices"

func (cmd ReplaceReplica) apply(c *change) Result {
	t, ok := c.view().Tablet(cmd.Tablet)
	if !ok {
		return refuse(TabletNotFound, "there is no tablet %d", cmd.Tablet)
	}
	if n, ok := c.view().Node(cmd.New.Node); !ok || n.Incarnation != cmd.New.Incarnation {
		return refuse(NodeNotFound, "there is no node %s", cmd.New)
	}
	old, has := t.Replica(cmd.Old)
	if r, ok := t.Replica(cmd.New); ok {
		if !r.Leaving && (!has || old.Leaving) && cmd.New != cmd.Old {
			return c.unchanged()
		}
		return refuse(Conflict, "tablet %d: %s is among its replicas already", t.ID, cmd.New)
	}
	if !has || old.Leaving {
		return refuse(Conflict, "tablet %d: %s is no replica that could be replaced", t.ID, cmd.Old)
	}
	next := *t
	next.Replicas = slices.Clone(t.Replicas)
	for i, r := range next.Replicas {
		switch {
		case r.Member == cmd.Old:
			next.Replicas[i].Leaving = true
		case r.Leaving:
		case !r.Voter:
			return refuse(Conflict, "tablet %d: %s is still joining", t.ID, r.Member)
		case r.Node == cmd.New.Node:
			return refuse(Conflict, "tablet %d: node %s has a replica already", t.ID, r.Node)
		}
	}
	next.Replicas = append(next.Replicas, Replica{Member: cmd.New})
	slices.SortFunc(next.Replicas, compareReplicas)
	if next.Leader == cmd.Old.Node {
		next.Leader = cmd.New.Node
	}
	s := c.edit()
	s.Tablets = put(s.Tablets, &next, tabletID)
	return c.done()
}

func compareReplicas(a, b Replica) int { return a.Member.compare(b.Member) }

func (cmd UpdateReplicas) apply(c *change) Result {
	t, ok := c.view().Tablet(cmd.Tablet)
	if !ok {
		return refuse(TabletNotFound, "there is no tablet %d", cmd.Tablet)
	}
	if cmd.Index <= t.MembersIndex {
		if cmd.Index == t.MembersIndex {
			return c.unchanged()
		}
		return refuse(Stale, "tablet %d: got its members as of %d, and has them as of %d", t.ID, cmd.Index, t.MembersIndex)
	}
	group := slices.Clone(cmd.Group)
	slices.SortFunc(group, compareReplicas)
	voters := 0
	for i, r := range group {
		if r.Node == "" || r.Incarnation == "" || (i > 0 && group[i-1].Member == r.Member) {
			return refuse(Malformed, "tablet %d: member %q is empty or doubled", t.ID, r.Member)
		}
		if r.Voter {
			voters++
		}
	}
	if voters == 0 || len(group) > 2*replicasMax {
		return refuse(Malformed, "tablet %d: a group of %d members with %d voters", t.ID, len(group), voters)
	}
	next := *t
	next.Replicas = merge(t.Replicas, group)
	next.MembersIndex, next.Bootstrap = cmd.Index, nil
	if !slices.ContainsFunc(next.Replicas, func(r Replica) bool { return r.Node == next.Leader && !r.Leaving }) {
		i := slices.IndexFunc(next.Replicas, func(r Replica) bool { return r.Voter && !r.Leaving })
		next.Leader = next.Replicas[max(i, 0)].Node
	}
	s := c.edit()
	s.Tablets = put(s.Tablets, &next, tabletID)
	return c.done()
}

// merge takes the group's members as they are. Of the others it keeps those that were told to join and
// are not yet in the group: all else that is listed here and missing there was removed. A member that
// does not vote and that nobody told to join leaves again: a leader whose catalog was behind had added it.
func merge(listed, group []Replica) []Replica {
	merged := make([]Replica, 0, len(group)+1)
	for _, r := range group {
		i := slices.IndexFunc(listed, func(l Replica) bool { return l.Member == r.Member })
		r.Leaving = (i >= 0 && listed[i].Leaving) || (i < 0 && !r.Voter)
		merged = append(merged, r)
	}
	for _, l := range listed {
		inGroup := slices.ContainsFunc(group, func(r Replica) bool { return r.Member == l.Member })
		if !inGroup && !l.Voter && !l.Leaving {
			merged = append(merged, l)
		}
	}
	slices.SortFunc(merged, compareReplicas)
	return merged
}

func (cmd AskFates) apply(c *change) Result {
	s := c.view()
	r := c.unchanged()
	for _, id := range cmd.Tablets {
		if id < SystemTablet || id >= s.NextTablet {
			continue // made by a command that this log does not have: not ours to judge
		}
		if t, ok := s.Tablet(id); ok {
			if _, listed := t.Replica(cmd.Member); listed {
				continue
			}
		}
		r.Tablets = append(r.Tablets, id)
	}
	return r
}
