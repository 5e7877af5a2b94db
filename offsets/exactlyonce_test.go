package offsets

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The world of the exactly-once argument, small enough to visit every state of it: one source (sources are independent), a few
// records, tablets with ledgers, the checkpoint. Ledger, Tracker and Checkpoints are the real ones.
//
// Owners have no state but their start, and there is no bound on how many there are. Whoever started once is there for ever: it
// does not know that it was replaced, or that it is dead. It sends to any tablet any segment, cut anywhere, at any time, in any
// order, again and again, or never: that covers loss, delay, copies, resends, other cuts, and many entries in flight. It learns of
// an acknowledgement or not, and checkpoints any watermark that it ever had. An owner may start at any value that the
// checkpoint ever had (a stale read). So whatever real owners do is among it.
const (
	worldTablets = 3
	none         = -1 // no checkpoint yet; as a route: a control record, or a hole left by compaction
)

var worldSource = Source{"app", TopicID{1}, 7}

type world struct {
	tablets    [worldTablets]worldTablet
	checkpoint int8
	origin     int8  // the first start of all: what lies below never belongs into a table
	starts     uint8 // a bit for each offset that some owner started at
	end        int8  // the log's end; it grows
	backup     worldBackup
	fault      string
}

type worldTablet struct {
	ledger int8
	rows   uint8 // a bit for each record that is in it
}

// worldBackup is copied piece by piece while everything goes on; then a new cluster starts from it.
type worldBackup struct {
	pieces     int8 // copied so far; none: restored
	checkpoint int8
	tablets    [worldTablets]worldTablet
}

// rules are the protocol, so that a test can break one of them.
type rules struct {
	records int8
	route   []int // the tablet of each record, or none
	tablets int
	first   bool  // the topic is empty and without a checkpoint at first
	backup  []int // the order in which a backup copies the tablets and (worldTablets) the checkpoint; empty: no backup

	check     func(*Ledger, Segment) error
	seen      func(ledger, offset int64, g Segment) bool // drop the row
	advance   func(*Ledger, Segment)
	moved     func(worldTablet) worldTablet            // a copy of a tablet on another node
	written   func(r *rules, g Segment, t int) Segment // how an owner writes down a segment
	decided   func(ledger, offset int64) bool          // what an owner counts as applied
	watermark func(*Tracker, []Range) int64
	raise     func(*Checkpoints, int64)
	begin     func(*Checkpoints, int64) int64 // where an owner starts that found no checkpoint
}

func asWritten(route []int) *rules {
	return &rules{
		records: int8(len(route)), route: route, tablets: slices.Max(route) + 1,
		check:     (*Ledger).Check,
		seen:      func(ledger, offset int64, _ Segment) bool { return offset < ledger },
		advance:   (*Ledger).Advance,
		moved:     func(t worldTablet) worldTablet { return t },
		written:   func(_ *rules, g Segment, _ int) Segment { return g },
		decided:   func(ledger, offset int64) bool { return offset < ledger },
		watermark: func(t *Tracker, _ []Range) int64 { return t.Low() },
		raise:     func(c *Checkpoints, next int64) { c.Raise(worldSource, next) },
		begin: func(c *Checkpoints, next int64) int64 {
			v, _ := c.CreateIfAbsent(worldSource, next)
			return v
		},
	}
}

func (r *rules) init() world {
	w := world{end: r.records, starts: 1}
	if r.first {
		w = world{checkpoint: none, origin: none}
	}
	return w
}

// step names a transition; args are formatted only when somebody has to read it.
type step struct {
	name string
	args [4]int
}

func (s step) String() string {
	args := make([]any, strings.Count(s.name, "%"))
	for i := range args {
		args[i] = s.args[i]
	}
	return fmt.Sprintf(s.name, args...)
}

// next visits the worlds that w may become.
func (r *rules) next(w world, visit func(world, step)) {
	if w.end < r.records {
		c := w
		c.end++
		visit(c, step{"the log grows to %d", [4]int{int(c.end)}})
	}
	for v := int8(0); r.first && v <= w.end; v++ { // the group's commit, the beginning, or the end
		r.begins(w, v, visit)
	}
	for s := range w.end + 1 {
		if w.starts>>s&1 == 1 {
			r.sends(w, s, visit)
			r.checkpoints(w, s, visit)
		}
	}
	for t := range r.tablets {
		c := w
		c.tablets[t] = r.moved(w.tablets[t])
		visit(c, step{"tablet %d is copied to another node", [4]int{t}})
	}
	if int(w.backup.pieces) < len(r.backup) && w.backup.pieces != none {
		r.copies(w, visit)
	} else if len(r.backup) > 0 && w.backup.pieces != none {
		b := w.backup
		visit(world{tablets: b.tablets, checkpoint: b.checkpoint, starts: 1 << b.checkpoint, end: w.end, backup: worldBackup{pieces: none}}, step{name: "a new cluster starts from the backup"})
	}
}

func (r *rules) begins(w world, v int8, visit func(world, step)) {
	c := tableAt(w.checkpoint)
	start := int8(r.begin(c, int64(v)))
	if next, ok := c.Get(worldSource); ok {
		w.checkpoint = int8(next)
	}
	if w.origin == none || start < w.origin {
		w.origin = start
	}
	w.starts |= 1 << start
	visit(w, step{"an owner that knows of no checkpoint wants %d, starts at %d", [4]int{int(v), int(start)}})
}

// sends visits what every entry that an owner may ever send does when a tablet gets it.
func (r *rules) sends(w world, start int8, visit func(world, step)) {
	for t := range r.tablets {
		for first := int64(0); first <= int64(w.end); first++ {
			for next := first; next <= int64(w.end); next++ {
				g := r.written(r, Segment{Source: worldSource, Start: int64(start), Range: Range{first, next}}, t)
				if c, ok := r.apply(w, t, g); ok {
					visit(c, step{"tablet %d applies [%d,%d) of the owner from %d", [4]int{t, int(g.First), int(g.Next), int(start)}})
				}
			}
		}
	}
}

func (r *rules) apply(w world, t int, g Segment) (world, bool) {
	tablet := &w.tablets[t]
	l := ledgerAt(tablet.ledger)
	if r.check(l, g) != nil {
		return w, false
	}
	below := l.Next(worldSource)
	for o := g.First; o < g.Next; o++ {
		if r.route[o] != t || r.seen(below, o, g) {
			continue
		}
		if tablet.rows>>o&1 == 1 {
			w.fault = "a row was applied twice"
		} else if tablet.rows>>o != 0 {
			w.fault = "an older row was applied after a newer one"
		}
		tablet.rows |= 1 << o
	}
	r.advance(l, g)
	tablet.ledger = int8(l.Next(worldSource))
	return w, true
}

// tableAt is the checkpoints of the world; none: it is not in them.
func tableAt(next int8) *Checkpoints {
	c := &Checkpoints{}
	if next != none {
		c.next = positions{worldSource: int64(next)}
	}
	return c
}

func ledgerAt(next int8) *Ledger {
	l := &Ledger{}
	if next > 0 {
		l.next = positions{worldSource: int64(next)}
	}
	return l
}

// low is the highest watermark of an owner: it knows of everything that was acknowledged.
func (r *rules) low(w *world, start int8) int64 {
	tracker := NewTracker(int64(start))
	var done []Range
	for t := none; t < r.tablets; t++ { // tablet by tablet, so not in the order of offsets
		for o := int64(start); o < int64(w.end); o++ {
			if r.route[o] == t && (t == none || r.decided(int64(w.tablets[t].ledger), o)) {
				done = append(done, Range{o, o + 1})
				tracker.Done(Range{o, o + 1})
			}
		}
	}
	return r.watermark(tracker, done)
}

func (r *rules) checkpoints(w world, start int8, visit func(world, step)) {
	for next := int64(start); next <= r.low(&w, start); next++ {
		table := tableAt(w.checkpoint)
		r.raise(table, next)
		v, _ := table.Get(worldSource)
		c := w
		c.checkpoint = int8(v)
		c.starts |= 1 << v // whoever starts may find it, now or, by a stale read, later
		if c.checkpoint < w.checkpoint {
			c.fault = "the checkpoint went back"
		}
		visit(c, step{"the owner from %d checkpoints %d", [4]int{int(start), int(next)}})
	}
}

func (r *rules) copies(w world, visit func(world, step)) {
	piece := r.backup[w.backup.pieces]
	w.backup.pieces++
	if piece == worldTablets {
		w.backup.checkpoint = w.checkpoint
		visit(w, step{"the backup copies checkpoint %d", [4]int{int(w.checkpoint)}})
		return
	}
	w.backup.tablets[piece] = w.tablets[piece]
	visit(w, step{"the backup copies tablet %d", [4]int{piece}})
}

// fault says what is wrong in w, or nothing.
func (r *rules) fault(w world) string {
	if w.fault != "" || w.origin == none {
		return w.fault
	}
	for o := range r.records {
		t := r.route[o]
		if t == none {
			continue
		}
		in := w.tablets[t].rows>>o&1 == 1
		switch {
		case in && o < w.origin:
			return "a record below the first start is in its table"
		case in || o < w.origin:
		case o < w.checkpoint:
			return "the checkpoint passed a record that is nowhere"
		case o < w.tablets[t].ledger:
			return "a ledger passed a record that is not there"
		}
	}
	if w.checkpoint == none {
		return ""
	}
	return r.finish(w)
}

// finish says what keeps a new owner, left alone, from bringing everything in.
func (r *rules) finish(w world) string {
	start := w.checkpoint
	for t := range r.tablets {
		g := r.written(r, Segment{Source: worldSource, Start: int64(start), Range: Range{int64(start), int64(w.end)}}, t)
		c, ok := r.apply(w, t, g)
		if !ok {
			return "a new owner is refused"
		}
		if c.fault != "" {
			return c.fault
		}
		w = c
	}
	if low := r.low(&w, start); low != int64(w.end) {
		return "a new owner's watermark does not reach the end"
	}
	return ""
}

// explore visits every state, nearest first, so that the first fault found has the shortest way to it.
func (r *rules) explore() (states int, fault string, trace []string) {
	type origin struct {
		parent int
		step   step
	}
	queue, origins := []world{r.init()}, []origin{{parent: none}}
	known := map[world]bool{queue[0]: true}
	for i := 0; i < len(queue); i++ {
		if fault = r.fault(queue[i]); fault != "" {
			for ; origins[i].parent != none; i = origins[i].parent {
				trace = append(trace, origins[i].step.String())
			}
			slices.Reverse(trace)
			return len(queue), fault, trace
		}
		r.next(queue[i], func(c world, s step) {
			if !known[c] {
				known[c] = true
				queue, origins = append(queue, c), append(origins, origin{i, s})
			}
		})
	}
	return len(queue), "", nil
}

// routings visits every way to send n records to tablets, or nowhere. Tablets have no names: the first record of a tablet
// comes after those of the tablets before it.
func routings(n int, visit func([]int)) {
	var extend func(route []int, tablets int)
	extend = func(route []int, tablets int) {
		if len(route) == n {
			if tablets > 0 {
				visit(slices.Clone(route))
			}
			return
		}
		for t := none; t < min(tablets+1, worldTablets); t++ {
			extend(append(route, t), max(tablets, t+1))
		}
	}
	extend(nil, 0)
}

func TestExactlyOnce(t *testing.T) {
	total, worlds := 0, 0
	routings(4, func(route []int) {
		for _, first := range []bool{false, true} {
			r := asWritten(route)
			r.first = first
			states, fault, trace := r.explore()
			if fault != "" {
				t.Fatalf("route %v, first start %v: %s:\n  %s", route, first, fault, strings.Join(trace, "\n  "))
			}
			total += states
			worlds++
		}
	})
	t.Logf("holds in all %d states of %d worlds", total, worlds)
}

func TestExactlyOnceAcrossABackup(t *testing.T) {
	r := asWritten([]int{0, 1, 0})
	r.backup = []int{worldTablets, 0, 1, 2}
	states, fault, trace := r.explore()
	if fault != "" {
		t.Fatalf("%s:\n  %s", fault, strings.Join(trace, "\n  "))
	}
	t.Logf("holds in all %d states", states)
}

// checkWith replaces the check, and Advance with it, which insists on the real one.
func (r *rules) checkWith(check func(*Ledger, Segment) error) {
	r.check = check
	r.advance = func(l *Ledger, g Segment) { l.next = positions{g.Source: max(l.Next(g.Source), g.Next)} }
}

// Every rule is needed: the world without it breaks.
func TestExactlyOnceNeedsEveryRule(t *testing.T) {
	for name, change := range map[string]func(*rules){
		"segments are never refused": func(r *rules) {
			r.checkWith(func(*Ledger, Segment) error { return nil })
		},
		"a segment may begin one above the ledger": func(r *rules) {
			r.checkWith(func(l *Ledger, g Segment) error {
				if g.First > 0 {
					g.First--
				}
				return l.Check(g)
			})
		},
		"a segment may begin below its start": func(r *rules) {
			r.first = true
			r.checkWith(func(l *Ledger, g Segment) error {
				g.Start = min(g.Start, g.First)
				return l.Check(g)
			})
		},
		"refused segments raise the ledger": func(r *rules) {
			r.checkWith(func(l *Ledger, g Segment) error {
				if err := l.Check(g); err != nil {
					return l.Check(Segment{Source: g.Source, Start: g.Next, Range: Range{g.Next, g.Next}})
				}
				return nil
			})
			r.seen = func(ledger, offset int64, g Segment) bool { return offset < ledger || g.First > max(ledger, g.Start) }
		},
		"rows at the ledger are dropped": func(r *rules) {
			r.seen = func(ledger, offset int64, _ Segment) bool { return ledger > 0 && offset <= ledger }
		},
		"the row just below the ledger is applied again": func(r *rules) {
			r.seen = func(ledger, offset int64, _ Segment) bool { return offset+1 < ledger }
		},
		"entries are dropped, not rows": func(r *rules) {
			r.seen = func(ledger, _ int64, g Segment) bool { return g.Next <= ledger }
		},
		"the ledger is set, not raised": func(r *rules) {
			r.advance = func(l *Ledger, g Segment) { l.next = positions{g.Source: g.Next} }
		},
		"a tablet is copied without its ledger": func(r *rules) {
			r.moved = func(t worldTablet) worldTablet { t.ledger = 0; return t }
		},
		"a tablet is copied with a later ledger": func(r *rules) {
			r.moved = func(t worldTablet) worldTablet { t.ledger = min(t.ledger+1, r.records); return t }
		},
		"an owner calls each segment's first offset its start": func(r *rules) {
			r.written = func(_ *rules, g Segment, _ int) Segment { g.Start = g.First; return g }
		},
		"a segment begins at its first own row": func(r *rules) {
			r.written = func(r *rules, g Segment, t int) Segment {
				for g.First < g.Next && r.route[g.First] != t {
					g.First++
				}
				return g
			}
		},
		"what was sent counts as applied": func(r *rules) {
			r.decided = func(int64, int64) bool { return true }
		},
		"the record at the ledger counts as applied": func(r *rules) {
			r.decided = func(ledger, offset int64) bool { return offset <= ledger }
		},
		"the watermark is the highest decision": func(r *rules) {
			r.watermark = func(t *Tracker, done []Range) int64 {
				high := t.Low()
				for _, d := range done {
					high = max(high, d.Next)
				}
				return high
			}
		},
		"the checkpoint is set, not raised": func(r *rules) {
			r.raise = func(c *Checkpoints, next int64) { c.next = positions{worldSource: next} }
		},
		"the first start is not written down": func(r *rules) {
			r.first = true
			r.begin = func(_ *Checkpoints, next int64) int64 { return next }
		},
		"an owner starts where it wanted, not at the checkpoint that it found": func(r *rules) {
			r.first = true
			r.begin = func(c *Checkpoints, next int64) int64 {
				c.CreateIfAbsent(worldSource, next)
				return next
			}
		},
		"the checkpoint is created over another": func(r *rules) {
			r.first = true
			r.begin = func(c *Checkpoints, next int64) int64 {
				c.next = positions{worldSource: next}
				return next
			}
		},
		"a backup copies the checkpoint last": func(r *rules) {
			r.backup = []int{0, 1, 2, worldTablets}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := asWritten([]int{0, 1, none, 0})
			change(r)
			states, fault, trace := r.explore()
			if fault == "" {
				t.Fatalf("holds without it, in all %d states", states)
			}
			t.Logf("%s:\n  %s", fault, strings.Join(trace, "\n  "))
		})
	}
}
