//go:build !linux

package vfs

// Sync is os.File's: on darwin it asks the drive to empty its cache (F_FULLFSYNC).
func (f *osFile) Sync() error { return f.File.Sync() }

func (f *osFile) WritevAt(bufs [][]byte, off int64) (int, error) { return writeEach(f, bufs, off) }
