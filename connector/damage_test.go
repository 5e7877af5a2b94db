package connector

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/connector/query"
	"nyala/raftlog"
	"nyala/store"
	"nyala/store/batch"
	"nyala/store/vfs"
)

// files is what a directory holds, by path.
type files map[string][]byte

// tree reads all files of a disk below dir.
func tree(t *testing.T, fsys vfs.FS, dir string) files {
	out := files{}
	names, err := fsys.List(dir)
	if err != nil {
		return out
	}
	for _, name := range names {
		p := path.Join(dir, name)
		if _, err := fsys.List(p); err == nil {
			for k, v := range tree(t, fsys, p) {
				out[k] = v
			}
			continue
		}
		data, err := vfs.ReadFile(fsys, p)
		if err != nil {
			t.Fatal(err)
		}
		out[p] = data
	}
	return out
}

// put gives a file a content, or removes it.
func put(t *testing.T, fsys vfs.FS, name string, data []byte) {
	if data == nil {
		if err := fsys.Remove(name); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := fsys.MkdirAll(path.Dir(name)); err != nil {
		t.Fatal(err)
	}
	if err := vfs.ReplaceFile(fsys, name, data); err != nil {
		t.Fatal(err)
	}
}

// harm is one way to damage a file; older is what the file held before.
type harm struct {
	name string
	do   func(rng *rand.Rand, data, older []byte) []byte
}

var harms = []harm{
	{"flipped bit", func(rng *rand.Rand, data, _ []byte) []byte {
		data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		return data
	}},
	{"flipped bit early", func(rng *rand.Rand, data, _ []byte) []byte { // headers and first records
		data[rng.IntN(min(len(data), 200))] ^= 1 << rng.IntN(8)
		return data
	}},
	{"flipped bit late", func(rng *rand.Rand, data, _ []byte) []byte { // of what counts: log segments end with zeros
		end := len(bytes.TrimRight(data, "\x00"))
		data[max(0, end-1-rng.IntN(min(end, 300)))] ^= 1 << rng.IntN(8)
		return data
	}},
	{"truncated", func(rng *rand.Rand, data, _ []byte) []byte { return data[:rng.IntN(len(data))] }},
	{"removed", func(*rand.Rand, []byte, []byte) []byte { return nil }},
	{"older copy", func(_ *rand.Rand, _, older []byte) []byte { return older }},
	{"zeroed page", func(rng *rand.Rand, data, _ []byte) []byte {
		at := rng.IntN((len(data)+4095)/4096) * 4096
		clear(data[at:min(at+4096, len(data))])
		return data
	}},
	{"trailing garbage", func(rng *rand.Rand, data, _ []byte) []byte {
		for range rng.IntN(5000) + 1 {
			data = append(data, byte(rng.Uint32()))
		}
		return data
	}},
}

// fileKinds are the files of a data directory, by what their paths end with.
var fileKinds = []struct {
	name   string
	match  *regexp.Regexp
	rounds int
}{
	{"log", regexp.MustCompile(`/wal/\d+\.wal$`), 4},
	{"manifest", regexp.MustCompile(`/tablets/\d+/manifest$`), 2},
	{"parquet", regexp.MustCompile(`/tablets/\d+/\d+\.parquet$`), 2},
	{"keys", regexp.MustCompile(`/tablets/\d+/\d+\.keys$`), 1},
	{"catalog", regexp.MustCompile(`/catalog/catalog$`), 1},
	{"identity", regexp.MustCompile(`/node\.json$`), 1},
}

// damageRun is a cluster of three whose disks are damaged again and again.
type damageRun struct {
	*cluster
	rows  int              // produced, acknowledged and read back
	old   map[string]files // of each node, when it was damaged last
	found map[string]int
}

func newDamageRun(t *testing.T, seed uint64) *damageRun {
	d := &damageRun{cluster: newCluster(t, 3, 3, seed), old: map[string]files{}, found: map[string]int{}}
	d.flush = FlushOptions{Bytes: 16 << 10, Age: time.Second}
	d.segment = 64 << 10
	d.startAll()
	for range 3 {
		d.more(400)
		time.Sleep(2 * time.Second) // so that all of it is in files, and there are several of each kind
	}
	time.Sleep(40 * time.Second) // the catalog is saved
	for _, id := range []string{"n1", "n2", "n3"} {
		d.old[id] = tree(t, d.disks[id].Mem, "data/"+id)
	}
	d.more(400)
	time.Sleep(40 * time.Second)
	return d
}

// end takes apart what a failure has left, or the bubble's end would hide it.
func (d *damageRun) end() {
	if !d.t.Failed() {
		d.stopAll()
		return
	}
	for id := range d.nodes {
		d.kill(id, 0)
	}
	d.broker.Close()
}

// more produces rows and waits for them everywhere.
func (d *damageRun) more(n int) {
	d.t.Helper()
	d.produce(d.rows, d.rows+n)
	d.rows += n
	d.await("n1", d.rows)
	d.awaitHealthy("n1")
}

// readAll reads all rows from a node. An error is fine; wrong or missing rows never are.
func (d *damageRun) readAll(id, what string) bool {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := d.nodes[id].read(ctx, "events", query.Request{Columns: []string{"id", "tenant", "text"}})
	if err != nil {
		return false
	}
	defer r.stream.Close()
	seen := map[int64]bool{}
	err = pour(r.stream, func(b *batch.Batch) error {
		for i := range b.Rows {
			at := b.Columns[0].Int(i)
			if text := string(b.Columns[2].Bytes(i)); seen[at] || b.Columns[1].Int(i) != at%7 || text != fmt.Sprintf("event %d", at) {
				d.t.Errorf("%s: %s gave row %d as %q, seen before: %t", what, id, at, text, seen[at])
			}
			seen[at] = true
		}
		return nil
	})
	if err != nil {
		return false
	}
	if len(seen) != d.rows {
		d.t.Errorf("%s: %s gave %d rows, want %d", what, id, len(seen), d.rows)
	}
	return true
}

// revive starts a node on its damaged disk. If it refuses, it does what the message says.
func (d *damageRun) revive(id, what, file string) {
	d.t.Helper()
	err := d.tryStart(id)
	if err == nil {
		d.found["started"]++
		return
	}
	d.found["refused"]++
	d.t.Logf("%s: %v", what, err)
	text := err.Error()
	if !strings.Contains(text, "data/"+id) || !strings.Contains(text, path.Base(file)) && !strings.Contains(text, "/wal") ||
		!regexp.MustCompile(` at (group )?\d+|not this node's log`).MatchString(text) || !strings.Contains(text, "move data/"+id+" away") {
		d.t.Fatalf("%s: refused without file, place and what to do: %v", what, err)
	}
	d.disks[id] = newDisk(vfs.NewMem())
	time.Sleep(time.Second) // as whoever does that takes
	d.start(id)
}

// judge is the oracle: no read is wrong, and in the end all is as it was.
func (d *damageRun) judge(what string) {
	d.t.Helper()
	ids := []string{"n1", "n2", "n3"}
	for range 3 {
		for _, id := range ids {
			d.readAll(id, what)
		}
		time.Sleep(200 * time.Millisecond)
	}
	for _, id := range ids {
		whole := false
		for range 300 {
			if whole = d.readAll(id, what); whole || d.t.Failed() {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		if !whole {
			_, err := d.cluster.rows(id)
			d.t.Fatalf("%s: %s gives no answer: %v; %v", what, id, err, d.nodes[id].status(context.Background()).Reasons)
		}
	}
	d.settled(what)
	for _, id := range ids {
		n := d.nodes[id]
		n.mu.Lock()
		d.found["repaired"] += len(n.mu.repairs)
		n.mu.Unlock()
	}
}

// settled waits until the cluster is healthy and its replicas are equal.
func (d *damageRun) settled(what string) {
	d.t.Helper()
	var s api.Status
	for range 600 {
		if s = d.nodes["n1"].status(context.Background()); s.Healthy && !slices.ContainsFunc(s.Tablets, unequal) {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	d.t.Fatalf("%s: the cluster does not heal: %v %+v%s", what, s.Reasons, s.Tablets, d.groups(s.Tablets))
}

// groups tells how the groups of those tablets are that are not whole, on each node, and why their leaders do not take the next step: of
// that the nodes speak at a level that is not logged here.
func (d *damageRun) groups(tablets []api.Tablet) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var out strings.Builder
	for _, tablet := range tablets {
		var id catalog.TabletID
		fmt.Sscan(tablet.ID, &id)
		for name, n := range d.nodes {
			g := n.groupOf(id)
			if g == nil || !unequal(tablet) {
				continue
			}
			committed, at := g.Committed()
			fmt.Fprintf(&out, "\ntablet %d on %s: %+v; members %v; committed at %d: %v", id, name, g.Status(), g.Members(), at, committed)
			known, ok := n.catalog.Snapshot().Tablet(id)
			for i := 0; ok && i < len(known.Replicas); i++ {
				r := known.Replicas[i]
				m := raftlog.Member{Node: r.Node, Incarnation: r.Incarnation}
				if g.IsLeader() && r.Leaving {
					fmt.Fprintf(&out, "; remove %s: %v", r.Member, g.Remove(ctx, m))
				} else if g.IsLeader() && !r.Voter {
					fmt.Fprintf(&out, "; promote %s: %v", r.Member, g.Promote(ctx, m))
				}
			}
		}
	}
	return out.String()
}

func unequal(t api.Tablet) bool {
	for _, r := range t.Replicas {
		if r.State != api.ReplicaRunning || r.DurableIndex != t.Replicas[0].DurableIndex || r.Hash != t.Replicas[0].Hash || r.AppliedIndex != t.Replicas[0].AppliedIndex {
			return true
		}
	}
	return len(t.Replicas) != 3
}

// TestDamage stops a node, damages one file of its disk and starts it, for each kind of file and of damage. Either the node refuses
// and says which file, where, and what to do, and that works; or it comes back, and whatever was damaged is mended from the
// other nodes. No read of any node is ever wrong.
func TestDamage(t *testing.T) {
	for _, kind := range fileKinds {
		t.Run(kind.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDamageRun(t, 1)
				defer d.end()
				step := 1
				if testing.Short() {
					step = 5
				}
				for i := 0; i < kind.rounds*len(harms); i += step {
					d.one([]string{"n1", "n2", "n3"}[i%3], kind.match, harms[i%len(harms)])
				}
				t.Log(d.found)
			})
		})
	}
}

// check has `nyala check` look at the damaged disk: what it says names the file and a place. What it does not find must be harmless: that the
// rest of the test shows.
func (d *damageRun) check(id, what, name string) bool {
	d.t.Helper()
	r, err := CheckData(d.disks[id].Mem, "data/"+id)
	text := fmt.Sprint(err)
	if err == nil && len(r.Problems) == 0 {
		d.found["not seen by check"]++
		return false
	}
	if err == nil {
		text = strings.Join(r.Problems, "\n")
	}
	d.found["checked"]++
	base := strings.TrimSuffix(path.Base(name), path.Ext(name))
	if !strings.Contains(text, base) && !strings.Contains(text, path.Dir(name)) || !regexp.MustCompile(` at \d+|missing|not exist|has no node.json|bytes of hash`).MatchString(text) {
		d.t.Errorf("%s: check says %s", what, text)
	}
	return true
}

// one damages a file of a node.
func (d *damageRun) one(id string, kind *regexp.Regexp, h harm) {
	d.t.Helper()
	d.kill(id, 1)
	now := tree(d.t, d.disks[id].Mem, "data/"+id)
	var names []string
	for name := range now {
		if kind.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		d.t.Fatalf("there is no file %s among %d", kind, len(now))
	}
	name := names[d.rng.IntN(len(names))]
	older, ok := d.old[id][name]
	if !ok {
		older = now[names[0]] // of its like
	}
	what := fmt.Sprintf("%s of %s", h.name, name)
	bad := h.do(d.rng, slices.Clone(now[name]), slices.Clone(older))
	put(d.t, d.disks[id].Mem, name, bad)
	seen, refused := d.check(id, what, name), d.found["refused"]
	if d.revive(id, what, name); d.found["refused"] > refused && !seen {
		d.t.Errorf("%s: refused, but check sees nothing", what)
	}
	d.judge(what)
	d.old[id] = now
	d.more(50)
	if d.t.Failed() {
		d.t.FailNow()
	}
}

// TestDamagedDirectories loses whole directories, or has older copies of them.
func TestDamagedDirectories(t *testing.T) {
	for _, part := range []string{"wal", "tablets", "catalog", ""} {
		synctest.Test(t, func(t *testing.T) {
			d := newDamageRun(t, 2)
			defer d.end()
			for i, id := range []string{"n2", "n3"} {
				if i == 1 && part == "" {
					break // an older copy of all that a node has cannot be told from the node
				}
				d.kill(id, 1)
				dir := path.Join("data", id, part)
				for name := range tree(t, d.disks[id].Mem, dir) {
					put(t, d.disks[id].Mem, name, nil)
				}
				what := "lost " + dir
				if i == 1 {
					what = "older copy of " + dir
					for name, data := range d.old[id] {
						if strings.HasPrefix(name, dir+"/") {
							put(t, d.disks[id].Mem, name, data)
						}
					}
				}
				d.revive(id, what, dir)
				d.judge(what)
				d.more(50)
			}
			t.Log(part, d.found)
		})
	}
}

// TestFailedReplica has a leader's replica stop applying while it runs: another leads at once, and the replica comes back by itself.
func TestFailedReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDamageRun(t, 4)
		defer d.end()
		var id catalog.TabletID
		for _, tablet := range d.awaitHealthy("n1").Tablets {
			if tablet.Table == "events" {
				fmt.Sscan(tablet.ID, &id)
			}
		}
		var leader string
		for _, n := range []string{"n1", "n2", "n3"} {
			if d.nodes[n].replica(id).group.IsLeader() {
				leader = n
			}
		}
		r := d.nodes[leader].replica(id)
		broken := store.AdvanceEntry(1)
		broken[len(broken)-1] ^= 1
		r.tablet.Apply([]store.Entry{{Index: r.group.Applied() + 1, Term: 99, Data: broken}})
		if r.tablet.Err() == nil {
			t.Fatal("the tablet took a damaged entry")
		}
		time.Sleep(10 * time.Millisecond)
		if d.nodes[leader].isLeaderOf(store.ID(id)) {
			t.Error("a failed replica leads")
		}
		d.judge("a failed replica")
		d.more(50)
		if again := d.nodes[leader].replica(id); again == nil || again == r || again.tablet.Err() != nil {
			t.Errorf("the replica did not come back: %+v", again)
		}
	})
}

// TestDamageAlone: a node without others names its damage and refuses. It never heals by forgetting.
func TestDamageAlone(t *testing.T) {
	for _, kind := range fileKinds {
		synctest.Test(t, func(t *testing.T) {
			d := &damageRun{cluster: newCluster(t, 1, 1, 5), found: map[string]int{}}
			defer d.end()
			d.flush = FlushOptions{Bytes: 16 << 10, Age: time.Second}
			d.startAll()
			d.produce(0, 800)
			d.rows = 800
			d.await("n1", 800)
			time.Sleep(time.Minute)
			d.kill("n1", 1)
			disk := d.disks["n1"].Mem
			for name, data := range tree(t, disk, "data/n1") {
				if kind.match.MatchString(name) && len(bytes.Trim(data, "\x00")) > 0 && (kind.name != "log" || len(bytes.TrimRight(data, "\x00")) > 8192) {
					data[20] ^= 4
					put(t, disk, name, data)
				}
			}
			err := d.tryStart("n1")
			if err == nil {
				for range 20 {
					if d.readAll("n1", kind.name) && kind.name != "parquet" {
						break // what was damaged did not count
					}
					time.Sleep(time.Second)
				}
				if s := d.nodes["n1"].status(context.Background()); s.Healthy && kind.name != "log" {
					t.Errorf("%s: healthy", kind.name)
				} else {
					t.Log(kind.name, s.Reasons)
				}
				return
			}
			t.Log(kind.name, err)
			if !strings.Contains(err.Error(), "no other node") || !regexp.MustCompile(` at \d+`).MatchString(err.Error()) {
				t.Errorf("%s: %v", kind.name, err)
			}
		})
	}
}

// TestLeftovers: directories and logs of tablets that the catalog does not place here are deleted at the start, and no others.
func TestLeftovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDamageRun(t, 3)
		defer d.end()
		var placed catalog.TabletID
		for _, tablet := range d.nodes["n2"].catalog.Snapshot().Tablets {
			placed = max(placed, tablet.ID)
		}
		d.kill("n2", 1)
		disk := d.disks["n2"].Mem
		put(t, disk, "data/n2/tablets/999/manifest", []byte("of a tablet that this cluster has not made yet"))
		d.start("n2")
		d.settled("a strange directory")
		if _, err := disk.Stat("data/n2/tablets/999/manifest"); err != nil {
			t.Errorf("a tablet that nobody knows was deleted: %v", err)
		}
		if _, err := disk.Stat(fmt.Sprintf("data/n2/tablets/%d/manifest", placed)); err != nil {
			t.Error(err)
		}
	})
}
