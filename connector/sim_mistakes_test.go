package connector

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unsafe"

	"nyala/connector/catalog"
	"nyala/ingest"
	"nyala/store"
	"nyala/store/vfs"
)

// broken are the rules that a run breaks: of each room by the numbers of its own file mistake.go, whose names are
// unexported there. Zero is none.
type broken struct {
	node    mistake
	ingest  int
	store   int
	catalog int
}

// brokenBy is number n of the mistakes, counted from 1.
func brokenBy(n int) broken {
	if n == 0 {
		return broken{}
	}
	return mistakes[n-1].broken
}

// mistakes are rules of the design that the simulation must see broken, each within its number of seeds from the
// first one on. Some rules matter only when another one is broken, too: the refusal of holes when a sender leaves some.
// Those come as pairs. Not here, for the world that is simulated cannot tell: see docs/testing.md.
var mistakes = []struct {
	name   string
	broken broken
	seeds  int
	slow   bool // only with -sim.all
}{
	{"rows are acknowledged before they are applied", broken{node: ackEarly}, 20, false},
	{"an entry of unknown fate counts as applied", broken{node: ackUnknown}, 30, false},
	{"an acknowledgement of another cut is taken", broken{ingest: 5}, 20, false},
	{"several entries are in flight and holes are taken", broken{ingest: 4, store: 2}, 40, false},
	{"several entries are in flight and letters drop by ledger", broken{ingest: 4, store: 24}, 60, false},
	{"an entry of unknown fate is given up", broken{node: gaveUp}, 20, false},
	{"the checkpoint is what was read", broken{node: checkpointSent}, 40, false},
	{"the watermark is the highest decision", broken{ingest: 3}, 40, false},
	{"a checkpoint is set, not raised", broken{catalog: 1}, 300, true},
	{"an owner starts at the group's commit", broken{node: startWanted}, 120, false},
	{"the first start is not written down", broken{node: startUnwritten}, 40, false},
	{"a segment begins at its first own row", broken{ingest: 2}, 20, false},
	{"holes are taken and entries given up", broken{node: gaveUp, ingest: 1, store: 2}, 20, false},
	{"refusals are acknowledgements and segments begin at own rows", broken{node: ackRefused, ingest: 2}, 20, false},
	{"rows below the ledger are not dropped", broken{store: 1}, 20, false},
	{"the row just below the ledger is not dropped", broken{store: 15}, 20, false},
	{"the row at the ledger is dropped", broken{store: 16}, 20, false},
	{"entries are dropped, not rows", broken{store: 17}, 20, false},
	{"the ledger is set, not raised", broken{store: 18}, 40, false},
	{"a tablet is copied without its ledger", broken{store: 19}, 30, false},
	{"a wiped node keeps its incarnation", broken{node: incarnationKept}, 60, true},
	{"the log is not synced", broken{node: walUnsynced}, 20, false},
	{"files are not synced", broken{node: filesUnsynced}, 60, false},
	{"manifests are not synced", broken{node: manifestUnsynced}, 40, false},
	{"directories are not synced", broken{node: dirsUnsynced}, 40, false},
	{"the log is cut before the manifest is durable", broken{store: 20}, 120, true},
	{"lookups skip frozen MemRowSets", broken{store: 3}, 30, false},
	{"late deaths are lost at Install", broken{store: 4}, 30, false},
	{"a file leaves out rows by late deaths", broken{store: 5}, 30, false},
	{"a manifest has the deaths of the new file only", broken{store: 7}, 30, false},
	{"a manifest has a later ledger", broken{store: 8}, 40, false},
	{"a manifest has later deaths", broken{store: 6}, 20, false},
	{"a manifest has later members", broken{store: 9}, 300, true},
	{"a manifest has a later timestamp", broken{store: 10}, 60, false},
	{"reads below the horizon are answered", broken{store: 14}, 100, false},
	{"flushes are installed in any order", broken{store: 11}, 300, true},
	{"settings change without a fence", broken{node: fenceLeftOut}, 80, false},
	{"where settings begin is read before the fence", broken{node: readBeforeFence}, 150, true},
	{"new settings decide from the beginning", broken{node: beginsForgotten}, 40, false},
	{"tablets are not given the columns that come", broken{node: columnsLeftOut}, 20, false},
	{"records are decoded under the newest columns", broken{node: columnsUndecided}, 60, false},
	{"a manifest forgets columns that came", broken{store: 22}, 80, false},
	{"a replay marks claims before their rows are sent", broken{node: replayMarkedEarly}, 40, false},
	{"nobody finishes what an interrupted replay claimed", broken{node: replayForgotten}, 20, false},
}

// TestSimulationFindsMistakes breaks one rule at a time, in a process of its own, for many of them end in a panic: a
// simulation that cannot see that proves nothing.
func TestSimulationFindsMistakes(t *testing.T) {
	for i, m := range mistakes {
		if m.slow && !*simAll || testing.Short() && i > 0 {
			continue
		}
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			seeds := m.seeds
			if *simSeeds != 0 {
				seeds = *simSeeds
			}
			first := max(*simSeed, 1)
			cmd := exec.Command(os.Args[0], "-test.run=^TestSimulation$", "-test.v", "-test.failfast", "-test.timeout=15m", "-sim.inside",
				fmt.Sprint("-sim.seed=", first), fmt.Sprint("-sim.seeds=", seeds), fmt.Sprint("-sim.mistake=", i+1))
			if m.slow {
				cmd.Args = append(cmd.Args, "-sim.all")
			}
			cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=300")
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("not found by %d seeds", seeds)
			}
			runs := regexp.MustCompile(`seed=(\d+)`).FindAllString(string(out), -1)
			if len(runs) == 0 {
				t.Fatalf("no seed was run: %v\n%s", err, out)
			}
			t.Logf("found by %s: %s", runs[len(runs)-1], finding(string(out)))
		})
	}
}

// finding is the line that says what a failed run saw.
func finding(out string) string {
	line := regexp.MustCompile(`(?m)^(panic: .*|\s+(?:sim_\w*|cluster_|verify_)test.go:\d+: (?:[^s]|s[^e]).*|SIG.*)$`).FindString(out)
	return strings.TrimSpace(line[:min(len(line), 300)])
}

// breakRoom makes the mistakes of the other rooms; their switches are unexported like ours.
func (b broken) breakRoom(part any) {
	which := 0
	switch part.(type) {
	case *store.Tablet:
		which = b.store
	case *ingest.Options, *ingest.SenderOptions:
		which = b.ingest
	case *catalog.Catalog:
		which = b.catalog
	}
	if which != 0 {
		field := reflect.ValueOf(part).Elem().FieldByName("broken")
		*(*int)(unsafe.Pointer(field.UnsafeAddr())) = which
	}
}

// files breaks the rules of a disk, if the mistake is one of those.
func (m mistake) files(fs vfs.FS) vfs.FS {
	match := map[mistake]func(name string) bool{
		walUnsynced: func(name string) bool {
			return strings.HasPrefix(name, "data/") && strings.Contains(name, "/"+walDir+"/")
		},
		filesUnsynced:    func(name string) bool { return path.Ext(name) == ".parquet" || path.Ext(name) == ".keys" },
		manifestUnsynced: func(name string) bool { return strings.Contains(strings.ToLower(path.Base(name)), "manifest") },
	}[m]
	if match == nil && m != dirsUnsynced {
		return fs
	}
	return &lyingDisk{FS: fs, file: match, dirs: m == dirsUnsynced}
}

// lyingDisk acknowledges syncs that it does not carry out.
type lyingDisk struct {
	vfs.FS
	file func(name string) bool
	dirs bool
}

type lyingFile struct{ vfs.File }

// Sync implements vfs.File.
func (lyingFile) Sync() error { return nil }

func (d *lyingDisk) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err == nil && d.file != nil && d.file(name) {
		return lyingFile{f}, nil
	}
	return f, err
}

// Open implements vfs.FS.
func (d *lyingDisk) Open(name string) (vfs.File, error) {
	f, err := d.FS.Open(name)
	return d.wrap(name, f, err)
}

// Create implements vfs.FS.
func (d *lyingDisk) Create(name string) (vfs.File, error) {
	f, err := d.FS.Create(name)
	return d.wrap(name, f, err)
}

// OpenFile implements vfs.FS.
func (d *lyingDisk) OpenFile(name string) (vfs.File, error) {
	f, err := d.FS.OpenFile(name)
	return d.wrap(name, f, err)
}

// SyncDir implements vfs.FS.
func (d *lyingDisk) SyncDir(dir string) error {
	if d.dirs {
		return nil
	}
	return d.FS.SyncDir(dir)
}
