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
	spareTimeout = 5 * time.Second  // of a page that a scan waits for
	mendPause    = 5 * time.Second  // before a copy that failed is tried again
	mendPatience = 10 * time.Minute // of the copy of one file
)

// flaw is a damaged Parquet file of a running tablet: its pages come from another replica until the file was copied.
type flaw struct {
	disk  *diskRowSet
	cause error
	again time.Time // when its copy is tried next
}

// guard lets scans of d go on over damage, with bytes of another replica. Keys files need none: they are in memory, whole.
func (t *Tablet) guard(d *diskRowSet) {
	if t.manager.options.Fetch == nil {
		return
	}
	d.RowSet.SetSpare(func(b []byte, off int64, cause error) error {
		t.flawed(d, cause)
		ctx, cancel := context.WithTimeout(context.Background(), spareTimeout)
		defer cancel()
		f, err := t.manager.options.Fetch(ctx, t.spec.ID, parquetName(d.id), off)
		if err != nil {
			return err
		}
		_, err = io.ReadFull(f, b)
		return errors.Join(err, f.Close())
	})
}

// flawed notes that d's Parquet file is damaged, and has it copied.
func (t *Tablet) flawed(d *diskRowSet, cause error) {
	t.mu.Lock()
	known := !slices.Contains(t.mu.disks, d) || slices.ContainsFunc(t.mu.flaws, func(f *flaw) bool { return f.disk == d })
	if !known {
		t.mu.flaws = append(t.mu.flaws, &flaw{disk: d, cause: cause})
	}
	t.mu.Unlock()
	if !known {
		t.log.Error("file is damaged, it is copied from another replica", "file", path.Join(t.dir, parquetName(d.id)), "error", cause)
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
	err := t.copyAgain(ctx, f.disk)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		f.again = now.Add(mendPause)
		t.log.Warn("damaged file not copied yet", "file", parquetName(f.disk.id), "error", err, "again", mendPause)
		return false
	}
	t.mu.flaws = slices.DeleteFunc(slices.Clone(t.mu.flaws), func(o *flaw) bool { return o == f })
	t.log.Info("damaged file copied from another replica", "file", parquetName(f.disk.id))
	return true
}

// copyAgain gives d's Parquet file its content back. The manifest says what that is.
func (t *Tablet) copyAgain(ctx context.Context, d *diskRowSet) error {
	ctx, cancel := context.WithTimeout(ctx, mendPatience)
	defer cancel()
	fetch := func(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
		return t.manager.options.Fetch(ctx, t.spec.ID, name, off)
	}
	name := parquetName(d.id)
	temp := name + mendSuffix
	if err := download(ctx, t.fs, fetch, name, d.parquet, path.Join(t.dir, temp)); err != nil {
		return err
	}
	t.lockDisk()
	defer t.unlockDisk()
	if t.installedFiles()[name] != d.parquet {
		t.remove(temp) // a Restore has replaced it
		return nil
	}
	if err := t.fs.Rename(path.Join(t.dir, temp), path.Join(t.dir, name)); err != nil {
		return fmt.Errorf("store: mend: %w", err)
	}
	if err := t.fs.SyncDir(t.dir); err != nil {
		return fmt.Errorf("store: mend: %w", err)
	}
	return d.Renew(t.fs)
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
