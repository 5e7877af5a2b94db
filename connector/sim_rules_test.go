package connector

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"nyala/connector/catalog"
	"nyala/store"
	"nyala/store/vfs"
)

// What is here favours the few moments in which some rule of the design matters: see mistakes.

// flushTwice asks all nodes for a flush, and again a moment later: there are Freezes while others are installed.
func (s *simulation) flushTwice(string) {
	s.note("flush twice")
	for range 2 {
		for _, id := range s.ids() {
			n := s.nodes[id]
			if n == nil {
				continue
			}
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				_ = n.Checkpoint(ctx) // there may be no majority
			}()
		}
		for _, t := range topicsOf(s.streams) {
			s.put(s.producer(), t, 20, true)
		}
	}
}

// slowFlush makes files take a while: much is applied between a Freeze and its manifest then, members change and leaders move.
func (s *simulation) slowFlush(string) {
	for _, id := range s.ids() {
		if s.rng.IntN(3) > 0 {
			late := time.Duration(1+s.rng.IntN(3)) * time.Second
			s.note("files of %s take %v", id, late)
			s.disks[id].add(vfs.Rule{Op: vfs.OpSync, Path: "*.parquet", Delay: late})
		}
	}
}

// crashInstalling cuts the power of a node between the Freeze of rows and the manifest that has them, while files take long.
func (s *simulation) crashInstalling(id string) {
	s.slowFlush(id)
	points := []store.Point{store.FilesSynced, store.InstallProposing, store.InstallApplied, store.Renaming, store.Renamed, store.DirectorySynced,
		store.ManifestAppending, store.ManifestAppended, store.ManifestSynced, store.Swapped, store.LogReleased}
	t := s.arm(points[s.rng.IntN(len(points))].String(), []string{id, ""}[s.rng.IntN(2)], s.rng.IntN(4), []float64{0, 0.5, 1}[s.rng.IntN(3)])
	s.note("power of %q will be cut at %s after %d", t.node, t.point, t.after)
	for range 4 {
		s.produceSome()
		if t.await(2 * time.Second) {
			break
		}
	}
}

// sessionEnds is longer than a group waits for a member that is silent.
const sessionEnds = 15 * time.Second

// lateOwner has a node that goes on as the owner of what the group gave to others, and of whom all comes late: also the checkpoints
// that it raises, which the new owners have overtaken.
func (s *simulation) lateOwner(id string) {
	if s.nodes[id] == nil {
		return
	}
	s.loseCoordinator(id)
	s.produceSome()
	time.Sleep(sessionEnds)
	late := time.Duration(500+s.rng.IntN(2000)) * time.Millisecond
	s.note("%s is late by %v", id, late)
	for _, other := range s.ids() {
		if other != id {
			for _, l := range links(id, other) {
				s.net.SetDistance(l[0], l[1], late)
			}
		}
	}
	for range 6 {
		s.produceSome()
		s.pause(2 * time.Second)
	}
}

// commitForeign moves the commits of the groups, as an operator's tool does: the checkpoint wins. Kafka allows it while a group
// has no members. What has no checkpoint yet would begin there, so that is left alone.
func (s *simulation) commitForeign(string) {
	for _, id := range s.ids() {
		s.crash(id)
	}
	time.Sleep(20 * time.Second)
	s.readEnds()
	for _, st := range s.streams {
		commits := kadm.Offsets{}
		for p := range st.partitions {
			_, begun := s.marks[s.source(st, p)]
			if end := st.ends[p]; begun && end > 0 {
				commits.AddOffset(st.name, p, s.rng.Int64N(end+1), -1)
			}
		}
		_, err := kadm.NewClient(s.producer()).CommitOffsets(context.Background(), "nyala-"+st.connector, commits)
		s.note("somebody commits for %s: %v", st.connector, err)
	}
}

// wipeBehind takes a node's disk away for good while another one lags, and then the third one's network for a while: what
// was acknowledged is then only where nobody comes. Nothing must go on without it.
func (s *simulation) wipeBehind(id string) {
	if s.wiped || !s.healthyAgain() {
		return
	}
	var others []string
	for _, o := range s.ids() {
		if o != id {
			others = append(others, o)
		}
	}
	behind, ahead := others[0], others[1:]
	s.note("wipe %s while %s is behind", id, behind)
	s.isolate(behind, true)
	s.produceSome()
	time.Sleep(3 * time.Second)
	s.wiped = true
	s.kill(id, 0)
	s.disks[id] = newDisk(vfs.NewMem())
	s.isolate(behind, false)
	for _, o := range ahead {
		s.isolate(o, true)
	}
	s.boot(id)
	time.Sleep(15 * time.Second)
	s.healAll()
}

func (s *simulation) isolate(id string, on bool) {
	for _, port := range []string{":7401", ":7481"} {
		if on {
			s.net.Isolate(id + port)
		} else {
			s.net.Rejoin(id + port)
		}
	}
}

// healthyAgain heals everything and waits until the cluster says that all have everything.
func (s *simulation) healthyAgain() bool {
	s.healAll()
	for end := time.Now().Add(time.Minute); !s.nodes["n1"].status(context.Background()).Healthy; time.Sleep(200 * time.Millisecond) {
		s.tendStopped()
		if time.Now().After(end) || s.nodes["n1"] == nil {
			return false
		}
	}
	return !slices.ContainsFunc(s.ids(), func(id string) bool { return s.nodes[id] == nil })
}

// moments are timestamps of entries that were applied soon after an owner began: when things are sent again.
type moments struct {
	nodes map[string]*Node
	until time.Time
	list  []int64
}

const (
	momentsFor  = 3 * time.Second
	momentsMax  = 20_000
	momentsRead = 60
)

// observe is called with the traps' lock held.
func (m *moments) observe(id, point string) {
	switch {
	case point == "ingest.owner-began":
		m.until = time.Now().Add(momentsFor)
	case point == "raftlog.applied" && time.Now().Before(m.until) && m.nodes[id] != nil && len(m.list) < momentsMax:
		for _, t := range m.nodes[id].tablets.Tablets() {
			m.list = append(m.list, int64(t.LastTimestamp()))
		}
	}
}

// lookBack reads tables at some of the moments, of two nodes each: a key never goes back to what it was, for the
// records of a partition take effect in their order and once, and both have the same.
func (s *simulation) lookBack() {
	s.traps.Lock()
	list := slices.Clone(s.traps.moments.list)
	s.traps.Unlock()
	slices.Sort(list)
	list = slices.Compact(list)
	s.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	list = list[:min(len(list), momentsRead)]
	slices.Sort(list)
	for _, st := range s.streams {
		if !st.repeat || st.write == "insert" && st.rival == nil || st.releases {
			continue
		}
		top, _, err := s.nodes["n1"].settle(context.Background(), st.table, 0, func(*catalog.Snapshot, *catalog.Table) []catalog.TabletID {
			return s.tablets("n1", st.table)
		})
		if err != nil {
			s.t.Fatal(err)
		}
		reached := map[int64]int{}
		for _, at := range list {
			if at > top {
				break // of another table, whose clock is ahead
			}
			if err := s.lookAt(st, at, reached); err != nil && !s.tooOld(st.table, err) {
				s.t.Fatalf("%s at %d: %v", st.table, at, err)
			}
		}
	}
}

func (s *simulation) lookAt(st *stream, at int64, reached map[int64]int) error {
	a, b := s.anyNode(), s.anyNode()
	rows, err := s.localRows(a, st.table, at)
	if err != nil {
		return err
	}
	others, err := s.localRows(b, st.table, at)
	if err != nil {
		return err
	}
	for key, history := range st.keys {
		got, there := rows[key]
		if other, also := others[key]; got != other || there != also {
			return fmt.Errorf("key %d is %v (%v) on %s, and %v (%v) on %s", key, got, there, a, other, also, b)
		}
		n := reached[key]
		if st.rival != nil {
			continue // whose records come in no order with ours
		}
		for ; n <= len(history); n++ {
			if want, exists := st.after(history[:n]); exists == there && (!exists || want == got) {
				break
			}
		}
		if n > len(history) {
			return fmt.Errorf("key %d is %v (%v) on %s, and was number %d of %v before", key, got, there, a, reached[key], history)
		}
		reached[key] = n
	}
	return nil
}

// checkOnce wants no dead row where keys never come again: whatever was applied twice has left one, although the table
// reads the same. All is in files when it is called.
func (s *simulation) checkOnce() {
	for _, table := range s.tables() {
		if slices.ContainsFunc(s.streams, func(st *stream) bool { return st.table == table && (st.repeat || st.write != "upsert") }) {
			continue
		}
		for _, id := range s.ids() {
			for _, tablet := range s.tablets(id, table) {
				if r := s.nodes[id].replica(tablet); r != nil {
					if dead := r.tablet.Status().Deleted; dead > 0 {
						s.t.Fatalf("%s: %d rows of tablet %d on %s were applied twice", table, dead, tablet, id)
					}
				}
			}
		}
	}
}
