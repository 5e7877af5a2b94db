package connector

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/connector/query"
	"nyala/raftlog"
	"nyala/store/batch"
)

// row is what a table has for a key.
type row struct {
	place
	hash uint64
}

var rowColumns = []string{"id", "text", "kafka_partition", "kafka_offset"}

// readRows reads a stream's rows by key.
func readRows(in query.Stream) (map[int64]row, error) {
	rows := map[int64]row{}
	err := pour(in, func(b *batch.Batch) error {
		for i := range b.Rows {
			id := b.Columns[0].Int(i)
			r := row{place{int32(b.Columns[2].Int(i)), b.Columns[3].Int(i)}, hashOf(b.Columns[1].Bytes(i))}
			if old, twice := rows[id]; twice {
				return &wrongRows{fmt.Sprintf("key %d is there twice: from %v and from %v", id, old.place, r.place)}
			}
			rows[id] = r
		}
		return nil
	})
	return rows, err
}

// wrongRows is a violation that no waiting mends.
type wrongRows struct{ text string }

func (e *wrongRows) Error() string { return e.text }

// lostRange is a row of nyala.gaps.
type lostRange struct {
	partition   int32
	first, next int64
}

// check holds the rows of a table against its stream. All records below the floor of their partition have had
// their effect; behind it some have, in the order of their partition.
func (s *stream) check(rows map[int64]row, floor func(partition int32) int64, gaps []lostRange) error {
	for id := range rows {
		if _, ok := s.keys[id]; !ok {
			return &wrongRows{fmt.Sprintf("%s: key %d was never produced", s.name, id)}
		}
	}
	for id, history := range s.keys {
		got, there := rows[id]
		ok := false
		settled := 0 // so many records of the key must have had their effect
		for settled < len(history) && history[settled].offset < floor(history[settled].partition) {
			settled++
		}
		for n := settled; n <= len(history) && !ok; n++ {
			want, exists := s.after(history[:n])
			ok = exists == there && (!exists || want == got)
		}
		if !ok && s.skip && !there && slices.ContainsFunc(gaps, func(g lostRange) bool { return g.covers(history[0].place) }) {
			ok = true
		}
		if !ok && !there {
			return fmt.Errorf("%s: key %d is missing: %v, below the checkpoint: %d", s.name, id, history, settled)
		}
		if !ok {
			return &wrongRows{fmt.Sprintf("%s: key %d is %v, want one of %v from number %d on", s.name, id, got, history, settled)}
		}
	}
	return nil
}

func (g lostRange) covers(p place) bool {
	return g.partition == p.partition && g.first <= p.offset && p.offset < g.next
}

// after is what is there of a key after some of its records.
func (s *stream) after(history []record) (r row, exists bool) {
	if len(history) == 0 {
		return row{}, false
	}
	last := history[len(history)-1]
	if s.write == "insert" {
		last = history[0]
	}
	return row{last.place, last.hash}, !last.deletes
}

// everything is the floor of what is complete.
func everything(int32) int64 { return 1 << 62 }

func (s *simulation) readAt(id, table string, at int64, columns []string, limit time.Duration) (query.Stream, int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	r, err := s.nodes[id].read(ctx, table, query.Request{Columns: columns, At: at})
	if err != nil {
		cancel()
		return nil, 0, err
	}
	return &canceled{r.stream, cancel}, r.timestamp, nil
}

// canceled is a stream that ends its context when it is closed.
type canceled struct {
	query.Stream
	cancel context.CancelFunc
}

func (c *canceled) Close() error {
	defer c.cancel()
	return c.Stream.Close()
}

// snapshot is a table as it was read once: it must read so again.
type snapshot struct {
	stream *stream
	at     int64
	rows   map[int64]row
	from   string
}

// takeSnapshot reads a table in the middle of it all, if it can, and holds it against the checkpoints of before.
func (s *simulation) takeSnapshot() {
	st := s.streams[s.rng.IntN(len(s.streams))]
	id := s.anyNode()
	if s.nodes[id] == nil {
		return
	}
	floors := map[int32]int64{}
	if !st.skip {
		for source, next := range s.marks {
			if source.Connector == st.name {
				floors[source.Partition] = next
			}
		}
	}
	stream, at, err := s.readAt(id, st.name, 0, rowColumns, 3*time.Second)
	if err != nil {
		return // there may be no majority
	}
	defer stream.Close()
	rows, err := readRows(stream)
	if err == nil {
		err = st.check(rows, func(p int32) int64 { return floors[p] }, nil)
		if err != nil {
			s.t.Fatalf("read of %s at %s, at %d: %v", st.name, id, at, err)
		}
		s.snapshots = append(s.snapshots, snapshot{st, at, rows, id})
		return
	}
	if wrong, ok := err.(*wrongRows); ok {
		s.t.Fatalf("read of %s at %s, at %d: %v", st.name, id, at, wrong)
	}
}

// repeatSnapshots reads all snapshots again, each on the replicas of some node.
func (s *simulation) repeatSnapshots() {
	for _, old := range s.snapshots {
		id := s.anyNode()
		rows, err := s.localRows(id, old.stream, old.at)
		if err != nil {
			s.t.Fatalf("snapshot of %s at %d on %s: %v", old.stream.name, old.at, id, err)
		}
		if maps.Equal(rows, old.rows) {
			continue
		}
		for key := range rows {
			if was, there := old.rows[key]; !there || was != rows[key] {
				s.t.Fatalf("snapshot of %s at %d: key %d is %v on %s, was %v (%v) on %s; history %v",
					old.stream.name, old.at, key, rows[key], id, was, there, old.from, old.stream.keys[key])
			}
		}
		s.t.Fatalf("snapshot of %s at %d: %d rows on %s, were %d on %s", old.stream.name, old.at, len(rows), id, len(old.rows), old.from)
	}
}

// checkMarks reads the checkpoints through the log of the system group, if it can: they never go back.
func (s *simulation) checkMarks() {
	for _, id := range s.ids() {
		n := s.nodes[id]
		if n == nil || n.system() == nil {
			continue
		}
		list := catalog.CreateCheckpoints{Checkpoints: n.catalog.Checkpoints()}
		if len(list.Checkpoints) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		r, err := n.propose(ctx, list)
		cancel()
		if err != nil {
			continue
		}
		for i, c := range list.Checkpoints {
			if old := s.marks[c.Source]; r.Values[i] < old {
				s.t.Fatalf("checkpoint of %s went back from %d to %d", c.Source, old, r.Values[i])
			}
			s.marks[c.Source] = r.Values[i]
		}
		return
	}
}

// endLimit is how much of the bubble's time may pass from the end of all faults until everything is read.
const endLimit = 4 * time.Minute

// awaitTruth waits until every table is what was produced and every checkpoint is at the end of its partition.
func (s *simulation) awaitTruth() {
	s.t.Helper()
	s.readEnds()
	s.freeGroups()
	deadline := time.Now().Add(endLimit)
	s.await(deadline, func() error { return s.compareAll("n1") })
	for _, id := range s.ids()[1:] { // their catalogs may still be on the way
		s.await(deadline, func() error { return s.compareTables(id) })
	}
}

// await waits until there is no error; that rows are wrong no waiting mends.
func (s *simulation) await(deadline time.Time, try func() error) {
	s.t.Helper()
	for {
		err := try()
		if err == nil {
			return
		}
		if wrong, ok := err.(*wrongRows); ok {
			s.t.Fatal(wrong)
		}
		if time.Now().After(deadline) {
			st := s.nodes["n1"].status(context.Background())
			s.t.Fatalf("%v; status %v %+v", err, st.Reasons, st.Connectors)
		}
		time.Sleep(250 * time.Millisecond)
	}
}

func (s *simulation) compareAll(id string) error {
	if err := s.compareCheckpoints(id); err != nil {
		return err
	}
	return s.compareTables(id)
}

func (s *simulation) compareTables(id string) error {
	gaps, err := s.readGaps(id)
	if err != nil {
		return err
	}
	for _, st := range s.streams {
		stream, _, err := s.readAt(id, st.name, 0, rowColumns, 20*time.Second)
		if err != nil {
			return err
		}
		rows, err := readRows(stream)
		stream.Close()
		if err == nil {
			err = st.check(rows, everything, gaps[st.name])
		}
		if err != nil {
			return err
		}
	}
	return s.compareLetters(id, gaps)
}

// compareLetters wants each bad record in nyala.dead_letters once, and nothing else there.
func (s *simulation) compareLetters(id string, gaps map[string][]lostRange) error {
	type letter struct {
		connector string
		at        place
	}
	stream, _, err := s.readAt(id, "nyala.dead_letters", 0, []string{"connector", "topic", "partition", "offset"}, 20*time.Second)
	if err != nil {
		return err
	}
	defer stream.Close()
	seen := map[letter]bool{}
	err = pour(stream, func(b *batch.Batch) error {
		for i := range b.Rows {
			l := letter{string(b.Columns[0].Bytes(i)), place{int32(b.Columns[2].Int(i)), b.Columns[3].Int(i)}}
			if seen[l] {
				return &wrongRows{fmt.Sprintf("dead letter %v is there twice", l)}
			}
			seen[l] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, st := range s.streams {
		for at := range st.letters {
			l := letter{st.name, at}
			if !seen[l] && !slices.ContainsFunc(gaps[st.name], func(g lostRange) bool { return g.covers(at) }) {
				return fmt.Errorf("dead letter %v is missing", l)
			}
			delete(seen, l)
		}
	}
	for l := range seen {
		return &wrongRows{fmt.Sprintf("dead letter %v is of a good record", l)}
	}
	return nil
}

// readGaps lists what was lost by connector; each range was really deleted from the log.
func (s *simulation) readGaps(id string) (map[string][]lostRange, error) {
	stream, _, err := s.readAt(id, "nyala.gaps", 0, []string{"connector", "partition", "first", "next"}, 20*time.Second)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	gaps := map[string][]lostRange{}
	err = pour(stream, func(b *batch.Batch) error {
		for i := range b.Rows {
			name := string(b.Columns[0].Bytes(i))
			gaps[name] = append(gaps[name], lostRange{int32(b.Columns[1].Int(i)), b.Columns[2].Int(i), b.Columns[3].Int(i)})
		}
		return nil
	})
	for _, st := range s.streams {
		for _, g := range gaps[st.name] {
			if g.next > st.deleted[g.partition] || g.first >= g.next {
				return nil, &wrongRows{fmt.Sprintf("%s: gap %+v, but the log of the partition begins at %d", st.name, g, st.deleted[g.partition])}
			}
		}
	}
	return gaps, err
}

func (s *simulation) compareCheckpoints(id string) error {
	found := map[string]map[int32]int64{}
	for _, o := range s.nodes[id].offsets(context.Background()) {
		if found[o.Connector] == nil {
			found[o.Connector] = map[int32]int64{}
		}
		found[o.Connector][o.Partition] = max(found[o.Connector][o.Partition], o.Checkpoint)
	}
	for _, st := range s.streams {
		for p, end := range st.ends {
			if got := found[st.name][p]; got != end {
				return fmt.Errorf("%s: checkpoint of partition %d is %d, want %d", st.name, p, got, end)
			}
		}
	}
	return nil
}

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
	for _, st := range s.streams {
		at, _, err := s.nodes["n1"].settle(context.Background(), st.name, 0, func(*catalog.Snapshot, *catalog.Table) []catalog.TabletID {
			return s.tablets("n1", st.name)
		})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, id := range s.ids() {
			rows, err := s.localRows(id, st, at)
			if err == nil {
				err = st.check(rows, everything, gaps[st.name])
			}
			if err != nil {
				s.t.Fatalf("replicas of %s: %v", id, err)
			}
		}
	}
	time.Sleep(2*s.flush.Age + 3*time.Second) // everything is in files
	status := s.awaitCalm("n1")
	s.checkMembers()
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
func (s *simulation) localRows(id string, st *stream, at int64) (map[int64]row, error) {
	n := s.nodes[id]
	t, ok := n.catalog.Snapshot().Table(st.name)
	for end := time.Now().Add(time.Minute); !ok; t, ok = n.catalog.Snapshot().Table(st.name) {
		if time.Now().After(end) {
			return nil, fmt.Errorf("%s does not know the table", id)
		}
		time.Sleep(100 * time.Millisecond)
	}
	plan, err := query.Bind(st.name, t.Schema, query.Request{Columns: rowColumns})
	if err != nil {
		return nil, err
	}
	rows := map[int64]row{}
	for _, tablet := range s.tablets(id, st.name) {
		n := s.holder(id, tablet)
		r := n.replica(tablet)
		for end := time.Now().Add(time.Minute); r == nil || r.tablet.LastTimestamp() < at; r = n.replica(tablet) {
			if time.Now().After(end) {
				return nil, fmt.Errorf("tablet %d of %s is behind %d: %+v", tablet, id, at, r)
			}
			time.Sleep(100 * time.Millisecond)
		}
		scan, err := r.scan(plan, at, false)
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
