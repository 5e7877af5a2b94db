package vfs

import (
	"errors"
	"unsafe"
)

// DirectAlignment is what offset, length and memory of each write to a file that OpenDirect opened
// must be a multiple of.
const DirectAlignment = 4096

// DirectFS is an FS that can write past the page cache. That takes less of the processor for what is
// synced at once and seldom read: nothing is copied, and the cache need not grow.
type DirectFS interface {
	FS
	// OpenDirect opens an existing file for writing. Only WriteAt, Sync, Size and Close of it may be
	// used, and WriteAt only as DirectAlignment says. A write is no more durable than any other
	// before the Sync of any handle of the file, but at once seen by reads through any handle. Where
	// the disk or its file system refuses direct writes they go through the page cache.
	OpenDirect(name string) (File, error)
}

// OpenDirect opens an existing file for direct writes, or for plain ones if fsys has none. Its caller
// does in both cases as DirectFS says.
func OpenDirect(fsys FS, name string) (File, error) {
	if d, ok := fsys.(DirectFS); ok {
		return d.OpenDirect(name)
	}
	return fsys.OpenFile(name)
}

// CreateDirect creates a file, or empties it, for what is written once, from front to back, in large pieces: the whole pages of
// an aligned write go past the page cache, the rest, as a rule the end of the file, does not.
func CreateDirect(fsys FS, name string) (File, error) {
	f, err := fsys.Create(name)
	if err != nil {
		return nil, err
	}
	direct, err := OpenDirect(fsys, name)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &pagesFile{f, direct}, nil
}

// pagesFile has two handles of a file. What one of them has written, Sync of the other makes durable.
type pagesFile struct {
	File
	direct File
}

func (f *pagesFile) WriteAt(p []byte, off int64) (n int, err error) {
	if whole := len(p) &^ (DirectAlignment - 1); whole >= directLeast && isDirect(p[:whole], off) {
		if n, err = f.direct.WriteAt(p[:whole], off); err != nil || n == len(p) {
			return n, err
		}
	}
	k, err := f.File.WriteAt(p[n:], off+int64(n))
	return n + k, err
}

func (f *pagesFile) Close() error { return errors.Join(f.direct.Close(), f.File.Close()) }

// AlignedBytes returns n zero bytes at a multiple of DirectAlignment.
func AlignedBytes(n int) []byte {
	b := make([]byte, n+DirectAlignment)
	skip := -misalignment(b) & (DirectAlignment - 1)
	return b[skip : skip+n : skip+n]
}

func misalignment(b []byte) int {
	return int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (DirectAlignment - 1))
}

// isDirect says whether a write is as DirectAlignment wants it.
func isDirect(p []byte, off int64) bool {
	return (misalignment(p)|len(p)|int(off%DirectAlignment))&(DirectAlignment-1) == 0
}
