package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"nyala/offsets"
	"nyala/store/vfs"
)

// TestModel feeds one log to three catalogs: one just applies it, one in batches and crashes now and then, one is
// given the manifest of the first now and then. They stay equal byte for byte, every invariant holds, old
// views stay as they were, and what was promised to callers is kept.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, crashing, installed := newModel(t), newModel(t), newModel(t)
		promises := promises{ranges: map[string]Result{}, checkpoints: map[offsets.Source]int64{}, owners: map[TabletID]string{}}
		var views []*Snapshot
		var texts [][]byte
		steps := rapid.IntRange(5, 120).Draw(t, "steps")
		for i := range steps {
			c := drawCommand(t)
			if i < 4 { // logs begin as a cluster does
				c = []Command{InitCluster{"tracking", "c0ffee", []Member{{"n1", "1"}}}, register(1, 1), register(2, 2), register(3, 3)}[i]
			}
			result := first.propose(c)
			if faults := first.Snapshot().Check(); len(faults) > 0 {
				t.Fatalf("after %s %+v: %v", c.Kind(), c, faults)
			}
			promises.check(t, first.Snapshot(), c, result)
			if rapid.IntRange(0, 9).Draw(t, "view") == 0 {
				text, err := json.Marshal(first.Snapshot())
				if err != nil {
					t.Fatal(err)
				}
				views, texts = append(views, first.Snapshot()), append(texts, text)
			}
			crashing.disturb(t, first)
			installed.install(t, first)
		}
		crashing.catchUp(first)
		installed.catchUp(first)
		want := bytesOf(t, first.Catalog)
		if !bytes.Equal(want, bytesOf(t, crashing.Catalog)) {
			t.Fatal("another state after crashes")
		}
		if !bytes.Equal(want, bytesOf(t, installed.Catalog)) {
			t.Fatal("another state after installs")
		}
		if again, err := parseImage(want); err != nil {
			t.Fatal(err)
		} else if b, err := again.encode(); err != nil || !bytes.Equal(b, want) {
			t.Fatalf("not the same bytes again: %v", err)
		}
		for i, view := range views {
			if text, err := json.Marshal(view); err != nil || !bytes.Equal(text, texts[i]) {
				t.Fatalf("a view of generation %d has changed: %v", view.Generation, err)
			}
		}
	})
}

// modelReplica is a replica on a disk that crashes. rapid.T is no testing.TB for newReplica.
type modelReplica struct {
	*Catalog
	mem *vfs.Mem
	log []Entry
}

func newModel(t *rapid.T) *modelReplica {
	r := &modelReplica{mem: vfs.NewMem()}
	r.open(t)
	return r
}

func (r *modelReplica) open(t *rapid.T) {
	c, err := Open(Options{FS: r.mem, Dir: "node/system"})
	if err != nil {
		t.Fatal(err)
	}
	r.Catalog = c
}

func (r *modelReplica) propose(c Command) Result {
	index := uint64(len(r.log) + 1)
	data, err := Encode(Micros(index), c)
	must(err == nil, "encode: %v", err)
	e := Entry{Index: index, Term: 1 + index/10, Data: data}
	if index%13 == 0 {
		e = Entry{Index: index, Term: e.Term, Membership: true, Data: fmt.Appendf(nil, "members %d", index)}
	}
	r.log = append(r.log, e)
	b := r.Apply([]Entry{e})[0]
	if e.Membership {
		must(b == nil, "a membership has the result %q", b)
		return Result{Code: Stale}
	}
	result, err := ParseResult(b)
	must(err == nil, "result: %v", err)
	return result
}

// catchUp applies what it lacks of the leader's log.
func (r *modelReplica) catchUp(leader *modelReplica) {
	r.Apply(leader.log[r.Applied():])
}

func (r *modelReplica) disturb(t *rapid.T, leader *modelReplica) {
	switch rapid.IntRange(0, 7).Draw(t, "disturb") {
	case 0, 1:
		r.catchUp(leader)
	case 2:
		if err := r.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
	case 3:
		durable := r.Durable().Index
		seed := rapid.Uint64().Draw(t, "crash")
		rng := rand.New(rand.NewPCG(seed, 2))
		r.mem = r.mem.Crash(rng, rng.Float64())
		r.open(t)
		if r.Durable().Index < durable {
			t.Fatalf("durable index went from %d to %d", durable, r.Durable().Index)
		}
	}
}

func (r *modelReplica) install(t *rapid.T, leader *modelReplica) {
	switch rapid.IntRange(0, 11).Draw(t, "install") {
	case 0:
		r.catchUp(leader)
	case 1:
		if err := leader.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		d, manifest, err := leader.Manifest()
		if err == nil {
			err = r.Prepare(t.Context(), manifest)
		}
		if err == nil && d.Index > r.Applied() {
			err = r.Restore(d, manifest)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// promises is what callers were told and rely on.
type promises struct {
	ranges      map[string]Result // by table id and lower bound: tablets that exist, or a final refusal
	checkpoints map[offsets.Source]int64
	owners      map[TabletID]string
}

func (p *promises) check(t *rapid.T, s *Snapshot, c Command, r Result) {
	switch c := c.(type) {
	case CreateTable:
		if r.Code == Done {
			table, _ := s.Table(c.Spec.Name)
			for _, part := range table.Partitions {
				p.own(t, fmt.Sprint(table.ID), part.Tablets)
			}
		}
	case EnsureRange:
		table, ok := s.Table(c.Table)
		if !ok || (r.Code > Unchanged && !r.Code.Final()) {
			return
		}
		low := int64(0)
		if table.Schema.Range != nil {
			low = table.Schema.Range.RangeOf(c.Value)
		}
		key := fmt.Sprint(table.ID, "/", low)
		before, known := p.ranges[key]
		switch {
		case !known:
		case before.Code.Final() && !r.Code.Final():
			t.Fatalf("range %s was refused for ever (%s), and is made", key, before.Reason)
		case !before.Code.Final() && r.Code <= Unchanged && !slices.Equal(before.Tablets, r.Tablets):
			t.Fatalf("range %s has tablets %v, had %v", key, r.Tablets, before.Tablets)
		case !before.Code.Final() && r.Code.Final() && low >= table.Floor:
			t.Fatalf("range %s existed and is refused: %s", key, r.Reason)
		}
		p.ranges[key] = r
		if r.Code == Done {
			p.own(t, key, r.Tablets)
		}
	case CreateCheckpoints:
		p.raise(t, c.Checkpoints, r, false)
	case RaiseCheckpoints:
		p.raise(t, c.Checkpoints, r, true)
	}
}

// own records who a new tablet was made for; an id is never given twice.
func (p *promises) own(t *rapid.T, owner string, ids []TabletID) {
	for _, id := range ids {
		if o, known := p.owners[id]; known {
			t.Fatalf("tablet %d was given to %s, and then to %s", id, o, owner)
		}
		p.owners[id] = owner
	}
}

func (p *promises) raise(t *rapid.T, list []Checkpoint, r Result, up bool) {
	if r.Code > Unchanged {
		return
	}
	for i, c := range list {
		v, known := p.checkpoints[c.Source]
		if !known || (up && c.Next > v) {
			v = c.Next
		}
		p.checkpoints[c.Source] = v
		if r.Values[i] != v {
			t.Fatalf("checkpoint of %s: got %d, want %d", c.Source, r.Values[i], v)
		}
	}
}

func drawMember(t *rapid.T) Member {
	n := rapid.IntRange(1, 5).Draw(t, "node")
	return Member{fmt.Sprintf("n%d", n), fmt.Sprintf("%08x", n+16*rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "incarnation"))}
}

func drawTable(t *rapid.T) string {
	return rapid.SampledFrom([]string{"flat", "events", "events", "events", "none"}).Draw(t, "table")
}

func drawSpec(t *rapid.T) TableSpec {
	name := drawTable(t)
	if name == "flat" {
		return events(name, rapid.IntRange(1, 3).Draw(t, "buckets"), 0)
	}
	spec := events(name, 2, 1)
	spec.Replicas = rapid.SampledFrom([]int{1, 3, 3, 3, 5}).Draw(t, "replicas")
	spec.RangesMax = rapid.IntRange(0, 4).Draw(t, "max")
	return spec
}

func drawCheckpoints(t *rapid.T) []Checkpoint {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Checkpoint {
		s := offsets.Source{Connector: rapid.SampledFrom([]string{"", "c", "writer:b"}).Draw(t, "connector"), Partition: rapid.Int32Range(0, 3).Draw(t, "partition")}
		s.Topic[3] = rapid.Byte().Draw(t, "topic") & 1
		return Checkpoint{s, rapid.Int64Range(0, 50).Draw(t, "next")}
	}), 0, 4).Draw(t, "checkpoints")
}

func drawVersion(t *rapid.T) uint32 { return rapid.Uint32Range(1, 4).Draw(t, "version") }

func drawCommand(t *rapid.T) Command {
	member, tablet := drawMember(t), TabletID(rapid.IntRange(0, 12).Draw(t, "tablet"))
	days := rapid.IntRange(-3, 6).Draw(t, "days")
	switch Kind(rapid.IntRange(1, int(KindSettleTable)+8).Draw(t, "kind")) {
	case KindInitCluster:
		return InitCluster{"tracking", "c0ffee", []Member{member}}
	case KindSetNodeState:
		return SetNodeState{member.Node, member.Incarnation, rapid.SampledFrom([]NodeState{NodeUp, NodeDown, NodeDraining}).Draw(t, "state")}
	case KindCreateTable, KindSettleTable + 1:
		return CreateTable{drawSpec(t)}
	case KindDropTable:
		return DropTable{drawTable(t)}
	case KindEnsureRange, KindSettleTable + 2, KindSettleTable + 3:
		return EnsureRange{drawTable(t), day(days), rapid.Bool().Draw(t, "scheduled")}
	case KindDropRanges:
		return DropRanges{drawTable(t), int64(days) * microsPerDay}
	case KindSetConnector:
		return SetConnector{"c", drawTable(t), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "settings"), rapid.SampledFrom([]Desired{Running, Paused}).Draw(t, "desired")}
	case KindReplaceReplica:
		return ReplaceReplica{tablet, member, drawMember(t)}
	case KindUpdateReplicas:
		group := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Replica {
			return Replica{Member: drawMember(t), Voter: rapid.Bool().Draw(t, "voter")}
		}), 0, 4).Draw(t, "group")
		return UpdateReplicas{tablet, uint64(rapid.IntRange(0, 30).Draw(t, "index")), group}
	case KindCreateCheckpoints:
		return CreateCheckpoints{drawCheckpoints(t)}
	case KindRaiseCheckpoints:
		return RaiseCheckpoints{drawCheckpoints(t)}
	case KindAskFates:
		return AskFates{member, []TabletID{tablet, tablet + 1}}
	case KindChangeSettings:
		return ChangeSettings{"c", drawVersion(t), rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "settings")}
	case KindSettleSettings:
		c := SettleSettings{Connector: "c", Version: drawVersion(t)}
		for _, p := range drawCheckpoints(t) {
			c.From = append(c.From, Position{p.Source.Topic, p.Source.Partition, p.Next})
		}
		return c
	case KindForgetSettings:
		return ForgetSettings{"c", drawVersion(t)}
	case KindChangeTable, KindSettleTable + 4, KindSettleTable + 5:
		c := ChangeTable{Table: drawTable(t), Schema: events("events", 1, 0).Schema}
		if c.Table != "flat" {
			c.Schema = events("events", 2, 1).Schema
		}
		for range drawVersion(t) - 1 { // the one that follows is among them
			c.Schema = wider(c.Schema, fmt.Sprint("extra", c.Schema.Version))
		}
		if rapid.Bool().Draw(t, "connectors") {
			c.Connectors = []ChangeSettings{{"c", drawVersion(t), rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "settings")}}
		}
		return c
	case KindSettleTable, KindSettleTable + 6, KindSettleTable + 7:
		c := SettleTable{Table: drawTable(t), Version: drawVersion(t)}
		if rapid.Bool().Draw(t, "connectors") {
			c.Connectors = []SettleSettings{{"c", drawVersion(t), []Position{{Next: 7}}}}
		}
		return c
	}
	n := drawMember(t)
	return RegisterNode{Name: n.Node, Incarnation: n.Incarnation, Cluster: rapid.SampledFrom([]string{"", "", "c0ffee", "other"}).Draw(t, "cluster"), Rack: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "rack")}
}
