package verify

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"path"
	"slices"

	"nyala/store/batch"
	"nyala/store/vfs"
)

// buckets holds digests until all are there. Equal keys share a bucket; a bucket fits in memory. What does not fit into the
// buffers goes to a file per bucket. A crash leaves the files behind: Clean removes them.
type buckets struct {
	fs     vfs.FS
	dir    string
	limit  int  // bytes of a buffer
	fold   bool // superseded records may go
	all    []bucket
	spills int64 // bytes in files
}

type bucket struct {
	buffer []byte
	file   vfs.File // nil: nothing was spilled
	size   int64
}

const (
	bucketsMax     = 2048
	bucketBuffer   = 1 << 20 // of one bucket, at most
	bufferLeast    = 8 << 10
	loadedDigest   = 48 // bytes of a digest in memory
	loadShareFifth = 2  // of five parts of the memory, for the bucket that is compared; one is for the buffers, the rest for Kafka and the scan
)

// newBuckets makes buckets for about so many digests.
func newBuckets(o *Options, digests int64, fold bool) *buckets {
	perBucket := max(o.MemoryBytes*loadShareFifth/5/loadedDigest, 1024)
	n := int(min(max(digests/perBucket+1, 1), bucketsMax))
	limit := max(int(min(o.MemoryBytes/5/int64(n), bucketBuffer)), bufferLeast) / digestBytes * digestBytes
	return &buckets{fs: o.FS, dir: o.Dir, limit: limit, fold: fold, all: make([]bucket, n)}
}

// Clean removes what an earlier run left in dir.
func Clean(fsys vfs.FS, dir string) error {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		err = errors.Join(err, fsys.Remove(path.Join(dir, name)))
	}
	if err != nil {
		return fmt.Errorf("verify: %s: %w", dir, err)
	}
	return nil
}

func (b *buckets) name(i int) string { return path.Join(b.dir, fmt.Sprintf("%04d.digests", i)) }

// add takes one digest.
func (b *buckets) add(d *digest) error {
	i, _ := bits.Mul64(d.key[0], uint64(len(b.all)))
	k := &b.all[i]
	if k.buffer = d.appendTo(k.buffer); len(k.buffer) < b.limit {
		return nil
	}
	return b.spill(int(i))
}

func (b *buckets) spill(i int) (err error) {
	k := &b.all[i]
	if k.file == nil {
		if err := b.fs.MkdirAll(b.dir); err != nil {
			return fmt.Errorf("verify: %s: %w", b.dir, err)
		}
		if k.file, err = b.fs.Create(b.name(i)); err != nil {
			return fmt.Errorf("verify: %s: %w", b.name(i), err)
		}
	}
	if _, err := k.file.WriteAt(k.buffer, k.size); err != nil {
		return fmt.Errorf("verify: %s: %w", b.name(i), err)
	}
	k.size += int64(len(k.buffer))
	b.spills += int64(len(k.buffer))
	k.buffer = k.buffer[:0]
	return nil
}

// load returns the digests of bucket i, sorted by key, kind, source and offset, and gives up its file. list is memory to use again.
func (b *buckets) load(i int, list []digest) ([]digest, error) {
	k := &b.all[i]
	list = list[:0]
	folded := 0 // so many are sorted and folded
	page := make([]byte, min(int64(256<<10/digestBytes*digestBytes), max(k.size, 0)))
	for at := int64(0); at < k.size; at += int64(len(page)) {
		page = page[:min(int64(len(page)), k.size-at)]
		if n, err := k.file.ReadAt(page, at); err != nil && !(errors.Is(err, io.EOF) && n == len(page)) {
			return nil, fmt.Errorf("verify: %s at %d: %w", b.name(i), at, err)
		}
		list = appendDigests(list, page)
		if b.fold && len(list) > 2*folded+1<<16 { // a key that came often must not fill the memory
			list = fold(list)
			folded = len(list)
		}
	}
	list = appendDigests(list, k.buffer)
	k.buffer = nil
	sortDigests(list)
	return list, b.drop(i)
}

func appendDigests(list []digest, b []byte) []digest {
	for ; len(b) > 0; b = b[digestBytes:] {
		list = append(list, parseDigest(b))
	}
	return list
}

func sortDigests(list []digest) {
	slices.SortFunc(list, func(a, b digest) int {
		switch {
		case a.key[0] != b.key[0]:
			return cmp.Compare(a.key[0], b.key[0])
		case a.key[1] != b.key[1]:
			return cmp.Compare(a.key[1], b.key[1])
		}
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.source, b.source), cmp.Compare(a.offset, b.offset))
	})
}

// fold drops the records that others of their source supersede: of upserts in a row all but the last, of inserts all but the
// first. Records whose effect is open stay.
func fold(list []digest) []digest {
	sortDigests(list)
	out := list[:0]
	for _, d := range list {
		if n := len(out); n > 0 && d.kind == recordKind && !d.open {
			last := &out[n-1]
			if last.key == d.key && last.kind == recordKind && last.source == d.source && !last.open && (last.op == batch.Insert) == (d.op == batch.Insert) {
				if d.op != batch.Insert {
					*last = d
				}
				continue
			}
		}
		out = append(out, d)
	}
	return out
}

func (b *buckets) drop(i int) error {
	k := &b.all[i]
	if k.file == nil {
		return nil
	}
	err := errors.Join(k.file.Close(), b.fs.Remove(b.name(i)))
	k.file = nil
	return err
}

// close removes all files.
func (b *buckets) close() error {
	var errs []error
	for i := range b.all {
		errs = append(errs, b.drop(i))
	}
	return errors.Join(errs...)
}
