package store

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// ID names a tablet in the cluster for ever.
type ID uint64

// Spec is what a tablet is of. It comes from the catalog and is the same on every replica.
type Spec struct {
	ID        ID
	Table     string
	Schema    *schema.Schema // that it was made with; columns may have been appended since, the log says which
	Bucket    int
	RangeLow  int64 // of the range column, if HasRange: [RangeLow, RangeHigh)
	RangeHigh int64
	HasRange  bool
	History   time.Duration   // how far back reads may look
	Begin     Timestamp       // all that is written is later: reads up to here took place before the tablet was made
	Fences    []offsets.Fence // older decisions that were no longer taken when the tablet was made
}

// Entry is a committed log entry. The tablet keeps Data for as long as its rows are in memory.
type Entry struct {
	Index, Term uint64
	Membership  bool // Data is opaque: who the members of the group are
	Data        []byte
}

// Fetcher reads a file of the same tablet from another replica, from offset off on.
type Fetcher func(ctx context.Context, name string, off int64) (io.ReadCloser, error)

// Tablet holds one replica's rows: one MemRowSet, frozen ones on their way to disk, and DiskRowSets.
//
// A row that is alive is in exactly one of them. A reader at T sees the rows with birth <= T < death of all of them.
//
// Writers: the goroutine that calls Apply and Restore, and the tablet's own goroutine (maintain.go), which turns
// frozen MemRowSets into DiskRowSets. Whoever changes state holds turn; it is a channel and not a mutex because the
// one who waits for it must count as waiting in a simulation. Fields of mu change under turn and mu, so a holder of
// either may read them; neither is held across I/O. Readers: any, through Scan.
//
// What is on disk (manifest, final file names) changes only under disk, another such channel: held across I/O
// by the tablet's goroutine while it carries out an Install, and by Restore. Order: disk, turn, mu.
type Tablet struct {
	manager *Manager
	spec    Spec
	dir     string
	fs      vfs.FS
	log     *slog.Logger
	broken  mistake // only set by tests

	turn    chan struct{}
	disk    chan struct{}
	stamped atomic.Int64
	scratch scratch // of Apply
	ahead   int64   // bytes of entries that the log has above the manifest, until rows come; of Apply

	manifest *manifestFile   // under disk
	prepared map[string]file // files that a Prepare put there, for a Restore to come; under disk

	force     atomic.Bool                        // memory is short: freeze whatever the size
	overtaken atomic.Pointer[context.CancelFunc] // of the goroutine's proposal
	kick      chan struct{}                      // wakes the tablet's goroutine
	cancel    context.CancelFunc
	done      chan struct{}

	age struct { // of what only the log keeps; of the tablet's goroutine
		since  time.Time
		freeze uint64 // the Freeze that the MemRowSet began with
	}

	mu struct {
		sync.RWMutex
		state
		changed chan struct{} // closed and replaced when durable or failed change
	}
}

// state is everything of a tablet that the log decides, and how far its disk has followed.
type state struct {
	schema    *schema.Schema
	mem       *memRowSet
	batches   []memBatch // mem's, as of the last applied entry
	frozen    []*frozenRowSet
	disks     []*diskRowSet // never changed in place: a scan keeps the slice that it took
	directory *keyDirectory // of disks; nil: there are few. Changed under turn alone
	resident  int64         // what disks and directory hold in memory
	ledger    *offsets.Ledger
	applied   uint64
	term      uint64
	last      Timestamp
	horizon   Timestamp // reads below are refused
	members   []byte
	membersAt uint64

	pending    []uint64 // Freezes whose Install has not been applied, oldest first
	lastFreeze uint64
	waiting    []waitingInstall // applied and not carried out, in log order
	installed  uint64           // the newest Install carried out
	durable    Durable
	body       []byte // the durable manifest
	commands   int    // entries beside Freeze and Install since the last Freeze
	writes     int    // Writes among them
	generation int    // counts Restores
	failed     error
	differs    error // that this replica is not what the leader was at an Install
	fault      error // why the disk does not follow at the moment
	flaws      []*flaw
}

type waitingInstall struct {
	index uint64
	installCommand
}

// frozenRowSet is a MemRowSet that a Freeze ended, with the tablet's state as of that very entry, which
// goes into the manifest when it is installed.
type frozenRowSet struct {
	*memRowSet
	schema   *schema.Schema
	freeze   uint64   // index of the Freeze
	manifest manifest // without rowsets
	late     []death  // of rows that died after the Freeze, in order; under turn
	encoded  *encoded // of the tablet's goroutine, as what follows

	seen       time.Time // when this replica began to wait for the Install
	copied     bool      // the files that the Install names are here, from another replica
	copyFailed bool      // they could not be had in time
	compared   bool      // sums were held against those of the Install
	same       bool      // and this replica would make the files of the same rows
}

// diskRowSet is an installed DiskRowSet and when its rows died.
type diskRowSet struct {
	added
	*rowset.RowSet
	ranges  keyRanges
	deaths  deaths
	asked   atomic.Int64 // keys that were looked for in it
	listing bool         // its keys are in the directory, or on their way there; of the tablet's goroutine
	listed  bool         // all of them; under turn
	refs    atomic.Int32 // the tablet, and each scan
	gone    func()       // removes the files; called when the last reference goes

	heat       float64 // asked, of late; of the manager's goroutine (evict.go)
	askedThen  int64   // at its last tick
	unfiltered int64   // asked, when its Bloom filter was evicted; under turn
}

func (d *diskRowSet) release() {
	if d.refs.Add(-1) > 0 {
		return
	}
	d.RowSet.Close()
	if d.gone != nil {
		d.gone()
	}
}

// openDisk opens the rowset of a manifest.
func openDisk(fsys vfs.FS, dir string, m manifestRowSet) (*diskRowSet, error) {
	r, err := rowset.OpenKnown(fsys, path.Join(dir, baseName(m.id)), m.keys.size, m.keys.hash)
	if err != nil {
		return nil, fmt.Errorf("store: rowset %d: %w", m.id, err)
	}
	d := &diskRowSet{added: m.added, RowSet: r, ranges: rangesOfDisk(r)}
	d.refs.Store(1)
	if uint64(r.Rows()) != m.rows {
		r.Close()
		return nil, fmt.Errorf("store: %s: got %d rows, want %d: %w", path.Join(dir, parquetName(m.id)), r.Rows(), m.rows, rowset.ErrCorrupt)
	}
	for _, k := range m.deaths {
		d.deaths.set(k.row, k.at)
	}
	return d, nil
}

// newTablet makes the state that a manifest describes. It deletes no file.
func newTablet(m *Manager, spec Spec, dir string, f *manifestFile, from *manifest) (*Tablet, error) {
	t := &Tablet{
		manager: m, spec: spec, dir: dir, fs: m.options.FS,
		log:      m.options.Logger.With("tablet", uint64(spec.ID)),
		turn:     make(chan struct{}, 1),
		disk:     make(chan struct{}, 1),
		kick:     make(chan struct{}, 1),
		done:     make(chan struct{}),
		manifest: f,
		prepared: map[string]file{},
	}
	t.mu.changed = make(chan struct{})
	s, err := t.stateOf(from)
	if err != nil {
		return nil, err
	}
	t.mu.state = *s
	return t, nil
}

// stateOf opens what a manifest names. It must describe this tablet.
func (t *Tablet) stateOf(m *manifest) (*state, error) {
	if m.tablet != uint64(t.spec.ID) {
		return nil, fmt.Errorf("store: tablet %d: got the manifest of tablet %d", t.spec.ID, m.tablet)
	}
	sc := t.spec.Schema
	if m.changed != nil {
		if sc = m.changed; sc.Version <= t.spec.Schema.Version || !sc.At(t.spec.Schema.Version).Equal(t.spec.Schema) {
			return nil, fmt.Errorf("store: tablet %d: the manifest's schema of version %d does not go on from the table's of version %d: %w",
				t.spec.ID, sc.Version, t.spec.Schema.Version, batch.ErrCorrupt)
		}
	}
	s := &state{
		schema: sc, mem: newMemRowSet(sc, 0, &t.manager.spare), ledger: m.ledger.Clone(), applied: m.durable.Index, term: m.durable.Term,
		last: m.timestamp, horizon: m.horizon, members: m.durable.Members, membersAt: m.durable.MembersIndex,
		lastFreeze: m.durable.Index, installed: m.installed, durable: m.durable, body: m.appendTo(nil),
	}
	s.mem.flushAt = firstFlush(t.spec.ID, t.manager.options.FlushBytes)
	for _, r := range m.rowsets {
		d, err := openDisk(t.fs, t.dir, r)
		if err != nil {
			for _, o := range s.disks {
				o.release()
			}
			return nil, err
		}
		t.guard(d)
		s.disks = append(s.disks, d)
	}
	t.manager.evictOldest(s.disks)
	s.resident = residentBytes(s.disks)
	return s, nil
}

// emptyManifest is that of a tablet that has applied nothing.
func emptyManifest(spec Spec) *manifest {
	m := &manifest{tablet: uint64(spec.ID), schema: spec.Schema.Version, timestamp: spec.Begin, ledger: &offsets.Ledger{}}
	for _, f := range spec.Fences {
		m.ledger.Fence(f)
	}
	return m
}

// removeGarbage deletes every file of the tablet's directory that keep does not name.
func (m *Manager) removeGarbage(dir string, keep map[string]file) error {
	fsys := m.options.FS
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for _, name := range names {
		if _, ok := keep[name]; ok || name == manifestName {
			continue
		}
		m.reached(GarbageFound)
		if err := fsys.Remove(path.Join(dir, name)); err != nil {
			return fmt.Errorf("store: garbage: %w", err)
		}
	}
	return nil
}

func (t *Tablet) lockTurn()   { t.turn <- struct{}{} }
func (t *Tablet) unlockTurn() { <-t.turn }
func (t *Tablet) lockDisk()   { t.disk <- struct{}{} }
func (t *Tablet) unlockDisk() { <-t.disk }

// Expect says how many bytes of entries there are in the log that are to be applied again. It comes before the first Apply.
func (t *Tablet) Expect(bytes int64) { t.ahead = bytes }

// Spec is what the tablet is of.
func (t *Tablet) Spec() Spec { return t.spec }

// Schema is the table's, with the columns that the log has appended so far.
func (t *Tablet) Schema() *schema.Schema {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mu.schema
}

// changed is s if it is not the schema that the tablet was made with.
func (t *Tablet) changed(s *schema.Schema) *schema.Schema {
	if s == t.spec.Schema {
		return nil
	}
	return s
}

// LastTimestamp is that of the last entry applied: everything at or below it is final.
func (t *Tablet) LastTimestamp() Timestamp {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mu.last
}

// Ledger is a copy of where each source stands.
func (t *Tablet) Ledger() *offsets.Ledger {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mu.ledger.Clone()
}

// Durable is how far the tablet is on disk.
func (t *Tablet) Durable() Durable {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mu.durable
}

// Manifest is the durable manifest.
func (t *Tablet) Manifest() (Durable, []byte, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mu.durable, slices.Clone(t.mu.body), nil
}

// Err is why the tablet has stopped applying, nil if it has not.
func (t *Tablet) Err() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mu.failed
}

// notifyLocked wakes whoever waits for durable or failed to change.
func (t *Tablet) notifyLocked() {
	close(t.mu.changed)
	t.mu.changed = make(chan struct{})
}

// wake lets the tablet's goroutine look for work.
func (t *Tablet) wake() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// usage is the memory of s that the budget counts.
func (s *state) usage() usage {
	u := usage{s.mem.base + s.mem.bytes.Load(), s.resident}
	for _, f := range s.frozen {
		u.rows += f.base + f.bytes.Load()
	}
	return u
}

// residentBytes is what DiskRowSets hold in memory for as long as they are open.
func residentBytes(disks []*diskRowSet) (n int64) {
	for _, d := range disks {
		n += d.residentBytes()
	}
	return n
}

func (d *diskRowSet) residentBytes() int64 {
	return d.MemoryBytes() + d.deaths.pages.Load()*deathPageBytes
}
