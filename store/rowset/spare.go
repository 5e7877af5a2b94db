package rowset

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"nyala/store/vfs"
)

// Spare reads len(b) bytes of the Parquet file at off from another copy of it. cause is why the bytes here could not be used.
type Spare func(b []byte, off int64, cause error) error

// spareAttempts is how often a page is asked for elsewhere: each time may be answered by another copy.
const spareAttempts = 3

// healing is what lets a scan go on over a damaged page: the files of replicas are equal byte for byte, so a page of
// another one passes the same checksum, and the scan is the same scan. To begin it anew on another replica would give
// rows twice, unless the answer were held back until it is whole.
type healing struct {
	spare atomic.Pointer[Spare]
	file  atomic.Pointer[vfs.File] // replaces the one that was opened first; nil: nothing does
	mu    struct {
		sync.Mutex
		opened []vfs.File // all that replaced another, until Close
		closed bool
	}
}

// SetSpare says where bytes come from that cannot be read here. Scans call it from their goroutines.
func (r *RowSet) SetSpare(s Spare) { r.parquet.healing.spare.Store(&s) }

// Renew reads from the file that has the name now, whose content must be the same; scans go on with it.
func (r *RowSet) Renew(fsys vfs.FS) error {
	p := r.parquet
	f, err := fsys.Open(p.name)
	if err != nil {
		return fmt.Errorf("rowset: %w", err)
	}
	size, err := f.Size()
	if err == nil && size != p.size {
		err = corrupt("got %d bytes, want %d", size, p.size)
	}
	h := &p.healing
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil && h.mu.closed {
		err = errors.New("closed")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("rowset: %s: %w", p.name, err), f.Close())
	}
	h.mu.opened = append(h.mu.opened, f)
	h.file.Store(&f)
	return nil
}

// reader is the file to read from.
func (p *parquetFile) reader() vfs.File {
	if f := p.healing.file.Load(); f != nil {
		return *f
	}
	return p.file
}

func (p *parquetFile) close() error {
	p.healing.mu.Lock()
	defer p.healing.mu.Unlock()
	p.healing.mu.closed = true
	err := p.file.Close()
	for _, f := range p.healing.mu.opened {
		err = errors.Join(err, f.Close())
	}
	p.healing.mu.opened = nil
	return err
}

// elsewhere reads n bytes at off from another copy and has them used, until one serves. cause is the error that is returned
// when none does, or when nobody can be asked.
func (p *parquetFile) elsewhere(off int64, n int, cause error, use func(b []byte) error) error {
	spare := p.healing.spare.Load()
	if spare == nil || p.sums == nil || cause == nil {
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
