package connector

import (
	"slices"
	"time"
)

// links are the pairs of addresses by which two nodes reach each other.
func links(from, to string) [][2]string {
	return [][2]string{{from + ":7401", to + ":7401"}, {from + ":7481", to + ":7481"}}
}

// block holds what goes from one node to another. A node always reaches itself.
func (s *simulation) block(from, to string) {
	if from == to {
		return
	}
	for _, l := range links(from, to) {
		s.net.Block(l[0], l[1])
	}
}

// split lets nobody of one part of the nodes reach the other.
func (s *simulation) split(string) {
	ids := s.ids()
	s.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	cut := 1 + s.rng.IntN(len(ids)-1)
	s.note("%v are apart from %v", ids[:cut], ids[cut:])
	for _, a := range ids[:cut] {
		for _, b := range ids[cut:] {
			s.block(a, b)
			s.block(b, a)
		}
	}
}

// ring lets each node hear from its neighbor only, or be heard by it.
func (s *simulation) ring(string) {
	ids := s.ids()
	step := 1 + s.rng.IntN(len(ids)-1)
	s.note("each node reaches the one %d further only", step)
	for i, from := range ids {
		for j, to := range ids {
			if j != i && j != (i+step)%len(ids) {
				s.block(from, to)
			}
		}
	}
}

// bridge leaves two nodes that do not reach each other, and both reach the rest.
func (s *simulation) bridge(id string) {
	other := s.anyNode()
	s.note("%s and %s do not reach each other", id, other)
	s.block(id, other)
	s.block(other, id)
}

// resetLinks breaks all connections of a node with the others; new ones are made at once.
func (s *simulation) resetLinks(id string) {
	s.note("connections of %s are reset", id)
	for _, other := range s.ids() {
		for _, l := range links(id, other) {
			s.net.Reset(l[0], l[1])
		}
	}
	s.wires[id].reset()
}

// loseOne loses exactly one message between two nodes.
func (s *simulation) loseOne(id string) {
	other := s.anyNode()
	l := links(id, other)[s.rng.IntN(2)]
	after := s.rng.IntN(200)
	s.note("message %d from %s to %s is lost", after, l[0], l[1])
	s.net.LoseOne(l[0], l[1], after)
}

// distance makes all that goes one way to or from a node late, by more than any timeout of an election.
func (s *simulation) distance(id string) {
	late := []time.Duration{time.Second, 5 * time.Second, 15 * time.Second}[s.rng.IntN(3)]
	from := s.rng.IntN(2) == 0
	s.note("%s is %v away, from it: %v", id, late, from)
	for _, other := range s.ids() {
		if other == id {
			continue
		}
		for _, l := range links(id, other) {
			if !from {
				slices.Reverse(l[:])
			}
			s.net.SetDistance(l[0], l[1], late)
		}
	}
}

// healNetwork ends all partitions, losses and delays.
func (s *simulation) healNetwork() {
	s.net.SetLoss(0)
	s.net.SetLatency(0, 2*time.Millisecond)
	for _, a := range s.ids() {
		s.net.Rejoin(a + ":7401")
		s.net.Rejoin(a + ":7481")
		for _, b := range s.ids() {
			for _, l := range links(a, b) {
				s.net.SetDistance(l[0], l[1], 0)
			}
		}
	}
}
