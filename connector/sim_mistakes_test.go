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

	"nyala/store"
	"nyala/store/vfs"
)

// mistakes are rules of the design that the simulation must see broken, each within its number of seeds from the
// first one on. Those of the store are also found by its own model, which is much quicker at it, and which alone
// finds three: holes that are taken, for no node sends any as long as all other rules hold; and deletion vectors that are
// later than the durable index and flushes installed in any order, which need a crash in the one moment between.
var mistakes = []struct {
	name  string
	which mistake
	seeds int
	slow  bool // only with -sim.all
}{
	{"rows are acknowledged before they are applied", ackEarly, 20, false},
	{"an entry of unknown fate counts as applied", ackUnknown, 60, false},
	{"the checkpoint is what was read", checkpointSent, 30, false},
	{"a wiped node keeps its incarnation", incarnationKept, 300, true},
	{"the log is not synced", walUnsynced, 20, false},
	{"files are not synced", filesUnsynced, 30, false},
	{"manifests are not synced", manifestUnsynced, 30, false},
	{"directories are not synced", dirsUnsynced, 20, false},
	{"rows below the ledger are not dropped", storeMistakes + 1, 200, true},
	{"lookups skip frozen MemRowSets", storeMistakes + 3, 40, false},
	{"late deaths are lost at Install", storeMistakes + 4, 40, false},
	{"a file leaves out rows by late deaths", storeMistakes + 5, 40, false},
	{"a manifest has the deaths of the new file only", storeMistakes + 7, 40, false},
	{"a manifest has the ledger of when it is written", storeMistakes + 8, 40, false},
}

// TestSimulationFindsMistakes breaks one rule at a time, in a process of its own, for many of them end in a panic: a
// simulation that cannot see that proves nothing.
func TestSimulationFindsMistakes(t *testing.T) {
	list := mistakes
	if testing.Short() {
		list = list[:1]
	}
	last := regexp.MustCompile(`seed=(\d+)`)
	for _, m := range list {
		if m.slow && !*simAll {
			continue
		}
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			out, err := exec.Command(os.Args[0], "-test.run=^TestSimulation$", "-test.v", "-test.failfast", "-test.timeout=15m",
				"-sim.seed=1", fmt.Sprint("-sim.seeds=", m.seeds), fmt.Sprint("-sim.mistake=", int(m.which))).CombinedOutput()
			if err == nil {
				t.Fatalf("not found by %d seeds", m.seeds)
			}
			runs := last.FindAllString(string(out), -1)
			if len(runs) == 0 {
				t.Fatalf("no seed was run: %v\n%s", err, out)
			}
			t.Logf("found by %s: %s", runs[len(runs)-1], finding(string(out)))
		})
	}
}

// finding is the line that says what a failed run saw.
func finding(out string) string {
	line := regexp.MustCompile(`(?m)^(panic: .*|\s+sim_\w*test.go:\d+: (?:[^s]|s[^e]).*|SIG.*)$`).FindString(out)
	return strings.TrimSpace(line[:min(len(line), 300)])
}

// breakTablet makes the mistakes of the store; its switch is unexported like ours.
func (m mistake) breakTablet() func(*store.Tablet) {
	if m <= storeMistakes {
		return nil
	}
	return func(t *store.Tablet) {
		field := reflect.ValueOf(t).Elem().FieldByName("broken")
		*(*int)(unsafe.Pointer(field.UnsafeAddr())) = int(m - storeMistakes)
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
