package wal

import (
	"fmt"
	"maps"
	"slices"
)

// GroupLog is the log of one group, and its stable values. Its methods may be called from any
// goroutine; those that write take effect in the order in which they were called.
type GroupLog struct {
	wal *WAL
	id  uint64

	// What is durable; guarded by WAL.mu. Entries below first, if there are any, were cut, and are
	// held until the record that says so is durable.
	first, next uint64 // [first, next) can be read
	base        uint64 // index of entries[0]
	entries     []position
	values      map[string][]byte
	state       *segment // that has the newest record of the group's state; nil for none
	dropped     bool
	dropSegment uint64 // where it was dropped: older segments may have records of it
	dirty       bool   // is in WAL.mu.dirty

	// What will be when all of the drain in hand is durable; the writer's own.
	planned      groupState
	statePlanned bool // the drain in hand has the group's state
}

// position is where an entry is in the files.
type position struct {
	segment *segment
	offset  int64
	size    int32   // of at most recordBytesMax
	kind    uint8   // of the record
	cached  *cached // nil when it must be read
}

// Append writes entries and returns when they are durable. The first one must follow the last one
// that the log had, see TruncateAfter and Reset; in a log that never had one it may be any.
func (g *GroupLog) Append(records []Record) error {
	if len(records) == 0 {
		return nil
	}
	r := &request{group: g, kind: appendRequest, records: records, sums: make([]uint32, len(records))}
	for i := range records {
		if want := records[0].Index + uint64(i); records[i].Index != want {
			return fmt.Errorf("wal: group %d: append %d, want %d", g.id, records[i].Index, want)
		}
		if recordSize(&records[i]) > recordBytesMax {
			return fmt.Errorf("wal: group %d: append %d: %d bytes, want at most %d",
				g.id, records[i].Index, recordSize(&records[i]), recordBytesMax)
		}
		// Here and not in the writer, so that many appenders do it at once.
		r.sums[i] = payloadCRC(&records[i])
	}
	return g.wal.do(r)
}

// TruncateAfter removes the entries above index, and returns when that is durable.
func (g *GroupLog) TruncateAfter(index uint64) error {
	return g.wal.do(&request{group: g, kind: truncateRequest, index: index})
}

// Reset removes all entries, and returns when that is durable. The next one appended is first.
func (g *GroupLog) Reset(first uint64) error {
	return g.wal.do(&request{group: g, kind: resetRequest, index: first})
}

// Set stores a value, and returns when it is durable. A nil value removes the key.
func (g *GroupLog) Set(key string, value []byte) error {
	return g.wal.do(&request{group: g, kind: setRequest, key: key, value: slices.Clone(value)})
}

// Value returns what Set stored, nil if there is nothing. It must not be changed.
func (g *GroupLog) Value(key string) []byte {
	g.wal.mu.Lock()
	defer g.wal.mu.Unlock()
	return g.values[key]
}

// Drop removes all of a group, entries and values, and returns when that is durable. The group may
// be used again, it is then a new one.
func (w *WAL) Drop(id uint64) error {
	return w.do(&request{group: w.Group(id), kind: dropRequest})
}

// CutBelow removes the entries below index, or all if there are no others. They are gone at once,
// but only what is written next makes that durable: after a crash some may be back.
func (g *GroupLog) CutBelow(index uint64) error {
	w := g.wal
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.err != nil {
		return w.mu.err
	}
	if index = min(index, g.next); index <= g.first {
		return nil
	}
	for i := g.first; i < index; i++ {
		p := &g.entries[i-g.base]
		w.mu.cache.remove(p.cached)
		p.cached = nil
	}
	g.first = index
	w.markLocked(g)
	return nil
}

// markLocked has the group's state written with the next drain.
func (w *WAL) markLocked(g *GroupLog) {
	if !g.dirty {
		g.dirty = true
		w.mu.dirty = append(w.mu.dirty, g)
	}
}

// First returns the index of the first entry, 0 when the log is empty.
func (g *GroupLog) First() uint64 {
	g.wal.mu.Lock()
	defer g.wal.mu.Unlock()
	if g.first == g.next {
		return 0
	}
	return g.first
}

// Last returns the index of the last entry, 0 when the log is empty.
func (g *GroupLog) Last() uint64 {
	g.wal.mu.Lock()
	defer g.wal.mu.Unlock()
	if g.first == g.next {
		return 0
	}
	return g.next - 1
}

// Next returns the index that the next entry must have, 0 when it may be any.
func (g *GroupLog) Next() uint64 {
	g.wal.mu.Lock()
	defer g.wal.mu.Unlock()
	return g.next
}

// Get returns an entry, from memory or from the file. It returns ErrNotFound as it is.
func (g *GroupLog) Get(index uint64) (Record, error) {
	p, ok := g.find(index)
	if !ok {
		return Record{}, ErrNotFound
	}
	if p.cached != nil {
		return p.cached.record, nil
	}
	r, err := g.read(p, index)
	if err == nil {
		return r, nil
	}
	// The entry may have been cut, and its file used for something else, while it was read.
	if again, ok := g.find(index); !ok || again.segment != p.segment || again.offset != p.offset {
		return Record{}, ErrNotFound
	}
	return Record{}, err
}

// Kind returns an entry's kind, which is known without reading the entry.
func (g *GroupLog) Kind(index uint64) (kind uint8, ok bool) {
	p, ok := g.find(index)
	return p.kind, ok
}

// Bytes is how long the entries from index on are in the files.
func (g *GroupLog) Bytes(index uint64) (n int64) {
	g.wal.mu.Lock()
	defer g.wal.mu.Unlock()
	for i := max(index, g.first); i < g.next; i++ {
		n += int64(g.entries[i-g.base].size)
	}
	return n
}

// Reach returns the last of the entries from index on that are together not longer than bytes, at least index itself.
func (g *GroupLog) Reach(index uint64, bytes int64) uint64 {
	g.wal.mu.Lock()
	defer g.wal.mu.Unlock()
	last := index
	for i := max(index, g.first); i < g.next; i++ {
		if bytes -= int64(g.entries[i-g.base].size); bytes < 0 {
			break
		}
		last = i
	}
	return last
}

func (g *GroupLog) find(index uint64) (position, bool) {
	g.wal.mu.Lock()
	defer g.wal.mu.Unlock()
	if index < g.first || index >= g.next {
		return position{}, false
	}
	return g.entries[index-g.base], true
}

// read reads an entry from its file. One buffer serves its header and its bytes, which so begin at
// a multiple of 8 in memory as they do in the file.
func (g *GroupLog) read(p position, index uint64) (Record, error) {
	b := make([]byte, p.size)
	if n, err := p.segment.slot.file.ReadAt(b, p.offset); n < len(b) {
		return Record{}, fmt.Errorf("wal: group %d: read %d from %s at %d: %w", g.id, index, p.segment.slot.name, p.offset, err)
	}
	r, err := parseRecord(b, p.segment.seed)
	if err == nil && (r.typ != entryRecord || r.group != g.id || r.Index != index) {
		err = fmt.Errorf("entry %d of group %d, want %d of %d", r.Index, r.group, index, g.id)
	}
	if err != nil {
		return Record{}, Problem{File: p.segment.slot.name, Offset: p.offset, Text: err.Error()}
	}
	return r.Record, nil
}

// appendLocked adds an entry behind the last one.
func (g *GroupLog) appendLocked(r Record, p position) {
	must(g.next == 0 || r.Index == g.next, "group %d: append %d, want %d", g.id, r.Index, g.next)
	if g.next == 0 {
		g.first = r.Index
	}
	if len(g.entries) == 0 {
		g.base = r.Index
	}
	p.segment.refs++
	g.entries = append(g.entries, p)
	g.next = r.Index + 1
	g.dropped = false
}

// truncateLocked removes the entries at and above next.
func (g *GroupLog) truncateLocked(next uint64) {
	for len(g.entries) > 0 && g.next > next {
		last := len(g.entries) - 1
		g.forgetLocked(&g.entries[last])
		g.entries = g.entries[:last]
		g.next--
	}
	g.next = next
	g.first = min(g.first, next)
}

// releaseLocked lets go of the entries below first, which must have been cut.
func (g *GroupLog) releaseLocked(first uint64) {
	n := 0
	for n < len(g.entries) && g.base+uint64(n) < first {
		g.forgetLocked(&g.entries[n])
		n++
	}
	g.base += uint64(n)
	g.entries = g.entries[n:]
	if n > 0 && cap(g.entries) > 64 && len(g.entries) < cap(g.entries)/4 {
		g.entries = slices.Clone(g.entries)
	}
}

func (g *GroupLog) forgetLocked(p *position) {
	g.wal.mu.cache.remove(p.cached)
	p.segment.refs--
	*p = position{}
}

// setStateLocked makes a state that is durable in seg the group's. Its first may be behind a cut
// that came later, unless reset says that nothing of the old log counts.
func (g *GroupLog) setStateLocked(s groupState, seg *segment, reset bool) {
	if reset || s.dropped {
		g.truncateLocked(0)
		g.entries, g.first, g.next = nil, s.first, s.next
	} else {
		g.truncateLocked(min(g.next, s.next))
		g.first = min(max(g.first, s.first), s.next)
		g.next = s.next
		g.releaseLocked(s.first)
	}
	g.values = s.values
	g.moveStateLocked(seg)
	if s.dropped && !g.dropped {
		g.dropSegment = seg.number
	}
	g.dropped = s.dropped
}

// moveStateLocked makes seg, nil for none, the segment that is needed for the group's state.
func (g *GroupLog) moveStateLocked(seg *segment) {
	if g.state != nil {
		g.state.refs--
		g.state.states--
	}
	g.state = seg
	if seg != nil {
		seg.refs++
		seg.states++
	}
}

// withValue returns values with one changed.
func withValue(values map[string][]byte, key string, value []byte) map[string][]byte {
	values = maps.Clone(values)
	if values == nil {
		values = map[string][]byte{}
	}
	if value == nil {
		delete(values, key)
	} else {
		values[key] = value
	}
	return values
}
