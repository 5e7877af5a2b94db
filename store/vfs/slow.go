package vfs

import (
	"sync"
	"time"
)

// Slow lets so many bytes a second be written through another FS, all files together, and makes each fsync take some time.
// Who writes waits for its turn: as with a real disk, the bytes of a large write hold up others. It holds no lock while it waits.
type Slow struct {
	FS
	rate int64
	sync time.Duration
	mu   struct {
		sync.Mutex
		free time.Time // when all that was written before will be through
	}
}

// NewSlow slows fsys down to so many bytes a second; 0: as many as there are.
func NewSlow(fsys FS, rate int64, sync time.Duration) *Slow {
	return &Slow{FS: fsys, rate: rate, sync: sync}
}

// Create implements FS.
func (d *Slow) Create(name string) (File, error) { return d.wrap(d.FS.Create(name)) }

// OpenFile implements FS.
func (d *Slow) OpenFile(name string) (File, error) { return d.wrap(d.FS.OpenFile(name)) }

func (d *Slow) wrap(f File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return &slowFile{File: f, disk: d}, nil
}

// write waits until n more bytes are through.
func (d *Slow) write(n int) {
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

type slowFile struct {
	File
	disk *Slow
}

func (f *slowFile) Write(p []byte) (int, error) {
	f.disk.write(len(p))
	return f.File.Write(p)
}

func (f *slowFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.write(len(p))
	return f.File.WriteAt(p, off)
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
