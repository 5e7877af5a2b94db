package wal

import (
	"fmt"
	"maps"
	"slices"
)

// replay carries out the records of a log in the order in which they were written, and so finds
// what each group has.
//
// Segments that nobody needed are gone from the middle of the log, and with them entries that were
// cut or truncated later, and the states that said so. So on the way a group may seem to jump ahead,
// to have a hole, or to go back; only what comes out at the end must have no hole.
type replay struct {
	segments []*segment
	groups   map[uint64]*replayed
	proved   bool // the last drain closes the log
}

// replayed is one group on the way.
type replayed struct {
	groupState
	stateSegment *segment
	dropSegment  uint64
	runs         []run // ascending, with holes between them
}

// run is a part of a group's log without a hole.
type run struct {
	base    uint64
	entries []position
}

func (r *run) end() uint64 { return r.base + uint64(len(r.entries)) }

// drain carries out one drain.
func (r *replay) drain(l link, d *drainImage) error {
	seg := r.segmentOf(l)
	for i := range d.records {
		if err := r.record(seg, &d.records[i]); err != nil {
			return *l.img.problem(d.records[i].offset, "drain %d: %v", d.sequence, err)
		}
	}
	seg.end, seg.last = d.offset+padded(d.length), d.sequence
	r.proved = d.flags&flagClose != 0
	return nil
}

func (r *replay) segmentOf(l link) *segment {
	if n := len(r.segments); n > 0 && r.segments[n-1].number == l.number {
		return r.segments[n-1]
	}
	h := l.img.header
	seg := &segment{identity: h.identity, seed: h.seed(), slot: l.img.slot, first: h.first, end: h.size(), last: h.first - 1}
	r.segments = append(r.segments, seg)
	return seg
}

func (r *replay) record(seg *segment, raw *rawRecord) error {
	g := r.groups[raw.group]
	if g == nil {
		g = &replayed{}
		r.groups[raw.group] = g
	}
	switch raw.typ {
	case entryRecord:
		if raw.Index == 0 {
			return fmt.Errorf("entry 0")
		}
		g.entry(raw.Index, position{segment: seg, offset: raw.offset, size: int32(raw.size), kind: raw.Kind})
	case stateRecord, dropRecord:
		s, err := parseState(raw)
		if err != nil {
			return err
		}
		g.truncate(s.next)
		g.release(s.first)
		if s.dropped && !g.dropped {
			g.dropSegment = seg.number
		}
		g.groupState, g.stateSegment = s, seg
	default:
		return fmt.Errorf("record of type %d", raw.typ)
	}
	return nil
}

// entry adds an entry; what it replaces must have been truncated before.
func (g *replayed) entry(index uint64, p position) {
	g.truncate(index)
	if n := len(g.runs); n > 0 && g.runs[n-1].end() == index {
		g.runs[n-1].entries = append(g.runs[n-1].entries, p)
	} else {
		g.runs = append(g.runs, run{base: index, entries: []position{p}})
	}
	if g.next == 0 {
		g.first = index
	}
	g.next, g.dropped = index+1, false
}

// truncate removes the entries at and above next.
func (g *replayed) truncate(next uint64) {
	for n := len(g.runs); n > 0 && g.runs[n-1].end() > next; n = len(g.runs) {
		last := &g.runs[n-1]
		if last.base < next {
			last.entries = last.entries[:next-last.base]
			return
		}
		g.runs = g.runs[:n-1]
	}
}

// release removes the entries below first.
func (g *replayed) release(first uint64) {
	for len(g.runs) > 0 && g.runs[0].base < first {
		head := &g.runs[0]
		if head.end() > first {
			head.entries = head.entries[first-head.base:]
			head.base = first
			return
		}
		g.runs = g.runs[1:]
	}
}

// check verifies that each group has every entry of its log.
func (r *replay) check(c *chain) error {
	for _, id := range slices.Sorted(maps.Keys(r.groups)) {
		g := r.groups[id]
		whole := len(g.runs) == 1 && g.runs[0].base == g.first && g.runs[0].end() == g.next
		if !whole && (g.first < g.next || len(g.runs) > 0) {
			has := "nothing"
			if n := len(g.runs); n > 0 {
				has = fmt.Sprintf("%d parts of [%d, %d)", n, g.runs[0].base, g.runs[n-1].end())
			}
			return *c.newest.problem(0, "group %d: it has %s, want [%d, %d)", id, has, g.first, g.next)
		}
	}
	return nil
}
