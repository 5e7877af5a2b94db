package connector

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/connector/query"
	"nyala/offsets"
	"nyala/raftlog"
)

// awaitCalm waits until the cluster is healthy and no connector lags.
func (s *simulation) awaitCalm(id string) api.Status {
	s.t.Helper()
	var st api.Status
	for end := time.Now().Add(endLimit); ; time.Sleep(500 * time.Millisecond) {
		st = s.nodes[id].status(context.Background())
		lag := int64(0)
		for _, c := range st.Connectors {
			lag += c.LagRecords
		}
		if st.Healthy && lag == 0 {
			return st
		}
		if time.Now().After(end) {
			s.t.Fatalf("not calm: lag %d, reasons %v, connectors %+v", lag, st.Reasons, st.Connectors)
		}
	}
}

// compareReplicas holds each replica's rows against the truth; then it flushes everything and holds the
// replicas' files against each other.
func (s *simulation) compareReplicas() {
	s.t.Helper()
	gaps, err := s.readGaps("n1")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, table := range s.tables() {
		at, _, err := s.nodes["n1"].settle(context.Background(), table, 0, func(*catalog.Snapshot, *catalog.Table) []catalog.TabletID {
			return s.tablets("n1", table)
		})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, id := range s.ids() {
			rows, err := s.localRows(id, table, at)
			if err == nil {
				err = s.checkTable(table, rows, s.final(gaps))
			}
			if err == nil {
				err = s.compareLedgers(id, table)
			}
			if err != nil {
				s.t.Fatalf("replicas of %s: %v", id, err)
			}
		}
	}
	if slices.ContainsFunc(s.streams, func(st *stream) bool { return st.short }) {
		time.Sleep(75 * time.Second) // the history of what was read ends, and files leave out what died in it
	}
	s.flushAll()
	status := s.awaitCalm("n1")
	s.checkMembers()
	s.checkSums()
	compared := 0
	for _, tablet := range status.Tablets {
		slices.SortFunc(tablet.Replicas, func(a, b api.Replica) int { return int(a.DurableIndex) - int(b.DurableIndex) })
		for i := 1; i < len(tablet.Replicas); i++ {
			a, b := tablet.Replicas[i-1], tablet.Replicas[i]
			if a.DurableIndex != b.DurableIndex {
				continue
			}
			compared++
			if a.Hash != b.Hash {
				s.t.Fatalf("tablet %s at durable index %d: %s has %s, %s has %s", tablet.ID, a.DurableIndex, a.Node, a.Hash, b.Node, b.Hash)
			}
		}
	}
	if compared < len(status.Tablets) {
		s.t.Fatalf("of %d tablets only %d pairs of replicas are durable to the same index", len(status.Tablets), compared)
	}
}

// flushAll has everything in files on every node. To wait for that, up to minutes where flushes are rare, would cost a
// third of a seed.
func (s *simulation) flushAll() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, id := range s.ids() {
		g.Go(func() error { return s.nodes[id].Checkpoint(ctx) })
	}
	if err := g.Wait(); err != nil {
		s.t.Fatal(err)
	}
}

// checkSums wants no replica to have found itself different from its leader when files were installed.
func (s *simulation) checkSums() {
	s.t.Helper()
	for _, id := range s.ids() {
		if s.nodes[id] == nil {
			continue
		}
		for _, t := range s.nodes[id].tablets.Tablets() {
			if err := t.Status().Differs; err != nil {
				s.t.Fatalf("%s: %v", id, err)
			}
		}
	}
}

// checkMembers wants every group to have as many nodes as it should, each as it is now and as a voter, and nobody else but
// who follows the system group; and the catalog to say so.
func (s *simulation) checkMembers() {
	s.t.Helper()
	view := s.nodes["n1"].catalog.Snapshot()
	for _, t := range view.Tablets {
		var want []raftlog.Member
		for _, r := range t.Replicas {
			want = append(want, raftlog.Member{Node: r.Node, Incarnation: r.Incarnation, Voter: true})
			if !r.Voter || r.Leaving || r.Incarnation != s.nodes[r.Node].identity.Incarnation {
				s.t.Fatalf("tablet %d has the replica %+v, and the node is %s", t.ID, r, s.nodes[r.Node].identity.Incarnation)
			}
		}
		number := s.config.Cluster.Replicas
		if t.ID == catalog.SystemTablet {
			number = min(3, len(s.ids()))
		}
		for _, m := range want {
			members := s.nodes[m.Node].groupOf(t.ID).Members()
			members = slices.DeleteFunc(members, func(m raftlog.Member) bool { return !m.Voter && t.ID == catalog.SystemTablet })
			slices.SortFunc(members, func(a, b raftlog.Member) int { return strings.Compare(a.Node, b.Node) })
			if !slices.Equal(members, want) || len(want) != number {
				s.t.Fatalf("tablet %d: members %v on %s, replicas in the catalog %v, want %d", t.ID, members, m.Node, want, number)
			}
		}
	}
}

func (s *simulation) tablets(id, table string) []catalog.TabletID {
	t, ok := s.nodes[id].catalog.Snapshot().Table(table)
	if !ok {
		s.t.Fatalf("%s does not know the table %s", id, table)
	}
	var ids []catalog.TabletID
	for _, p := range t.Partitions {
		ids = append(ids, p.Tablets...)
	}
	return ids
}

// holder is the node itself if it has a replica of the tablet, else the first that has one.
func (s *simulation) holder(id string, tablet catalog.TabletID) *Node {
	t, ok := s.nodes[id].catalog.Snapshot().Tablet(tablet)
	if !ok || len(t.Replicas) == 0 || slices.ContainsFunc(t.Replicas, func(r catalog.Replica) bool { return r.Node == id }) {
		return s.nodes[id]
	}
	return s.nodes[t.Replicas[0].Node]
}

// localRows reads a node's own replicas as of a settled timestamp; of tablets that it has not, another's.
func (s *simulation) localRows(id, table string, at int64) (map[int64]row, error) {
	n := s.nodes[id]
	t, ok := n.catalog.Snapshot().Table(table)
	for end := time.Now().Add(time.Minute); !ok; t, ok = n.catalog.Snapshot().Table(table) {
		if time.Now().After(end) {
			return nil, fmt.Errorf("%s does not know the table", id)
		}
		time.Sleep(100 * time.Millisecond)
	}
	plan, err := query.Bind(table, t.Schema, query.Request{Columns: rowColumns})
	if err != nil {
		return nil, err
	}
	rows := map[int64]row{}
	for _, tablet := range s.tablets(id, table) {
		n := s.holder(id, tablet)
		r := n.replica(tablet)
		for end := time.Now().Add(time.Minute); r == nil || r.tablet.LastTimestamp() < at; r = n.replica(tablet) {
			if time.Now().After(end) {
				return nil, fmt.Errorf("tablet %d of %s is behind %d: %+v", tablet, id, at, r)
			}
			time.Sleep(100 * time.Millisecond)
		}
		scan, err := n.scan(context.Background(), r, plan, at, false)
		if err != nil {
			return nil, fmt.Errorf("tablet %d of %s: %w", tablet, id, err)
		}
		part, err := readRows(scan)
		scan.Close()
		if err != nil {
			return nil, err
		}
		for key, r := range part {
			if old, twice := rows[key]; twice {
				return nil, &wrongRows{fmt.Sprintf("key %d is there twice: from %v and from %v", key, old.place, r.place)}
			}
			rows[key] = r
		}
	}
	return rows, nil
}

// takeLedger reads the ledger of some tablet through its log, if it can: what was seen there of a source is never unseen.
func (s *simulation) takeLedger() {
	id, table := s.anyNode(), s.streams[s.rng.IntN(len(s.streams))].table
	n := s.nodes[id]
	if n == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookLimit)
	defer cancel()
	at, tablets, err := n.settle(ctx, table, 0, func(_ *catalog.Snapshot, t *catalog.Table) []catalog.TabletID {
		if len(t.Partitions) == 0 {
			return nil
		}
		return t.Partitions[0].Tablets[:1]
	})
	if err != nil || len(tablets) == 0 {
		return
	}
	ledger, err := n.ledgerOf(ctx, tablets[0], at)
	if err != nil {
		return
	}
	now := map[offsets.Source]int64{}
	for _, l := range ledger {
		now[l.source] = l.next
	}
	if err := s.raiseLedger(tablets[0], now); err != nil {
		s.t.Fatalf("read at %s: %v", id, err)
	}
}

func (s *simulation) raiseLedger(tablet catalog.TabletID, now map[offsets.Source]int64) error {
	if s.ledgers[tablet] == nil {
		s.ledgers[tablet] = map[offsets.Source]int64{}
	}
	for source, was := range s.ledgers[tablet] {
		if now[source] < was {
			return fmt.Errorf("the ledger of tablet %d went back from %d to %d of %v", tablet, was, now[source], source)
		}
	}
	for source, next := range now {
		s.ledgers[tablet][source] = next
	}
	return nil
}

// compareLedgers holds the ledgers of a node's replicas against all that was seen of them before.
func (s *simulation) compareLedgers(id, table string) error {
	for _, tablet := range s.tablets(id, table) {
		r := s.holder(id, tablet).replica(tablet)
		now := map[offsets.Source]int64{}
		for source, next := range r.tablet.Ledger().All() {
			now[source] = next
		}
		if err := s.raiseLedger(tablet, now); err != nil {
			return err
		}
	}
	return nil
}
