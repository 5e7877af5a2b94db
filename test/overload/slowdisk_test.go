//go:build linux && overload

package overload

import (
	"sync"
	"time"

	"nyala/store/vfs"
)

// slowDisk lets so many bytes a second be written through another file system, all files together, and makes each
// fsync take some time. Who writes waits for its turn: as with a real disk, bytes of a large write hold up others.
type slowDisk struct {
	vfs.FS
	rate int64
	sync time.Duration
	mu   struct {
		sync.Mutex
		free time.Time // when all that was written before will be through
	}
}

func newSlowDisk(fs vfs.FS, rate int64, sync time.Duration) *slowDisk {
	return &slowDisk{FS: fs, rate: rate, sync: sync}
}

// write waits until n more bytes are through.
func (d *slowDisk) write(n int) {
	if d.rate == 0 {
		return
	}
	d.mu.Lock()
	now := time.Now()
	if d.mu.free.Before(now) {
		d.mu.free = now
	}
	d.mu.free = d.mu.free.Add(time.Duration(int64(n) * int64(time.Second) / d.rate))
	wait := d.mu.free.Sub(now)
	d.mu.Unlock()
	time.Sleep(wait)
}

func (d *slowDisk) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &slowFile{File: f, disk: d}, nil
}

func (d *slowDisk) Create(name string) (vfs.File, error)   { return d.wrap(d.FS.Create(name)) }
func (d *slowDisk) OpenFile(name string) (vfs.File, error) { return d.wrap(d.FS.OpenFile(name)) }

type slowFile struct {
	vfs.File
	disk *slowDisk
}

func (f *slowFile) Write(b []byte) (int, error) {
	f.disk.write(len(b))
	return f.File.Write(b)
}

func (f *slowFile) WriteAt(b []byte, off int64) (int, error) {
	f.disk.write(len(b))
	return f.File.WriteAt(b, off)
}

func (f *slowFile) WritevAt(bufs [][]byte, off int64) (int, error) {
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	f.disk.write(n)
	return f.File.WritevAt(bufs, off)
}

func (f *slowFile) Sync() error {
	time.Sleep(f.disk.sync)
	return f.File.Sync()
}
