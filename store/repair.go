package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"

	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/vfs"
)

// mendSuffix ends the name of a file that a repair fetches. It is garbage until it is renamed.
const mendSuffix = ".mend"

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Repair makes the files of a tablet that is not open whole again, from other replicas: those that its manifest names are
// fetched where they differ. If the manifest itself is no good, or nobody has its files any more, another replica's takes its place. It
// changes nothing if nothing is wrong. Open can be tried again after it.
//
// first is the first entry that the log has here, as in OpenAbove, and no manifest is taken that ends before it: so the tablet
// never comes back shorter than it was, whatever it has voted for or acknowledged. The log and its votes are not touched.
// A manifest that is ahead of the log is what an install leaves, too: all of it is committed.
func (m *Manager) Repair(ctx context.Context, spec Spec, first uint64) error {
	dir := m.dirOf(spec.ID)
	file, own, err := openManifest(m.options.FS, dir)
	if err == nil {
		if err = fits(own, spec.ID, first); err == nil {
			err = m.mend(ctx, spec.ID, dir, own)
		}
		err = errors.Join(err, file.close())
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	least := max(first, 1) - 1
	if own != nil && own.tablet == uint64(spec.ID) {
		least = max(least, own.durable.Index)
	}
	if m.options.Manifest == nil {
		return fmt.Errorf("store: tablet %d: no other replica can be asked: %w", spec.ID, err)
	}
	body, aerr := m.options.Manifest(ctx, spec.ID, least)
	if aerr != nil {
		return errors.Join(err, aerr)
	}
	return m.adoptManifest(ctx, spec, dir, body, least)
}

// fits says why a manifest cannot be this tablet's beside a log that begins with first.
func fits(m *manifest, id ID, first uint64) error {
	switch {
	case m.tablet != uint64(id):
		return fmt.Errorf("store: tablet %d: the manifest is of tablet %d: %w", id, m.tablet, batch.ErrCorrupt)
	case m.durable.Index+1 < first:
		return fmt.Errorf("store: tablet %d: the manifest is of index %d, but the log begins at %d: it is an older copy, or lost its end: %w", id, m.durable.Index, first, batch.ErrCorrupt)
	}
	return nil
}

// mend fetches the files of a manifest that are not here or not what they must be.
func (m *Manager) mend(ctx context.Context, id ID, dir string, of *manifest) error {
	changed := false
	files := of.files()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		why := verifyFile(m.options.FS, path.Join(dir, name), files[name])
		if why == nil {
			continue
		}
		if m.options.Fetch == nil {
			return why
		}
		m.options.Logger.Warn("file is copied from another replica", "tablet", uint64(id), "file", path.Join(dir, name), "reason", why)
		fetch := func(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
			return m.options.Fetch(ctx, id, name, off)
		}
		temp := path.Join(dir, name+mendSuffix)
		if err := download(ctx, m.options.FS, fetch, name, files[name], temp); err != nil {
			return errors.Join(why, err)
		}
		if err := m.options.FS.Rename(temp, path.Join(dir, name)); err != nil {
			return fmt.Errorf("store: repair: %w", err)
		}
		changed = true
	}
	if !changed {
		return nil
	}
	if err := m.options.FS.SyncDir(dir); err != nil {
		return fmt.Errorf("store: repair: %w", err)
	}
	return nil
}

// verifyFile reads a whole file and says what is wrong with it.
func verifyFile(fsys vfs.FS, name string, want file) error {
	f, err := fsys.Open(name)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	size, hash, err := rowset.HashFile(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("store: %s: %w", name, err)
	}
	if got := (file{size, hash}); got != want {
		return fmt.Errorf("store: %s: got %d bytes of hash %s, want %d of %s: %w", name, got.size, got.hash, want.size, want.hash, rowset.ErrCorrupt)
	}
	return nil
}

// adoptManifest makes a tablet that is not open what another replica's manifest says, as Restore does with an open one.
func (m *Manager) adoptManifest(ctx context.Context, spec Spec, dir string, body []byte, least uint64) error {
	from, err := parseManifest(body)
	if err != nil {
		return err
	}
	if err := fits(from, spec.ID, least+1); err != nil {
		return err
	}
	if err := vfs.MakeDir(m.options.FS, dir); err != nil {
		return fmt.Errorf("store: repair: %w", err)
	}
	if err := m.mend(ctx, spec.ID, dir, from); err != nil {
		return err
	}
	f := &manifestFile{fs: m.options.FS, name: path.Join(dir, manifestName)}
	if err := f.restore(body); err != nil {
		return err
	}
	m.options.Logger.Warn("manifest is another replica's", "tablet", uint64(spec.ID), "index", from.durable.Index)
	return f.close()
}

// Extent is how far a tablet's manifest is durable, for tools and for comparing it with the log.
type Extent struct {
	ID       ID
	Index    uint64
	Restored bool // it came from another replica and may be ahead of the log
}

// Extents reads the manifests of all tablets in dir. Tablets whose manifest cannot be read are left out.
func Extents(fsys vfs.FS, dir string) ([]Extent, error) {
	ids, err := Directories(fsys, dir)
	if isMissing(err) {
		return nil, nil
	}
	var out []Extent
	for _, id := range ids {
		b, err := vfs.ReadFile(fsys, path.Join(dir, fmt.Sprint(uint64(id)), manifestName))
		if err != nil {
			continue
		}
		last, err := readManifests(b)
		if err != nil {
			continue
		}
		if m, err := parseManifest(last.body); err == nil && m.tablet == uint64(id) {
			out = append(out, Extent{id, m.durable.Index, last.restored})
		}
	}
	return out, err
}
