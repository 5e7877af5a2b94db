package connector

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
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
	if err != nil || len(problems) > 0 {
		return err
	}
	return r.compare(fsys, dir)
}

// compare looks for files that are whole by themselves and do not belong together: older copies, another node's, lost ones.
func (r *DataReport) compare(fsys vfs.FS, dir string) error {
	log := path.Join(dir, walDir)
	owner, spans, err := raftlog.Inspect(fsys, log)
	if err != nil {
		return err
	}
	if self := r.Identity.Node + "#" + r.Identity.Incarnation; r.Identity.Incarnation != "" && owner != self {
		r.add(log+" at 0", fmt.Errorf("the log is of %q, but %s says %s", owner, path.Join(dir, identityFile), self))
	}
	file := path.Join(dir, catalogDir, catalog.File)
	if d, err := catalog.ReadDurable(fsys, path.Join(dir, catalogDir)); err == nil {
		r.compareOne(file, log, d.Index, true, spans[raftlog.GroupID(catalog.SystemTablet)])
	}
	extents, err := store.Extents(fsys, path.Join(dir, tabletsDir))
	has := map[raftlog.GroupID]bool{raftlog.GroupID(catalog.SystemTablet): true}
	for _, e := range extents {
		has[raftlog.GroupID(e.ID)] = true
		r.compareOne(path.Join(dir, tabletsDir, strconv.FormatUint(uint64(e.ID), 10), manifestFile), log, e.Index, e.Restored, spans[raftlog.GroupID(e.ID)])
	}
	for _, id := range slices.Sorted(maps.Keys(spans)) {
		if name := path.Join(dir, tabletsDir, strconv.FormatUint(uint64(id), 10), manifestFile); !has[id] && spans[id].First > 1 {
			if _, serr := fsys.Stat(name); errors.Is(serr, fs.ErrNotExist) {
				r.add(name+" at 0", fmt.Errorf("the file is missing, but the log begins at %d", spans[id].First))
			}
		}
	}
	return err
}

// compareOne compares how far a file has a group with what the log has of it.
func (r *DataReport) compareOne(file, log string, durable uint64, ahead bool, s raftlog.Span) {
	switch {
	case durable+1 < s.First:
		r.add(file+" at 0", fmt.Errorf("it has all up to %d, but the log %s begins at %d: the file is missing, an older copy, or lost its end", durable, log, s.First))
	case durable > 0 && s.Next <= durable && !ahead:
		r.add(file+" at 0", fmt.Errorf("it has all up to %d, but the next entry of the log %s is %d: the log is an older copy, or lost a file or its end (as in a power cut with durability: page_cache)", durable, log, s.Next))
	}
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
