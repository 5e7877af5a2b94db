package connector

import (
	"slices"
	"strings"
	"testing"

	"nyala/configs"
	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/store/schema"
)

// A node that lost its disk is back under another incarnation, which votes already; its old self still votes, too, until it is
// removed. Four votes of which one is never given bear no further failure, so the cluster is not healthy yet.
func TestStatusWhileAReplacedReplicaVotes(t *testing.T) {
	for name, tablet := range map[string]catalog.TabletID{"tablet 7": 7, "system group": catalog.SystemTablet} {
		replicas := func(leaving bool) (out []catalog.Replica) {
			for _, m := range []catalog.Member{{Node: "n1", Incarnation: "a"}, {Node: "n2", Incarnation: "new"}, {Node: "n3", Incarnation: "c"}} {
				out = append(out, catalog.Replica{Member: m, Voter: true})
			}
			if leaving {
				out = append(out, catalog.Replica{Member: catalog.Member{Node: "n2", Incarnation: "old"}, Voter: true, Leaving: true})
			}
			return out
		}
		for _, leaving := range []bool{false, true} {
			table := &catalog.Table{TableSpec: catalog.TableSpec{Name: "events", Replicas: 3, Schema: &schema.Schema{}}, Partitions: []catalog.Partition{{Tablets: []catalog.TabletID{7}}}}
			view := &catalog.Snapshot{Tables: []*catalog.Table{table}}
			for _, id := range []catalog.TabletID{catalog.SystemTablet, 7} {
				view.Tablets = append(view.Tablets, &catalog.Tablet{ID: id, Replicas: replicas(leaving && id == tablet)})
			}
			locals := map[string]api.Local{}
			for _, node := range []string{"n1", "n2", "n3"} {
				locals[node] = api.Local{Node: api.Node{ID: node, State: api.StateUp}, Replicas: map[string]api.Replica{
					"7": {Node: node, State: api.ReplicaRunning, Leader: node == "n1"},
				}}
			}
			var s api.Status
			(&Node{options: Options{Config: &configs.Config{}}}).tabletStatus(&s, view, locals)
			if got := slices.ContainsFunc(s.Reasons, func(r string) bool { return strings.HasPrefix(r, name) }); got != leaving || len(s.Reasons) > 1 {
				t.Errorf("%s, leaving %v: reasons %q", name, leaving, s.Reasons)
			}
		}
	}
}
