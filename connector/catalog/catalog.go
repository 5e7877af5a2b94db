package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nyala/offsets"
	"nyala/store/vfs"
)

// fileName is the catalog's file in its directory.
const fileName = "catalog"

// Options says where a catalog lives and how often it is written.
type Options struct {
	FS          vfs.FS
	Dir         string
	SaveEntries int           // write the file after so many entries; 0 means 10,000
	SaveBytes   int64         // or so many bytes of entries; 0 means 4 MiB
	SaveAge     time.Duration // or after this time, so that the log can be cut; 0 means 30s
	SaveSoon    time.Duration // or so long after a change of the view: a start begins with what is in the file; 0 means 2s
	Logger      *slog.Logger  // nil means slog.Default
	Reached     func(Point)   // told of each step; only tests set it
}

func (o *Options) validate() error {
	var faults []error
	if o.FS == nil || o.Dir == "" {
		faults = append(faults, errors.New("catalog: options: a file system and a directory are needed"))
	}
	if o.SaveEntries < 0 || o.SaveBytes < 0 || o.SaveAge < 0 || o.SaveSoon < 0 {
		faults = append(faults, fmt.Errorf("catalog: options: save entries %d, bytes %d, age %s or soon %s is negative", o.SaveEntries, o.SaveBytes, o.SaveAge, o.SaveSoon))
	}
	if o.SaveEntries == 0 {
		o.SaveEntries = 10_000
	}
	if o.SaveBytes == 0 {
		o.SaveBytes = 4 << 20
	}
	if o.SaveAge == 0 {
		o.SaveAge = 30 * time.Second
	}
	if o.SaveSoon == 0 {
		o.SaveSoon = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return errors.Join(faults...)
}

// Entry is one committed entry of the system group's log.
type Entry struct {
	Index, Term uint64
	Membership  bool // Data is the group's membership, opaque here, not a command
	Data        []byte
}

// Durable says up to where the file has the state. Index 0 means that there is no file.
type Durable struct {
	Index, Term  uint64
	Members      []byte // data of the newest membership entry at or below Index
	MembersIndex uint64
}

// Catalog is the system group's state machine, as raftlog wants it: Apply, Durable, Manifest, Prepare,
// Restore, Stamp. One goroutine at a time calls Apply and Restore; all else is for anyone.
//
// Its state is durable as of the file, which Save writes beside the applies; entries above stay in
// the log and are applied again after a restart. A write for each command would be simpler, but
// checkpoints of sources arrive every second, and the log has them already.
type Catalog struct {
	options Options
	file    string
	view    atomic.Pointer[Snapshot]
	saving  chan struct{} // holds one element while somebody writes the file
	due     chan struct{} // one element when enough has gathered for a Save
	changed chan struct{} // one element when the view has changed
	broken  mistake       // only set by tests
	mu      struct {
		sync.Mutex
		checkpoints *offsets.Checkpoints
		clock       Micros  // the latest of all commands applied
		applied     Durable // what Durable would be if all were saved
		durable     Durable
		manifest    []byte // the file's content
		entries     int    // applied and not saved
		bytes       int64
	}
}

// Open reads the catalog of a directory, which it makes if it is absent. Without a file the catalog is
// empty, and the log begins at its first entry. The error wraps ErrCorrupt when the file is not what was written.
func Open(o Options) (*Catalog, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	c := &Catalog{options: o, file: path.Join(o.Dir, fileName), saving: make(chan struct{}, 1), due: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
	if err := vfs.MakeDir(o.FS, o.Dir); err != nil {
		return nil, fmt.Errorf("catalog: directory %s: %w", o.Dir, err)
	}
	// After a crash the temporary name may lead to the very file that the other name leads to; the next
	// write would empty both.
	if err := o.FS.Remove(c.file + ".tmp"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("catalog: file %s.tmp: %w", c.file, err)
	}
	c.mu.checkpoints = &offsets.Checkpoints{}
	c.view.Store(newSnapshot())
	data, err := vfs.ReadFile(o.FS, c.file)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("catalog: file %s: %w", c.file, err)
	}
	saved, err := parseImage(data)
	if err != nil {
		return nil, fmt.Errorf("catalog: file %s: %w", c.file, err)
	}
	c.swap(saved, data)
	return c, nil
}

// swap takes over the state of a file that has just been read or written.
func (c *Catalog) swap(saved image, manifest []byte) {
	c.mu.Lock()
	c.mu.checkpoints, c.mu.clock = saved.checkpoints, saved.state.Clock
	saved.state.Clock = 0
	c.mu.applied, c.mu.durable, c.mu.manifest = saved.durable, saved.durable, manifest
	c.mu.entries, c.mu.bytes = 0, 0
	old := c.view.Swap(saved.state)
	c.mu.Unlock()
	close(old.superseded)
}

// Snapshot is the newest view.
func (c *Catalog) Snapshot() *Snapshot { return c.view.Load() }

// Await returns the first view that has the generation, or a later one. A follower applies a little
// after the leader answered: who got a Result waits here for its Generation.
func (c *Catalog) Await(ctx context.Context, generation uint64) (*Snapshot, error) {
	for {
		s := c.Snapshot()
		if s.Generation >= generation {
			return s, nil
		}
		select {
		case <-s.superseded:
		case <-ctx.Done():
			return nil, fmt.Errorf("catalog: at generation %d, waiting for %d: %w", s.Generation, generation, context.Cause(ctx))
		}
	}
}

// Applied is the index of the last entry applied.
func (c *Catalog) Applied() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.applied.Index
}

// Checkpoint is the checkpoint of a source, if there is one. It may be stale, and that there is none
// may be wrong: whoever would start then proposes CreateCheckpoints first.
func (c *Catalog) Checkpoint(s offsets.Source) (next int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.checkpoints.Get(s)
}

// Begun is where a source began: records below were never meant for a table. It may be stale, as Checkpoint.
func (c *Catalog) Begun(s offsets.Source) (first int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.checkpoints.Begun(s)
}

// Checkpoints lists all checkpoints in the order of Source.Compare.
func (c *Catalog) Checkpoints() []Checkpoint {
	c.mu.Lock()
	table := c.mu.checkpoints.Clone()
	c.mu.Unlock()
	list := make([]Checkpoint, 0, table.Len())
	for s, next := range table.All() {
		list = append(list, Checkpoint{s, next})
	}
	return list
}

// Stamp does nothing: commands carry their proposer's clock. It decides nothing but when what is made was made: never
// before a command that was applied earlier, whosever clock that had.
func (c *Catalog) Stamp([]byte) {}

// Apply applies committed entries and returns one encoded Result for each command, nil for each
// membership. It touches memory only.
func (c *Catalog) Apply(entries []Entry) [][]byte {
	results := make([][]byte, len(entries))
	c.mu.Lock()
	base := c.view.Load()
	batch := change{base: base, checkpoints: c.mu.checkpoints, now: c.mu.clock, broken: c.broken}
	for i, e := range entries {
		must(e.Index > c.mu.applied.Index, "apply %d at or below %d", e.Index, c.mu.applied.Index)
		if e.Membership {
			c.mu.applied.Members, c.mu.applied.MembersIndex = e.Data, e.Index
		} else {
			results[i] = batch.run(e.Index, e.Data).AppendTo(nil)
		}
		c.mu.applied.Index, c.mu.applied.Term = e.Index, e.Term
		c.mu.entries++
		c.mu.bytes += int64(len(e.Data))
	}
	c.mu.clock = batch.now
	if batch.work != nil {
		if invariants {
			err := errors.Join(batch.work.Check()...)
			must(err == nil, "state after %d: %v", c.mu.applied.Index, err)
		}
		c.view.Store(batch.work)
	}
	due := c.dueLocked()
	c.mu.Unlock()
	if batch.work != nil {
		close(base.superseded)
		tell(c.changed)
	}
	if due {
		tell(c.due)
	}
	return results
}

// dueLocked tells whether enough has gathered for a save.
func (c *Catalog) dueLocked() bool {
	return c.mu.entries >= c.options.SaveEntries || c.mu.bytes >= c.options.SaveBytes
}

func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is known already
	}
}

// Durable is what the file has.
func (c *Catalog) Durable() Durable {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.durable
}

// Manifest is the durable state as bytes: the file's content, which nobody may change. Without a file it is nil.
func (c *Catalog) Manifest() (Durable, []byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.durable, c.mu.manifest, nil
}

// Prepare checks a manifest that is about to be restored. There are no files to fetch.
func (c *Catalog) Prepare(_ context.Context, manifest []byte) error {
	if _, err := parseImage(manifest); err != nil {
		return fmt.Errorf("catalog: manifest: %w", err)
	}
	return nil
}

// Restore makes the state that of a manifest, first in the file and then in memory. It refuses to go back.
func (c *Catalog) Restore(d Durable, manifest []byte) error {
	saved, err := parseImage(manifest)
	if err != nil {
		return fmt.Errorf("catalog: manifest: %w", err)
	}
	if got := saved.durable; got.Index != d.Index || got.Term != d.Term || got.MembersIndex != d.MembersIndex {
		return fmt.Errorf("catalog: manifest: is of index %d, term %d, members %d, want %d, %d, %d", got.Index, got.Term, got.MembersIndex, d.Index, d.Term, d.MembersIndex)
	}
	c.saving <- struct{}{}
	defer func() { <-c.saving }()
	if applied := c.Applied(); d.Index < applied {
		return fmt.Errorf("catalog: manifest: is of index %d, and %d is applied", d.Index, applied)
	}
	manifest = slices.Clone(manifest)
	if err := vfs.ReplaceFile(c.options.FS, c.file, manifest); err != nil {
		return fmt.Errorf("catalog: file %s: %w", c.file, err)
	}
	c.swap(saved, manifest)
	return nil
}

// Save writes what is applied to the file, unless the file has it. On an error the durable state is
// what it was before, or newer.
func (c *Catalog) Save(ctx context.Context) error {
	select {
	case c.saving <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("catalog: file %s: waiting for another write: %w", c.file, context.Cause(ctx))
	}
	defer func() { <-c.saving }()
	c.mu.Lock()
	if c.mu.applied.Index == c.mu.durable.Index {
		c.mu.Unlock()
		return nil
	}
	state := *c.view.Load()
	state.Clock = c.mu.clock
	now := image{durable: c.mu.applied, state: &state, checkpoints: c.mu.checkpoints.Clone()}
	entries, size := c.mu.entries, c.mu.bytes
	c.mu.Unlock()
	data, err := now.encode()
	if err != nil {
		return err
	}
	c.options.reached(Saving)
	if err := vfs.ReplaceFile(c.options.FS, c.file, data); err != nil {
		return fmt.Errorf("catalog: file %s: %w", c.file, err)
	}
	c.options.reached(Saved)
	c.mu.Lock()
	c.mu.durable, c.mu.manifest = now.durable, data
	c.mu.entries -= entries
	c.mu.bytes -= size
	c.mu.Unlock()
	c.options.Logger.Debug("catalog saved", "index", now.durable.Index, "entries", entries, "bytes", len(data))
	return nil
}

// hangLimit is how long a Save may go on when its owner wants to end.
const hangLimit = 5 * time.Second

// saveInTime is Save. One on a disk that hangs is left behind when ctx has been done for a while: the process is about to end with it.
func (c *Catalog) saveInTime(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- c.Save(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(hangLimit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("catalog: file %s: the disk hangs", c.file)
	}
}

// Run saves whenever enough entries, bytes or time have gathered, or a little after a change of the view, and calls saved when the durable index has moved, so
// that the log is cut. It returns nil when ctx is done, or the first error. It does not save on its way out: the owner
// of a graceful stop calls Save.
func (c *Catalog) Run(ctx context.Context, saved func()) error {
	ticker := time.NewTicker(c.options.SaveAge)
	defer ticker.Stop()
	var soon <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
			if soon == nil {
				soon = time.After(c.options.SaveSoon)
			}
			continue
		case <-soon:
			soon = nil
		case <-ticker.C:
		case <-c.due:
			c.mu.Lock()
			due := c.dueLocked()
			c.mu.Unlock()
			if !due { // said by entries that a save took along which had begun before them
				continue
			}
		}
		before := c.Durable().Index
		if err := c.saveInTime(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if c.Durable().Index > before {
			saved()
		}
	}
}
