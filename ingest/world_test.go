package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/schema"
)

// world is a Kafka cluster and the tablets of a Nyala cluster in memory, inside a synctest bubble. The tablets
// keep DESIGN's rules: a ledger, the gap check, rows below the ledger dropped. Several connectors, each with a
// Sender of its own, stand for several nodes.
type world struct {
	t       *testing.T
	net     *kfake.VirtualNetwork
	cluster *kfake.Cluster
	admin   *kgo.Client
	logger  *slog.Logger

	mu struct {
		sync.Mutex
		down        bool // the network is
		layouts     map[string]*Layout
		tablets     map[uint64]*tablet
		checkpoints offsets.Checkpoints
		stuck       bool // the system group gives no answer
		write       func(tablet uint64, n int) writeFault
		writes      int
		floor       int64 // ranges below are refused
		held        int64 // bytes acquired
		heldMost    int64
		problems    []string
		low         map[offsets.Source]int64 // greatest checkpoint seen
	}
}

// tablet is one tablet's rows and ledger.
type tablet struct {
	table  string
	ledger offsets.Ledger
	rows   map[string]string // key: rendered cells; by encoded primary key
	count  map[string]int    // "source offset": times that it took effect
	writes int
}

type writeFault uint8

const (
	writeWorks   writeFault = iota
	writeFails              // before it is applied
	writeUnknown            // after it was applied
	writeGone
	writeHole
)

// eventTable is keyed by (tenant, id), four buckets, and records where each row came from.
func eventTable() *schema.Schema {
	s := &schema.Schema{Version: 3, Key: []int{0, 1}, Hash: []int{1}, Buckets: 4, Columns: []schema.Column{
		{Name: "tenant", Type: schema.Type{Kind: schema.Int32}},
		{Name: "id", Type: schema.Type{Kind: schema.Int64}},
		{Name: "text", Type: schema.Type{Kind: schema.String}, Nullable: true},
		{Name: "part", Type: schema.Type{Kind: schema.Int32}},
		{Name: "off", Type: schema.Type{Kind: schema.Int64}},
	}}
	for i := range s.Columns {
		s.Columns[i].ID = schema.ColumnID(i + 1)
	}
	return s
}

const everything = int64(1) << 62

func newWorld(t *testing.T, topics map[string]int32, opts ...kfake.Opt) *world {
	w := &world{t: t, net: &kfake.VirtualNetwork{}, logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if os.Getenv("NYALA_TEST_LOG") != "" {
		w.logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w.mu.layouts, w.mu.tablets, w.mu.low = map[string]*Layout{}, map[uint64]*tablet{}, map[offsets.Source]int64{}
	w.addTable("events", eventTable(), -everything, everything)
	w.addTable(schema.DeadLettersTable, schema.DeadLetters(), -everything, everything)
	w.addTable(schema.GapsTable, schema.Gaps(), -everything, everything)
	opts = append([]kfake.Opt{kfake.NumBrokers(3), kfake.Ports(9092, 9093, 9094), kfake.ListenFn(w.net.Listen)}, opts...)
	for topic, partitions := range topics {
		opts = append(opts, kfake.SeedTopics(partitions, topic))
	}
	var err error
	if w.cluster, err = kfake.NewCluster(opts...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.cluster.Close)
	w.admin, err = kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.Dialer(w.net.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.admin.Close)
	return w
}

func (w *world) addTable(name string, s *schema.Schema, low, high int64) {
	l := &Layout{Schema: s}
	w.mu.layouts[name] = l
	if high != 0 {
		w.addRange(name, low, high)
	}
}

// addRange adds the tablets of one range partition. The caller holds mu or is alone.
func (w *world) addRange(name string, low, high int64) {
	old := w.mu.layouts[name]
	r := RangeTablets{Low: low, High: high}
	for range old.Schema.Buckets {
		id := uint64(len(w.mu.tablets) + 2)
		r.Tablets = append(r.Tablets, id)
		w.mu.tablets[id] = &tablet{table: name, rows: map[string]string{}, count: map[string]int{}}
	}
	l := &Layout{Schema: old.Schema, Ranges: append(append([]RangeTablets(nil), old.Ranges...), r)}
	for i := len(l.Ranges) - 1; i > 0 && l.Ranges[i].Low < l.Ranges[i-1].Low; i-- {
		l.Ranges[i], l.Ranges[i-1] = l.Ranges[i-1], l.Ranges[i]
	}
	w.mu.layouts[name] = l
}

// Layout implements Router.
func (w *world) Layout(table string) (*Layout, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.mu.layouts[table]; l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("no table %s", table)
}

// EnsureRange implements Router.
func (w *world) EnsureRange(_ context.Context, table string, value int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.mu.layouts[table]
	low := l.Schema.Range.RangeOf(value)
	if low < w.mu.floor {
		return fmt.Errorf("below the floor: %w", ErrRangeRefused)
	}
	if l.find(value) < 0 {
		w.addRange(table, low, low+l.Schema.Range.Every)
	}
	return nil
}

func (w *world) problem(format string, args ...any) {
	w.mu.problems = append(w.mu.problems, fmt.Sprintf(format, args...))
}

// write is the Sender's Write.
func (w *world) write(ctx context.Context, id uint64, entry []byte) (Answer, error) {
	if !pause(ctx, time.Duration(1+rand.IntN(5))*time.Millisecond) {
		return Answer{}, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.writes++
	fault := writeWorks
	if w.mu.write != nil {
		fault = w.mu.write(id, w.mu.writes)
	}
	switch fault {
	case writeFails:
		return Answer{}, errors.New("no leader")
	case writeGone:
		return Answer{}, fmt.Errorf("tablet %d: %w", id, ErrTabletGone)
	case writeHole:
		return Answer{Status: Refused}, nil
	}
	a := w.apply(w.mu.tablets[id], entry)
	if fault == writeUnknown {
		return Answer{}, errors.New("connection lost")
	}
	return a, nil
}

func (w *world) apply(t *tablet, entry []byte) Answer {
	p, err := batch.ParseWrite(entry)
	if err != nil {
		w.problem("entry: %v", err)
		return Answer{}
	}
	t.writes++
	for i, s := range p.Segments {
		if err := t.ledger.Check(s); err != nil {
			var stale *offsets.StaleError
			if errors.As(err, &stale) {
				return Answer{Status: Stale, Segment: i}
			}
			var hole *offsets.HoleError
			if !errors.As(err, &hole) {
				w.problem("%v", err)
			}
			return Answer{Status: Refused, Segment: i}
		}
	}
	s := w.mu.layouts[t.table].Schema
	keys := batch.NewKeys(s)
	keys.Append(&p.Batch, 0, p.Batch.Rows)
	a := Answer{}
	for i := range p.Batch.Rows {
		if i > 0 && string(keys.At(i)) < string(keys.At(i-1)) {
			w.problem("rows of an entry are not in key order")
		}
		if p.Segment != nil && p.Offset(i) < t.ledger.Next(p.Segments[p.Segment[i]].Source) {
			a.Seen++
			continue
		}
		if p.Segment != nil {
			t.count[fmt.Sprint(p.Segments[p.Segment[i]].Source, p.Offset(i))]++
		}
		w.applyRow(t, p, i, string(keys.At(i)))
		a.Rows++
	}
	for _, g := range p.Segments {
		t.ledger.Advance(g)
	}
	return a
}

func (w *world) applyRow(t *tablet, p *batch.Parsed, i int, key string) {
	cells := ""
	for c := range p.Batch.Columns {
		col := &p.Batch.Columns[c]
		if c > 0 {
			cells += "|"
		}
		cells += string(schema.AppendText(nil, col.Type, col.Value(i)))
	}
	switch _, there := t.rows[key]; {
	case p.Op(i) == batch.Delete:
		delete(t.rows, key)
	case p.Op(i) == batch.Insert && there:
	default:
		t.rows[key] = cells
	}
}

// connector starts a connector with a Sender of its own: one node.
func (w *world) connector(change ...func(*Options)) *node {
	w.t.Helper()
	n := &node{world: w, sender: NewSender(SenderOptions{Write: w.write, Logger: w.logger})}
	o := Options{
		Name: "app", Topics: []string{"app"}, Table: "events",
		Kafka:    Kafka{Brokers: w.cluster.ListenAddrs(), Dial: w.dial},
		Settings: Settings{Add: map[string]string{"part": "partition", "off": "offset"}},
		Router:   w, Sender: n.sender, Logger: w.logger,
		CreateCheckpoint: w.createCheckpoint, RaiseCheckpoints: w.raiseCheckpoints,
		Acquire: w.acquire, Release: w.release,
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	if n.Connector, err = New(o); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(n.stop)
	return n
}

// node is a connector and the Sender of its node.
type node struct {
	*Connector
	world  *world
	sender *Sender
	once   sync.Once
}

// stop is a graceful stop.
func (n *node) stop() {
	n.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		n.Close(ctx)
		n.sender.Close()
	})
}

// crash ends the node as SIGKILL would.
func (n *node) crash() {
	n.once.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		n.sender.cancel()
		n.Close(ctx)
		n.sender.Close()
	})
}

func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	down := w.mu.down
	w.mu.Unlock()
	if down {
		return nil, errors.New("network is down")
	}
	return w.net.DialContext(ctx, network, address)
}

func (w *world) createCheckpoint(ctx context.Context, sources []offsets.Source, starts []int64) ([]int64, error) {
	if !pause(ctx, time.Millisecond) {
		return nil, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.stuck {
		return nil, errors.New("system group has no leader")
	}
	out := make([]int64, len(sources))
	for i, s := range sources {
		out[i], _ = w.mu.checkpoints.CreateIfAbsent(s, starts[i])
	}
	return out, nil
}

func (w *world) raiseCheckpoints(ctx context.Context, next map[offsets.Source]int64) error {
	if !pause(ctx, time.Millisecond) {
		return ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.stuck {
		return errors.New("system group has no leader")
	}
	for s, n := range next {
		w.mu.checkpoints.Raise(s, n)
	}
	return nil
}

func (w *world) acquire(ctx context.Context, n int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.held += n
	w.mu.heldMost = max(w.mu.heldMost, w.mu.held)
	return nil
}

func (w *world) release(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.held -= n
}

// setWrite says what becomes of the n-th write.
func (w *world) setWrite(f func(tablet uint64, n int) writeFault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.write = f
}

// produce appends n records to one partition; each is a row of its own id. It returns when they are there.
func (w *world) produce(topic string, partition int32, from, n int) {
	w.t.Helper()
	var records []*kgo.Record
	for i := range n {
		id := from + i
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Value: event(partition, id)})
	}
	w.produceRecords(records...)
}

func event(partition int32, id int) []byte {
	return []byte(`{"tenant":` + strconv.Itoa(int(partition)) + `,"id":` + strconv.Itoa(id) + `,"text":"t` + strconv.Itoa(id) + `"}`)
}

func (w *world) produceRecords(records ...*kgo.Record) {
	w.t.Helper()
	if err := w.admin.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// rows is all rows of a table, by tablet and key.
func (w *world) rows(table string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, t := range w.mu.tablets {
		if t.table == table {
			for _, r := range t.rows {
				out = append(out, r)
			}
		}
	}
	return out
}

// await waits in virtual time until ok, and fails the test after two minutes of it.
func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	for range 12000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	w.t.Fatalf("waited in vain: %s", what)
}

func (w *world) awaitRows(n int) {
	w.t.Helper()
	w.await(fmt.Sprintf("%d rows, there are %d", n, len(w.rows("events"))), func() bool { return len(w.rows("events")) >= n })
}

// exactlyOnce holds the tablets against what was produced: every id once with its text, and no offset applied twice.
func (w *world) exactlyOnce(want map[int32][]int) {
	w.t.Helper()
	have := map[string]bool{}
	for _, r := range w.rows("events") {
		have[r] = true
	}
	total := 0
	for partition, ids := range want {
		for off, id := range ids {
			if id < 0 {
				continue // no row there
			}
			total++
			if r := fmt.Sprintf("%d|%d|t%d|%d|%d", partition, id, id, partition, off); !have[r] {
				w.t.Errorf("row %s is missing", r)
			}
		}
	}
	if len(have) != total {
		w.t.Errorf("got %d rows, want %d", len(have), total)
	}
	w.noProblems()
}

func (w *world) noProblems() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.mu.problems {
		w.t.Error(p)
	}
	for id, t := range w.mu.tablets {
		for what, n := range t.count {
			if n != 1 {
				w.t.Errorf("tablet %d: %s was applied %d times", id, what, n)
			}
		}
	}
}

// ids is the offsets 0 to n of a partition that holds the ids 0 to n.
func ids(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func (w *world) checkpoint(partition int32) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s, next := range w.mu.checkpoints.All() {
		if s.Partition == partition {
			return next
		}
	}
	return -1
}

// commit is the group's commit of a partition of topic app, -1 when there is none.
func (w *world) commit(partition int32) int64 {
	w.t.Helper()
	resp, err := kadm.NewClient(w.admin).FetchOffsets(context.Background(), "nyala-app")
	if err != nil {
		w.t.Fatal(err)
	}
	if o, ok := resp.Lookup("app", partition); ok {
		return o.At
	}
	return -1
}

// checkpointed waits until every partition's checkpoint and commit stand at its end.
func (w *world) checkpointed(ends map[int32]int64) {
	w.t.Helper()
	for p, end := range ends {
		w.await(fmt.Sprintf("checkpoint and commit of partition %d at %d", p, end), func() bool {
			return w.checkpoint(p) == end && w.commit(p) == end
		})
	}
}

func (n *node) partition(p int32) *PartitionStatus {
	st := n.Status()
	for i := range st.Partitions {
		if st.Partitions[i].Partition == p {
			return &st.Partitions[i]
		}
	}
	return nil
}

func (w *world) setStuck(stuck bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.stuck = stuck
}

func (w *world) setDown(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.down = down
}

// setCommit commits as an operator's tool does; the group must be empty.
func (w *world) setCommit(topic string, partition int32, at int64) {
	w.t.Helper()
	var o kadm.Offsets
	o.AddOffset(topic, partition, at, -1)
	if err := kadm.NewClient(w.admin).CommitAllOffsets(context.Background(), "nyala-app", o); err != nil {
		w.t.Fatal(err)
	}
}
