package rowset

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"nyala/store/vfs"
)

// Spare reads len(b) bytes of a file at off from another copy of it. cause is why the bytes here could not be used.
type Spare func(b []byte, off int64, cause error) error

// spareAttempts is how often bytes are asked for elsewhere: each time may be answered by another copy.
const spareAttempts = 3

// sharedFile is an open file that other replicas have, too. It lets a scan go on over a damaged page: the files are equal byte for byte, so a
// page of another one passes the same checksum, and the scan is the same scan. To begin it anew on another replica would give
// rows twice, unless the answer were held back until it is whole.
type sharedFile struct {
	name  string
	size  int64
	first vfs.File // as it was opened
	spare atomic.Pointer[Spare]
	fresh atomic.Pointer[vfs.File] // replaces the one that was opened first; nil: nothing does
	mu    struct {
		sync.Mutex
		opened []vfs.File // all that replaced another, until Close
		closed bool
	}
}

// SetSpare says where bytes of either file come from that cannot be read here. Scans and lookups call them from their goroutines.
func (r *RowSet) SetSpare(parquet, keys Spare) {
	r.parquet.spare.Store(&parquet)
	r.keys.Load().spare.Store(&keys)
}

// RenewParquet reads from the Parquet file that has the name now, whose content must be the same; scans go on with it.
func (r *RowSet) RenewParquet(fsys vfs.FS) error { return r.parquet.renew(fsys) }

// RenewKeys is RenewParquet for the keys file.
func (r *RowSet) RenewKeys(fsys vfs.FS) error { return r.keys.Load().renew(fsys) }

// openShared opens a file and finds its size.
func openShared(fsys vfs.FS, name string) (*sharedFile, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("rowset: %w", err)
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rowset: %s: %w", name, err), f.Close())
	}
	return &sharedFile{name: name, size: size, first: f}, nil
}

func (s *sharedFile) renew(fsys vfs.FS) error {
	f, err := fsys.Open(s.name)
	if err != nil {
		return fmt.Errorf("rowset: %w", err)
	}
	size, err := f.Size()
	if err == nil && size != s.size {
		err = corrupt("got %d bytes, want %d", size, s.size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.mu.closed {
		err = errors.New("closed")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("rowset: %s: %w", s.name, err), f.Close())
	}
	s.mu.opened = append(s.mu.opened, f)
	s.fresh.Store(&f)
	return nil
}

// read fills b from off on, or fails.
func (s *sharedFile) read(b []byte, off int64) error {
	f := s.first
	if fresh := s.fresh.Load(); fresh != nil {
		f = *fresh
	}
	return readAt(f, b, off)
}

func (s *sharedFile) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.closed = true
	err := s.first.Close()
	for _, f := range s.mu.opened {
		err = errors.Join(err, f.Close())
	}
	s.mu.opened = nil
	return err
}

// elsewhere reads n bytes at off from another copy and has them used, until one serves. cause is the error that is returned
// when none does, or when nobody can be asked.
func (s *sharedFile) elsewhere(off int64, n int, cause error, use func(b []byte) error) error {
	spare := s.spare.Load()
	if spare == nil || cause == nil {
		return cause
	}
	b := make([]byte, n)
	for range spareAttempts {
		err := (*spare)(b, off, cause)
		if err == nil {
			err = use(b)
		}
		if err == nil {
			return nil
		}
		cause = errors.Join(cause, fmt.Errorf("and of another copy: %w", err))
	}
	return cause
}
