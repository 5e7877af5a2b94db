package store

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/rowset"
)

// scratch is memory that Apply uses again.
type scratch struct {
	hashes []uint64
	older  []place
	floors []int64
	hits   []rowset.Hit
	found  []bool    // keys of which older has the newest version
	skip   []bool    // keys that need not be looked for in a rowset: mayHave
	ranges keyRanges // of the entry's keys
	listed keyRanges // of the DiskRowSets whose keys are in the directory
	sum    uint64    // keeps loads alive that only warm the cache

	resident int64 // bytes that an Apply has added to DiskRowSets
}

// place names a row outside of the MemRowSet. The zero place is none.
type place struct {
	frozen *frozenRowSet
	disk   *diskRowSet
	row    uint32
}

// Stamp sets the timestamp of an entry that this node is about to propose. The leader calls it in log
// order; what is not an entry of ours is left alone.
func (t *Tablet) Stamp(data []byte) {
	if len(data) < batch.HeaderSize {
		return
	}
	now := max(t.manager.options.Now().UnixMicro(), t.LastTimestamp()+1)
	for {
		last := t.stamped.Load()
		if stamp := max(now, last+1); t.stamped.CompareAndSwap(last, stamp) {
			batch.Stamp(data, stamp)
			return
		}
	}
}

// Apply carries out committed entries in their order and returns an encoded Result for each. It depends on the
// state and the entries alone, and touches memory only, unless keys were evicted (evict.go): these it reads.
func (t *Tablet) Apply(entries []Entry) [][]byte {
	results := make([][]byte, len(entries))
	buf := make([]byte, 0, len(entries)*resultBytes)
	t.lockTurn()
	before := t.mu.usage()
	freezes, installs := false, false
	for i, e := range entries {
		frozen, waiting := len(t.mu.frozen), len(t.mu.waiting)
		r := t.apply(e)
		at := len(buf)
		buf = r.Append(buf)
		results[i] = buf[at:len(buf):len(buf)]
		freezes, installs = freezes || len(t.mu.frozen) != frozen, installs || len(t.mu.waiting) != waiting
	}
	t.mu.Lock() // others copy the state meanwhile
	t.mu.resident += t.scratch.resident
	t.mu.Unlock()
	t.scratch.resident = 0
	used := t.mu.usage()
	wake := freezes || installs || t.mu.mem.full()
	t.unlockTurn()
	t.manager.budget.add(used.minus(before))
	if freezes {
		t.manager.reached(FreezeApplied)
	}
	if installs {
		t.manager.reached(InstallApplied)
		t.overtake()
	}
	if wake {
		t.wake()
	}
	return results
}

func (t *Tablet) apply(e Entry) Result {
	s := &t.mu.state
	r := Result{Index: e.Index, Outcome: Applied}
	if s.failed != nil {
		r.Outcome = Failed
		return r
	}
	must(e.Index > s.applied, "store: tablet %d: apply of entry %d at or below %d", t.spec.ID, e.Index, s.applied)
	if e.Membership {
		t.mu.Lock()
		s.members, s.membersAt, s.applied, s.term = e.Data, e.Index, e.Index, e.Term
		t.mu.Unlock()
		r.Timestamp = s.last
		return r
	}
	data := aligned(e.Data)
	if len(data) >= batch.HeaderSize && batch.Kind(data[4]) == batch.KindWrite {
		return t.applyEntry(e, data, r)
	}
	h, body, err := batch.Open(data)
	if err != nil {
		return t.fail(r, err)
	}
	var fresh *memRowSet
	if h.Kind == batch.KindFreeze {
		fresh = t.manager.nextMemRowSet(s.schema, int(s.mem.rows))
		fresh.flushAt = t.nextFlush(s.mem)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Timestamp = max(h.Timestamp, s.last+1)
	s.applied, s.term = e.Index, e.Term
	switch h.Kind {
	case batch.KindFreeze:
		r = t.freezeLocked(body, fresh, r)
	case batch.KindInstall:
		r = t.installLocked(body, r)
	case batch.KindAdvance:
		r = t.advanceLocked(body, r)
	case batch.KindFence:
		r = t.fenceLocked(body, r)
	case batch.KindSchema:
		r = t.schemaLocked(body, r)
	default:
		r.Outcome = Malformed
	}
	s.last = r.Timestamp
	return r
}

// fail stops the tablet: what this replica holds in memory or was given is not what the log says, so
// it must not answer for it. The others go on.
func (t *Tablet) fail(r Result, err error) Result {
	t.log.Error("tablet failed", "index", r.Index, "error", err)
	t.mu.Lock()
	t.mu.failed = fmt.Errorf("store: tablet %d: entry %d: %w", t.spec.ID, r.Index, err)
	t.notifyLocked()
	t.mu.Unlock()
	t.tellFailed()
	r.Outcome = Failed
	return r
}

func (t *Tablet) tellFailed() {
	if t.manager.options.Failed != nil {
		t.manager.options.Failed(t.spec.ID)
	}
}

// aligned returns data at an address that is a multiple of 8, as views of columns need.
func aligned(data []byte) []byte {
	if uintptr(unsafe.Pointer(unsafe.SliceData(data)))&7 == 0 {
		return data
	}
	return append(make([]byte, 0, len(data)+8), data...)
}

func (t *Tablet) advanceLocked(body []byte, r Result) Result {
	to, err := parseAdvance(body)
	if err != nil {
		r.Outcome = Malformed
		return r
	}
	t.mu.commands++
	r.Timestamp = max(r.Timestamp, to)
	return r
}

// fenceLocked makes the ledger refuse older decisions of a connector.
func (t *Tablet) fenceLocked(body []byte, r Result) Result {
	f, err := parseFence(body)
	if err != nil {
		r.Outcome = Malformed
		return r
	}
	t.mu.commands++
	t.mu.ledger.Fence(f)
	return r
}

// schemaLocked appends columns to the table.
func (t *Tablet) schemaLocked(body []byte, r Result) Result {
	s := &t.mu.state
	next, err := parseSchema(body)
	switch {
	case err == nil && next.Version <= s.schema.Version && s.schema.At(next.Version).Equal(next):
		s.commands++ // a second copy
	case err != nil || next.Follows(s.schema) != nil:
		r.Outcome = Malformed
	default:
		s.commands++
		s.schema = next
	}
	return r
}

// freezeLocked ends the MemRowSet; fresh takes its place. What the frozen one's manifest will say is settled here: the state as of this entry.
func (t *Tablet) freezeLocked(body []byte, fresh *memRowSet, r Result) Result {
	s := &t.mu.state
	c, err := parseFreeze(body)
	switch {
	case err != nil:
		r.Outcome = Malformed
		return r
	case c.after != s.lastFreeze: // two saw the same reason at once
		r.Outcome = Superseded
		return r
	}
	s.horizon = max(s.horizon, min(c.horizon, r.Timestamp))
	s.frozen = append(slices.Clip(s.frozen), &frozenRowSet{memRowSet: s.mem, schema: s.schema, freeze: r.Index, manifest: manifest{
		tablet: uint64(t.spec.ID), schema: s.schema.Version, changed: t.changed(s.schema),
		durable:   Durable{Index: r.Index, Term: s.term, Members: s.members, MembersIndex: s.membersAt},
		timestamp: r.Timestamp, horizon: s.horizon, ledger: s.ledger.Clone(),
	}})
	s.mem, s.batches = fresh, nil
	s.pending = append(slices.Clip(s.pending), r.Index)
	s.lastFreeze, s.commands, s.writes = r.Index, 0, 0
	return r
}

// installLocked puts an Install into the wait list. Flushes install in the order of their freezes: one for
// another than the oldest freeze is a leftover of an earlier leader.
func (t *Tablet) installLocked(body []byte, r Result) Result {
	s := &t.mu.state
	if r.Index <= s.installed {
		return r // carried out before the restart
	}
	c, err := parseInstall(body)
	switch {
	case err != nil, len(c.removed) > 0, len(c.added) > 1, len(c.added) == 1 && c.added[0].id != c.freeze:
		r.Outcome = Malformed
	case len(s.pending) == 0 || s.pending[0] != c.freeze && t.broken != anyOrder || !slices.Contains(s.pending, c.freeze):
		r.Outcome = Superseded
	default:
		s.pending = slices.DeleteFunc(slices.Clone(s.pending), func(f uint64) bool { return f == c.freeze })
		s.waiting = append(slices.Clip(s.waiting), waitingInstall{r.Index, c})
	}
	return r
}

// applyEntry carries out a Write. An entry is applied whole or refused whole: if one of its segments
// would leave a hole, or it does not fit the table, nothing but the time changes.
func (t *Tablet) applyEntry(e Entry, data []byte, r Result) Result {
	s := &t.mu.state
	p, err := batch.ParseWrite(data)
	if err != nil {
		if _, _, broken := batch.Open(data); broken != nil {
			return t.fail(r, broken) // the bytes were damaged here: others may have whole ones
		}
	} else {
		r.Timestamp = max(p.Header.Timestamp, s.last+1)
	}
	switch {
	case err != nil:
		r.Outcome, r.Timestamp = Malformed, s.last+1
	case !t.fits(p):
		r.Outcome = Malformed
	default:
		r = t.checkSegments(p, r)
	}
	written := false
	if r.Outcome == Applied && !t.broken.drops(p, s.ledger) {
		if r, err = t.write(p, r, len(data)); err != nil {
			return t.fail(r, err)
		}
		written = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if written {
		s.commands++
		s.writes++
		for _, g := range p.Segments {
			t.broken.advance(s.ledger, g)
		}
		if p.Batch.Rows > 0 {
			s.mem.bytes.Add(entryBytes(data, &p.Batch))
			s.batches = s.mem.batches
		}
	}
	s.last, s.applied, s.term = r.Timestamp, e.Index, e.Term
	return r
}

// fits tells whether an entry's columns are the table's, without nulls where there must be none. An entry may be of an older version
// of the schema: a dead letter that is replayed keeps the row that was decided first, whenever it arrives.
func (t *Tablet) fits(p *batch.Parsed) bool {
	if len(p.Segments) > 0 && p.Segment == nil && !p.Noted && p.Batch.Rows > 0 {
		return false
	}
	if p.Batch.Rows == 0 {
		return true
	}
	s := t.mu.schema
	if p.Header.SchemaVersion < s.Version && t.broken != schemaStrict {
		s = s.At(p.Header.SchemaVersion)
	}
	if len(p.Batch.Columns) != len(s.Columns) {
		return false
	}
	for i := range p.Batch.Columns {
		c, want := &p.Batch.Columns[i], &s.Columns[i]
		if c.ID != want.ID || c.Type != want.Type {
			return false
		}
		if c.Nulls == 0 || want.Nullable {
			continue
		}
		for row := range c.Rows {
			if c.IsNull(row) && (p.Op(row) != batch.Delete || slices.Contains(s.Key, i)) {
				return false
			}
		}
	}
	return true
}

// checkSegments refuses old decisions and holes, and works out for each segment below which offset its rows were seen.
func (t *Tablet) checkSegments(p *batch.Parsed, r Result) Result {
	ledger := t.mu.ledger
	t.scratch.floors = t.scratch.floors[:0]
	for i, g := range p.Segments {
		for _, o := range p.Segments[:i] {
			if o.Source == g.Source { // rare: what the first one brings counts for the second
				ledger = ledger.Clone()
				t.broken.advance(ledger, o)
			}
		}
		err := ledger.Check(g)
		var stale *offsets.StaleError
		if errors.As(err, &stale) {
			r.Outcome, r.Segment = Stale, uint32(i)
			return r
		}
		var hole *offsets.HoleError
		if errors.As(err, &hole) {
			if t.broken == holesTaken {
				err = nil
			} else {
				r.Outcome, r.Segment, r.Next = Hole, uint32(i), hole.Ledger
				return r
			}
		}
		if err != nil {
			r.Outcome = Malformed
			return r
		}
		t.scratch.floors = append(t.scratch.floors, t.broken.floor(g, ledger.Next(g.Source)))
	}
	return r
}

// rowsAhead guesses how many rows the log has from an entry with so many on that are for this MemRowSet, if it is the first one after a
// start: memory that grows while the log is applied again is touched for the first time twice, which costs as much as to apply it.
func (t *Tablet) rowsAhead(rows, bytes int) int {
	ahead := min(t.ahead, t.manager.options.FlushBytes)
	t.ahead = 0
	return int(ahead * int64(rows) / int64(bytes))
}

// write takes a checked entry's rows into the MemRowSet and says of the rows that they replace that they died. Lookups
// are as of the entry's own timestamp, row after row: for upserts of one key the last wins, for inserts the first.
func (t *Tablet) write(p *batch.Parsed, r Result, bytes int) (Result, error) {
	m, n := t.mu.mem, p.Batch.Rows
	if n == 0 {
		return r, nil
	}
	base := m.rows
	must(uint64(base)+uint64(n) < rowsMax, "store: tablet %d: a MemRowSet of %d rows", t.spec.ID, uint64(base)+uint64(n))
	at, ts := m.footprint(), r.Timestamp
	m.reserve(max(n, t.rowsAhead(n, bytes)))
	m.keys.Append(&p.Batch, 0, n)
	x := &t.scratch
	x.hashes = hashKeys(m.keys, int(base), x.hashes[:0])
	x.sum += m.index.touch(x.hashes)
	if err := t.findOlder(&p.Batch, m.keys, int(base)); err != nil {
		return r, err
	}
	m.ranges.join(x.ranges)
	m.batches = append(m.batches, memBatch{&p.Batch, base, ts, p.Sum})
	m.rows += uint32(n)
	for i, h := range x.hashes {
		row := base + uint32(i)
		if p.Segment != nil && p.Offset(i) < x.floors[p.Segment[i]] {
			m.deaths.set(row, ts)
			r.Dropped++
			continue
		}
		slot, old := m.index.find(m.keys, h, m.keys.At(int(row)))
		var alive bool
		if old != 0 {
			alive = m.alive(old-1, ts)
		} else if len(x.older) > 0 {
			alive = x.older[i].alive(ts)
		}
		op := p.Op(i)
		if op == batch.Insert && alive {
			m.deaths.set(row, ts)
			continue
		}
		if alive {
			if old != 0 {
				m.deaths.set(old-1, ts)
			} else {
				t.kill(x.older[i], ts)
			}
		}
		if op == batch.Delete {
			m.deaths.set(row, ts)
			if alive {
				r.Rows++
			}
			continue
		}
		m.index.put(slot, h, row)
		r.Rows++
	}
	m.bytes.Add(m.footprint() - at)
	return r, nil
}
