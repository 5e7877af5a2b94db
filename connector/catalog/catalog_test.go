package catalog

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nyala/offsets"
	"nyala/store/schema"
	"nyala/store/vfs"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", file, got, want)
	}
}

// replica is a catalog with the log that it was fed.
type replica struct {
	*Catalog
	t   testing.TB
	log []Entry
}

func newReplica(t testing.TB, fsys vfs.FS) *replica {
	t.Helper()
	c, err := Open(Options{FS: fsys, Dir: "node/system"})
	if err != nil {
		t.Fatal(err)
	}
	return &replica{Catalog: c, t: t}
}

// day is a date at noon, in microseconds.
func day(n int) int64 { return int64(n)*microsPerDay + microsPerDay/2 }

// propose appends a command to the log and applies it.
func (r *replica) propose(c Command) Result {
	r.t.Helper()
	index := uint64(len(r.log) + 1)
	data, err := Encode(Micros(1_000_000*index), c)
	if err != nil {
		r.t.Fatal(err)
	}
	e := Entry{Index: index, Term: 1 + index/100, Data: data}
	r.log = append(r.log, e)
	result, err := ParseResult(r.Apply([]Entry{e})[0])
	if err != nil {
		r.t.Fatal(err)
	}
	return result
}

// want proposes a command and demands a code.
func (r *replica) want(code Code, c Command) Result {
	r.t.Helper()
	result := r.propose(c)
	if result.Code != code {
		r.t.Fatalf("%s %+v: got %s (%s), want %s", c.Kind(), c, result.Code, result.Reason, code)
	}
	if faults := r.Snapshot().Check(); len(faults) > 0 {
		r.t.Fatalf("%s %+v: %v", c.Kind(), c, faults)
	}
	return result
}

func (r *replica) initialise(nodes int) {
	r.t.Helper()
	r.want(Done, InitCluster{Name: "tracking", ID: "c0ffee", System: []Member{{"n1", "00000001"}, {"n2", "00000002"}, {"n3", "00000003"}}})
	for i := range nodes {
		r.want(Done, register(i+1, i+1))
	}
}

// register is node n of incarnation i; there are three racks.
func register(n, i int) RegisterNode {
	return RegisterNode{
		Name: fmt.Sprintf("n%d", n), Incarnation: fmt.Sprintf("%08x", i), Cluster: "c0ffee",
		Peer: fmt.Sprintf("10.0.0.%d:7401", n), HTTP: fmt.Sprintf("10.0.0.%d:7481", n), Rack: string(rune('a' + (n-1)%3)),
	}
}

// events is the table of the examples; every is its range in days, or 0.
func events(name string, buckets, every int) TableSpec {
	s := &schema.Schema{
		Version: 1,
		Columns: []schema.Column{
			{ID: 1, Name: "tenant", Type: schema.Type{Kind: schema.Int32}},
			{ID: 2, Name: "event_time", Type: schema.Type{Kind: schema.Timestamp}},
			{ID: 3, Name: "event_id", Type: schema.Type{Kind: schema.Int64}},
			{ID: 4, Name: "url", Type: schema.Type{Kind: schema.String}, Nullable: true},
			{ID: 5, Name: "value", Type: schema.Type{Kind: schema.Float64}, Nullable: true, Default: &schema.Value{Float: 0.5}},
		},
		Key: []int{0, 1, 2}, Hash: []int{2}, Buckets: buckets,
	}
	spec := TableSpec{Name: name, Schema: s, Replicas: 3, History: time.Hour}
	if every > 0 {
		s.Range = &schema.Range{Column: 1, Every: int64(every) * microsPerDay}
		spec.Ahead = 2
	}
	return spec.WithDefaults()
}

func TestLifeOfATable(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.want(NotReady, CreateTable{events("events", 4, 1)})
	r.initialise(2)
	r.want(TooFewNodes, CreateTable{events("flat", 4, 0)})
	r.want(Done, register(3, 3))
	r.want(Unchanged, register(3, 3))
	r.want(Done, CreateTable{events("flat", 4, 0)})
	created := r.want(Done, CreateTable{events("events", 4, 1)})
	r.want(Unchanged, CreateTable{events("events", 4, 1)})
	r.want(TableExists, CreateTable{events("events", 8, 1)})

	made := r.want(Done, EnsureRange{Table: "events", Value: day(20_000)})
	if made.Table != created.Table || made.Low != 20_000*microsPerDay || made.High != 20_001*microsPerDay || len(made.Tablets) != 4 {
		t.Errorf("range: got %+v", made)
	}
	again := r.want(Unchanged, EnsureRange{Table: "events", Value: day(20_000) + 1})
	if !slices.Equal(again.Tablets, made.Tablets) || again.Generation != made.Generation {
		t.Errorf("range again: got %+v, want %+v", again, made)
	}
	before := r.want(Done, EnsureRange{Table: "events", Value: -1})
	if before.Low != -microsPerDay || before.High != 0 {
		t.Errorf("range before 1970: got %+v", before)
	}
	table, _ := r.Snapshot().Table("events")
	for v, want := range map[int64]bool{day(20_000): true, made.Low: true, made.High: false, made.Low - 1: false, 0: false, -1: true, -microsPerDay: true, math.MinInt64: false, math.MaxInt64: false} {
		if p, ok := table.Partition(v); ok != want || (ok && (v < p.Low || v >= p.High)) {
			t.Errorf("partition of %d: got %+v, %v", v, p, ok)
		}
	}
	flat := r.want(Unchanged, EnsureRange{Table: "flat", Value: 7})
	if len(flat.Tablets) != 4 {
		t.Errorf("flat table: got %+v", flat)
	}

	r.want(Malformed, DropRanges{"events", day(20_000)})
	r.want(Done, DropRanges{"events", 20_000 * microsPerDay})
	r.want(BelowFloor, EnsureRange{Table: "events", Value: -1})
	r.want(Unchanged, EnsureRange{Table: "events", Value: day(20_000)})
	r.want(Done, SetConnector{Name: "app", Table: "events", Settings: "x", Desired: Running})
	r.want(TableInUse, DropTable{"events"})
	r.want(Done, SetConnector{Name: "app", Table: "events", Settings: "x", Desired: Paused})
	r.want(Done, DropTable{"events"})
	r.want(TableNotFound, EnsureRange{Table: "events", Value: day(20_000)})
	recreated := r.want(Done, CreateTable{events("events", 4, 1)})
	if recreated.Table == created.Table {
		t.Error("a table id was given twice")
	}
	if ids := r.want(Done, EnsureRange{Table: "events", Value: day(20_000)}).Tablets; slices.Contains(made.Tablets, ids[0]) {
		t.Error("a tablet id was given twice")
	}
}

func TestRangesAreRefusedForEver(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(3)
	spec := events("events", 1, 1)
	spec.RangesMax = 2
	r.want(Done, CreateTable{spec})
	r.want(OutOfBounds, EnsureRange{Table: "events", Value: math.MaxInt64})
	r.want(OutOfBounds, EnsureRange{Table: "events", Value: math.MinInt64})
	r.want(Done, EnsureRange{Table: "events", Value: day(1)})
	r.want(Done, EnsureRange{Table: "events", Value: day(2)})
	first := r.want(TooManyRanges, EnsureRange{Table: "events", Value: day(3)})
	if !first.Code.Final() || first.Generation != r.Snapshot().Generation {
		t.Errorf("refusal: got %+v at %d", first, r.Snapshot().Generation)
	}
	r.want(Done, EnsureRange{Table: "events", Value: day(4), Scheduled: true})
	r.want(Done, DropRanges{"events", 3 * microsPerDay})
	r.want(TooManyRanges, EnsureRange{Table: "events", Value: day(3)})
	r.want(TooManyRanges, EnsureRange{Table: "events", Value: day(3), Scheduled: true})
	r.want(Done, EnsureRange{Table: "events", Value: day(5)})
	for i := range refusedMax - 1 {
		r.propose(EnsureRange{Table: "events", Value: day(10 + i)})
	}
	if full := r.want(RangesFull, EnsureRange{Table: "events", Value: day(9)}); full.Code.Final() {
		t.Error("a refusal that nobody remembers is final")
	}
}

func TestNodesComeBackAsOthers(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(3)
	r.want(WrongCluster, InitCluster{Name: "other", ID: "1", System: []Member{{"n1", "1"}}})
	r.want(Unchanged, InitCluster{Name: "tracking", ID: "2", System: []Member{{"n1", "1"}}})
	foreign := register(4, 4)
	foreign.Cluster = "other"
	r.want(WrongCluster, foreign)
	r.want(Done, CreateTable{events("flat", 2, 0)})
	r.want(Done, SetNodeState{"n3", "00000003", NodeDown})
	r.want(NodeNotFound, SetNodeState{"n3", "00000009", NodeUp})

	fresh := Member{"n3", "00000033"}
	r.want(Done, register(3, 0x33))
	r.want(NodeReplaced, register(3, 3))
	n, _ := r.Snapshot().Node("n3")
	if n.State != NodeUp || !slices.Equal(n.Past, []string{"00000003"}) {
		t.Errorf("node: got %+v", n)
	}
	for _, id := range []TabletID{1, 2, 3} {
		tablet, _ := r.Snapshot().Tablet(id)
		if tablet.BootstrapFor(fresh) != nil {
			t.Errorf("tablet %d may be created by a replica that lost its data", id)
		}
		if got := tablet.BootstrapFor(Member{"n1", "00000001"}); (len(got) == 3) != (id != SystemTablet) {
			t.Errorf("tablet %d: bootstrap %v", id, got)
		}
	}
	commands := Replacements(r.Snapshot())
	if len(commands) != 3 {
		t.Fatalf("replacements: got %+v, want one each of the system group and two tablets", commands)
	}
	for _, c := range commands {
		r.want(Done, c)
	}
	if left := Replacements(r.Snapshot()); len(left) != 0 {
		t.Errorf("replacements again: got %+v", left)
	}
	r.want(Unchanged, commands[2])
	r.want(Conflict, ReplaceReplica{2, Member{"n1", "00000001"}, fresh})
	r.want(Done, register(4, 4))
	r.want(Conflict, ReplaceReplica{2, Member{"n1", "00000001"}, Member{"n4", "00000004"}})

	// The group adds it, promotes it, removes the old one; reports may come late or twice.
	n1, n2, old := Replica{Member: Member{"n1", "00000001"}, Voter: true}, Replica{Member: Member{"n2", "00000002"}, Voter: true}, Replica{Member: Member{"n3", "00000003"}, Voter: true}
	r.want(Done, UpdateReplicas{2, 10, []Replica{n1, n2, old}})
	if tablet, _ := r.Snapshot().Tablet(2); len(tablet.Replicas) != 4 || tablet.Bootstrap != nil {
		t.Errorf("before the join: got %+v", tablet)
	}
	r.want(Done, UpdateReplicas{2, 12, []Replica{old, n2, n1, {Member: fresh}}})
	r.want(Stale, UpdateReplicas{2, 11, []Replica{n1, n2, old}})
	r.want(Unchanged, UpdateReplicas{2, 12, []Replica{n1, n2, old}})
	r.want(Malformed, UpdateReplicas{2, 13, []Replica{n1, n1}})
	r.want(Malformed, UpdateReplicas{2, 13, []Replica{{Member: fresh}}})
	r.want(Done, UpdateReplicas{2, 14, []Replica{n1, n2, {Member: fresh, Voter: true}}})
	tablet, _ := r.Snapshot().Tablet(2)
	if got := replicasText(tablet.Replicas); got != "n1#00000001 n2#00000002 n3#00000033" {
		t.Errorf("replicas: got %s", got)
	}

	// A leader whose catalog was behind added the old one again.
	r.want(Done, UpdateReplicas{2, 15, []Replica{n1, n2, {Member: old.Member}, {Member: fresh, Voter: true}}})
	tablet, _ = r.Snapshot().Tablet(2)
	if got := replicasText(tablet.Replicas); got != "n1#00000001 n2#00000002 n3#00000003(leaving) n3#00000033" {
		t.Errorf("replicas: got %s", got)
	}
	r.want(Done, UpdateReplicas{2, 16, []Replica{n1, n2, {Member: fresh, Voter: true}}})

	// The first incarnation may delete its replica of 2, not those that still wait, nor unknown ones.
	fates := r.want(Unchanged, AskFates{old.Member, []TabletID{0, 1, 2, 3, 4}})
	if !slices.Equal(fates.Tablets, []TabletID{2}) {
		t.Errorf("fates: got %v", fates.Tablets)
	}
	r.want(Done, DropTable{"flat"})
	if fates = r.want(Unchanged, AskFates{old.Member, []TabletID{1, 2, 3, 4}}); !slices.Equal(fates.Tablets, []TabletID{2, 3}) {
		t.Errorf("fates after the drop: got %v", fates.Tablets)
	}
}

func TestReplacementIsReplaced(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(3)
	r.want(Done, CreateTable{events("flat", 1, 0)})
	for _, incarnation := range []int{0x33, 0x34} { // it loses its data again while it joins
		r.want(Done, register(3, incarnation))
		for _, c := range Replacements(r.Snapshot()) {
			r.want(Done, c)
		}
	}
	tablet, _ := r.Snapshot().Tablet(2)
	if got, want := replicasText(tablet.Replicas), "n1#00000001 n2#00000002 n3#00000003(leaving) n3#00000033(leaving) n3#00000034(joining)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestConnectorDecisions(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(3)
	r.want(Done, CreateTable{events("flat", 1, 0)})
	r.want(TableNotFound, SetConnector{Name: "app", Table: "none", Settings: "a", Desired: Running})
	r.want(Malformed, SetConnector{Name: "app", Table: "flat", Settings: "a"})
	r.want(Done, SetConnector{Name: "app", Table: "flat", Settings: "a", Desired: Running})
	r.want(Unchanged, SetConnector{Name: "app", Table: "flat", Settings: "a", Desired: Running})
	r.want(SettingsChanged, SetConnector{Name: "app", Table: "flat", Settings: "b", Desired: Running})
	r.want(Done, SetConnector{Name: "app", Table: "flat", Settings: "a", Desired: Paused})
	if c := r.connector("app"); c.Decision().Version != 1 || c.Desired != Paused {
		t.Errorf("got %+v", c)
	}
}

func (r *replica) connector(name string) *Connector {
	c, ok := r.Snapshot().Connector(name)
	if !ok {
		r.t.Fatalf("there is no connector %s", name)
	}
	return c
}

// TestChangeOfSettings takes a connector through two changes: what each step needs, and what it leaves.
func TestChangeOfSettings(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(3)
	for _, spec := range append(SystemTables(3), events("events", 1, 1), events("other", 1, 1)) {
		r.want(Done, CreateTable{spec})
	}
	r.want(Done, SetConnector{Name: "app", Table: "events", Settings: "a", Desired: Running})
	at := func(partition int32, next int64) Checkpoint {
		return Checkpoint{offsets.Source{Connector: "app", Partition: partition}, next}
	}
	r.want(Done, CreateCheckpoints{[]Checkpoint{at(0, 5), at(1, 90), {offsets.Source{Connector: "ap"}, 99}}})

	r.want(ConnectorNotFound, ChangeSettings{"none", 2, "b"})
	r.want(Stale, ChangeSettings{"app", 3, "b"})
	r.want(Malformed, ChangeSettings{"app", 2, "a"})
	r.want(Stale, SettleSettings{Connector: "app", Version: 2})
	r.want(Done, ChangeSettings{"app", 2, "b"})
	r.want(Unchanged, ChangeSettings{"app", 2, "b"})
	r.want(Conflict, ChangeSettings{"app", 2, "c"})
	r.want(Done, EnsureRange{Table: "other", Value: day(3)})
	r.want(Done, EnsureRange{Table: "events", Value: day(3)}) // a range from between the two steps
	r.want(Stale, SettleSettings{Connector: "app", Version: 3})
	r.want(Done, SettleSettings{Connector: "app", Version: 2, From: []Position{{Partition: 2, Next: 4}, {Partition: 0, Next: 40}, {Partition: 0, Next: 30}, {Partition: 1, Next: 80}}})
	r.want(Unchanged, SettleSettings{Connector: "app", Version: 2})

	want := []Position{{Partition: 0, Next: 40}, {Partition: 1, Next: 90}, {Partition: 2, Next: 4}}
	c := r.connector("app")
	if d := c.Decision(); len(c.Decisions) != 2 || c.Change != nil || d.Version != 2 || d.Settings != "b" || d.Replaced != "a" || !slices.Equal(d.From, want) {
		t.Errorf("got %+v", c)
	}
	for _, tablet := range r.Snapshot().Tablets {
		table, _ := r.Snapshot().TableByID(tablet.Table)
		if fenced := slices.Equal(tablet.Fences, []offsets.Fence{{Connector: "app", Decision: 2}}); table != nil && fenced != (table.Name == "events") {
			t.Errorf("tablet %d of %s is made with the fences %v", tablet.ID, table.Name, tablet.Fences)
		}
	}
	if got, want := len(r.Snapshot().Decides("events")), 2; got != want { // of the table and of the dead letters
		t.Errorf("%d tablets know of decisions, want %d", got, want)
	}

	r.want(Conflict, ForgetSettings{"app", 2})
	r.want(Done, RaiseCheckpoints{[]Checkpoint{at(0, 40), at(1, 95)}})
	r.want(Conflict, ForgetSettings{"app", 2}) // partition 2 has no checkpoint yet
	r.want(Done, ChangeSettings{"app", 3, "a"})
	r.want(Done, SettleSettings{Connector: "app", Version: 3}) // a dropped tablet took its ledger along
	if c = r.connector("app"); !slices.Equal(c.Decision().From, []Position{{Partition: 0, Next: 40}, {Partition: 1, Next: 95}, {Partition: 2, Next: 4}}) {
		t.Errorf("got %+v", c)
	}
	r.want(Done, CreateCheckpoints{[]Checkpoint{at(2, 4)}})
	r.want(Conflict, ForgetSettings{"app", 4})
	r.want(Done, ForgetSettings{"app", 3})
	r.want(Unchanged, ForgetSettings{"app", 3})
	if c = r.connector("app"); len(c.Decisions) != 1 || c.Decision().Version != 3 || c.Decision().Replaced != "b" || len(c.Decision().From) != 3 {
		t.Errorf("got %+v", c)
	}
}

func TestCheckpoints(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(1)
	view := r.Snapshot()
	a, b := offsets.Source{Connector: "app", Partition: 1}, offsets.Source{Connector: "app", Topic: offsets.TopicID{1}}
	r.want(Done, CreateCheckpoints{[]Checkpoint{{b, 100}, {a, 5}}})
	got := r.want(Unchanged, CreateCheckpoints{[]Checkpoint{{a, 7}, {b, 7}}})
	if !slices.Equal(got.Values, []int64{5, 100}) {
		t.Errorf("created again: got %v", got.Values)
	}
	got = r.want(Done, RaiseCheckpoints{[]Checkpoint{{a, 9}, {b, 99}}})
	if !slices.Equal(got.Values, []int64{9, 100}) {
		t.Errorf("raised: got %v", got.Values)
	}
	if v, ok := r.Checkpoint(a); v != 9 || !ok {
		t.Errorf("checkpoint: got %d, %v", v, ok)
	}
	if list := r.Checkpoints(); !slices.Equal(list, []Checkpoint{{a, 9}, {b, 100}}) {
		t.Errorf("list: got %v", list)
	}
	if r.Snapshot() != view {
		t.Error("checkpoints woke the readers of the view")
	}
	if _, err := Encode(0, RaiseCheckpoints{[]Checkpoint{{a, -1}}}); err == nil {
		t.Error("a negative checkpoint was encoded")
	}
}

func TestForeignCommandsAreRefused(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(1)
	before := r.Snapshot()
	good, err := Encode(1, DropTable{"x"})
	if err != nil {
		t.Fatal(err)
	}
	reseal := func(change func(b []byte) []byte) []byte {
		b := change(bytes.Clone(good))
		le.PutUint32(b[12:], commandSum(b))
		return b
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for name, data := range map[string][]byte{
		"empty":         nil,
		"short":         good[:15],
		"flipped":       flipped,
		"version":       reseal(func(b []byte) []byte { b[2] = 2; return b }),
		"kind":          reseal(func(b []byte) []byte { b[3] = 99; return b }),
		"unknown field": reseal(func(b []byte) []byte { return append(b[:commandHeader], `{"table":"x","cascade":true}`...) }),
		"two bodies":    reseal(func(b []byte) []byte { return append(b, "{}"...) }),
	} {
		e := Entry{Index: r.Applied() + 1, Term: 1, Data: data}
		if result, err := ParseResult(r.Apply([]Entry{e})[0]); err != nil || result.Code != Malformed {
			t.Errorf("%s: got %+v, %v", name, result, err)
		}
	}
	if r.Snapshot() != before {
		t.Error("a refused command changed the state")
	}
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t, vfs.NewMem())
		r.initialise(2)
		now := r.Snapshot().Generation
		if s, err := r.Await(t.Context(), now); err != nil || s.Generation != now {
			t.Fatalf("now: %v", err)
		}
		done := make(chan uint64)
		go func() {
			s, err := r.Await(t.Context(), now+2)
			if err != nil {
				t.Error(err)
			}
			done <- s.Generation
		}()
		synctest.Wait()
		r.want(Done, register(3, 3))
		synctest.Wait()
		r.want(Done, register(4, 4))
		if got := <-done; got != now+2 {
			t.Errorf("got generation %d, want %d", got, now+2)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Await(ctx, now+3); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRefusalIsAnError(t *testing.T) {
	var refused *RefusedError
	if err := refuse(TooFewNodes, "got %d", 1).Err(); !errors.As(err, &refused) || refused.Code != TooFewNodes || err.Error() != "catalog: too_few_nodes: got 1" {
		t.Errorf("got %v", err)
	}
	if err := (Result{Code: Unchanged}).Err(); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestDump(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(4)
	for _, spec := range append(SystemTables(3), events("events", 2, 1)) {
		r.want(Done, CreateTable{spec})
	}
	r.want(Done, EnsureRange{Table: "events", Value: day(20_413)})
	r.want(Done, DropRanges{"events", 20_400 * microsPerDay})
	r.want(Done, SetConnector{Name: "app-events", Table: "events", Settings: "f00d", Desired: Running})
	r.want(Done, ChangeSettings{"app-events", 2, "beef"})
	r.want(Done, SettleSettings{"app-events", 2, []Position{{offsets.TopicID{7}, 0, 11}}})
	extra := wider(events("events", 2, 1).Schema, "extra")
	r.want(Done, ChangeTable{"events", extra, []ChangeSettings{{"app-events", 3, "beef"}}})
	r.want(Done, SettleTable{"events", 2, []SettleSettings{{"app-events", 3, nil}}})
	r.want(Done, ChangeTable{"events", wider(extra, "more"), []ChangeSettings{{"app-events", 4, "f00d"}}})
	r.want(Done, SetNodeState{"n2", "00000002", NodeDown})
	r.want(Done, register(3, 0x33))
	for _, c := range Replacements(r.Snapshot()) {
		r.want(Done, c)
	}
	r.want(Done, UpdateReplicas{1, 3, []Replica{{Member: Member{"n1", "00000001"}, Voter: true}, {Member: Member{"n2", "00000002"}, Voter: true}, {Member: Member{"n3", "00000033"}, Voter: true}}})
	r.want(Done, CreateCheckpoints{[]Checkpoint{{offsets.Source{Connector: "app-events", Topic: offsets.TopicID{7}}, 12}, {offsets.Source{Connector: "writer:w"}, 1}}})
	r.Apply([]Entry{{Index: uint64(len(r.log) + 1), Term: 9, Membership: true, Data: []byte("members")}})
	if err := r.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	_, manifest, err := r.Manifest()
	if err == nil {
		err = DumpManifest(manifest, &text)
	}
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "dump", text.String())

	text.Reset()
	for _, e := range r.log {
		if err := DumpCommand(e.Data, &text); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "dump_commands", text.String())
	golden(t, "image", fmt.Sprintf("%q\n", manifest)) // pins the file format
}
