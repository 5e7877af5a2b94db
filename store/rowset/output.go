package rowset

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"sync"

	"nyala/store/vfs"
)

// FileInfo is what a manifest keeps of a written file.
type FileInfo struct {
	Size   int64
	Hash   Hash
	SHA256 [sha256.Size]byte // only where Options.SHA256 asked for it
}

// output gathers what is written into blocks of 1 MiB that start at multiples of 1 MiB, in memory that
// is aligned as direct writes want it, and hashes each block while it is in the cache.
type output struct {
	file   vfs.File
	block  []byte // nil between finish and the next reset
	off    int64  // of the block's first byte
	hasher *Hasher
	sha    hash.Hash // nil: not asked for
	err    error
}

// Block is memory to write files from, aligned as direct writes want it.
type Block [hashBlock]byte

// blocks are shared by all who write files: a writer is kept for each schema and worker, and writes now and then.
var blocks = sync.Pool{New: func() any { return (*Block)(vfs.AlignedBytes(hashBlock)) }}

// TakeBlock gives a block with anything in it; ReturnBlock takes it back when nobody sees it any more.
func TakeBlock() *Block { return blocks.Get().(*Block) }

// ReturnBlock takes a block that TakeBlock gave.
func ReturnBlock(b *Block) { blocks.Put(b) }

func newOutput() *output { return &output{hasher: NewHasher()} }

func (o *output) reset(f vfs.File, withSHA bool) {
	if o.block == nil {
		o.block = TakeBlock()[:]
	}
	o.file, o.block, o.off, o.err, o.sha = f, o.block[:0], 0, nil, nil
	o.hasher.Reset()
	if withSHA {
		o.sha = sha256.New()
	}
}

// size is the number of bytes put so far.
func (o *output) size() int64 { return o.off + int64(len(o.block)) }

// put adds bytes to the file. The first error stays and is returned by finish.
func (o *output) put(p []byte) {
	for len(p) > 0 && o.err == nil {
		n := min(cap(o.block)-len(o.block), len(p))
		o.block = append(o.block, p[:n]...)
		p = p[n:]
		if len(o.block) == cap(o.block) {
			o.flush()
		}
	}
}

func (o *output) flush() {
	if len(o.block) == 0 || o.err != nil {
		return
	}
	if _, err := o.file.WriteAt(o.block, o.off); err != nil {
		o.err = fmt.Errorf("rowset: write at %d: %w", o.off, err)
		return
	}
	o.hasher.Write(o.block)
	if o.sha != nil {
		o.sha.Write(o.block)
	}
	o.off += int64(len(o.block))
	o.block = o.block[:0]
}

// finish writes what is left; the file is neither synced nor closed.
func (o *output) finish() (FileInfo, error) {
	o.flush()
	ReturnBlock((*Block)(o.block[:hashBlock]))
	o.block = nil
	if o.err != nil {
		return FileInfo{}, o.err
	}
	info := FileInfo{Size: o.off, Hash: o.hasher.Sum()}
	if o.sha != nil {
		o.sha.Sum(info.SHA256[:0])
	}
	return info, nil
}
