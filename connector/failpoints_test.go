package connector

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nyala/connector/catalog"
	"nyala/raftlog"
	"nyala/store"
	"nyala/store/vfs"
)

// crossings says how a point is reached that is not reached by itself while records come in.
var crossings = map[string]func(s *simulation, point string, survive float64){
	"ingest.checkpoint-created":  (*simulation).crossAtFirstStart,
	"ingest.owner-began":         (*simulation).crossAtFirstStart,
	"raftlog.bootstrap-term":     (*simulation).crossAtFirstStart,
	"ingest.gap-sending":         (*simulation).crossWithGaps,
	"ingest.gap-written":         (*simulation).crossWithGaps,
	"wal.segment-removing":       (*simulation).crossWhenShorter,
	"ingest.revoking":            (*simulation).crossAtStop,
	"ingest.drained":             (*simulation).crossAtStop,
	"store.garbage-found":        (*simulation).crossWithGarbage,
	"store.copy-failed":          (*simulation).crossWithoutCopy,
	"store.file-fetched":         (*simulation).crossByCopy,
	"store.prepared":             (*simulation).crossByCopy,
	"store.restore-renamed":      (*simulation).crossByCopy,
	"store.restored":             (*simulation).crossByCopy,
	"raftlog.manifest-received":  (*simulation).crossByCopy,
	"raftlog.manifest-prepared":  (*simulation).crossByCopy,
	"raftlog.manifest-restored":  (*simulation).crossByCopy,
	"raftlog.manifest-installed": (*simulation).crossByCopy,
	"connector.change-begun":     (*simulation).crossByColumns,
	"connector.columns-appended": (*simulation).crossByColumns,
	"connector.tablets-fenced":   (*simulation).crossByColumns,
	"connector.change-settled":   (*simulation).crossByColumns,
}

// TestFailpoints cuts a node's power at every named point, with none, half and all of what was not synced on its disk
// afterwards, and holds the cluster against the truth: whatever was under way, each record is there once. A point that
// is never reached fails.
func TestFailpoints(t *testing.T) {
	names := failpoints()
	for point := range crossings {
		if !slices.Contains(names, point) {
			t.Errorf("no room has a point %s", point)
		}
	}
	if testing.Short() {
		names = names[:2]
	}
	for _, point := range names {
		t.Run(point, func(t *testing.T) {
			if strings.HasSuffix(point, "bootstrap-term") || strings.HasSuffix(point, "checkpoint-created") {
				for _, survive := range []float64{0, 0.5, 1} { // only once in a cluster's life
					synctest.Test(t, func(t *testing.T) { cross(t, point, survive) })
				}
				return
			}
			synctest.Test(t, func(t *testing.T) { cross(t, point, 0, 0.5, 1) })
		})
	}
}

// cross runs a cluster in which the point is crossed once for each of survives.
func cross(t *testing.T, point string, survives ...float64) {
	h := fnv.New64a()
	h.Write([]byte(point))
	seed := h.Sum64() >> 32
	for !slices.ContainsFunc(newStreams(rand.New(rand.NewPCG(seed, 2))), func(st *stream) bool { return st.skip }) {
		seed++
	}
	s := newSimulation(t, seed, broken{})
	defer s.end()
	s.faults = nil
	s.segment = 16 << 10
	s.flush = FlushOptions{Bytes: 16 << 10, Age: time.Second}
	s.timings = raftlog.Timings{Retain: time.Second, PinGrace: time.Second}
	how := crossings[point]
	if how == nil {
		how = (*simulation).crossInPassing
	}
	for _, survive := range survives {
		how(s, point, survive)
	}
	s.healAll()
	s.produceSome()
	s.awaitTruth()
	s.compareReplicas()
	s.repeatSnapshots()
	s.checkMarks()
	s.renewClients()
	s.stopAll()
}

// begin starts what does not run.
func (s *simulation) begin() {
	for _, id := range s.ids() {
		if s.nodes[id] == nil {
			s.boot(id)
		}
	}
}

// crossInPassing waits until the point is reached while records come in: first where a tablet is led, then where it is
// not, then anywhere.
func (s *simulation) crossInPassing(point string, survive float64) {
	s.begin()
	node := ""
	if survive < 1 {
		node = s.placeOf(survive == 0)
	}
	s.crossOn(s.arm(point, node, s.rng.IntN(3), survive))
}

// placeOf is a node that leads, or does not lead, a tablet of the first table; "" if there is none yet.
func (s *simulation) placeOf(leads bool) string {
	for _, id := range s.ids() {
		if _, ok := s.nodes[id].catalog.Snapshot().Table("events"); !ok {
			continue
		}
		if leader := slices.ContainsFunc(s.tablets(id, "events"), func(t catalog.TabletID) bool { return s.nodes[id].isLeaderOf(store.ID(t)) }); leader == leads {
			return id
		}
	}
	return ""
}

// crossOn produces until the trap has fired, anywhere if it must be, takes the node away after a moment in which the
// others know nothing of it, and starts it again.
func (s *simulation) crossOn(t *trap) {
	s.t.Helper()
	for step := 0; !t.hasFired(); step++ {
		if step == 20 {
			s.t.Fatalf("%s was never reached", t.point)
		}
		if step == 8 {
			t = s.arm(t.point, "", 0, t.survive)
		}
		s.produceSome()
		t.await(time.Duration(1+step/4*10) * time.Second)
	}
	s.bury(t)
	s.produceSome()
	s.takeSnapshot()
	s.begin()
	s.pause(3 * time.Second)
	s.checkMarks()
	s.takeSnapshot()
}

// bury takes away the node on which the trap has fired.
func (s *simulation) bury(t *trap) {
	s.note("power of %s was cut at %s, %.1f survives", t.mu.node, t.point, t.survive)
	s.pause(2 * time.Second)
	for _, id := range s.ids() {
		if s.trapped(id) {
			s.kill(id, 0)
		}
	}
}

// crossAtFirstStart crosses the point while the cluster comes up for the first time, later ones while a node does.
func (s *simulation) crossAtFirstStart(point string, survive float64) {
	t := s.arm(point, "", 0, survive)
	if s.nodes["n1"] != nil {
		id := s.anyNode()
		s.kill(id, survive)
		t = s.arm(point, id, 0, survive)
	}
	s.begin()
	s.crossOn(t)
}

// crossWithGaps has Kafka delete what was not read.
func (s *simulation) crossWithGaps(point string, survive float64) {
	s.begin()
	for !s.readSome() {
		s.produceSome()
		s.pause(3 * time.Second)
		s.checkMarks()
	}
	t := s.arm(point, "", 0, survive)
	for range 10 { // what is deleted may have been read
		if t.hasFired() {
			break
		}
		for _, id := range s.ids() {
			s.wires[id].set(true)
		}
		for range 3 {
			s.produceSome()
			s.deleteRecords("")
		}
		for _, id := range s.ids() {
			s.wires[id].set(false)
		}
		t.await(10 * time.Second)
	}
	s.crossOn(t)
}

// readSome tells whether some of what deleteRecords deletes has been read.
func (s *simulation) readSome() bool {
	for _, st := range s.streams {
		for p := range st.partitions {
			if _, read := s.marks[s.source(st, p)]; st.skip && read {
				return true
			}
		}
	}
	return false
}

// crossWhenShorter lets the log be long, and then short for so long that its files are too many.
func (s *simulation) crossWhenShorter(point string, survive float64) {
	s.begin()
	for range 10 {
		s.produceSome()
	}
	t := s.arm(point, "", 0, survive)
	for range 3 {
		s.pause(11 * time.Minute)
		s.put(s.producer(), topicsOf(s.streams)[0], 1, true)
	}
	s.crossOn(t)
}

// crossAtStop drains a node whose power is cut in the middle of it.
func (s *simulation) crossAtStop(point string, survive float64) {
	s.begin()
	for range 20 {
		for range 3 {
			s.produceSome()
			s.pause(2 * time.Second)
		}
		id := s.anyNode()
		t := s.arm(point, id, 0, survive)
		s.produceSome()
		if err := s.nodes[id].Stop(context.Background()); err == nil && !t.hasFired() {
			s.disarm() // it owned nothing
		}
		if t.hasFired() {
			s.crossOn(t)
			return
		}
		s.kill(id, 1)
		s.begin()
	}
	s.t.Fatalf("%s was never reached", point)
}

// crossWithGarbage leaves files that no manifest names, and cuts the power when the next start finds them.
func (s *simulation) crossWithGarbage(point string, survive float64) {
	s.begin()
	first := s.arm("store.files-synced", "", 0, 1)
	for !first.await(3 * time.Second) {
		s.produceSome()
	}
	s.bury(first)
	t := s.arm(point, first.mu.node, 0, survive)
	s.begin()
	s.crossOn(t)
}

// crossWithoutCopy lets no node make the files into which it would copy a flush.
func (s *simulation) crossWithoutCopy(point string, survive float64) {
	s.begin()
	for _, id := range s.ids() {
		s.disks[id].add(vfs.Rule{Op: vfs.OpCreate, Path: "*.fetch.*", Err: errDisk})
	}
	t := s.arm(point, "", s.rng.IntN(3), survive)
	for range 20 {
		s.produceSome()
		if t.await(3 * time.Second) {
			break
		}
	}
	for _, id := range s.ids() {
		s.disks[id].heal()
	}
	s.crossOn(t)
}

// crossByColumns gives all nodes a file with one more column, and cuts the power of the one that carries the change out.
func (s *simulation) crossByColumns(point string, survive float64) {
	s.begin()
	for len(s.marks) == 0 { // a table that is not made yet would have the column from the first
		s.produceSome()
		s.pause(3 * time.Second)
		s.checkMarks()
	}
	s.wide++
	s.newest = widened(s.config, s.wide)
	t := s.arm(point, "", 0, survive)
	for _, id := range s.ids() {
		if s.nodes[id] != nil && s.given[id] != s.newest && !s.trapped(id) {
			s.produceSome()
			s.renew(id, true)
		}
	}
	s.crossOn(t)
	s.finishSettings()
}

// crossByCopy lets a replica lag until the log does not reach it any more.
func (s *simulation) crossByCopy(point string, survive float64) {
	s.begin()
	var t *trap
	for range 10 { // it may have had all
		s.produceSome()
		s.pause(10 * time.Second)
		id := s.anyNode()
		s.kill(id, 1)
		for range 6 {
			s.produceSome()
			time.Sleep(3 * time.Second)
		}
		t = s.arm(point, id, 0, survive)
		s.begin()
		if t.await(20 * time.Second) {
			break
		}
	}
	s.crossOn(t)
}
