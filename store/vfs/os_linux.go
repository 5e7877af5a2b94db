package vfs

import (
	"errors"
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

// directFile is opened with O_DIRECT.
type directFile struct{ *osFile }

// OpenDirect implements DirectFS.
func (osFS) OpenDirect(name string) (File, error) {
	f, err := openOS(name, os.O_RDWR|unix.O_DIRECT)
	if errors.Is(err, unix.EINVAL) {
		return openOS(name, os.O_RDWR)
	}
	if err != nil {
		return nil, err
	}
	return &directFile{f.(*osFile)}, nil
}

// WriteAt goes on without O_DIRECT, for good, when the kernel refuses it only now: the disk may want
// a larger alignment, or a write was cut short at a smaller one.
func (f *directFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.osFile.WriteAt(p, off)
	if !errors.Is(err, unix.EINVAL) {
		return n, err
	}
	if err := f.setPlain(); err != nil {
		return n, err
	}
	m, err := f.osFile.WriteAt(p[n:], off+int64(n))
	return n + m, err
}

func (f *directFile) setPlain() error {
	var err error
	cerr := f.raw.Control(func(fd uintptr) {
		var flags int
		if flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0); err == nil {
			_, err = unix.FcntlInt(fd, unix.F_SETFL, flags&^unix.O_DIRECT)
		}
	})
	if err == nil {
		err = cerr
	}
	if err != nil {
		return &os.PathError{Op: "fcntl", Path: f.Name(), Err: err}
	}
	return nil
}
