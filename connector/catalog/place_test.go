package catalog

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"nyala/store/vfs"
)

// TestPlaceGolden pins placements: Apply calls Place, so another answer would make replicas differ.
func TestPlaceGolden(t *testing.T) {
	var text strings.Builder
	for _, c := range []struct {
		name            string
		racks, states   string // a letter a node: its rack (- for none); u, d, or r for draining
		replicas, count int
	}{
		{"three nodes", "abc", "uuu", 3, 4},
		{"one node", "-", "u", 1, 2},
		{"six nodes in three racks", "aabbcc", "uuuuuu", 3, 6},
		{"a rack of four", "aaaabc", "uuuuuu", 3, 6},
		{"no racks", "-----", "uuuuu", 3, 5},
		{"one is down, and needed", "abc", "udu", 3, 2},
		{"one is down, and not needed", "aabc", "uduu", 3, 2},
		{"one is draining", "abca", "uruu", 3, 2},
		{"too many are down", "abc", "udd", 3, 1},
		{"too few", "ab", "uu", 3, 1},
		{"five of five", "aabbc", "uuuuu", 5, 3},
	} {
		var nodes []*Node
		for i := range c.racks {
			n := &Node{Name: fmt.Sprintf("n%d", i+1), Incarnation: "1", Rack: strings.Trim(c.racks[i:i+1], "-")}
			n.State = map[byte]NodeState{'u': NodeUp, 'd': NodeDown, 'r': NodeDraining}[c.states[i]]
			nodes = append(nodes, n)
		}
		fmt.Fprintf(&text, "%s: racks %s, states %s\n", c.name, c.racks, c.states)
		var existing []*Tablet
		for range 2 { // a second partition beside the first
			placed, err := Place(nodes, c.replicas, c.count, existing)
			if err != nil {
				fmt.Fprintf(&text, "  %v\n", err)
				break
			}
			for _, p := range placed {
				tablet := &Tablet{Leader: p.Leader}
				for _, m := range p.Replicas {
					tablet.Replicas = append(tablet.Replicas, Replica{Member: m, Voter: true})
				}
				existing = append(existing, tablet)
				fmt.Fprintf(&text, "  %v led by %s\n", p.Replicas, p.Leader)
			}
		}
	}
	golden(t, "place", text.String())
}

// TestPlaceIsEven: with all nodes up, replicas and leaders of many tablets differ by little, every
// tablet uses as many racks as it can, and a new partition moves nothing.
func TestPlaceIsEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		racks := rapid.IntRange(0, 3).Draw(t, "racks")
		replicas := rapid.SampledFrom([]int{1, 3, 5}).Draw(t, "replicas")
		var nodes []*Node
		for i := range replicas + rapid.IntRange(0, 4).Draw(t, "more") {
			n := &Node{Name: fmt.Sprintf("n%d", i), Incarnation: "1", State: NodeUp}
			if racks > 0 {
				n.Rack = fmt.Sprint(i % racks)
			}
			nodes = append(nodes, n)
		}
		var existing []*Tablet
		for range rapid.IntRange(1, 8).Draw(t, "partitions") {
			placed, err := Place(nodes, replicas, rapid.IntRange(1, 6).Draw(t, "buckets"), existing)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range placed {
				tablet, used := &Tablet{Leader: p.Leader}, map[string]bool{}
				for _, m := range p.Replicas {
					tablet.Replicas = append(tablet.Replicas, Replica{Member: m, Voter: true})
					for _, n := range nodes {
						if n.Name == m.Node {
							used[n.Rack] = true
						}
					}
				}
				if want := min(racks, replicas); racks > 0 && len(used) != want {
					t.Fatalf("%v uses %d racks, want %d", p.Replicas, len(used), want)
				}
				existing = append(existing, tablet)
			}
		}
		if racks > 0 {
			return // small racks carry more
		}
		counts := load(nodes, existing)
		for _, a := range counts {
			for _, b := range counts {
				if a.total-b.total > 2 || a.leads-b.leads > 3 {
					t.Fatalf("%s has %d replicas and leads %d, %s has %d and leads %d", a.node.Name, a.total, a.leads, b.node.Name, b.total, b.leads)
				}
			}
		}
	})
}

func TestRebalance(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(3)
	r.want(Done, CreateTable{events("flat", 6, 0)})
	leaders := map[TabletID]string{}
	for _, tablet := range r.Snapshot().Tablets {
		leaders[tablet.ID] = "n1"
	}
	delete(leaders, 3) // nobody leads it now
	got := fmt.Sprint(Rebalance(r.Snapshot(), leaders, 10))
	if want := "[{2 n1 n2} {5 n1 n2} {6 n1 n3}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := Rebalance(r.Snapshot(), leaders, 1); len(got) != 1 {
		t.Errorf("got %v, want one", got)
	}
	r.want(Done, SetNodeState{"n3", "00000003", NodeDown})
	if got, want := fmt.Sprint(Rebalance(r.Snapshot(), leaders, 10)), "[{2 n1 n2} {5 n1 n2}]"; got != want {
		t.Errorf("n3 is down: got %s, want %s", got, want)
	}
	r.want(Done, register(2, 0x22))
	if got := Rebalance(r.Snapshot(), leaders, 10); len(got) != 0 {
		t.Errorf("n2 lost its data: got %v", got)
	}
	if on := r.Snapshot().ReplicasOn(Member{"n1", "00000001"}); len(on) != 7 {
		t.Errorf("n1 has %d replicas, want 7", len(on))
	}
}
