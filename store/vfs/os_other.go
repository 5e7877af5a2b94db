//go:build !linux

package vfs

import "io"

// Sync is os.File's: on darwin it asks the drive to empty its cache (F_FULLFSYNC).
func (f *osFile) Sync() error { return f.File.Sync() }

func (f *osFile) WritevAt(bufs [][]byte, off int64) (int, error) { return writeEach(f, bufs, off) }

// writeEach is the portable WritevAt.
func writeEach(w io.WriterAt, bufs [][]byte, off int64) (int, error) {
	total := 0
	for _, b := range bufs {
		n, err := w.WriteAt(b, off+int64(total))
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
