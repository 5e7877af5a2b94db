package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"nyala/store/schema"
	"nyala/store/vfs"
)

// ManagerOptions say how the tablets of a node are kept.
type ManagerOptions struct {
	FS          vfs.FS
	Dir         string           // each tablet has a directory below
	Replica     string           // the node's name: which flushes its replicas check depends on it
	MemoryBytes int64            // of the Budget; 0 means 1 GiB
	KeysBytes   int64            // of it: above that DiskRowSets give up their keys; 0 means three eighths
	FlushBytes  int64            // a MemRowSet of this size is flushed; 0 means 64 MiB, at most an eighth of MemoryBytes
	FlushAge    time.Duration    // or of this age, so that the log can be cut; 0 means 2 minutes
	Workers     int              // flushes that are encoded at once; 0 means half of the processors
	Now         func() time.Time // what is stamped on entries: it may jump; ages are measured without it. nil means time.Now

	Propose  func(ctx context.Context, id ID, entry []byte) ([]byte, error) // through the tablet's log; answers what Apply returned
	IsLeader func(id ID) bool
	Fetch    func(ctx context.Context, id ID, name string, off int64) (io.ReadCloser, error) // from any healthy peer
	Manifest func(ctx context.Context, id ID, least uint64) ([]byte, error)                  // of a healthy peer that is durable at least so far
	Durable  func(id ID)                                                                     // told after each Install: the log may be cut
	Failed   func(id ID)                                                                     // told when a tablet stopped applying; must be quick
	Logger   *slog.Logger
	Reached  func(Point) // told of each step; only tests set it
}

func (o *ManagerOptions) fill() error {
	if o.FS == nil || o.Dir == "" {
		return errors.New("store: a file system and a directory are needed")
	}
	if o.MemoryBytes < 0 || o.KeysBytes < 0 || o.FlushBytes < 0 || o.FlushAge < 0 || o.Workers < 0 {
		return fmt.Errorf("store: got memory of %d bytes, %d for keys, flushes at %d bytes or %s, %d workers", o.MemoryBytes, o.KeysBytes, o.FlushBytes, o.FlushAge, o.Workers)
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 1 << 30
	}
	if o.KeysBytes == 0 {
		o.KeysBytes = o.MemoryBytes / 8 * 3
	}
	if o.FlushBytes == 0 {
		o.FlushBytes = min(64<<20, o.MemoryBytes/8)
	}
	if o.FlushAge == 0 {
		o.FlushAge = 2 * time.Minute
	}
	if o.Workers == 0 {
		o.Workers = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Manager owns the tablets of a node: their memory budget, the workers that encode flushes, and the decision of
// what is flushed when memory runs short. One goroutine ticks; each open tablet has one. Close waits for all.
type Manager struct {
	options ManagerOptions
	budget  *Budget
	workers chan *worker  // as many as may encode at once
	copies  chan struct{} // and flushes that are being copied
	cancel  context.CancelFunc
	done    chan struct{}
	mu      struct {
		sync.Mutex
		tablets map[ID]*Tablet // nil: being opened
		closed  bool
	}
	spare       spare // memory of flushed MemRowSets, for the next ones
	listAtLeast int   // DiskRowSets of a tablet before their keys are listed (keyDirectory)
	listAlways  bool  // also those of which little was asked; only tests set it
	filterAfter int64 // keys that are looked for without a Bloom filter before it is loaded again
}

// tick is how often tablets look at their age.
const tick = time.Second

// pressurePause is the least time between two looks at which MemRowSet is the largest.
const pressurePause = 2 * time.Millisecond

// historyMin is the shortest history there is: a read settles its time first and opens its scans then.
const historyMin = time.Minute

// NewManager makes a Manager without tablets.
func NewManager(o ManagerOptions) (*Manager, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	if err := vfs.MakeDir(o.FS, o.Dir); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	m := &Manager{options: o, budget: newBudget(o.MemoryBytes), workers: make(chan *worker, o.Workers),
		copies: make(chan struct{}, copiesMax), done: make(chan struct{}), listAtLeast: listAtLeast, filterAfter: filterAfter}
	for range o.Workers {
		m.workers <- &worker{}
	}
	m.spare.limit = o.MemoryBytes / spareShare
	m.mu.tablets = map[ID]*Tablet{}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go m.run(ctx)
	o.Logger.Info("store opened", "dir", o.Dir, "memoryBytes", o.MemoryBytes, "flushBytes", o.FlushBytes, "flushAge", o.FlushAge, "workers", o.Workers)
	return m, nil
}

// Budget is the memory that MemRowSets and ingest share.
func (m *Manager) Budget() *Budget { return m.budget }

func (m *Manager) dirOf(id ID) string {
	return path.Join(m.options.Dir, strconv.FormatUint(uint64(id), 10))
}

// Open makes a tablet, or restarts one from its manifest; the log above Durable().Index must be applied again.
// Files that the manifest does not name are deleted.
func (m *Manager) Open(spec Spec) (*Tablet, error) { return m.OpenAbove(spec, 0) }

// OpenAbove is Open for a tablet whose log here begins with the entry first; 0 means that it never had any. A tablet without
// a manifest is made only if the log has all of it: else the manifest was lost. An error that is ErrDamaged is one for Repair;
// nothing was deleted then.
func (m *Manager) OpenAbove(spec Spec, first uint64) (*Tablet, error) {
	if err := spec.Schema.Validate(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	_, taken := m.mu.tablets[spec.ID]
	taken = taken || m.mu.closed
	if !taken {
		m.mu.tablets[spec.ID] = nil
	}
	m.mu.Unlock()
	if taken {
		return nil, fmt.Errorf("store: tablet %d is open already, or the store is closed", spec.ID)
	}
	t, err := m.load(spec, first)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		delete(m.mu.tablets, spec.ID)
		return nil, err
	}
	m.mu.tablets[spec.ID] = t
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	go t.run(ctx)
	return t, nil
}

func (m *Manager) load(spec Spec, first uint64) (*Tablet, error) {
	dir, fsys := m.dirOf(spec.ID), m.options.FS
	f, from, err := openManifest(fsys, dir)
	if err == nil {
		f.reached = m.reached
	}
	switch {
	case isMissing(err) && first > 1:
		return nil, damaged(fmt.Errorf("store: %s at 0: the file is missing, but the log begins at %d", path.Join(dir, manifestName), first))
	case isMissing(err):
		if err := vfs.MakeDir(fsys, dir); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		from = emptyManifest(spec)
		f = &manifestFile{fs: fsys, name: path.Join(dir, manifestName), reached: m.reached}
		if err := f.add(from.appendTo(nil), false); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, damaged(err)
	}
	if err := fits(from, spec.ID, first); err != nil {
		return nil, damaged(errors.Join(fmt.Errorf("%s at 0: %w", f.name, err), f.close()))
	}
	t, err := newTablet(m, spec, dir, f, from)
	if err != nil {
		return nil, damaged(errors.Join(err, f.close()))
	}
	if err := m.removeGarbage(dir, from.files()); err != nil {
		for _, d := range t.mu.disks {
			d.release()
		}
		return nil, errors.Join(err, f.close())
	}
	m.budget.add(t.mu.usage())
	return t, nil
}

// Tablet finds an open tablet, nil if there is none.
func (m *Manager) Tablet(id ID) *Tablet {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.tablets[id]
}

// Tablets lists the open tablets by id.
func (m *Manager) Tablets() []*Tablet {
	out := m.anyOrder()
	slices.SortFunc(out, func(a, b *Tablet) int { return int(int64(a.spec.ID) - int64(b.spec.ID)) })
	return out
}

// anyOrder is Tablets without their order.
func (m *Manager) anyOrder() []*Tablet {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*Tablet, 0, len(m.mu.tablets))
	for _, t := range m.mu.tablets {
		if t != nil {
			out = append(out, t)
		}
	}
	return out
}

// CloseTablet stops a tablet and keeps its files. Nobody may call its Apply any more. A tablet that is not open is no error.
func (m *Manager) CloseTablet(id ID) error {
	m.mu.Lock()
	t := m.mu.tablets[id]
	delete(m.mu.tablets, id)
	m.mu.Unlock()
	if t == nil {
		return nil
	}
	return t.close()
}

// close ends the tablet's goroutine and lets go of files and memory. Scans that are under way go on.
func (t *Tablet) close() error {
	t.cancel()
	<-t.done
	t.lockDisk()
	defer t.unlockDisk()
	t.lockTurn()
	defer t.unlockTurn()
	t.mu.Lock()
	s := t.mu.state
	t.mu.state.disks, t.mu.state.frozen, t.mu.state.batches = nil, nil, nil
	t.mu.state.mem = newMemRowSet(s.schema, 0, nil)
	t.mu.state.directory, t.mu.state.resident = nil, 0
	t.mu.state.failed = fmt.Errorf("store: tablet %d is closed", t.spec.ID)
	t.notifyLocked()
	t.mu.Unlock()
	for _, d := range s.disks {
		d.release()
	}
	t.manager.budget.add(usage{}.minus(s.usage()))
	return t.manifest.close()
}

// Drop stops a tablet and deletes all that it has on disk, the manifest first.
func (m *Manager) Drop(id ID) error {
	if err := m.CloseTablet(id); err != nil {
		return err
	}
	dir, fsys := m.dirOf(id), m.options.FS
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if i := slices.Index(names, manifestName); i > 0 {
		names[0], names[i] = names[i], names[0]
	}
	for _, name := range names {
		if err == nil {
			err = fsys.Remove(path.Join(dir, name))
		}
	}
	if err == nil {
		err = fsys.Remove(dir)
	}
	if err == nil {
		err = fsys.SyncDir(m.options.Dir)
	}
	if err != nil {
		return fmt.Errorf("store: drop tablet %d: %w", id, err)
	}
	return nil
}

// Close stops all tablets.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.mu.closed = true
	m.mu.Unlock()
	m.cancel()
	<-m.done
	var errs []error
	for _, t := range m.Tablets() {
		errs = append(errs, m.CloseTablet(t.spec.ID))
	}
	return errors.Join(errs...)
}

// OpenFile reads a file of a tablet from offset off on, for another replica.
func (m *Manager) OpenFile(id ID, name string, off int64) (io.ReadCloser, error) {
	t := m.Tablet(id)
	if t == nil {
		return nil, fmt.Errorf("store: tablet %d is not open", id)
	}
	return t.OpenFile(name, off)
}

// run wakes tablets as they grow old, and frees memory.
func (m *Manager) run(ctx context.Context) {
	defer close(m.done)
	var scrub sync.WaitGroup
	scrub.Go(func() { m.scrub(ctx) })
	defer scrub.Wait()
	timer := time.NewTicker(tick)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.budget.pressure:
			m.relieve()
			rest(ctx, pressurePause) // every entry that is applied brings a token, thousands a second
		case <-timer.C:
			if m.budget.pressed() {
				m.relieve()
			}
			for _, t := range m.Tablets() {
				t.wake()
			}
			m.evict()
		}
	}
}

// relieve freezes the largest MemRowSet, if no more flushes are under way than there are workers. Any replica may
// ask for it: the memory is this node's, whoever leads.
func (m *Manager) relieve() {
	var largest *Tablet
	var most int64
	busy := 0
	for _, t := range m.anyOrder() {
		t.mu.RLock()
		size, frozen, writes, fault := t.mu.mem.bytes.Load(), len(t.mu.frozen), t.mu.writes, t.mu.fault
		t.mu.RUnlock()
		switch {
		case fault != nil: // it tries again by itself, and cannot help now
		case frozen > 0:
			busy++
		case writes > 0 && (size > most || size == most && size > 0 && t.spec.ID < largest.spec.ID):
			largest, most = t, size
		}
	}
	if largest == nil || busy >= m.options.Workers {
		return
	}
	largest.force.Store(true)
	largest.wake()
}

// Checkpoint flushes a tablet through its log and returns when that is durable here. Any replica may ask.
func (m *Manager) Checkpoint(ctx context.Context, id ID) error {
	t := m.Tablet(id)
	if t == nil {
		return fmt.Errorf("store: tablet %d is not open", id)
	}
	t.mu.RLock()
	s := t.mu.state
	t.mu.RUnlock()
	r, err := t.propose(ctx, t.freezeEntry(&s))
	if err != nil {
		return err
	}
	return t.awaitDurable(ctx, r.Index)
}

// awaitDurable returns when a Freeze at or above index, or at the newest one before it if that superseded it, is durable.
func (t *Tablet) awaitDurable(ctx context.Context, index uint64) error {
	for {
		t.mu.RLock()
		s, changed := t.mu.state, t.mu.changed
		t.mu.RUnlock()
		if s.failed != nil {
			return s.failed
		}
		if s.applied >= index && s.durable.Index >= min(index, s.lastFreeze) {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(tick):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// nextMemRowSet makes the MemRowSet that follows one of so many rows. It is thought to grow as large and gets its memory
// at once, for growing is dear; but not when memory is short, for then it will not.
func (m *Manager) nextMemRowSet(s *schema.Schema, rows int) *memRowSet {
	if m.budget.pressed() {
		return newMemRowSet(s, 0, &m.spare)
	}
	return newMemRowSet(s, rows+rows/8, &m.spare)
}

func (m *Manager) takeWorker(ctx context.Context) (*worker, error) {
	select {
	case w := <-m.workers:
		return w, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *Manager) returnWorker(w *worker) { m.workers <- w }
