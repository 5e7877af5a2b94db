package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"nyala/offsets"
	"nyala/store/rowset"
	"nyala/store/vfs"
)

// fetchSuffix ends the base name of files that come from another replica and do not count yet.
const fetchSuffix = ".fetch"

// fetchAttempts is how often a file is asked for again, from where it broke off, before the caller hears of it.
const fetchAttempts = 5

// download writes a file of another replica under a temporary name, checks that it is what it must be, and syncs it.
func download(ctx context.Context, fsys vfs.FS, fetch Fetcher, name string, want file, temp string) error {
	f, err := rowset.Create(fsys, temp, name)
	if err != nil {
		return fmt.Errorf("store: fetch %s: %w", name, err)
	}
	err = fetchInto(ctx, f, fetch, name, want)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("store: fetch %s: %w", name, err)
	}
	return nil
}

func fetchInto(ctx context.Context, f vfs.File, fetch Fetcher, name string, want file) (err error) {
	hasher := rowset.NewHasher().Expect(want.size)
	var off int64
	var errs []error
	for range fetchAttempts {
		var n int64
		if n, err = fetchFrom(ctx, f, fetch, name, off, want.size, hasher); err != nil {
			off += n
			errs = append(errs, err)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		got := file{off + n, hasher.Sum()}
		if got == want {
			return nil
		}
		errs = append(errs, fmt.Errorf("got %d bytes of hash %s, want %d of %s", got.size, got.hash, want.size, want.hash))
		off = 0
		hasher.Reset()
	}
	return errors.Join(errs...)
}

// fetchFrom copies from off on, at most to size, and returns the number of bytes that are in the file and in the hash.
func fetchFrom(ctx context.Context, f vfs.File, fetch Fetcher, name string, off, size int64, hasher *rowset.Hasher) (n int64, err error) {
	in, err := fetch(ctx, name, off)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	block := rowset.TakeBlock()
	defer rowset.ReturnBlock(block)
	for {
		buf := block[:min(int64(len(block)), size-off-n+1)] // a byte more shows that too much comes
		k, err := io.ReadFull(in, buf)
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		if off+n+int64(k) > size {
			return n, fmt.Errorf("more than %d bytes came", size)
		}
		if k > 0 {
			if _, werr := f.WriteAt(buf[:k], off+n); werr != nil {
				return n, werr
			}
			hasher.Write(buf[:k])
			n += int64(k)
		}
		switch {
		case err == io.EOF && off+n < size:
			return n, io.ErrUnexpectedEOF
		case err == io.EOF:
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// Prepare fetches the files of a manifest that this replica lacks, for a Restore to come. Nothing
// that can be seen changes; what Prepare fetched is kept until a Restore succeeds or the tablet is closed.
func (t *Tablet) Prepare(ctx context.Context, body []byte, fetch Fetcher) error {
	m, err := t.parseOwn(body)
	if err != nil {
		return err
	}
	for _, r := range m.rowsets {
		for i, name := range r.names() {
			want := r.added.files()[i]
			t.lockDisk()
			have := t.prepared[name] == want || t.installedFiles()[name] == want
			t.unlockDisk()
			if have {
				continue
			}
			temp := preparedName(name, want)
			if err := download(ctx, t.fs, fetch, name, want, path.Join(t.dir, temp)); err != nil {
				return err
			}
			t.manager.reached(FileFetched)
			t.lockDisk()
			t.prepared[name] = want
			t.unlockDisk()
		}
	}
	t.manager.reached(Prepared)
	return nil
}

// preparedName differs for other content, so that two manifests' files do not meet.
func preparedName(name string, f file) string { return name + "." + f.hash.String()[:16] + fetchSuffix }

func (t *Tablet) parseOwn(body []byte) (*manifest, error) {
	m, err := parseManifest(body)
	if err == nil && m.tablet != uint64(t.spec.ID) {
		err = fmt.Errorf("store: tablet %d: got the manifest of tablet %d", t.spec.ID, m.tablet)
	}
	return m, err
}

// installedFiles are those that the durable manifest names.
func (t *Tablet) installedFiles() map[string]file {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := map[string]file{}
	for _, d := range t.mu.disks {
		for i, name := range d.added.names() {
			out[name] = d.added.files()[i]
		}
	}
	return out
}

// Restore makes the tablet what a manifest of another replica says, durably, and forgets what it was. All files are there: Prepare
// has seen to it. It must not take the tablet back.
func (t *Tablet) Restore(d Durable, body []byte) error {
	m, err := t.parseOwn(body)
	if err != nil {
		return err
	}
	if m.durable.Index != d.Index || m.durable.Term != d.Term {
		return fmt.Errorf("store: tablet %d: manifest of index %d term %d, want %d term %d", t.spec.ID, m.durable.Index, m.durable.Term, d.Index, d.Term)
	}
	t.lockDisk()
	defer t.unlockDisk()
	if now := t.Durable().Index; m.durable.Index < now {
		return fmt.Errorf("store: tablet %d: manifest of index %d is older than what is here, %d", t.spec.ID, m.durable.Index, now)
	}
	have, need := t.installedFiles(), m.files()
	for name, want := range need {
		if have[name] == want {
			continue
		}
		if t.prepared[name] != want {
			return fmt.Errorf("store: tablet %d: restore without %s: it was not prepared", t.spec.ID, name)
		}
		if err := t.fs.Rename(path.Join(t.dir, preparedName(name, want)), path.Join(t.dir, name)); err != nil {
			return fmt.Errorf("store: restore: %w", err)
		}
		have[name] = want
		delete(t.prepared, name)
	}
	t.manager.reached(RestoreRenamed)
	if err := t.fs.SyncDir(t.dir); err != nil {
		return fmt.Errorf("store: restore: %w", err)
	}
	fresh, err := t.stateOf(m)
	if err != nil {
		return err
	}
	if t.broken == ledgerLeft {
		fresh.ledger = &offsets.Ledger{}
	}
	if err := t.manifest.restore(body); err != nil {
		for _, d := range fresh.disks {
			d.release()
		}
		return err
	}
	t.replace(fresh, need)
	t.manager.reached(Restored)
	return nil
}

// replace swaps the whole state; files that the new one does not need go when no scan reads them any more.
func (t *Tablet) replace(fresh *state, need map[string]file) {
	for name, f := range t.prepared { // of a manifest that never came
		t.remove(preparedName(name, f))
	}
	clear(t.prepared)
	t.lockTurn()
	t.mu.Lock() // for all of it: a fault is noted without the turn
	old := t.mu.state
	fresh.generation = old.generation + 1
	t.mu.state = *fresh
	t.notifyLocked()
	t.mu.Unlock()
	change := fresh.usage().minus(old.usage()) // before Apply goes on with them
	t.unlockTurn()
	t.manager.budget.add(change)
	for _, d := range old.disks {
		if _, kept := need[parquetName(d.id)]; !kept {
			names := d.names()
			d.gone = func() {
				t.remove(names[0])
				t.remove(names[1])
			}
		}
		d.release()
	}
	t.log.Info("tablet restored", "index", fresh.durable.Index, "rowsets", len(fresh.disks))
	t.overtake()
	t.wake()
}

// remove deletes a file that no manifest names. If it stays, it is garbage that the next open removes.
func (t *Tablet) remove(name string) {
	if err := t.fs.Remove(path.Join(t.dir, name)); err != nil {
		t.log.Warn("file not removed", "file", name, "error", err)
	}
}

// OpenFile reads a file of the durable manifest from offset off on, for another replica.
func (t *Tablet) OpenFile(name string, off int64) (io.ReadCloser, error) {
	f, ok := t.installedFiles()[name]
	if !ok {
		return nil, fmt.Errorf("store: tablet %d has no file %q", t.spec.ID, name)
	}
	if off < 0 || off > f.size {
		return nil, fmt.Errorf("store: tablet %d: file %s from %d of %d", t.spec.ID, name, off, f.size)
	}
	in, err := t.fs.Open(path.Join(t.dir, name))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return &fileReader{io.NewSectionReader(in, off, f.size-off), in}, nil
}

type fileReader struct {
	io.Reader
	io.Closer
}
