package wal

import (
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"time"
)

type requestKind uint8

const (
	appendRequest requestKind = iota
	truncateRequest
	resetRequest
	setRequest
	dropRequest
)

// request is one caller's wish. The caller waits for done, which gets one answer.
type request struct {
	group    *GroupLog
	kind     requestKind
	records  []Record
	sums     []uint32 // payload checksums of records
	index    uint64
	key      string
	value    []byte
	taken    int // records that are in a drain already; the writer's own
	answered bool
	done     chan error
}

// answer is called with WAL.mu held. It cannot block: done has room for the only answer.
func (r *request) answer(err error) {
	if !r.answered {
		r.answered = true
		r.done <- err
	}
}

// do hands a request to the writer and waits for the answer.
func (w *WAL) do(r *request) error {
	r.done = make(chan error, 1)
	w.mu.Lock()
	err := w.mu.err
	if err == nil && w.mu.closed {
		err = ErrClosed
	}
	if err == nil {
		w.mu.queue = append(w.mu.queue, r)
	}
	w.mu.Unlock()
	if err != nil {
		return err
	}
	signal(w.wake)
	return <-r.done
}

// writer is what the writer goroutine owns. Open fills it before that goroutine begins.
type writer struct {
	segment    *segment // written to; nil or full: a new one is begun
	switchNow  bool     // nothing may be written behind what segment holds
	number     uint64   // the highest segment number there ever was
	sequence   uint64   // of the last drain
	proved     bool     // nothing was written since a drain that says it closes the log
	quarantine []*slot  // free once the header of the next segment is synced; changed with WAL.mu held
	drain      drain    // used again and again
	gather     []byte   // likewise, see slot.write; nil until it is needed
}

// write is the writer goroutine. It ends after Close with what was asked for before it.
func (w *WAL) write() {
	defer close(w.written)
	for {
		for w.takeDrain() {
			w.writeDrain()
		}
		select {
		case <-w.wake:
		case <-w.closing:
			// No request comes any more: do refuses them since before closing was closed.
			for w.takeDrain() {
				w.writeDrain()
			}
			w.writeLast()
			return
		}
	}
}

// step is one record of a drain, and what it does once it is durable.
type step struct {
	group  *GroupLog
	typ    recordType
	record Record
	sum    uint32
	offset int64 // in the file
	state  groupState
	reset  bool
}

// drain is what one write and one sync carry.
type drain struct {
	steps    []step
	requests []*request // to be answered when it is durable
	size     int64      // of its records
	durable  uint64     // the last drain that was known to be synced when this one was begun
	flags    uint32
	scratch  []byte
	iov      [][]byte
}

// takeDrain moves requests from the queue into the drain, up to DrainBytes and at least one record,
// and reports whether there is anything to write.
func (w *WAL) takeDrain() bool {
	d := &w.writer.drain
	clear(d.steps) // the last one's entries are the garbage collector's, if the cache lets them go
	clear(d.iov)
	*d = drain{steps: d.steps[:0], scratch: d.scratch[:0], iov: d.iov[:0]}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.err != nil {
		w.failLocked(w.mu.err)
		return false
	}
	w.mu.inflight = w.mu.inflight[:0]
	for len(w.mu.queue) > 0 && d.size < w.opts.DrainBytes {
		r := w.mu.queue[0]
		if !d.take(r, w.opts.DrainBytes) {
			break
		}
		w.mu.queue = slices.Delete(w.mu.queue, 0, 1)
		if len(d.requests) > 0 && d.requests[len(d.requests)-1] == r {
			w.mu.inflight = append(w.mu.inflight, r)
		}
	}
	if len(d.steps) == 0 && len(d.requests) == 0 {
		return false
	}
	w.takeDirtyLocked()
	d.durable = w.mu.durable
	return true
}

// take adds a request's records, and reports whether all of them are in.
func (d *drain) take(r *request, limit int64) bool {
	g := r.group
	switch r.kind {
	case appendRequest:
		for ; r.taken < len(r.records); r.taken++ {
			record := &r.records[r.taken]
			if d.size > 0 && d.size+recordSize(record) > limit {
				return false
			}
			if err := g.plan(record); err != nil {
				r.answer(err)
				return true
			}
			d.add(step{group: g, typ: entryRecord, record: *record, sum: r.sums[r.taken]})
		}
	case truncateRequest:
		if next := r.index + 1; next < g.planned.next {
			g.planned.next = next
			d.addState(g, false)
		}
	case resetRequest:
		g.planned = groupState{first: r.index, next: r.index, values: g.planned.values}
		d.addState(g, true)
	case setRequest:
		g.planned.values = withValue(g.planned.values, r.key, r.value)
		g.planned.dropped = false
		d.addState(g, false)
	case dropRequest:
		if g.planned.next != 0 || g.planned.values != nil {
			g.planned = groupState{dropped: true}
			d.addState(g, true)
		}
	}
	d.requests = append(d.requests, r)
	return true
}

// plan checks that a record is the next one.
func (g *GroupLog) plan(r *Record) error {
	if r.Index == 0 || (g.planned.next != 0 && r.Index != g.planned.next) {
		return fmt.Errorf("wal: group %d: append %d, want %d", g.id, r.Index, g.planned.next)
	}
	if g.planned.next == 0 {
		g.planned.first = r.Index
	}
	g.planned.next = r.Index + 1
	g.planned.dropped = false
	return nil
}

func (d *drain) add(s step) {
	d.steps = append(d.steps, s)
	d.size += recordSize(&s.record)
}

// addState adds the record of a group's planned state, and with it any cut that waited. After a
// reset or a truncation below it, a cut of the old log means nothing any more.
func (d *drain) addState(g *GroupLog, reset bool) {
	if !reset {
		g.planned.first = min(max(g.planned.first, g.first), g.planned.next)
	}
	typ, record := g.planned.record()
	d.add(step{group: g, typ: typ, record: record, sum: payloadCRC(&record), state: g.planned, reset: reset})
	g.dirty, g.statePlanned = false, true
}

// takeDirtyLocked adds the states that are to be written with this drain. A group whose state is
// in it already waits for the next one: its planned log and the one that was cut may differ.
func (w *WAL) takeDirtyLocked() {
	var later []*GroupLog
	for _, g := range w.mu.dirty {
		switch {
		case !g.dirty:
		case g.statePlanned:
			later = append(later, g)
		default:
			w.writer.drain.addState(g, false)
		}
	}
	w.mu.dirty = later
}

// writeDrain writes the drain, syncs it, and answers its requests; or poisons the log.
func (w *WAL) writeDrain() {
	d := &w.writer.drain
	if len(d.steps) == 0 && d.flags == 0 {
		w.finish(0)
		return
	}
	var limit *deadline
	if w.opts.WriteTimeout > 0 {
		// It fires while this goroutine hangs in the kernel, and answers in its place.
		limit = newDeadline(w.opts.WriteTimeout, func() {
			w.poison(fmt.Errorf("wal: write in %s: longer than %v: %w", w.dir, w.opts.WriteTimeout, ErrDeadline))
		})
	}
	var slow *deadline
	if w.opts.SlowWrite > 0 && w.opts.OnSlow != nil {
		slow = newDeadline(w.opts.SlowWrite, w.opts.OnSlow)
	}
	start := time.Now()
	n, err := w.store()
	for _, d := range []*deadline{limit, slow} {
		if d != nil {
			d.stop()
		}
	}
	if err != nil {
		w.poison(err)
		return
	}
	if w.opts.OnSync != nil {
		w.opts.OnSync(time.Since(start), n)
	}
	w.finish(n)
}

// store puts the drain into the current segment, or into a new one if it does not fit, and makes
// it durable. It returns the bytes written.
func (w *WAL) store() (int64, error) {
	d, seg := &w.writer.drain, w.writer.segment
	begin := w.writer.switchNow || seg == nil
	if !begin {
		fits := seg.end+padded(drainHeaderSize+d.size) <= w.opts.SegmentBytes
		begin = !fits && seg.last >= seg.first
	}
	var created bool
	var prefix []byte
	if begin {
		var err error
		if prefix, created, err = w.begin(); err != nil {
			return 0, err
		}
		seg = w.writer.segment
		w.opts.reached(SegmentBegun)
	}
	start := seg.end - int64(len(prefix))
	iov := d.encode(seg, &drainHeader{
		identity: seg.identity, sequence: w.writer.sequence + 1, durable: d.durable,
		flags: d.flags, written: time.Now().UnixMicro(),
	})
	if begin {
		iov = slices.Insert(iov, 0, prefix)
	}
	want := int64(len(prefix)) + padded(drainHeaderSize+d.size)
	w.openDirect(seg.slot)
	n, err := seg.slot.write(iov, start, &w.writer.gather)
	if err == nil && int64(n) != want {
		err = io.ErrShortWrite
	}
	if err == nil {
		w.opts.reached(Written)
	}
	if err == nil && !w.opts.PageCache {
		err = seg.slot.direct.Sync()
	}
	if err == nil && created {
		err = w.fs.SyncDir(w.dir)
	}
	if err != nil {
		return 0, fmt.Errorf("wal: write %s at %d: %w", seg.slot.name, start, err)
	}
	seg.slot.size = max(seg.slot.size, start+want)
	w.opts.reached(Synced)
	w.writer.sequence++
	if begin {
		signal(w.tidy) // only now: what it prepares would compete with this write
	}
	return want, nil
}

// encode lays the drain out behind the segment's end. Small payloads are copied beside their
// headers, large ones are written from where they are.
func (d *drain) encode(seg *segment, h *drainHeader) [][]byte {
	const copyBelow = 4096
	var zeros [pageSize]byte
	room := drainHeaderSize + pageSize
	for i := range d.steps {
		room += recordHeaderSize + 16
		if r := &d.steps[i].record; len(r.Data)+len(r.Extensions) < copyBelow {
			room += len(r.Data) + len(r.Extensions)
		}
	}
	b := slices.Grow(d.scratch[:0], room)[:drainHeaderSize]
	iov, from := d.iov[:0], 0
	put := func(p []byte) {
		if len(p) >= copyBelow {
			iov = append(iov, b[from:len(b):len(b)], p)
			from = len(b)
		} else {
			b = append(b, p...)
		}
		b = append(b, zeros[:aligned(len(p))-len(p)]...)
	}
	at := seg.end + drainHeaderSize
	for i := range d.steps {
		s := &d.steps[i]
		s.offset = at
		at += recordSize(&s.record)
		head := len(b)
		b = b[:head+recordHeaderSize]
		crc := encodeRecordHeader(b[head:], s.typ, s.group.id, &s.record, s.sum, seg.seed)
		h.records = crc32.Update(h.records, castagnoli, order.AppendUint32(nil, crc))
		put(s.record.Data)
		put(s.record.Extensions)
	}
	h.count, h.length = len(d.steps), at-seg.end
	h.encode(b, seg.seed)
	b = append(b, zeros[:padded(h.length)-h.length]...)
	must(cap(b) >= room, "a drain outgrew its scratch")
	d.scratch = b
	d.iov = append(iov, b[from:])
	return d.iov
}

// begin makes a new segment the current one, in a spare file or, if none is ready, in a new one. It
// returns the segment's header, which goes to disk with the first drain.
func (w *WAL) begin() (prefix []byte, created bool, err error) {
	s, created, err := w.takeSlot()
	if err != nil {
		return nil, created, err
	}
	w.writer.number++
	id := identity{number: w.writer.number, salt: w.opts.Salt()}
	seg := &segment{identity: id, seed: id.seed(), slot: s, first: w.writer.sequence + 1, last: w.writer.sequence}
	h := segmentHeader{identity: id, first: seg.first, durable: w.writer.drain.durable, created: time.Now().UnixMicro()}

	w.mu.Lock()
	defer w.mu.Unlock()
	var live []*segment
	w.dropTombstonesLocked()
	for _, old := range w.mu.segments {
		if old.refs == 0 {
			w.writer.quarantine = append(w.writer.quarantine, old.slot)
			continue
		}
		live = append(live, old)
		h.live = append(h.live, liveSegment{old.number, old.end, old.last})
	}
	w.moveStatesLocked(live)
	seg.end = h.size()
	w.mu.segments = append(live, seg)
	w.noteUsageLocked()
	w.writer.segment, w.writer.switchNow = seg, false
	return h.encode(), created, nil
}

// moveStatesLocked has the states of segments in which nothing else is needed written again, so
// that those segments can go.
func (w *WAL) moveStatesLocked(live []*segment) {
	var move []*GroupLog
	for _, g := range w.mu.groups {
		if g.state != nil && g.state.refs == g.state.states {
			move = append(move, g)
		}
	}
	slices.SortFunc(move, func(a, b *GroupLog) int { return compare(a.id, b.id) })
	for _, g := range move {
		w.markLocked(g)
	}
	w.takeDirtyLocked()
}

// dropTombstonesLocked forgets that groups were dropped where no older segment can bring them back.
func (w *WAL) dropTombstonesLocked() {
	oldest := w.writer.number
	for _, s := range w.mu.segments {
		if s.refs > 0 {
			oldest = min(oldest, s.number)
		}
	}
	for _, g := range w.mu.groups {
		if g.dropped && g.planned.dropped && g.dropSegment <= oldest {
			g.moveStateLocked(nil)
			g.dropped, g.planned = false, groupState{}
		}
	}
}

// takeSlot returns a file for a new segment, and whether it was created just now.
func (w *WAL) takeSlot() (*slot, bool, error) {
	if s := w.takeSpare(); s != nil {
		return s, false, nil
	}
	s, err := w.createSlot()
	return s, true, err
}

// finish makes a durable drain visible, and answers.
func (w *WAL) finish(bytes int64) {
	d, seg := &w.writer.drain, w.writer.segment
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.err != nil {
		return // the deadline has answered already
	}
	if bytes > 0 {
		w.mu.stats.Syncs++
		w.mu.stats.Bytes += bytes
		w.mu.stats.Records += int64(len(d.steps))
		seg.end += padded(drainHeaderSize + d.size)
		seg.last = w.writer.sequence
		if !w.opts.PageCache {
			w.mu.durable = seg.last
		}
		w.writer.proved = d.flags&flagClose != 0
		if len(w.writer.quarantine) > 0 {
			w.mu.freed = append(w.mu.freed, w.writer.quarantine...)
			w.writer.quarantine = nil
			w.mu.syncFirst = w.opts.PageCache
			defer signal(w.tidy)
		}
	}
	for i := range d.steps {
		w.applyLocked(&d.steps[i], seg)
	}
	for _, r := range d.requests {
		r.answer(nil)
	}
	w.mu.inflight = w.mu.inflight[:0]
}

func (w *WAL) applyLocked(s *step, seg *segment) {
	g := s.group
	if s.typ != entryRecord {
		g.statePlanned = false
		g.setStateLocked(s.state, seg, s.reset)
		return
	}
	g.appendLocked(s.record, position{segment: seg, offset: s.offset, size: int32(recordSize(&s.record)), kind: s.record.Kind})
	g.entries[len(g.entries)-1].cached = w.mu.cache.add(g, s.record)
}

// writeLast ends the log with a drain that proves that all before it was durable, so that from now
// on any damage can be told from a torn write. In page cache mode it syncs once.
func (w *WAL) writeLast() {
	if w.Err() != nil || w.writer.segment == nil || w.writer.proved {
		return
	}
	if w.opts.PageCache && w.syncAll() != nil {
		return
	}
	d := &w.writer.drain
	d.flags = flagClose
	w.mu.Lock()
	w.takeDirtyLocked()
	d.durable = w.mu.durable
	w.mu.Unlock()
	w.writeDrain()
	if w.opts.PageCache && w.Err() == nil {
		w.syncAll() // poisons the log if it fails, and so Close tells
	}
}

// syncAll makes durable all that was written when it was called, or poisons the log. It is for page
// cache mode only: there no drain syncs, but files must not be used again, and damage can not be
// told from loss, unless something says what is durable.
func (w *WAL) syncAll() error {
	w.mu.Lock()
	// The header of a segment that was just begun is not written yet. Until it is, the newest one may
	// be that of a segment in quarantine, which says what is free, and has drains up to last.
	slots := slices.Clone(w.writer.quarantine)
	w.mu.syncFirst = false
	last := uint64(0)
	for _, s := range w.mu.segments {
		slots, last = append(slots, s.slot), s.last
	}
	w.mu.Unlock()
	for _, s := range slots {
		if err := s.file.Sync(); err != nil {
			err = fmt.Errorf("wal: sync %s: %w", s.name, err)
			w.poison(err)
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.durable = max(w.mu.durable, last)
	return nil
}
