package vfs

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// iovMax is the most buffers that the kernel takes in one call (IOV_MAX).
const iovMax = 1024

// Sync is fdatasync: the bytes and the size, not the times.
func (f *osFile) Sync() error {
	var err error
	cerr := f.raw.Control(func(fd uintptr) {
		for {
			if err = unix.Fdatasync(int(fd)); err != unix.EINTR {
				return
			}
		}
	})
	if err == nil {
		err = cerr
	}
	if err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

func (f *osFile) WritevAt(bufs [][]byte, off int64) (int, error) {
	total := 0
	for len(bufs) > 0 {
		k := min(len(bufs), iovMax)
		n, err := f.pwritev(bufs[:k], off+int64(total))
		total += n
		if err != nil {
			return total, &os.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		}
		// The kernel may take less than it was given: go on after the buffers it took whole,
		// and write the rest of the one it cut by itself.
		for k > 0 && n >= len(bufs[0]) {
			n -= len(bufs[0])
			bufs = bufs[1:]
			k--
		}
		if k > 0 {
			m, err := f.WriteAt(bufs[0][n:], off+int64(total))
			total += m
			if err != nil {
				return total, err
			}
			bufs = bufs[1:]
		}
	}
	return total, nil
}

func (f *osFile) pwritev(bufs [][]byte, off int64) (int, error) {
	var n int
	var err error
	cerr := f.raw.Control(func(fd uintptr) {
		for {
			if n, err = unix.Pwritev(int(fd), bufs, off); err != unix.EINTR {
				return
			}
		}
	})
	if err == nil {
		err = cerr
	}
	if err != nil {
		return 0, err
	}
	if n == 0 && len(bufs) == 1 && len(bufs[0]) > 0 {
		return 0, io.ErrShortWrite
	}
	return n, nil
}
