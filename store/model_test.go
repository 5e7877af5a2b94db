package store

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"testing"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// The model test: one log of random commands, applied by three replicas that lag, crash, put Installs off, and are
// restored from each other; and by a model that is a plain list of versions. After every few steps each
// replica must answer every timestamp that it may be asked for as the model does, stand where the model's ledger
// stood at that entry, and have the bytes of every other replica's files.

type version struct {
	key          string
	value        int64
	schema       int // how many columns had been appended for its writer
	birth, death Timestamp
}

// history is what the log has said up to an entry.
type history struct {
	last, horizon Timestamp
	ledger        map[offsets.Source]int64
	outcome       Outcome
	rows, dropped uint32
	schema        int // how many columns have been appended
}

type model struct {
	t        testing.TB
	seed     uint64
	rng      *rand.Rand
	schema   *schema.Schema   // that the tablet was made with
	schemas  []*schema.Schema // that and all after it
	broken   mistake
	log      []Entry // index i+1
	at       []history
	versions []version
	live     map[string]int
	clock    Timestamp
	values   int64
	freezes  []uint64
	pending  []uint64
	files    map[string]rowset.Hash
	replicas []*modelReplica
	fault    error
}

type modelReplica struct {
	fs      *vfs.Mem
	manager *Manager
	tablet  *Tablet
	applied uint64
	durable uint64
}

func newModel(t testing.TB, seed uint64, broken mistake) *model {
	m := &model{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), broken: broken, live: map[string]int{}, clock: 1000, files: map[string]rowset.Hash{}}
	s := modelSchemas()
	m.schema = s[m.rng.IntN(len(s))]
	m.schemas = []*schema.Schema{m.schema}
	for range 3 {
		r := &modelReplica{fs: vfs.NewMem()}
		m.replicas = append(m.replicas, r)
		m.open(r)
	}
	return m
}

func (m *model) failf(format string, args ...any) {
	if m.fault == nil {
		m.fault = fmt.Errorf(format, args...)
	}
}

// open starts a replica from its disk; its goroutine is not run: the test takes its steps.
func (m *model) open(r *modelReplica) {
	var err error
	if r.manager != nil {
		r.manager.cancel()
		<-r.manager.done
	}
	r.manager, err = NewManager(ManagerOptions{FS: r.fs, Dir: "tablets", Workers: 1, FlushBytes: 1 << 40})
	if err != nil {
		m.failf("manager: %w", err)
		return
	}
	r.manager.listAtLeast, r.manager.listAlways, r.manager.filterAfter = 1+int(m.seed%3), true, 2
	r.tablet, err = r.manager.load(Spec{ID: 5, Table: "t", Schema: m.schema}, 0)
	if err != nil {
		m.failf("open: %w", err)
		return
	}
	r.tablet.broken = m.broken
	r.applied = r.tablet.Durable().Index
	if r.applied < r.durable {
		m.failf("durable index fell from %d to %d", r.durable, r.applied)
	}
	r.durable = r.applied
}

func (m *model) close() {
	for _, r := range m.replicas {
		r.manager.cancel()
		<-r.manager.done
	}
}

func (m *model) history() history {
	if len(m.at) == 0 {
		return history{ledger: map[offsets.Source]int64{}}
	}
	return m.at[len(m.at)-1]
}

func (m *model) append(data []byte, stamp Timestamp, h history) {
	if stamp != 0 {
		batch.Stamp(data, stamp)
	}
	m.log = append(m.log, Entry{Index: uint64(len(m.log) + 1), Term: uint64(1 + len(m.log)/7), Data: data})
	m.at = append(m.at, h)
}

// tick picks the stamp of the next entry: clocks may stand still or go back.
func (m *model) tick() (stamp Timestamp, h history) {
	m.clock += int64(m.rng.IntN(4)) - 1
	h = m.history()
	h.last = max(m.clock, h.last+1)
	h.ledger = maps.Clone(h.ledger)
	h.outcome, h.rows, h.dropped = Applied, 0, 0
	return m.clock, h
}

type modelRow struct {
	key     string
	value   int64
	op      batch.Op
	segment uint16
	delta   uint32
	schema  int
}

func (m *model) write() {
	stamp, h := m.tick()
	under := m.writer(&h)
	w := &batch.Write{Header: batch.Header{Kind: batch.KindWrite, SchemaVersion: uint32(1 + under)}}
	var rows []modelRow
	sources := []offsets.Source{{Connector: "a"}, {Connector: "a", Partition: 1}}
	m.rng.Shuffle(2, func(i, j int) { sources[i], sources[j] = sources[j], sources[i] })
	floors := []int64{}
	for i := range m.rng.IntN(3) { // none: rows without origin
		at := h.ledger[sources[i]]
		first := max(0, at+int64(m.rng.IntN(8))-6)
		g := offsets.Segment{Source: sources[i], Range: offsets.Range{First: first, Next: first + int64(m.rng.IntN(7))}}
		if i == 1 && m.rng.IntN(6) == 0 { // a second segment of the same source: the first one counts for it
			before := w.Segments[0]
			at = max(floors[0], before.Next)
			g.Source, g.First = before.Source, before.First+int64(m.rng.IntN(5))
			g.Next = g.First + int64(m.rng.IntN(7))
		}
		if m.rng.IntN(20) == 0 {
			g.Start = g.First // a new owner begins here: no hole
		}
		if g.First > max(at, g.Start) {
			h.outcome = Hole
		}
		w.Segments = append(w.Segments, g)
		floors = append(floors, at)
		for o := g.First; o < g.Next; o++ {
			if m.rng.IntN(4) > 0 {
				rows = append(rows, m.row(under, uint16(i), uint32(o-g.First)))
			}
		}
	}
	if len(w.Segments) == 0 {
		for range m.rng.IntN(4) {
			rows = append(rows, m.row(under, 0, 0))
		}
	}
	if m.rng.IntN(3) > 0 {
		slices.SortStableFunc(rows, func(a, b modelRow) int { return bytes.Compare([]byte(a.key), []byte(b.key)) })
	}
	if h.outcome == Applied {
		for _, r := range rows {
			if len(w.Segments) > 0 && w.Segments[r.segment].First+int64(r.delta) < floors[r.segment] {
				h.dropped++
				continue
			}
			m.truth(r, &h)
		}
		for _, g := range w.Segments {
			h.ledger[g.Source] = max(h.ledger[g.Source], g.Next)
		}
	}
	m.append(m.encode(w, rows), stamp, h)
}

func (m *model) row(under int, segment uint16, delta uint32) modelRow {
	m.values++
	op := []batch.Op{batch.Upsert, batch.Upsert, batch.Insert, batch.Delete}[m.rng.IntN(4)]
	return modelRow{key: string(rune('a' + m.rng.IntN(9))), value: m.values, op: op, segment: segment, delta: delta, schema: under}
}

// truth is the semantics of a row, in one line each.
func (m *model) truth(r modelRow, h *history) {
	old, alive := m.live[r.key]
	if r.op == batch.Insert && alive || r.op == batch.Delete && !alive {
		return
	}
	h.rows++
	if alive {
		m.versions[old].death = h.last
		delete(m.live, r.key)
	}
	if r.op != batch.Delete {
		m.live[r.key] = len(m.versions)
		m.versions = append(m.versions, version{key: r.key, value: r.value, schema: r.schema, birth: h.last})
	}
}

func (m *model) encode(w *batch.Write, rows []modelRow) []byte {
	b := batch.NewBuilder(m.columns(int(w.Header.SchemaVersion)-1), len(rows))
	for i, r := range rows {
		if m.schema.Columns[0].Type.Kind == schema.String {
			b.Columns[0].AppendBytes([]byte(r.key))
		} else {
			b.Columns[0].AppendInt(int64(r.key[0]))
		}
		if r.op == batch.Delete {
			b.Columns[1].AppendNull()
		} else {
			b.Columns[1].AppendInt(r.value)
		}
		if r.value%3 == 0 || r.op == batch.Delete {
			b.Columns[2].AppendNull()
		} else {
			b.Columns[2].AppendBytes(fmt.Append(nil, r.value))
		}
		for k := range b.Columns[3:] {
			b.Columns[3+k].AppendValue(extra(k, r.value, r.op == batch.Delete))
		}
		w.Refs = append(w.Refs, batch.Ref{Row: uint32(i)})
		w.Segment, w.Delta, w.Ops = append(w.Segment, r.segment), append(w.Delta, r.delta), append(w.Ops, r.op)
	}
	w.Batches = []batch.Batch{b.View()}
	if len(rows) == 0 {
		w.Ops = nil
	}
	return batch.AppendWrite(nil, w)
}

func (m *model) freeze() {
	stamp, h := m.tick()
	var after uint64
	if len(m.freezes) > 0 {
		after = m.freezes[len(m.freezes)-1]
	}
	horizon := h.horizon + int64(m.rng.IntN(int(h.last-h.horizon)+5)) - 2
	if h.horizon == 0 {
		horizon = 990 + int64(m.rng.IntN(20))
	}
	if m.rng.IntN(5) > 0 {
		horizon = h.horizon
	}
	if m.rng.IntN(6) == 0 {
		after++
		h.outcome = Superseded
	} else {
		h.horizon = max(h.horizon, min(horizon, h.last))
		index := uint64(len(m.log) + 1)
		m.freezes, m.pending = append(m.freezes, index), append(m.pending, index)
	}
	m.append(freezeCommand{horizon: horizon, after: after}.entry(), stamp, h)
}

// propose appends an Install of what a replica has encoded, as a leader would; sometimes of one that is installed already.
func (m *model) propose(r *modelReplica) {
	frozen := r.tablet.mu.frozen
	for _, i := range m.rng.Perm(len(frozen)) {
		f := frozen[i]
		if f.encoded == nil {
			continue
		}
		stamp, h := m.tick()
		at := slices.Index(m.pending, f.freeze)
		switch {
		case at < 0 || at > 0 && m.broken != anyOrder:
			h.outcome = Superseded
		default:
			m.pending = slices.Delete(slices.Clone(m.pending), at, at+1)
		}
		m.append(r.tablet.installOf(f).entry(), stamp, h)
		return
	}
}

// membership is an entry without a time.
func (m *model) membership() {
	h := m.history()
	h.outcome, h.rows, h.dropped = Applied, 0, 0
	m.append(fmt.Append(make([]byte, 0, 64), "members ", len(m.log)), 0, h)
	m.log[len(m.log)-1].Membership = true
}

// checkDurable compares what the log is cut by with the log.
func (m *model) checkDurable(r *modelReplica) {
	d := r.tablet.Durable()
	want := Durable{Index: d.Index}
	for _, e := range m.log[:d.Index] {
		want.Term = e.Term
		if e.Membership {
			want.Members, want.MembersIndex = e.Data, e.Index
		}
	}
	if d.Term != want.Term || d.MembersIndex != want.MembersIndex || !bytes.Equal(d.Members, want.Members) {
		m.failf("durable: got %+v, want %+v", d, want)
	}
}

func (m *model) apply(r *modelReplica, n int) {
	n = min(n, len(m.log)-int(r.applied))
	if n <= 0 {
		return
	}
	entries := m.log[r.applied : int(r.applied)+n]
	for i, b := range r.tablet.Apply(entries) {
		got, err := ParseResult(b)
		h := m.at[entries[i].Index-1]
		if err != nil || got.Outcome != h.outcome && entries[i].Index > r.tablet.mu.installed || got.Timestamp != h.last || got.Outcome == Applied && (got.Rows != h.rows || got.Dropped != h.dropped) {
			m.failf("entry %d: got %+v %v, want %+v", entries[i].Index, got, err, h)
		}
	}
	r.applied += uint64(n)
	if err := r.tablet.Err(); err != nil {
		m.failf("apply: %w", err)
	}
}

func (m *model) step(r *modelReplica) {
	r.manager.options.IsLeader = func(ID) bool { return false }
	r.manager.options.Fetch = func(_ context.Context, _ ID, name string, off int64) (io.ReadCloser, error) {
		for _, o := range m.replicas {
			if f, err := o.tablet.OpenFile(name, off); err == nil {
				return f, nil
			}
		}
		return nil, errors.New("no replica has it")
	}
	m.chooseEncoder(r)
	if _, err := r.tablet.step(context.Background()); err != nil {
		m.failf("step: %w", err)
	}
	r.durable = max(r.durable, r.tablet.Durable().Index)
	m.checkDurable(r)
	for name, f := range r.tablet.installedFiles() {
		if have, ok := m.files[name]; ok && have != f.hash {
			m.failf("file %s differs between replicas", name)
		}
		m.files[name] = f.hash
	}
}

// chooseEncoder settles whether the replica encodes what is frozen or waits to copy it. It cannot copy what nobody has installed.
func (m *model) chooseEncoder(r *modelReplica) {
	for _, f := range r.tablet.mu.frozen {
		there := slices.ContainsFunc(m.replicas, func(o *modelReplica) bool { _, ok := o.tablet.installedFiles()[parquetName(f.freeze)]; return ok })
		waits := slices.ContainsFunc(r.tablet.mu.waiting, func(w waitingInstall) bool { return w.freeze == f.freeze })
		f.copyFailed = m.rng.IntN(3) == 0 || waits && !there
	}
}

func (m *model) crash(r *modelReplica) {
	r.fs = r.fs.Crash(m.rng, []float64{0, 0.5, 1}[m.rng.IntN(3)])
	m.open(r)
}

// restore copies one replica's manifest to another, which may be empty.
func (m *model) restore(r, from *modelReplica) {
	d, body, err := from.tablet.Manifest()
	if err != nil || r == from {
		return
	}
	if m.rng.IntN(3) == 0 { // a new disk
		r.fs, r.durable, r.applied = vfs.NewMem(), 0, 0
		m.open(r)
	}
	if d.Index <= r.durable {
		return
	}
	fetch := func(_ context.Context, name string, off int64) (io.ReadCloser, error) {
		return from.tablet.OpenFile(name, off)
	}
	if err := r.tablet.Prepare(context.Background(), body, fetch); err != nil {
		m.failf("prepare: %w", err)
		return
	}
	if m.rng.IntN(6) == 0 {
		m.crash(r)
		return
	}
	if err := r.tablet.Restore(d, body); err != nil {
		m.failf("restore: %w", err)
		return
	}
	r.applied, r.durable = d.Index, d.Index
}

// run plays steps and returns the first thing that went wrong.
func (m *model) run(steps int) error {
	for i := 0; i < steps && m.fault == nil; i++ {
		r := m.replicas[m.rng.IntN(3)]
		switch m.rng.IntN(18) {
		case 0, 1, 2, 3, 4:
			m.write()
		case 16:
			m.membership()
		case 17:
			m.schemaChange()
		case 5:
			stamp, h := m.tick()
			to := h.last + int64(m.rng.IntN(4)) - 2
			h.last = max(h.last, to)
			m.append(AdvanceEntry(to), stamp, h)
		case 6:
			m.freeze()
		case 7:
			m.propose(r)
		case 8, 9, 10:
			m.evict(r)
			m.apply(r, 1+m.rng.IntN(8))
		case 11, 12, 13:
			m.step(r)
		case 14:
			m.crash(r)
		case 15:
			if m.rng.IntN(2) == 0 {
				m.restore(r, m.replicas[m.rng.IntN(3)])
			}
		}
		if m.fault == nil && m.rng.IntN(3) == 0 {
			m.check(r)
		}
	}
	m.finish()
	return m.fault
}

// finish brings all replicas to the end of the log and of their work, and restarts them once more.
func (m *model) finish() {
	for _, r := range m.replicas {
		for range 2 {
			if m.fault != nil {
				return
			}
			m.apply(r, len(m.log))
			for k := 0; k < 20 && m.fault == nil; k++ {
				m.step(r)
			}
			m.check(r)
			m.crash(r)
		}
		if m.fault == nil {
			m.apply(r, len(m.log))
			m.check(r)
		}
	}
	if m.fault != nil {
		return
	}
	_, first, _ := m.replicas[0].tablet.Manifest()
	for _, r := range m.replicas[1:] {
		if _, body, _ := r.tablet.Manifest(); !bytes.Equal(body, first) {
			m.failf("manifests differ:\n%s%s", DumpManifest(first), DumpManifest(body))
		}
		names, err := r.fs.List(path.Join("tablets", "5"))
		if err != nil || len(names) != 1+2*len(r.tablet.mu.disks) {
			m.failf("files after a restart: %v %v", names, err)
		}
	}
}

func runModel(t testing.TB, seed uint64, steps int, broken mistake) (err error) {
	m := newModel(t, seed, broken)
	defer m.close()
	defer func() {
		if p := recover(); p != nil {
			if broken == none {
				panic(fmt.Sprintf("seed %d: %v", seed, p))
			}
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return m.run(steps)
}

var seeds = flag.Int("seeds", 150, "how many seeds the model test plays")

func TestModel(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = min(n, 20)
	}
	for seed := range uint64(n) {
		if err := runModel(t, seed, 150, none); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}
