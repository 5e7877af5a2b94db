package connector

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"nyala/offsets"
	"nyala/store"
	"nyala/store/vfs"
)

// witness sees what no reader would: what each node has on its disk and in its catalog at any moment, and what it complains of. Rules
// that are broken there often do no harm for hours, so the rows alone tell too late or never.
//
//   - A manifest is the state as of its durable index and of nothing later, so all manifests of a tablet with one durable
//     index are equal, whoever writes them and when; its members are not of later; the next one is further.
//   - The log goes no further than the manifest.
//   - No node ever sees a checkpoint go back.
//   - No disk here loses what it has synced, so no node may find its own log or files wanting, and all make equal files of a flush.
type witness struct {
	mu struct {
		sync.Mutex
		nodes     map[string]*Node
		manifests map[manifestKey]seenManifest
		newest    map[*Node]map[store.ID]uint64 // durable indexes
		marks     map[*Node]map[offsets.Source]int64
		broken    string // the first rule that was
	}
}

type manifestKey struct {
	tablet  store.ID
	durable uint64
}

type seenManifest struct {
	node string
	body []byte
}

func newWitness() *witness {
	w := &witness{}
	w.mu.nodes, w.mu.manifests = map[string]*Node{}, map[manifestKey]seenManifest{}
	w.mu.newest, w.mu.marks = map[*Node]map[store.ID]uint64{}, map[*Node]map[offsets.Source]int64{}
	return w
}

// verdict is the first rule that was seen broken; "" is none.
func (w *witness) verdict() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.broken
}

func (w *witness) accuseLocked(format string, args ...any) {
	if w.mu.broken == "" {
		w.mu.broken = fmt.Sprintf(format, args...)
	}
}

// follow looks at a node from its start on.
func (w *witness) follow(id string, n *Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.mu.newest, w.mu.nodes[id])
	delete(w.mu.marks, w.mu.nodes[id])
	w.mu.nodes[id] = n
}

// complaints are what nodes say when a disk did not keep what it had synced, or when replicas that applied the same made other files.
var complaints = []string{"replica differs from the leader", "replica is damaged", "file is damaged", "the catalog is damaged", "tablet failed"}

// excuses are what disks say that were made to fail.
var excuses = []string{errDisk.Error(), vfs.ErrCrashed.Error(), syscall.ENOSPC.Error()}

// Write implements io.Writer for a logger of errors: each call is a line.
func (w *witness) Write(line []byte) (int, error) {
	says := func(words string) bool { return strings.Contains(string(line), words) }
	if slices.ContainsFunc(complaints, says) && !slices.ContainsFunc(excuses, says) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.accuseLocked("a node complains: %s", strings.TrimSpace(string(line)))
	}
	return len(line), nil
}

// reached is told of the points that nodes reach, before a trap there fires.
func (w *witness) reached(id, point string) {
	if point != "store.swapped" && point != "store.restored" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.mu.nodes[id]
	if n == nil {
		return
	}
	for _, t := range n.tablets.Tablets() {
		w.manifestLocked(id, n, t)
	}
}

func (w *witness) manifestLocked(id string, n *Node, t *store.Tablet) {
	d, body, err := t.Manifest()
	last := w.mu.newest[n][t.Spec().ID]
	if err != nil || d.Index == last {
		return
	}
	if w.mu.newest[n] == nil {
		w.mu.newest[n] = map[store.ID]uint64{}
	}
	w.mu.newest[n][t.Spec().ID] = d.Index
	switch has := durableOf(body); {
	case d.Index > has:
		w.accuseLocked("tablet %d on %s lets its log go up to %d, and its manifest is durable to %d", t.Spec().ID, id, d.Index, has)
	case d.Index < last:
		w.accuseLocked("a manifest of tablet %d on %s is durable to %d, one before was to %d", t.Spec().ID, id, d.Index, last)
	case d.MembersIndex > d.Index:
		w.accuseLocked("a manifest of tablet %d on %s is durable to %d and has the members of %d", t.Spec().ID, id, d.Index, d.MembersIndex)
	}
	key, now := manifestKey{t.Spec().ID, d.Index}, seenManifest{id, body}
	was, ok := w.mu.manifests[key]
	if !ok {
		w.mu.manifests[key] = now
	} else if !bytes.Equal(was.body, now.body) {
		w.accuseLocked("manifests of tablet %d durable to %d differ: %s", key.tablet, key.durable, difference(was, now))
	}
}

// durableOf is what a manifest says that it is durable to.
func durableOf(body []byte) (index uint64) {
	_, line, _ := strings.Cut(store.DumpManifest(body), "\ndurable ")
	fmt.Sscanf(line, "%d", &index)
	return index
}

// difference is the first line in which two manifests differ.
func difference(a, b seenManifest) string {
	x, y := strings.Split(store.DumpManifest(a.body), "\n"), strings.Split(store.DumpManifest(b.body), "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("%s has %q, %s has %q", a.node, x[i], b.node, y[i])
		}
	}
	return fmt.Sprintf("%s and %s have the same rowsets with other deaths", a.node, b.node)
}

// watchEvery is how often checkpoints are looked at: owners raise them once a second.
const watchEvery = 100 * time.Millisecond

// watch looks at the checkpoints of all nodes until stop is closed.
func (w *witness) watch(stop <-chan struct{}) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		w.mu.Lock()
		for id, n := range w.mu.nodes {
			if n != nil {
				w.checkpointsLocked(id, n)
			}
		}
		w.mu.Unlock()
	}
}

func (w *witness) checkpointsLocked(id string, n *Node) {
	if w.mu.marks[n] == nil {
		w.mu.marks[n] = map[offsets.Source]int64{}
	}
	for _, c := range n.catalog.Checkpoints() {
		if was := w.mu.marks[n][c.Source]; c.Next < was {
			w.accuseLocked("on %s the checkpoint of %s went back from %d to %d", id, c.Source, was, c.Next)
		}
		w.mu.marks[n][c.Source] = c.Next
	}
}

// watchNodes begins to watch, and returns what ends it.
func (s *simulation) watchNodes() (end func()) {
	stop := make(chan struct{})
	go s.eyes.watch(stop)
	return func() { close(stop) }
}

// checkSeen ends the run if the witness saw a rule broken.
func (s *simulation) checkSeen() {
	s.t.Helper()
	if broken := s.eyes.verdict(); broken != "" {
		s.t.Fatal(broken)
	}
}
