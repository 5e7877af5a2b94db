package rowset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/parquet-go/parquet-go/bloom"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// keysFile is an open keys file. At first all of it is in memory, about 6 bytes a row for events: whoever applies entries looks keys up
// and had better not wait for a disk. Where memory is short that is given up (evicted) but for the index, a fortieth of it, and read again
// as it is needed; every byte is checked against the sums in memory then. A keysFile is immutable: evicting makes another one of the same file.
type keysFile struct {
	*sharedFile
	sum      Hash
	rows     int
	parquet  int64 // size of the Parquet file
	lo, hi   []byte
	sections [sectionCount]section
	filter   bloom.SplitBlockFilter // nil: evicted
	widths   []int
	entries  []byte // of the index, indexEntry each, one more than blocks
	firsts   []byte
	count    int     // of blocks
	blocks   []byte  // nil: evicted
	births   *births // without ids where blocks are evicted
	tail     int64
	sums     []uint32
}

// section is where a part of the file is.
type section struct {
	off, size int64
	crc       uint32 // CRC32C of it and the zeros behind
}

const indexEntry = 16

func openKeys(fsys vfs.FS, name string) (*keysFile, error) {
	f, err := openShared(fsys, name)
	if err != nil {
		return nil, err
	}
	data := make([]byte, f.size, f.size+packedSlack)
	k := &keysFile{sharedFile: f}
	if err = f.read(data, 0); err == nil {
		err = k.parse(data)
		k.sum = HashOf(data)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rowset: %s: %w", name, err), f.close())
	}
	return k, nil
}

// parse checks every byte of the file and finds its parts.
func (k *keysFile) parse(d []byte) error {
	n := len(d)
	if n < len(keysMagic)+keysFooter+keysEnd || string(d[:len(keysMagic)]) != keysMagic || string(d[n-len(keysMagic):]) != keysMagic {
		return corrupt("%d bytes are no keys file: no magic at 0 or at %d", n, max(0, n-len(keysMagic)))
	}
	end := n - keysEnd
	length := int(binary.LittleEndian.Uint32(d[end:]))
	if length < keysFooter || length > end-len(keysMagic) {
		return corrupt("footer of %d bytes at %d", length, end)
	}
	footer := d[end-length : end]
	if got, want := crc32.Checksum(d[end-length:end+4], castagnoli), binary.LittleEndian.Uint32(d[end+4:]); got != want {
		return corrupt("footer at %d: crc %08x, want %08x", end-length, got, want)
	}
	if v := binary.LittleEndian.Uint32(footer); v != keysVersion {
		return fmt.Errorf("got version %d, want %d", v, keysVersion)
	}
	k.rows = int(binary.LittleEndian.Uint32(footer[4:]))
	k.parquet = int64(binary.LittleEndian.Uint64(footer[24:]))
	lo, hi := int(binary.LittleEndian.Uint32(footer[32:])), int(binary.LittleEndian.Uint32(footer[36:]))
	if lo+hi != length-keysFooter || binary.LittleEndian.Uint32(footer[40:]) != sectionCount || k.rows < 1 {
		return corrupt("footer of %d bytes for bounds of %d and %d", length, lo, hi)
	}
	k.lo, k.hi = footer[keysFooter:keysFooter+lo], footer[keysFooter+lo:]
	var sections [sectionCount][]byte
	at := len(keysMagic)
	for i := range sections {
		e := footer[footerHead+i*sectionEntry:]
		off, size := binary.LittleEndian.Uint64(e), binary.LittleEndian.Uint64(e[8:])
		if off != uint64(at) || size > uint64(end-length-at) || size+-size&7 > uint64(end-length-at) {
			return corrupt("section %d: %d bytes at %d", i, size, off)
		}
		padded := int(size + -size&7)
		k.sections[i] = section{int64(at), int64(size), binary.LittleEndian.Uint32(e[16:])}
		if err := k.sections[i].check(d[at : at+padded]); err != nil {
			return fmt.Errorf("section %d: %w", i, err)
		}
		sections[i] = d[at : at+int(size)]
		at += padded
	}
	if at != end-length {
		return corrupt("%d bytes between the sections and the footer", end-length-at)
	}
	return k.bind(sections)
}

func (k *keysFile) bind(sections [sectionCount][]byte) (err error) {
	if b := sections[sectionBloom]; len(b) == 0 || len(b)%bloom.BlockSize != 0 {
		return corrupt("bloom filter of %d bytes", len(b))
	}
	k.filter = bloom.MakeSplitBlockFilter(sections[sectionBloom])
	k.blocks = sections[sectionBlocks]
	if err := k.bindIndex(sections[sectionIndex]); err != nil {
		return err
	}
	if k.births, err = parseBirths(sections[sectionBirths], k.rows); err != nil {
		return err
	}
	p := sections[sectionPages]
	if len(p) < 8+4 || len(p)%4 != 0 {
		return corrupt("page sums of %d bytes", len(p))
	}
	k.tail = int64(binary.LittleEndian.Uint64(p))
	for p = p[8:]; len(p) > 0; p = p[4:] {
		k.sums = append(k.sums, binary.LittleEndian.Uint32(p))
	}
	return nil
}

func (k *keysFile) bindIndex(d []byte) error {
	if len(d) < 9 {
		return corrupt("key index of %d bytes", len(d))
	}
	k.count = int(binary.LittleEndian.Uint32(d))
	parts := int(d[8])
	head := 9 + parts
	head += -head & 7
	entries := (k.count + 1) * indexEntry
	if k.count != (k.rows+keyBlockRows-1)/keyBlockRows || binary.LittleEndian.Uint32(d[4:]) != keyBlockRows || parts > keyPartsMax || len(d) < head+entries {
		return corrupt("key index of %d blocks for %d rows", k.count, k.rows)
	}
	for _, w := range d[9 : 9+parts] {
		k.widths = append(k.widths, int(w))
	}
	k.entries, k.firsts = d[head:head+entries], d[head+entries:]
	for i := range k.count {
		if k.place(i) > k.place(i+1) || k.firstAt(i) > k.firstAt(i+1) {
			return corrupt("key index: block %d", i)
		}
	}
	if k.place(k.count) != uint64(len(k.blocks)) || k.firstAt(k.count) != len(k.firsts) {
		return corrupt("key index: blocks of %d bytes, want %d", len(k.blocks), k.place(k.count))
	}
	return nil
}

func (k *keysFile) place(i int) uint64 { return binary.LittleEndian.Uint64(k.entries[i*indexEntry:]) }
func (k *keysFile) firstAt(i int) int {
	return int(binary.LittleEndian.Uint32(k.entries[i*indexEntry+8:]))
}

// first is the first key of a block.
func (k *keysFile) first(i int) []byte { return k.firsts[k.firstAt(i):k.firstAt(i+1)] }

// rowsOf is how many keys block i has.
func (k *keysFile) rowsOf(i int) int { return min(keyBlockRows, k.rows-i*keyBlockRows) }

// block is block i, in memory.
func (k *keysFile) block(i int) keyBlock {
	return keyBlock{data: k.blocks[k.place(i):k.place(i+1)], rows: k.rowsOf(i), widths: k.widths}
}

// lookup returns the first row with key and how many rows have it. near is a block at or before which key is not expected; the
// block that was found is returned for the next, higher key.
func (k *keysFile) lookup(key []byte, near int, blocks *blockReader) (row, equal, block int, err error) {
	block = k.find(key, near)
	var b keyBlock
	if k.blocks != nil {
		b = k.block(block)
	} else if b, err = blocks.at(k, block); err != nil {
		return 0, 0, block, err
	}
	if row, equal, err = b.search(key); err != nil {
		return 0, 0, block, err
	}
	row += block * keyBlockRows
	if equal > 0 || row == (block+1)*keyBlockRows { // versions of a key may go on in the next blocks
		for next := block + 1; next < k.count && row+equal == next*keyBlockRows && bytes.Equal(k.first(next), key); next++ {
			b, err := blocks.at(k, next)
			more := 0
			if err == nil {
				_, more, err = b.search(key)
			}
			if err != nil {
				return 0, 0, block, err
			}
			equal += more
		}
	}
	return row, equal, block, nil
}

// find is the last block whose first key is below key, or 0. It gallops from near, so that ascending keys cost little.
func (k *keysFile) find(key []byte, near int) int {
	lo, step := near, 1
	for lo+step < k.count && bytes.Compare(k.first(lo+step), key) < 0 {
		lo += step
		step *= 2
	}
	hi := min(lo+step, k.count)
	for lo+1 < hi {
		m := int(uint(lo+hi) >> 1)
		if bytes.Compare(k.first(m), key) < 0 {
			lo = m
		} else {
			hi = m
		}
	}
	return lo
}

// Hit says where a key is: rows [Row, Row+Count), by rising birth.
type Hit struct {
	Key   uint32 // position among the keys asked for
	Row   uint32
	Count uint32
}

// AppendHashes appends the hash of each key, as Bloom filters take it: made once, for the lookups in all rowsets.
func AppendHashes(dst []uint64, keys *batch.Keys) []uint64 {
	for i := range keys.Len() {
		dst = append(dst, schema.HashBytes(keys.At(i)))
	}
	return dst
}

// hitGroup is how many keys go through the filter before any is searched for: its loads then overlap.
const hitGroup = 64

// lookupAll appends a Hit for each of the ascending keys that is there, but not for those that skip leaves out.
func (k *keysFile) lookupAll(keys *batch.Keys, hashes []uint64, skip []bool, hits []Hit) ([]Hit, error) {
	near := 0
	blocks := newBlockReader()
	defer blocks.free()
	filter := k.filter
	var pass [hitGroup]bool
	for at := 0; at < len(hashes); at += hitGroup {
		group := hashes[at:min(at+hitGroup, len(hashes))]
		any := false
		for i, h := range group {
			pass[i] = !skip[at+i] && (filter == nil || filter.Check(h))
			any = any || pass[i]
		}
		if !any {
			continue
		}
		for i := range group {
			if !pass[i] {
				continue
			}
			var err error
			if hits, near, err = k.appendHit(hits, keys, uint32(at+i), near, blocks); err != nil {
				return hits, err
			}
		}
	}
	return hits, nil
}

// appendHit appends a Hit for key i, if it is there. near is what lookup says of it, for this key and for the next.
func (k *keysFile) appendHit(hits []Hit, keys *batch.Keys, i uint32, near int, blocks *blockReader) ([]Hit, int, error) {
	key := keys.At(int(i))
	if bytes.Compare(key, k.lo) < 0 || bytes.Compare(key, k.hi) > 0 {
		return hits, near, nil
	}
	row, n, block, err := k.lookup(key, near, blocks)
	if err != nil {
		return hits, block, fmt.Errorf("rowset: %s: %w", k.name, err)
	}
	if n > 0 {
		hits = append(hits, Hit{Key: i, Row: uint32(row), Count: uint32(n)})
	}
	return hits, block, nil
}
