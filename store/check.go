package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"

	"nyala/store/rowset"
	"nyala/store/vfs"
)

// Check reads every byte that counts of a stopped node's tablets, whose directories are in dir, and returns what is wrong:
// nothing if all is whole. Files that no manifest names are garbage, not a fault.
func Check(fsys vfs.FS, dir string) (problems []error) {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []error{fmt.Errorf("store: %w", err)}
	}
	for _, name := range names {
		id, err := strconv.ParseUint(name, 10, 64)
		if err != nil {
			continue // not ours
		}
		for _, p := range checkTablet(fsys, path.Join(dir, name), id) {
			problems = append(problems, fmt.Errorf("tablet %s: %w", name, p))
		}
	}
	return problems
}

func checkTablet(fsys vfs.FS, dir string, id uint64) []error {
	b, err := vfs.ReadFile(fsys, path.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // being made, or being dropped
	}
	if err != nil {
		return []error{fmt.Errorf("store: manifest: %w", err)}
	}
	last, err := readManifests(b)
	if err != nil {
		return []error{fmt.Errorf("%s: %w", path.Join(dir, manifestName), err)}
	}
	m, err := parseManifest(last.body)
	if err != nil {
		return []error{fmt.Errorf("%s: record %d at %d: %w", path.Join(dir, manifestName), last.seq, last.at, err)}
	}
	var problems []error
	if m.tablet != id {
		problems = append(problems, fmt.Errorf("store: manifest of tablet %d", m.tablet))
	}
	for _, r := range m.rowsets {
		if err := checkRowSet(fsys, dir, r); err != nil {
			problems = append(problems, err)
		}
	}
	return problems
}

func checkRowSet(fsys vfs.FS, dir string, r manifestRowSet) error {
	for i, name := range r.names() {
		f, err := fsys.Open(path.Join(dir, name))
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		size, hash, err := rowset.HashFile(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("store: %s: %w", name, err)
		}
		if got, want := (file{size, hash}), r.added.files()[i]; got != want {
			return fmt.Errorf("store: %s: got %d bytes of hash %s, want %d of %s: %w", name, got.size, got.hash, want.size, want.hash, rowset.ErrCorrupt)
		}
	}
	base := path.Join(dir, baseName(r.id))
	if err := rowset.Verify(fsys, base); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	d, err := openDisk(fsys, dir, r)
	if err != nil {
		return err
	}
	defer d.release()
	for _, k := range r.deaths {
		if birth := d.Birth(int(k.row)); k.at <= birth {
			return fmt.Errorf("store: rowset %d: row %d was born at %d and died at %d: %w", r.id, k.row, birth, k.at, rowset.ErrCorrupt)
		}
	}
	return nil
}

// DumpManifestFile prints every record of a manifest file, for `nyala dump manifest`.
func DumpManifestFile(fsys vfs.FS, name string, w io.Writer) error {
	b, err := vfs.ReadFile(fsys, name)
	if err != nil {
		return fmt.Errorf("store: manifest: %w", err)
	}
	last, err := readManifests(b)
	for at := 0; at < last.end; {
		seq, body, n := parseManifestRecord(b[at:last.end])
		if n == 0 {
			break
		}
		if _, err := fmt.Fprintf(w, "record %d at %d of %d bytes\n%s", seq, at, n, DumpManifest(body)); err != nil {
			return err
		}
		at += n
	}
	return err
}

// Directories lists the tablets that have a directory in dir, for tools.
func Directories(fsys vfs.FS, dir string) (ids []ID, err error) {
	names, err := fsys.List(dir)
	for _, name := range names {
		if id, err := strconv.ParseUint(name, 10, 64); err == nil {
			ids = append(ids, ID(id))
		}
	}
	slices.Sort(ids)
	return ids, err
}
