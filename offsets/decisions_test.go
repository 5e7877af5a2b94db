package offsets

import (
	"math/bits"
	"testing"
)

// A model of a change of the settings, with the real ledger. There is one source, two tablets of a table and one of dead
// letters. Owners are as in TestExactlyOnce: any number, that may have started at any value that the checkpoint ever had, send
// any segment at any time, and know of any acknowledgement or none. Those of version 1 exist at all times, for a node may be
// behind; those of version 2 only when it is in force.
const (
	letters        = 2 // the tablet of the dead letters
	changeTablets  = 3
	changeVersions = 2
)

type changeTablet struct {
	came [changeVersions]int8  // how far each version's entries came: what their owners may have been told
	rows [changeVersions]uint8 // a bit for each record that an entry of the version found there or brought
	held uint8                 // a bit for each record that is in it
	old  bool                  // older versions are refused
	read int8                  // what was read of the ledger; none: not yet
}

type changeWorld struct {
	tablets    [changeTablets]changeTablet
	checkpoint int8
	starts     uint8 // a bit for each value that the checkpoint ever had
	step       int8  // 0: nothing changes; 1: tablets are fenced and read; 2: the new version is in force
	begin      int8  // of the new version
	fault      string
}

// changeRules are the steps of a change, so that a test can break them.
type changeRules struct {
	records   int8
	route     [changeVersions][]int
	unfenced  bool // tablets are not fenced
	readFirst bool // a ledger may be read before the fence
	unnoted   bool // dead letters do not raise their tablet's ledger
	forgotten bool // the new version decides from the beginning
	copied    bool // a tablet may be copied without its fence
	checked   bool // what is below the ledger of the dead letters is dropped there
}

func (t *changeTablet) ledger() *Ledger {
	l := &Ledger{}
	if at := max(t.came[0], t.came[1]); at > 0 {
		l.next = positions{worldSource: int64(at)}
	}
	if t.old {
		l.Fence(Fence{worldSource.Connector, changeVersions})
	}
	return l
}

// decides is the tablet of a record for owners of a version, counted from 0.
func (r *changeRules) decides(w *changeWorld, v int, o int8) int {
	if v == 1 && o < w.begin && !r.forgotten {
		v = 0
	}
	return r.route[v][o]
}

func (r *changeRules) next(w changeWorld, visit func(changeWorld)) {
	for v := range changeVersions {
		if v == 1 && w.step < 2 {
			break
		}
		for start := range r.records + 1 {
			if w.starts>>start&1 == 1 {
				r.sends(w, v, start, visit)
				r.checkpoints(w, v, start, visit)
			}
		}
	}
	r.changes(w, visit)
}

// changes visits what the leader of the system group may do next.
func (r *changeRules) changes(w changeWorld, visit func(changeWorld)) {
	if w.step == 0 {
		w.step = 1
		visit(w)
		return
	}
	all, begin := true, w.checkpoint
	for i := range w.tablets {
		t := w.tablets[i]
		if r.copied && t.old {
			c := w
			c.tablets[i].old = false
			visit(c)
		}
		all, begin = all && t.read != none && (t.old || r.unfenced), max(begin, t.read)
		if w.step == 2 {
			continue
		}
		c := w
		if !t.old && !r.unfenced {
			c.tablets[i].old = true
			visit(c)
		}
		if c = w; t.read == none && (t.old || r.unfenced || r.readFirst) {
			c.tablets[i].read = int8(t.ledger().Next(worldSource))
			visit(c)
		}
	}
	if w.step == 1 && all {
		w.step, w.begin = 2, begin
		for i := range w.tablets {
			w.tablets[i].read = none
		}
		visit(w)
	}
}

func (r *changeRules) sends(w changeWorld, v int, start int8, visit func(changeWorld)) {
	for i := range w.tablets {
		for first := start; first < r.records; first++ {
			for next := first + 1; next <= r.records; next++ {
				if c := w; r.apply(&c, i, v, start, first, next) {
					visit(c)
				}
			}
		}
	}
}

// apply carries out an entry; those of dead letters have one record and a segment that only notes it.
func (r *changeRules) apply(w *changeWorld, i, v int, start, first, next int8) bool {
	t := &w.tablets[i]
	g := Segment{Source: worldSource, Start: int64(start), Decision: uint32(v) + 1, Range: Range{int64(first), int64(next)}}
	if i == letters {
		if next > first+1 || r.decides(w, v, first) != letters {
			return false
		}
		g.Start, g.First = 0, 0
	}
	l := t.ledger()
	if l.Check(g) != nil {
		return false
	}
	for o := first; o < next; o++ {
		if r.decides(w, v, o) != i {
			continue
		}
		t.rows[v] |= 1 << o
		switch {
		case i == letters && (t.held>>o&1 == 1 || r.checked && int64(o) < l.Next(worldSource)):
			continue
		case i != letters && int64(o) < l.Next(worldSource):
			continue
		case t.held>>o&1 == 1:
			w.fault = "a row was applied twice"
		case i != letters && t.held>>o != 0:
			w.fault = "an older row was applied after a newer one"
		}
		t.held |= 1 << o
	}
	if l.Advance(g); i != letters || !r.unnoted {
		t.came[v] = max(t.came[v], next)
	}
	return true
}

func (r *changeRules) checkpoints(w changeWorld, v int, start int8, visit func(changeWorld)) {
	for next := start; next < r.records; {
		t := &w.tablets[r.decides(&w, v, next)]
		if t != &w.tablets[letters] && next >= t.came[v] || t == &w.tablets[letters] && t.rows[v]>>next&1 == 0 {
			return
		}
		if next++; next > w.checkpoint {
			c := w
			c.checkpoint = next
			c.starts |= 1 << next
			visit(c)
		}
	}
}

// wrong says what is wrong in w, or nothing.
func (r *changeRules) wrong(w changeWorld) string {
	if w.fault != "" {
		return w.fault
	}
	if w.step != 1 { // a new owner, left alone, brings everything in
		v := int(w.step / 2)
		for i := range w.tablets {
			for o := w.checkpoint; o < r.records; o++ {
				first := w.checkpoint
				if i == letters {
					first = o
				}
				if i == letters && r.decides(&w, v, o) != letters {
					continue
				}
				if !r.apply(&w, i, v, w.checkpoint, first, o+1) {
					return "a new owner is refused"
				}
			}
		}
	}
	for o := range r.records {
		var in uint8
		for i := range w.tablets {
			in |= w.tablets[i].held >> o & 1 << i
		}
		switch {
		case bits.OnesCount8(in) > 1:
			return "a record is in two places"
		case in == 0 && (o < w.checkpoint || w.step != 1):
			return "a record is nowhere"
		case w.step == 2 && in != 1<<r.decides(&w, 1, o):
			return "a record is not where the decision on it wants it"
		}
	}
	return w.fault
}

func (r *changeRules) explore() (states int, fault string) {
	begin := changeWorld{starts: 1}
	for i := range begin.tablets {
		begin.tablets[i].read = none
	}
	queue, known := []changeWorld{begin}, map[changeWorld]bool{begin: true}
	for i := 0; i < len(queue); i++ {
		if fault = r.wrong(queue[i]); fault != "" {
			return len(queue), fault
		}
		r.next(queue[i], func(c changeWorld) {
			if !known[c] {
				known[c] = true
				queue = append(queue, c)
			}
		})
	}
	return len(queue), ""
}

// TestSettingsChange visits every state of the worlds of two records, whatever becomes of them before and after, and of some of
// three.
func TestSettingsChange(t *testing.T) {
	var worlds [][changeVersions][]int
	for n := range 81 {
		worlds = append(worlds, [changeVersions][]int{{n % 3, n / 3 % 3}, {n / 9 % 3, n / 27}})
	}
	worlds = append(worlds,
		[changeVersions][]int{{0, letters, 0}, {0, 0, 0}}, [changeVersions][]int{{0, 0, 0}, {0, letters, 0}}, [changeVersions][]int{{0, 0, letters}, {letters, letters, 0}})
	total := 0
	for _, route := range worlds {
		r := &changeRules{records: int8(len(route[0])), route: route}
		states, fault := r.explore()
		if fault != "" {
			t.Fatalf("routes %v: %s", route, fault)
		}
		total += states
	}
	t.Logf("holds in all %d states of %d worlds", total, len(worlds))
}

// Every rule is needed: some world without it breaks.
func TestSettingsChangeNeedsEveryRule(t *testing.T) {
	for name, change := range map[string]func(*changeRules){
		"tablets are not fenced":                     func(r *changeRules) { r.unfenced = true },
		"ledgers are read before the fence":          func(r *changeRules) { r.readFirst = true },
		"dead letters are not noted":                 func(r *changeRules) { r.unnoted = true },
		"the new settings decide from the beginning": func(r *changeRules) { r.forgotten = true },
		"a tablet is copied without its fence":       func(r *changeRules) { r.copied = true },
		"dead letters are dropped by what is noted":  func(r *changeRules) { r.checked = true },
	} {
		t.Run(name, func(t *testing.T) {
			for n := range 81 {
				r := &changeRules{records: 2, route: [changeVersions][]int{{n % 3, n / 3 % 3}, {n / 9 % 3, n / 27}}}
				change(r)
				if _, fault := r.explore(); fault != "" {
					t.Logf("routes %v: %s", r.route, fault)
					return
				}
			}
			t.Error("holds without it")
		})
	}
}
