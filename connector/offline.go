package connector

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"

	"nyala/connector/catalog"
	"nyala/raftlog"
	"nyala/store"
	"nyala/store/vfs"
)

// The folders of a data directory, beside its identity and its lock.
const (
	catalogDir = "catalog"
	tabletsDir = "tablets"
	walDir     = "wal"
)

// manifestFile is what the store calls the file in a tablet's directory that says what exists.
const manifestFile = "manifest"

// DataReport is what CheckData read.
type DataReport struct {
	Identity Identity
	Tablets  int
	Problems []string // each with its file and place; none: the directory is whole
}

// CheckData reads everything in the data directory of a stopped node: every record of its log, its catalog,
// every file of its tablets. It holds the directory's lock meanwhile, so that of a running node nothing is
// said, and changes nothing. The error is that of a directory that could not be checked at all.
func CheckData(fsys vfs.FS, dir string) (r *DataReport, err error) {
	r = &DataReport{}
	name := path.Join(dir, identityFile)
	if _, err := fsys.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("connector: %s is not a node's data directory: it has no %s", dir, identityFile)
	} else if err != nil {
		return nil, fmt.Errorf("connector: data directory %s: %w", dir, err)
	}
	lock, err := fsys.Lock(path.Join(dir, lockFile))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("connector: data directory %s is in use by a running node: stop it first: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("connector: data directory %s: lock: %w", dir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if r.Identity, err = readIdentity(fsys, dir); err != nil {
		r.add(name, err)
	}
	return r, r.check(fsys, dir)
}

func (r *DataReport) check(fsys vfs.FS, dir string) error {
	for _, err := range catalog.Check(fsys, path.Join(dir, catalogDir)) {
		r.add(path.Join(dir, catalogDir), err)
	}
	tablets, err := store.Directories(fsys, path.Join(dir, tabletsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.Tablets = len(tablets)
	for _, err := range store.Check(fsys, path.Join(dir, tabletsDir)) {
		r.add(path.Join(dir, tabletsDir), err)
	}
	log := path.Join(dir, walDir)
	files, err := fsys.List(log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("connector: log %s: %w", log, err)
	}
	if len(files) == 0 { // an empty log is a right one, but not under tablets
		if r.Tablets > 0 {
			r.add(log, fmt.Errorf("the log is gone, but there are %d tablets that it belongs to", r.Tablets))
		}
		return nil
	}
	problems, err := raftlog.Check(fsys, log)
	for _, p := range problems {
		r.add(fmt.Sprintf("%s at %d", path.Join(log, p.File), p.Offset), errors.New(p.Text))
	}
	return err
}

func (r *DataReport) add(place string, err error) {
	r.Problems = append(r.Problems, place+": "+err.Error())
}

// DumpLog prints the log of a node, given its data directory or that of the log alone.
func DumpLog(fsys vfs.FS, dir string, w io.Writer) error {
	if isData(fsys, dir) {
		dir = path.Join(dir, walDir)
	}
	return raftlog.Dump(fsys, dir, w)
}

// DumpManifest prints what name says exists: a tablet's directory or its manifest, the catalog or the
// directory with it, or a whole data directory.
func DumpManifest(fsys vfs.FS, name string, w io.Writer) error {
	if !isData(fsys, name) {
		return dumpOne(fsys, name, w)
	}
	names := []string{path.Join(name, catalogDir)}
	tablets, err := store.Directories(fsys, path.Join(name, tabletsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, t := range tablets {
		names = append(names, path.Join(name, tabletsDir, strconv.FormatUint(uint64(t), 10)))
	}
	for i, n := range names {
		if i > 0 {
			io.WriteString(w, "\n")
		}
		if _, err := fmt.Fprintf(w, "%s\n", n); err != nil {
			return err
		}
		switch err := dumpOne(fsys, n, w); {
		case errors.Is(err, fs.ErrNotExist):
			io.WriteString(w, "nothing yet\n")
		case err != nil:
			return err
		}
	}
	return nil
}

func dumpOne(fsys vfs.FS, name string, w io.Writer) error {
	switch inside, err := fsys.List(name); {
	case err == nil && slices.Contains(inside, catalog.File):
		return catalog.Dump(fsys, name, w)
	case err == nil:
		return store.DumpManifestFile(fsys, path.Join(name, manifestFile), w)
	case path.Base(name) == catalog.File:
		return catalog.Dump(fsys, path.Dir(name), w)
	}
	return store.DumpManifestFile(fsys, name, w)
}

func isData(fsys vfs.FS, dir string) bool {
	_, err := fsys.Stat(path.Join(dir, identityFile))
	return err == nil
}
