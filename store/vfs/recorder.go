package vfs

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// Recorder writes down the calls that change a file system or make it durable, one line each, in
// the order in which they returned, so that a golden test can pin it. A call that failed says so.
//
//	create wal/00000001
//	write wal/00000001 4096+512
//	sync wal/00000001
//	rename MANIFEST.tmp MANIFEST
//	syncdir .
type Recorder struct {
	fs FS
	mu struct {
		sync.Mutex
		lines []string
	}
}

// NewRecorder records the calls to fsys.
func NewRecorder(fsys FS) *Recorder { return &Recorder{fs: fsys} }

// Take returns what was recorded since the last Take, each line ended by a newline.
func (r *Recorder) Take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := strings.Join(r.mu.lines, "")
	r.mu.lines = nil
	return text
}

func (r *Recorder) add(err error, op Op, format string, args ...any) {
	line := string(op) + " " + fmt.Sprintf(format, args...)
	if err != nil {
		line += " failed"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.lines = append(r.mu.lines, line+"\n")
}

func (r *Recorder) wrap(f File, err error, name string) (File, error) {
	if err != nil {
		return nil, err
	}
	return &recordedFile{File: f, rec: r, name: name}, nil
}

// Open implements FS.
func (r *Recorder) Open(name string) (File, error) {
	f, err := r.fs.Open(name)
	return r.wrap(f, err, name)
}

// Create implements FS.
func (r *Recorder) Create(name string) (File, error) {
	f, err := r.fs.Create(name)
	r.add(err, OpCreate, "%s", name)
	return r.wrap(f, err, name)
}

// OpenFile implements FS.
func (r *Recorder) OpenFile(name string) (File, error) {
	f, err := r.fs.OpenFile(name)
	r.add(err, OpOpenFile, "%s", name)
	return r.wrap(f, err, name)
}

// Rename implements FS.
func (r *Recorder) Rename(oldName, newName string) error {
	err := r.fs.Rename(oldName, newName)
	r.add(err, OpRename, "%s %s", oldName, newName)
	return err
}

// Remove implements FS.
func (r *Recorder) Remove(name string) error {
	err := r.fs.Remove(name)
	r.add(err, OpRemove, "%s", name)
	return err
}

// MkdirAll implements FS.
func (r *Recorder) MkdirAll(dir string) error {
	err := r.fs.MkdirAll(dir)
	r.add(err, OpMkdirAll, "%s", dir)
	return err
}

// List implements FS.
func (r *Recorder) List(dir string) ([]string, error) { return r.fs.List(dir) }

// Stat implements FS.
func (r *Recorder) Stat(name string) (int64, error) { return r.fs.Stat(name) }

// SyncDir implements FS.
func (r *Recorder) SyncDir(dir string) error {
	err := r.fs.SyncDir(dir)
	r.add(err, OpSyncDir, "%s", dir)
	return err
}

// Lock implements FS.
func (r *Recorder) Lock(name string) (io.Closer, error) {
	l, err := r.fs.Lock(name)
	r.add(err, OpLock, "%s", name)
	return l, err
}

// OpenDirect implements DirectFS, with plain writes if the other FS has no direct ones. It changes
// nothing, and so is not written down.
func (r *Recorder) OpenDirect(name string) (File, error) {
	f, err := OpenDirect(r.fs, name)
	return r.wrap(f, err, name)
}

type recordedFile struct {
	File
	rec  *Recorder
	name string
	pos  int64
}

func (f *recordedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.rec.add(err, OpWrite, "%s %d+%d", f.name, f.pos, n)
	f.pos += int64(n)
	return n, err
}

func (f *recordedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.rec.add(err, OpWrite, "%s %d+%d", f.name, off, n)
	return n, err
}

func (f *recordedFile) WritevAt(bufs [][]byte, off int64) (int, error) {
	n, err := f.File.WritevAt(bufs, off)
	f.rec.add(err, OpWrite, "%s %d+%d", f.name, off, n)
	return n, err
}

func (f *recordedFile) Sync() error {
	err := f.File.Sync()
	f.rec.add(err, OpSync, "%s", f.name)
	return err
}

func (f *recordedFile) Truncate(size int64) error {
	err := f.File.Truncate(size)
	f.rec.add(err, OpTruncate, "%s %d", f.name, size)
	return err
}
