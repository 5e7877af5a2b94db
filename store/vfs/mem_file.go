package vfs

import (
	"bytes"
	"io"
	"io/fs"
	"slices"
)

const (
	blockSize  = 4096 // what survives a crash by itself
	sectorSize = 512  // what a torn block is torn at
)

var zeroBlock [blockSize]byte

// block is 4 KiB of a file. Each version is a whole block, or nil for zeros.
type block struct {
	current []byte // as seen by the living
	earlier []byte // before the last write, if that was not synced either
	durable []byte // at the last sync; means nothing while the block is clean
	dirty   bool
	older   bool  // earlier is set
	call    int64 // the call that wrote current
}

// write returns the block's bytes to be changed in place. All writes to a block within one call
// make one version.
func (n *inode) write(number int64) []byte {
	b := n.blocks[number]
	if b == nil {
		b = &block{}
		n.blocks[number] = b
	}
	switch {
	case b.dirty && b.call == n.calls:
		return b.current
	case b.dirty:
		b.earlier, b.older = b.current, true
	default:
		b.durable, b.dirty = b.current, true
		n.dirty = append(n.dirty, number)
	}
	b.call = n.calls
	next := make([]byte, blockSize)
	copy(next, b.current)
	b.current = next
	return next
}

func (n *inode) writeAt(p []byte, off int64) {
	for len(p) > 0 {
		number, at := off/blockSize, int(off%blockSize)
		k := min(blockSize-at, len(p))
		// Zeros over a block that never was keep it absent: files filled with zeros ahead of
		// their use cost nothing.
		if n.blocks[number] != nil || !bytes.Equal(p[:k], zeroBlock[:k]) {
			copy(n.write(number)[at:], p[:k])
		}
		p, off = p[k:], off+int64(k)
		n.size = max(n.size, off)
	}
}

func (n *inode) readAt(p []byte, off int64) (int, error) {
	if off >= n.size {
		return 0, io.EOF
	}
	total := int(min(int64(len(p)), n.size-off))
	for done := 0; done < total; {
		number, at := (off+int64(done))/blockSize, int((off+int64(done))%blockSize)
		k := min(blockSize-at, total-done)
		src := zeroBlock[:]
		if b := n.blocks[number]; b != nil && b.current != nil {
			src = b.current
		}
		copy(p[done:done+k], src[at:])
		done += k
	}
	if total < len(p) {
		return total, io.EOF
	}
	return total, nil
}

func (n *inode) truncate(size int64) {
	n.calls++
	if size < n.size {
		for number := range n.blocks {
			if start := number * blockSize; start+blockSize > size {
				clear(n.write(number)[max(0, size-start):])
			}
		}
	}
	n.size = size
}

func (n *inode) sync() {
	for _, number := range n.dirty {
		b := n.blocks[number]
		b.dirty, b.older, b.earlier, b.durable = false, false, nil, nil
	}
	n.dirty = n.dirty[:0]
	n.synced = n.size
}

// file returns what is left of a file. Clean blocks are shared: a block is never changed in place
// after the write that made it.
func (c *crash) file(n *inode) *inode {
	after := newFile()
	after.size = c.size(n)
	for number, b := range n.blocks {
		if !b.dirty {
			after.blocks[number] = &block{current: b.current}
		}
	}
	slices.Sort(n.dirty) // the order of the calls to rng must not hang on a map's order
	for _, number := range n.dirty {
		after.blocks[number] = &block{current: c.block(n.blocks[number])}
	}
	for number, b := range after.blocks {
		start := number * blockSize
		switch {
		case start >= after.size:
			delete(after.blocks, number)
		case start+blockSize > after.size && b.current != nil:
			b.current = slices.Clone(b.current)
			clear(b.current[after.size-start:])
		}
	}
	after.synced = after.size
	return after
}

func (c *crash) size(n *inode) int64 {
	switch {
	case n.size == n.synced || c.survives():
		return n.size
	case n.size > n.synced && c.survives():
		return n.synced + c.rng.Int64N(n.size-n.synced)
	}
	return n.synced
}

func (c *crash) block(b *block) []byte {
	switch {
	case c.survives():
		if b.older && c.rng.Float64() < (1-c.survive)/2 {
			return b.earlier
		}
		return b.current
	case c.survives():
		return c.torn(b)
	}
	return b.durable
}

func (c *crash) torn(b *block) []byte {
	out := make([]byte, blockSize)
	for at := 0; at < blockSize; at += sectorSize {
		src := b.durable
		switch {
		case c.survives():
			src = b.current
		case b.older && c.survives():
			src = b.earlier
		}
		if src != nil {
			copy(out[at:at+sectorSize], src[at:])
		}
	}
	return out
}

// memFile is an open file of a Mem. Its fields but pos never change, or are guarded by Mem.mu.
type memFile struct {
	mem      *Mem
	node     *inode
	name     string
	readOnly bool
	direct   bool
	closed   bool
	pos      int64
}

// do runs f under the memory's lock if the file may be used.
func (f *memFile) do(op string, writes bool, g func()) error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	switch {
	case f.mem.mu.dead:
		return pathError(op, f.name, ErrCrashed)
	case f.closed:
		return pathError(op, f.name, fs.ErrClosed)
	case writes && f.readOnly:
		return pathError(op, f.name, fs.ErrPermission)
	}
	g()
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, pathError("read", f.name, fs.ErrInvalid)
	}
	var n int
	var end error
	if err := f.do("read", false, func() { n, end = f.node.readAt(p, off) }); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	return n, end
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if f.direct && !isDirect(p, off) {
		return 0, pathError("write", f.name, fs.ErrInvalid)
	}
	return f.WritevAt([][]byte{p}, off)
}

func (f *memFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

func (f *memFile) WritevAt(bufs [][]byte, off int64) (int, error) {
	if off < 0 {
		return 0, pathError("write", f.name, fs.ErrInvalid)
	}
	total := 0
	err := f.do("write", true, func() {
		f.node.calls++
		for _, b := range bufs {
			f.node.writeAt(b, off+int64(total))
			total += len(b)
		}
	})
	return total, err
}

func (f *memFile) Sync() error { return f.do("sync", false, func() { f.node.sync() }) }

func (f *memFile) Truncate(size int64) error {
	if size < 0 {
		return pathError("truncate", f.name, fs.ErrInvalid)
	}
	return f.do("truncate", true, func() { f.node.truncate(size) })
}

func (f *memFile) Size() (int64, error) {
	var size int64
	err := f.do("size", false, func() { size = f.node.size })
	return size, err
}

func (f *memFile) Close() error { return f.do("close", false, func() { f.closed = true }) }
