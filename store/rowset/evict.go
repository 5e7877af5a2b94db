package rowset

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"github.com/parquet-go/parquet-go/bloom"
)

// Evict gives up the memory of keys, births and, if filter is true, the Bloom filter, and returns how many bytes that was. Lookups then read a block
// of keys from the file for each key that passes the filter, or for each if that is evicted, too; a scan of the past reads the births.
// Evict and LoadFilter must not run at the same time; all else may.
func (r *RowSet) Evict(filter bool) (freed int64) {
	k := r.keys.Load()
	if k.blocks == nil && (k.filter == nil || !filter) {
		return 0
	}
	e := *k
	e.blocks = nil
	e.births = &births{table: k.births.table, rows: k.births.rows}
	e.entries, e.firsts, e.lo, e.hi = slices.Clone(k.entries), slices.Clone(k.firsts), slices.Clone(k.lo), slices.Clone(k.hi)
	switch {
	case filter:
		e.filter = nil
	case k.blocks != nil: // it lies in memory that is to be given up
		e.filter = slices.Clone(k.filter)
	}
	r.keys.Store(&e)
	return k.memoryBytes() - e.memoryBytes()
}

// Evicted tells whether keys and births are read from the file, and whether the filter would be.
func (r *RowSet) Evicted() (keys, filter bool) {
	k := r.keys.Load()
	return k.blocks == nil, k.filter == nil
}

// LoadFilter has the Bloom filter in memory again, for who is about to ask for many keys, and returns how many bytes that took.
func (r *RowSet) LoadFilter() (taken int64, err error) {
	k := r.keys.Load()
	if k.filter != nil {
		return 0, nil
	}
	b, err := k.section(sectionBloom)
	if err != nil {
		return 0, err
	}
	f := *k
	f.filter = bloom.MakeSplitBlockFilter(b)
	r.keys.Store(&f)
	return f.memoryBytes() - k.memoryBytes(), nil
}

// memoryBytes is about what is held.
func (k *keysFile) memoryBytes() int64 {
	n := 8 * int64(len(k.births.table))
	if k.blocks != nil {
		return n + k.size
	}
	return n + int64(len(k.entries)+len(k.firsts)+len(k.lo)+len(k.hi)+4*len(k.sums)+len(k.filter)*bloom.BlockSize)
}

// mayContain tells whether a key of that hash can be here.
func (k *keysFile) mayContain(hash uint64) bool { return k.filter == nil || k.filter.Check(hash) }

// allBirths are the births with the ids of rows.
func (k *keysFile) allBirths() (*births, error) {
	if k.blocks != nil {
		return k.births, nil
	}
	b, err := k.section(sectionBirths)
	if err != nil {
		return nil, err
	}
	all, err := parseBirths(b, k.rows)
	if err != nil {
		return nil, fmt.Errorf("rowset: %s: %w", k.name, err)
	}
	return all, nil
}

// check compares the bytes of a section, with the zeros behind it, with its sum.
func (s *section) check(padded []byte) error {
	if got := crc32.Checksum(padded, castagnoli); got != s.crc {
		return corrupt("%d bytes at %d: crc %08x, want %08x", s.size, s.off, got, s.crc)
	}
	return nil
}

// section reads a section from the file, with packedSlack bytes behind it.
func (k *keysFile) section(i int) ([]byte, error) {
	s := &k.sections[i]
	b := make([]byte, s.size+-s.size&7, s.size+-s.size&7+packedSlack)
	if err := k.readChecked(b, s.off, s.check); err != nil {
		return nil, fmt.Errorf("rowset: %s: section %d: %w", k.name, i, err)
	}
	return b[:s.size], nil
}

// readChecked fills b with bytes from off on that pass check, from here or else from another copy of the file.
func (k *keysFile) readChecked(b []byte, off int64, check func([]byte) error) error {
	err := k.read(b, off)
	if err == nil {
		err = check(b)
	}
	if err == nil {
		return nil
	}
	return k.elsewhere(off, len(b), err, func(other []byte) error {
		copy(b, other)
		return check(other)
	})
}

// blockReader finds blocks of keys in memory or reads them, and has the last one that it read, for the next key is often in the same. Of one goroutine.
type blockReader struct {
	of   *keysFile
	read int // the block that buf has, plus one
	buf  []byte
}

var blockReaders = sync.Pool{New: func() any { return new(blockReader) }}

func newBlockReader() *blockReader { return blockReaders.Get().(*blockReader) }

// free lets others use r.
func (r *blockReader) free() {
	r.of, r.read = nil, 0
	blockReaders.Put(r)
}

// at is block i of k. It lives until the next call.
func (r *blockReader) at(k *keysFile, i int) (keyBlock, error) {
	if k.blocks != nil {
		return k.block(i), nil
	}
	from, n := k.place(i), int(k.place(i+1)-k.place(i))
	if r.of != k || r.read != i+1 {
		r.of, r.read = k, 0
		r.buf = slices.Grow(r.buf[:0], n+packedSlack)[:n]
		off := k.sections[sectionBlocks].off + int64(from)
		want := binary.LittleEndian.Uint32(k.entries[i*indexEntry+12:])
		err := k.readChecked(r.buf, off, func(d []byte) error {
			if got := crc32.Checksum(d, castagnoli); got != want {
				return corrupt("block %d at %d: crc %08x, want %08x", i, off, got, want)
			}
			return nil
		})
		if err != nil {
			return keyBlock{}, err
		}
		r.read = i + 1
	}
	return keyBlock{data: r.buf[:n], rows: k.rowsOf(i), widths: k.widths}, nil
}
