package connector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"nyala/connector/catalog"
	"nyala/connector/query"
	"nyala/offsets"
	"nyala/store"
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

// expectation says which records of a stream must have had their effect on its table.
type expectation struct {
	floor func(partition int32) int64 // all below had it; behind it some had, in the order of their partition
	begun map[int32]int64             // records below were never meant for the table; 0 where nothing is said
	gaps  []lostRange
}

func (s *stream) owns(key int64) bool { return key&^(1<<32-1) == s.space }

// checkTable holds the rows of a table against all its streams.
func (s *simulation) checkTable(table string, rows map[int64]row, of func(*stream) expectation) error {
	owned := 0
	for _, st := range s.streams {
		if st.table != table {
			continue
		}
		for id := range rows {
			if st.owns(id) && !st.releases {
				owned++
			}
		}
		check := st.check
		if st.rival != nil {
			check = st.checkRival
		}
		if err := check(rows, of(st)); err != nil {
			return err
		}
	}
	if owned != len(rows) {
		return &wrongRows{fmt.Sprintf("%s: %d rows have keys that were never produced", table, len(rows)-owned)}
	}
	return nil
}

// check holds the rows of a table against one of its streams.
func (s *stream) check(rows map[int64]row, want expectation) error {
	for id := range rows {
		if _, ok := s.keys[id]; !ok && s.owns(id) && !s.isOdd(id) {
			return &wrongRows{fmt.Sprintf("%s: key %d was never produced", s.name, id)}
		}
	}
	for id, history := range s.keys {
		history = slices.DeleteFunc(slices.Clone(history), func(r record) bool { return r.offset < want.begun[r.partition] })
		got, there := rows[id]
		ok := false
		settled := 0 // so many records of the key must have had their effect
		for settled < len(history) && history[settled].offset < want.floor(history[settled].partition) {
			settled++
		}
		for n := settled; n <= len(history) && !ok; n++ {
			should, exists := s.after(history[:n])
			ok = exists == there && (!exists || should == got)
		}
		if !ok && s.skip && !there && slices.ContainsFunc(want.gaps, func(g lostRange) bool { return g.covers(history[0].place) }) {
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

// checkRival holds the rows of a table against a stream whose keys are deleted by another one: a row is of one of the key's inserts, and
// a key that nobody deleted is there if it must be.
func (s *stream) checkRival(rows map[int64]row, want expectation) error {
	if s.releases {
		return nil
	}
	for id, got := range rows {
		if s.isOdd(id) {
			continue
		}
		if !slices.ContainsFunc(s.keys[id], func(r record) bool { return got == row{r.place, r.hash} }) {
			return &wrongRows{fmt.Sprintf("%s: key %d is %v, which is none of %v", s.name, id, got, s.keys[id])}
		}
	}
	for id, history := range s.keys {
		first := history[0]
		if _, there := rows[id]; !there && len(s.rival.keys[id]) == 0 && first.offset < want.floor(first.partition) {
			return fmt.Errorf("%s: key %d is missing: %v", s.name, id, history)
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

// source is a partition of a stream, as checkpoints name it.
func (s *simulation) source(st *stream, partition int32) offsets.Source {
	return offsets.Source{Connector: st.connector, Topic: s.broker.TopicInfo(st.name).TopicID, Partition: partition}
}

// begun says where a stream began, by partition: at 0, or where two that wanted to begin it at once agreed on. It is not
// known when no living node knows it.
func (s *simulation) begun(st *stream) (begun map[int32]int64, known bool) {
	begun, known = map[int32]int64{}, true
	for p := range st.partitions {
		if !st.latest {
			continue
		}
		found := false
		for _, n := range s.nodes {
			first, ok := n.catalog.Begun(s.source(st, p))
			if ok && found && first != begun[p] {
				s.t.Fatalf("%s/%d began at %d and at %d", st.name, p, begun[p], first)
			}
			if ok {
				begun[p], found = first, true
			}
		}
		known = known && found
	}
	return begun, known
}

// snapshot is a table as it was read once: it must read so again.
type snapshot struct {
	table string
	at    int64
	rows  map[int64]row
	from  string
}

// lookLimit is how much of the bubble's time a look in the middle of faults may take: there may be no majority, and waiting for one is
// not what a seed is for.
const lookLimit = time.Second

// takeSnapshot reads a table in the middle of it all, if it can, and holds it against the checkpoints of before.
func (s *simulation) takeSnapshot() {
	table := s.streams[s.rng.IntN(len(s.streams))].table
	id := s.anyNode()
	if s.nodes[id] == nil {
		return
	}
	floors := maps.Clone(s.marks)
	stream, at, err := s.readAt(id, table, 0, rowColumns, lookLimit)
	if err != nil {
		return // there may be no majority
	}
	defer stream.Close()
	rows, err := readRows(stream)
	var wrong *wrongRows
	if err != nil && !errors.As(err, &wrong) {
		return // it ended in the middle
	}
	if err == nil {
		err = s.checkSnapshot(table, rows, floors)
	}
	if err != nil {
		s.t.Fatalf("read of %s at %s, at %d: %v", table, id, at, err)
	}
	s.snapshots = append(s.snapshots, snapshot{table, at, rows, id})
}

// checkSnapshot holds rows that were read in the middle of it all against the checkpoints of before. They say nothing of
// records that were lost, or superseded, before they were read.
func (s *simulation) checkSnapshot(table string, rows map[int64]row, floors map[offsets.Source]int64) error {
	for _, st := range s.streams {
		if _, known := s.begun(st); !known && st.table == table {
			return nil
		}
	}
	return s.checkTable(table, rows, func(st *stream) expectation {
		begun, _ := s.begun(st)
		return expectation{begun: begun, floor: func(p int32) int64 {
			if st.skip || st.compacted {
				return 0
			}
			return floors[s.source(st, p)]
		}}
	})
}

// repeatSnapshots reads all snapshots again, each on the replicas of some node or by way of it.
func (s *simulation) repeatSnapshots() {
	for _, old := range s.snapshots {
		id := s.anyNode()
		rows, err := s.readAgain(id, old)
		if err != nil && s.tooOld(old.table, err) {
			continue
		}
		if err != nil {
			s.t.Fatalf("snapshot of %s at %d on %s: %v", old.table, old.at, id, err)
		}
		if err := s.checkColumns(id, old.table, old.at, 20*time.Second); err != nil {
			s.t.Fatalf("snapshot of %s at %d on %s: %v", old.table, old.at, id, err)
		}
		if maps.Equal(rows, old.rows) {
			continue
		}
		for key := range rows {
			if was, there := old.rows[key]; !there || was != rows[key] {
				s.t.Fatalf("snapshot of %s at %d: key %d is %v on %s, was %v (%v) on %s",
					old.table, old.at, key, rows[key], id, was, there, old.from)
			}
		}
		s.t.Fatalf("snapshot of %s at %d: %d rows on %s, were %d on %s", old.table, old.at, len(rows), id, len(old.rows), old.from)
	}
}

// tooOld tells whether a read was refused because a short history does not reach so far back.
func (s *simulation) tooOld(table string, err error) bool {
	short := slices.ContainsFunc(s.streams, func(st *stream) bool { return st.table == table && st.short })
	return short && (errors.Is(err, store.ErrTooOld) || strings.Contains(err.Error(), "history"))
}

func (s *simulation) readAgain(id string, old snapshot) (map[int64]row, error) {
	if s.rng.IntN(2) == 0 {
		return s.localRows(id, old.table, old.at)
	}
	stream, _, err := s.readAt(id, old.table, old.at, rowColumns, 20*time.Second)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return readRows(stream)
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
		ctx, cancel := context.WithTimeout(context.Background(), lookLimit)
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
		time.Sleep(500 * time.Millisecond)
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
	all := map[string]map[int64]row{}
	for _, table := range s.tables() {
		stream, _, err := s.readAt(id, table, 0, rowColumns, 20*time.Second)
		if err != nil {
			return err
		}
		rows, err := readRows(stream)
		all[table] = rows
		stream.Close()
		if err == nil {
			err = s.checkTable(table, rows, s.final(gaps))
		}
		if err == nil {
			err = s.checkColumns(id, table, 0, 20*time.Second)
		}
		if err != nil {
			return err
		}
	}
	return s.compareLetters(id, gaps, all)
}

func (s *simulation) tables() []string {
	var tables []string
	for _, st := range s.streams {
		if !slices.Contains(tables, st.table) {
			tables = append(tables, st.table)
		}
	}
	return tables
}

// final is what a stream must have come to when all is read.
func (s *simulation) final(gaps map[flow][]lostRange) func(*stream) expectation {
	return func(st *stream) expectation {
		begun, _ := s.begun(st)
		return expectation{floor: everything, begun: begun, gaps: gaps[st.flow()]}
	}
}

// flow names a stream: a topic may have two connectors, and a connector two topics.
type flow struct{ connector, topic string }

func (s *stream) flow() flow { return flow{s.connector, s.name} }

// compareLetters wants each bad record in nyala.dead_letters once, and of the odd ones those that are no rows; nothing else.
func (s *simulation) compareLetters(id string, gaps map[flow][]lostRange, rows map[string]map[int64]row) error {
	stream, _, err := s.readAt(id, "nyala.dead_letters", 0, letterNames, 20*time.Second)
	if err != nil {
		return err
	}
	defer stream.Close()
	seen := map[letter]bool{}
	err = pour(stream, func(b *batch.Batch) error {
		for i := range b.Rows {
			l := letterAt(b, i)
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
	claims, err := s.readClaims(id)
	if err != nil {
		return err
	}
	for l := range claims {
		if !seen[l] {
			return fmt.Errorf("dead letter %v is claimed, and not there", l)
		}
	}
	for _, st := range s.streams {
		begun, _ := s.begun(st)
		for at := range st.letters {
			l := letter{st.flow(), at}
			lost := slices.ContainsFunc(gaps[st.flow()], func(g lostRange) bool { return g.covers(at) })
			if !seen[l] && !lost && at.offset >= begun[at.partition] {
				return fmt.Errorf("dead letter %v is missing", l)
			}
			if _, claimed := claims[l]; claimed {
				return &wrongRows{fmt.Sprintf("dead letter %v is claimed, and can be no row", l)}
			}
			delete(seen, l)
		}
		odd := map[place]bool{}
		for at := range st.odd {
			l := letter{st.flow(), at}
			odd[at] = seen[l]
			delete(seen, l)
		}
		if err := s.compareOdd(id, st, rows[st.table], odd, claims, gaps[st.flow()]); err != nil {
			return err
		}
	}
	for l := range seen {
		return &wrongRows{fmt.Sprintf("dead letter %v is of a good record", l)}
	}
	return nil
}

// readGaps lists what was lost of each stream; each range was really deleted from the log.
func (s *simulation) readGaps(id string) (map[flow][]lostRange, error) {
	stream, _, err := s.readAt(id, "nyala.gaps", 0, []string{"connector", "topic", "partition", "first", "next"}, 20*time.Second)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	gaps := map[flow][]lostRange{}
	err = pour(stream, func(b *batch.Batch) error {
		for i := range b.Rows {
			of := flow{string(b.Columns[0].Bytes(i)), string(b.Columns[1].Bytes(i))}
			gaps[of] = append(gaps[of], lostRange{int32(b.Columns[2].Int(i)), b.Columns[3].Int(i), b.Columns[4].Int(i)})
		}
		return nil
	})
	for _, st := range s.streams {
		for _, g := range gaps[st.flow()] {
			if g.next > st.deleted[g.partition] || g.first >= g.next {
				return nil, &wrongRows{fmt.Sprintf("%s: gap %+v, but the log of the partition begins at %d", st.name, g, st.deleted[g.partition])}
			}
		}
	}
	return gaps, err
}

func (s *simulation) compareCheckpoints(id string) error {
	found := map[offsets.Source]int64{}
	for _, c := range s.nodes[id].catalog.Checkpoints() {
		found[c.Source] = c.Next
	}
	for _, st := range s.streams {
		for p, end := range st.ends {
			if got := found[s.source(st, p)]; got != end {
				return fmt.Errorf("%s by %s: checkpoint of partition %d is %d, want %d", st.name, st.connector, p, got, end)
			}
		}
	}
	return nil
}
