package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"nyala/store/rowset"
	"nyala/store/vfs"
)

// ErrDamaged is in every error that says that a tablet's files are not what they must be: bytes that changed, a file that is
// missing or cannot be read, a manifest older than the log allows. Manager.Repair mends it where another replica is whole.
var ErrDamaged = errors.New("damaged")

// damageError is an ErrDamaged that keeps its text short: the cause has file and place.
type damageError struct{ cause error }

func (e *damageError) Error() string   { return e.cause.Error() }
func (e *damageError) Unwrap() []error { return []error{ErrDamaged, e.cause} }

func damaged(err error) error {
	if err == nil || errors.Is(err, ErrDamaged) {
		return err
	}
	return &damageError{err}
}

const (
	spareTimeout = 5 * time.Second  // of bytes that a scan or a lookup waits for
	mendPause    = 5 * time.Second  // before a copy that failed is tried again
	mendPatience = 10 * time.Minute // of the copy of one file

	scrubFirst    = 10 * time.Minute // after the start, which has other work
	scrubInterval = 24 * time.Hour   // in which every file is read once
	scrubRest     = 20               // between two reads of 1 MiB, by the time that the first one took
	scrubRestMin  = 50 * time.Millisecond
)

// flaw is a damaged file of a running tablet. Until it was copied, what is read of it comes from another replica.
type flaw struct {
	disk  *diskRowSet
	file  int // 0 Parquet, 1 keys
	cause error
	again time.Time // when its copy is tried next
}

// guard lets scans of d and lookups in it go on over damage, with bytes of another replica.
func (t *Tablet) guard(d *diskRowSet) {
	if t.manager.options.Fetch == nil {
		return
	}
	spare := func(file int) rowset.Spare {
		return func(b []byte, off int64, cause error) error {
			t.flawed(d, file, cause)
			ctx, cancel := context.WithTimeout(context.Background(), spareTimeout)
			defer cancel()
			f, err := t.manager.options.Fetch(ctx, t.spec.ID, d.names()[file], off)
			if err != nil {
				return err
			}
			_, err = io.ReadFull(f, b)
			return errors.Join(err, f.Close())
		}
	}
	d.RowSet.SetSpare(spare(0), spare(1))
}

// flawed notes that a file of d is damaged, and has it copied.
func (t *Tablet) flawed(d *diskRowSet, file int, cause error) {
	t.mu.Lock()
	known := !slices.Contains(t.mu.disks, d) || slices.ContainsFunc(t.mu.flaws, func(f *flaw) bool { return f.disk == d && f.file == file })
	if !known {
		t.mu.flaws = append(t.mu.flaws, &flaw{disk: d, file: file, cause: cause})
	}
	t.mu.Unlock()
	if !known {
		t.log.Error("file is damaged, it is copied from another replica", "file", path.Join(t.dir, d.names()[file]), "error", cause)
		t.wake()
	}
}

// mendOne copies one damaged file from another replica, if there is one whose time has come.
func (t *Tablet) mendOne(ctx context.Context) (done bool) {
	now := time.Now()
	t.mu.RLock()
	i := slices.IndexFunc(t.mu.flaws, func(f *flaw) bool { return !now.Before(f.again) })
	var f *flaw
	if i >= 0 {
		f = t.mu.flaws[i]
	}
	t.mu.RUnlock()
	if f == nil {
		return false
	}
	err := t.copyAgain(ctx, f.disk, f.file)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		f.again = now.Add(mendPause)
		t.log.Warn("damaged file not copied yet", "file", f.disk.names()[f.file], "error", err, "again", mendPause)
		return false
	}
	t.mu.flaws = slices.DeleteFunc(slices.Clone(t.mu.flaws), func(o *flaw) bool { return o == f })
	t.log.Info("damaged file copied from another replica", "file", f.disk.names()[f.file])
	return true
}

// copyAgain gives a file of d its content back. The manifest says what that is.
func (t *Tablet) copyAgain(ctx context.Context, d *diskRowSet, file int) error {
	if t.manager.options.Fetch == nil {
		return fmt.Errorf("store: tablet %d: there is no other replica to copy %s from", t.spec.ID, d.names()[file])
	}
	ctx, cancel := context.WithTimeout(ctx, mendPatience)
	defer cancel()
	fetch := func(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
		return t.manager.options.Fetch(ctx, t.spec.ID, name, off)
	}
	name, want := d.names()[file], d.files()[file]
	temp := name + mendSuffix
	if err := download(ctx, t.fs, fetch, name, want, path.Join(t.dir, temp)); err != nil {
		return err
	}
	t.lockDisk()
	defer t.unlockDisk()
	if t.installedFiles()[name] != want {
		t.remove(temp) // a Restore has replaced it
		return nil
	}
	if err := t.fs.Rename(path.Join(t.dir, temp), path.Join(t.dir, name)); err != nil {
		return fmt.Errorf("store: mend: %w", err)
	}
	if err := t.fs.SyncDir(t.dir); err != nil {
		return fmt.Errorf("store: mend: %w", err)
	}
	if file == 1 {
		return d.RenewKeys(t.fs)
	}
	return d.RenewParquet(t.fs)
}

// damage is what is known to be damaged, nil if nothing is.
func (s *state) damage() error {
	if len(s.flaws) == 0 {
		return nil
	}
	return s.flaws[0].cause
}

// unusable tells whether an error means that a file is missing or not what was written, so that to try again helps nobody.
func unusable(err error) bool { return errors.Is(err, rowset.ErrCorrupt) || isMissing(err) }

// scrub reads every file of every tablet once in an interval and has what is damaged copied. One file is read at a time, in
// pieces with pauses. Manager.run waits for it.
func (m *Manager) scrub(ctx context.Context) {
	rest(ctx, scrubFirst)
	for ctx.Err() == nil {
		begin := time.Now()
		for _, t := range m.Tablets() {
			t.mu.RLock()
			disks := t.mu.disks
			t.mu.RUnlock()
			for _, d := range disks {
				for i := range d.names() {
					t.scrubOne(ctx, d, i)
				}
			}
		}
		rest(ctx, max(scrubInterval-time.Since(begin), time.Minute))
	}
}

func (t *Tablet) scrubOne(ctx context.Context, d *diskRowSet, i int) {
	paced := pacedFS{t.fs, ctx}
	if err := verifyFile(paced, path.Join(t.dir, d.names()[i]), d.files()[i]); err != nil && ctx.Err() == nil {
		t.flawed(d, i, err)
	}
}

// pacedFS opens files that are read slowly.
type pacedFS struct {
	vfs.FS
	ctx context.Context
}

func (p pacedFS) Open(name string) (vfs.File, error) {
	f, err := p.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return &pacedFile{f, p.ctx}, nil
}

// pacedFile rests after each read for scrubRest times as long as it took.
type pacedFile struct {
	vfs.File
	ctx context.Context
}

func (f *pacedFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	begin := time.Now()
	n, err := f.File.ReadAt(p, off)
	rest(f.ctx, max(scrubRest*time.Since(begin), scrubRestMin))
	return n, err
}

// rest waits for d or until ctx is done.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
