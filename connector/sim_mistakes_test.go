package connector

import (
	"path"
	"strings"

	"nyala/store/vfs"
)

// files breaks the rules of a disk, if the mistake is one of those.
func (m mistake) files(fs vfs.FS) vfs.FS {
	match := map[mistake]func(name string) bool{
		walUnsynced: func(name string) bool {
			return strings.HasPrefix(name, "data/") && strings.Contains(name, "/"+walDir+"/")
		},
		filesUnsynced:    func(name string) bool { return path.Ext(name) == ".parquet" || path.Ext(name) == ".keys" },
		manifestUnsynced: func(name string) bool { return strings.Contains(strings.ToLower(path.Base(name)), "manifest") },
	}[m]
	if match == nil && m != dirsUnsynced {
		return fs
	}
	return &lyingDisk{FS: fs, file: match, dirs: m == dirsUnsynced}
}

// lyingDisk acknowledges syncs that it does not carry out.
type lyingDisk struct {
	vfs.FS
	file func(name string) bool
	dirs bool
}

type lyingFile struct{ vfs.File }

// Sync implements vfs.File.
func (lyingFile) Sync() error { return nil }

func (d *lyingDisk) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err == nil && d.file != nil && d.file(name) {
		return lyingFile{f}, nil
	}
	return f, err
}

// Open implements vfs.FS.
func (d *lyingDisk) Open(name string) (vfs.File, error) {
	f, err := d.FS.Open(name)
	return d.wrap(name, f, err)
}

// Create implements vfs.FS.
func (d *lyingDisk) Create(name string) (vfs.File, error) {
	f, err := d.FS.Create(name)
	return d.wrap(name, f, err)
}

// OpenFile implements vfs.FS.
func (d *lyingDisk) OpenFile(name string) (vfs.File, error) {
	f, err := d.FS.OpenFile(name)
	return d.wrap(name, f, err)
}

// SyncDir implements vfs.FS.
func (d *lyingDisk) SyncDir(dir string) error {
	if d.dirs {
		return nil
	}
	return d.FS.SyncDir(dir)
}
