package vfs

import "unsafe"

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
