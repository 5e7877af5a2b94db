package catalog

import (
	"cmp"
	"fmt"
	"slices"
)

// Placement is where one tablet goes.
type Placement struct {
	Replicas []Member // sorted
	Leader   string   // the node that should lead
}

// candidate is a node with what it would have to carry.
type candidate struct {
	node          *Node
	total, leads  int // of all tablets
	here, leadsIn int // of the tablets being placed now, which are written together
}

func (c *candidate) rank() int {
	switch c.node.State {
	case NodeUp:
		return 0
	case NodeDown:
		return 1
	}
	return 2
}

// Place chooses nodes for count tablets of one partition. A replica goes to a node that is up, in the
// rack that this tablet uses least, that has the fewest of this partition's replicas, then the fewest of
// all, then the first by name. Nodes that are down or being drained are taken only when there are no
// others, and never so many that a tablet could not start. Of its nodes the one that leads the fewest of
// this partition, then of all, should lead. Nothing that exists is moved.
//
// Apply calls it: it depends on its arguments only, and what it answers belongs to command version 1.
func Place(nodes []*Node, replicas, count int, existing []*Tablet) ([]Placement, error) {
	candidates := load(nodes, existing)
	up := 0
	for _, c := range candidates {
		if c.rank() != 1 {
			up++
		}
	}
	if len(nodes) < replicas || up < replicas/2+1 {
		return nil, fmt.Errorf("catalog: %d replicas need %d nodes and %d of them up, got %d and %d", replicas, replicas, replicas/2+1, len(nodes), up)
	}
	placed := make([]Placement, count)
	for i := range placed {
		placed[i] = placeOne(candidates, replicas)
	}
	return placed, nil
}

// load counts what each node carries; the result is in the order of nodes.
func load(nodes []*Node, existing []*Tablet) []*candidate {
	candidates := make([]*candidate, len(nodes))
	byName := make(map[string]*candidate, len(nodes)) // looked up only, never iterated
	for i, n := range nodes {
		candidates[i] = &candidate{node: n}
		byName[n.Name] = candidates[i]
	}
	for _, t := range existing {
		for _, r := range t.Replicas {
			if c := byName[r.Node]; c != nil && !r.Leaving {
				c.total++
			}
		}
		if c := byName[t.Leader]; c != nil {
			c.leads++
		}
	}
	return candidates
}

func placeOne(candidates []*candidate, replicas int) Placement {
	var chosen []*candidate
	for range replicas {
		var best *candidate
		for _, c := range candidates {
			if !slices.Contains(chosen, c) && (best == nil || compareReplica(c, best, chosen) < 0) {
				best = c
			}
		}
		chosen = append(chosen, best)
	}
	leader := slices.MinFunc(chosen, compareLeader)
	leader.leads++
	leader.leadsIn++
	p := Placement{Leader: leader.node.Name}
	for _, c := range chosen {
		c.total++
		c.here++
		p.Replicas = append(p.Replicas, c.node.Member())
	}
	slices.SortFunc(p.Replicas, Member.compare)
	return p
}

func compareReplica(a, b *candidate, chosen []*candidate) int {
	return cmp.Or(
		cmp.Compare(a.rank(), b.rank()),
		cmp.Compare(rackUse(a, chosen), rackUse(b, chosen)),
		cmp.Compare(a.here, b.here),
		cmp.Compare(a.total, b.total),
		cmp.Compare(a.node.Name, b.node.Name),
	)
}

func compareLeader(a, b *candidate) int {
	return cmp.Or(
		cmp.Compare(a.rank(), b.rank()),
		cmp.Compare(a.leadsIn, b.leadsIn),
		cmp.Compare(a.leads, b.leads),
		cmp.Compare(a.node.Name, b.node.Name),
	)
}

// rackUse counts the chosen nodes in c's rack; a node without a rack is one of its own.
func rackUse(c *candidate, chosen []*candidate) int {
	n := 0
	for _, o := range chosen {
		if c.node.Rack != "" && o.node.Rack == c.node.Rack {
			n++
		}
	}
	return n
}

// Transfer proposes that a tablet's leadership moves.
type Transfer struct {
	Tablet   TabletID
	From, To string // nodes
}

// Rebalance lists the tablets that are led by another node than they should be, at most limit of them,
// by id. leaders says who leads now; tablets that are not in it are left alone, and so is a leader
// whose successor is not up, not a voter, or on its way out. Whoever carries it out first asks the
// group whether the successor has the log.
func Rebalance(s *Snapshot, leaders map[TabletID]string, limit int) []Transfer {
	var transfers []Transfer
	for _, t := range s.Tablets {
		now, known := leaders[t.ID]
		if len(transfers) >= limit || !known || now == t.Leader {
			continue
		}
		n, ok := s.Node(t.Leader)
		if !ok || n.State != NodeUp {
			continue
		}
		if r, ok := t.Replica(n.Member()); ok && r.Voter && !r.Leaving {
			transfers = append(transfers, Transfer{t.ID, now, t.Leader})
		}
	}
	return transfers
}
