package rowset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/parquet-go/parquet-go/bloom"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

const (
	keysMagic   = "NYKEYS1\n"
	keysVersion = 1
	bloomBits   = 10 // a key; about 1.2 % of absent keys then pass

	sectionBloom  = 0
	sectionIndex  = 1
	sectionBlocks = 2
	sectionBirths = 3
	sectionPages  = 4
	sectionCount  = 5

	footerHead   = 48
	sectionEntry = 24
	keysFooter   = footerHead + sectionCount*sectionEntry // and the bounds
	keysEnd      = 16                                     // footer's length, its CRC, magic
)

// keysWriter writes keys files and keeps its buffers.
type keysWriter struct {
	schema  *schema.Schema
	widths  []int
	out     *output
	section []byte
	blocks  []byte
	encoded []*batch.Keys // by batch; scratch
	hashes  []uint64
	birth   []int64
	births  birthSet
	block   []byte // keys of a block
	filter  bloom.SplitBlockFilter
}

// keyAt finds the encoded key of each row of a Rows.
type keyAt struct {
	keys []*batch.Keys
	refs []Ref
}

func (k *keyAt) at(i int) []byte {
	r := k.refs[i]
	return k.keys[r.Batch].At(int(r.Row))
}

// write writes the keys file of rows whose Parquet file has been written; refs have been checked.
func (w *keysWriter) write(f vfs.File, rows *Rows, parquet FileInfo, tail int64, sums []uint32) (FileInfo, error) {
	keys, err := w.encode(rows)
	if err != nil {
		return FileInfo{}, err
	}
	n := len(rows.Refs)
	if err := w.hashAndCheck(rows, &keys); err != nil {
		return FileInfo{}, err
	}
	w.out.reset(f, false)
	w.out.put([]byte(keysMagic))
	footer := make([]byte, keysFooter)
	put := func(i int, b []byte) {
		d := footer[footerHead+i*sectionEntry:]
		binary.LittleEndian.PutUint64(d, uint64(w.out.size()))
		binary.LittleEndian.PutUint64(d[8:], uint64(len(b)))
		b = append(b, make([]byte, -len(b)&7)...)
		binary.LittleEndian.PutUint32(d[16:], crc32.Checksum(b, castagnoli))
		w.out.put(b)
	}
	put(sectionBloom, w.bloom(n))
	w.section = w.index(n, &keys)
	put(sectionIndex, w.section)
	put(sectionBlocks, w.blocks)
	w.section = appendBirths(w.section[:0], w.birth, &w.births, w.hashes) // the hashes are in the filter
	put(sectionBirths, w.section)
	put(sectionPages, appendSums(w.section[:0], tail, sums))

	lo, hi := keys.at(0), keys.at(n-1)
	binary.LittleEndian.PutUint32(footer, keysVersion)
	binary.LittleEndian.PutUint32(footer[4:], uint32(n))
	least, greatest := minMax(w.birth)
	binary.LittleEndian.PutUint64(footer[8:], uint64(least))
	binary.LittleEndian.PutUint64(footer[16:], uint64(greatest))
	binary.LittleEndian.PutUint64(footer[24:], uint64(parquet.Size))
	binary.LittleEndian.PutUint32(footer[32:], uint32(len(lo)))
	binary.LittleEndian.PutUint32(footer[36:], uint32(len(hi)))
	binary.LittleEndian.PutUint32(footer[40:], sectionCount)
	footer = append(append(footer, lo...), hi...)
	footer = binary.LittleEndian.AppendUint32(footer, uint32(len(footer)))
	footer = binary.LittleEndian.AppendUint32(footer, crc32.Checksum(footer, castagnoli))
	w.out.put(append(footer, keysMagic...))
	return w.out.finish()
}

// encode makes the keys of every batch, unless the caller has them.
func (w *keysWriter) encode(rows *Rows) (keyAt, error) {
	k := keyAt{keys: rows.Keys, refs: rows.Refs}
	if k.keys != nil {
		if len(k.keys) != len(rows.Batches) {
			return k, fmt.Errorf("rowset: got keys of %d batches, want %d", len(k.keys), len(rows.Batches))
		}
		for i, b := range rows.Batches {
			if k.keys[i].Len() != b.Rows {
				return k, fmt.Errorf("rowset: batch %d: got %d keys, want %d", i, k.keys[i].Len(), b.Rows)
			}
		}
		return k, nil
	}
	for len(w.encoded) < len(rows.Batches) {
		w.encoded = append(w.encoded, batch.NewKeys(w.schema))
	}
	for i, b := range rows.Batches {
		view := batch.Batch{Rows: b.Rows, Columns: make([]batch.Column, len(w.schema.Columns))} // in the schema's order
		for _, p := range w.schema.Key {
			c := b.Column(w.schema.Columns[p].ID)
			if c == nil {
				return k, fmt.Errorf("rowset: batch %d lacks key column %s", i, w.schema.Columns[p].Name)
			}
			view.Columns[p] = *c
		}
		w.encoded[i].Reset()
		w.encoded[i].Append(&view, 0, b.Rows)
	}
	k.keys = w.encoded[:len(rows.Batches)]
	return k, nil
}

// hashAndCheck fills w.hashes and w.birth, and makes sure that rows are in the order of (key, birth).
func (w *keysWriter) hashAndCheck(rows *Rows, keys *keyAt) error {
	n := len(rows.Refs)
	w.hashes, w.birth = grow(w.hashes, n), grow(w.birth, n)
	var last []byte
	for i, r := range rows.Refs {
		key := keys.keys[r.Batch].At(int(r.Row))
		w.hashes[i] = schema.HashBytes(key)
		b := rows.Births[r.Batch]
		if len(b) == 1 {
			w.birth[i] = b[0]
		} else {
			w.birth[i] = b[r.Row]
		}
		if c := bytes.Compare(last, key); i > 0 && (c > 0 || c == 0 && w.birth[i-1] > w.birth[i]) {
			return fmt.Errorf("rowset: row %d is not behind the row before in the order of key and birth", i)
		}
		last = key
	}
	return nil
}

func (w *keysWriter) bloom(n int) []byte {
	blocks := max(bloom.NumSplitBlocksOf(int64(n), bloomBits), 1)
	w.filter = grow(w.filter, blocks)
	w.filter.Reset()
	w.filter.InsertBulk(w.hashes[:n])
	return w.filter.Bytes()
}

// index fills w.blocks and returns the section that finds a block:
//
//	4 blocks, 4 rows of a block, 1 number of key parts (0: lengths differ), their widths, zeros to 8 bytes
//	per block, and once more at the end: 8 place in the section of blocks, 4 place of the first key below, 4 CRC32C of the block
//	first keys, one behind the other
func (w *keysWriter) index(n int, keys *keyAt) []byte {
	blocks := (n + keyBlockRows - 1) / keyBlockRows
	d := binary.LittleEndian.AppendUint32(w.section[:0], uint32(blocks))
	d = binary.LittleEndian.AppendUint32(d, keyBlockRows)
	d = append(d, byte(len(w.widths)))
	for _, p := range w.widths {
		d = append(d, byte(p))
	}
	d = append(d, make([]byte, -len(d)&7)...)
	w.blocks = w.blocks[:0]
	var firsts []byte
	for b := range blocks {
		from := b * keyBlockRows
		start := len(w.blocks)
		if w.widths == nil {
			w.blocks = appendPrefixed(w.blocks, min(keyBlockRows, n-from), func(i int) []byte { return keys.at(from + i) })
		} else {
			w.block = w.block[:0]
			for i := from; i < min(from+keyBlockRows, n); i++ {
				w.block = append(w.block, keys.at(i)...)
			}
			w.blocks = appendKeyParts(w.blocks, w.block, w.widths)
		}
		d = binary.LittleEndian.AppendUint64(d, uint64(start))
		d = binary.LittleEndian.AppendUint32(d, uint32(len(firsts)))
		d = binary.LittleEndian.AppendUint32(d, crc32.Checksum(w.blocks[start:], castagnoli))
		firsts = append(firsts, keys.at(from)...)
	}
	d = binary.LittleEndian.AppendUint64(d, uint64(len(w.blocks)))
	d = binary.LittleEndian.AppendUint32(d, uint32(len(firsts)))
	d = binary.LittleEndian.AppendUint32(d, 0)
	return append(d, firsts...)
}

// appendSums makes the section of pages: 8 bytes, where the pages end, then a CRC32C each.
func appendSums(dst []byte, tail int64, sums []uint32) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(tail))
	for _, s := range sums {
		dst = binary.LittleEndian.AppendUint32(dst, s)
	}
	return dst
}
