package rowset

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// RowSet is an open DiskRowSet. It is immutable and may be used by many goroutines at once. The keys file is in memory
// until it is evicted, and of the Parquet file its footer and indexes; see MemoryBytes.
type RowSet struct {
	base    string
	parquet *parquetFile
	keys    atomic.Pointer[keysFile]
}

// Open opens base.parquet and base.keys. It checks every byte of the keys file, and of the Parquet file all but the
// pages, which are checked as they are read. An error that is ErrCorrupt means damaged files.
func Open(fsys vfs.FS, base string) (*RowSet, error) { return openRowSet(fsys, base, nil) }

// OpenKnown is Open where size and Hash of the keys file are known. The keys file has the checksums of all of the Parquet
// file: so no other byte needs to be read now to know of every page, when it is read, whether it is right.
func OpenKnown(fsys vfs.FS, base string, size int64, sum Hash) (*RowSet, error) {
	return openRowSet(fsys, base, func(k *keysFile) error {
		if k.size != size || k.sum != sum {
			return corrupt("rowset: %s at 0: got %d bytes of hash %s, want %d of %s", k.name, k.size, k.sum, size, sum)
		}
		return nil
	})
}

func openRowSet(fsys vfs.FS, base string, known func(*keysFile) error) (*RowSet, error) {
	k, err := openKeys(fsys, base+KeysSuffix)
	if err != nil {
		return nil, err
	}
	if known != nil {
		err = known(k)
	}
	var p *parquetFile
	if err == nil {
		p, err = openParquet(fsys, base+ParquetSuffix, k.tail, k.sums)
	}
	if err != nil {
		return nil, errors.Join(err, k.close())
	}
	r := &RowSet{base: base, parquet: p}
	r.keys.Store(k)
	if p.rows != k.rows || p.size != k.parquet {
		return nil, errors.Join(corrupt("rowset: %s ends at %d with %d rows, the keys file wants %d and %d", p.name, p.size, p.rows, k.parquet, k.rows), r.Close())
	}
	return r, nil
}

// Close closes both files; scans that are under way fail.
func (r *RowSet) Close() error { return errors.Join(r.parquet.close(), r.keys.Load().close()) }

// Rows is the number of rows; their numbers are 0 to Rows()-1, in the order of (key, birth).
func (r *RowSet) Rows() int { return r.keys.Load().rows }

// Schema is the schema that the rows were written with.
func (r *RowSet) Schema() *schema.Schema { return r.parquet.schema }

// Bounds are the least and the greatest encoded key.
func (r *RowSet) Bounds() (least, greatest []byte) {
	k := r.keys.Load()
	return k.lo, k.hi
}

// Range is the least and the greatest value of a column without nulls that is a whole number; all there are where that is not known.
func (r *RowSet) Range(column int) (least, greatest int64) {
	least, greatest = math.MaxInt64, math.MinInt64
	t := r.parquet.schema.Columns[column].Type
	for i := range r.parquet.groups {
		x := r.parquet.groups[i].chunks[column].index
		if x == nil {
			return math.MinInt64, math.MaxInt64
		}
		for p := range x.MinValues {
			if x.NullPages[p] {
				return math.MinInt64, math.MaxInt64
			}
			least, greatest = min(least, plainOrdinal(t, x.MinValues[p])), max(greatest, plainOrdinal(t, x.MaxValues[p]))
		}
	}
	return least, greatest
}

// Births are the least and the greatest birth of a row.
func (r *RowSet) Births() (least, greatest int64) {
	b := r.keys.Load().births
	return b.least(), b.greatest()
}

// Birth is the birth of a row of a RowSet that was never evicted.
func (r *RowSet) Birth(row int) int64 {
	k := r.keys.Load()
	must(k.blocks != nil, "rowset: %s: births are evicted", k.name)
	return k.births.at(row)
}

// MemoryBytes is about what an open RowSet holds.
func (r *RowSet) MemoryBytes() int64 {
	return r.keys.Load().memoryBytes() + 2*(r.parquet.size-r.parquet.tail)
}

// MayContain tells by Bloom filter whether a key of that hash can be here; where that is evicted, it can.
func (r *RowSet) MayContain(hash uint64) bool { return r.keys.Load().mayContain(hash) }

// Lookup returns the rows [row, row+count) that have the encoded key, by rising birth; a count of 0 is none.
func (r *RowSet) Lookup(key []byte) (row, count int, err error) {
	k := r.keys.Load()
	if !k.mayContain(schema.HashBytes(key)) {
		return 0, 0, nil
	}
	blocks := newBlockReader()
	defer blocks.free()
	if row, count, _, err = k.lookup(key, 0, blocks); err != nil {
		return 0, 0, fmt.Errorf("rowset: %s: %w", k.name, err)
	}
	return row, count, nil
}

// LookupAll appends a Hit for each of the keys, which must ascend, that has rows here and that skip does not leave
// out. hashes are those of AppendHashes. It touches memory only, unless the RowSet is evicted; a key that is not here costs a few nanoseconds.
func (r *RowSet) LookupAll(keys *batch.Keys, hashes []uint64, skip []bool, hits []Hit) ([]Hit, error) {
	must(len(hashes) == keys.Len() && len(skip) == keys.Len(), "rowset: %d hashes and %d marks of %d keys", len(hashes), len(skip), keys.Len())
	return r.keys.Load().lookupAll(keys, hashes, skip, hits)
}

// Scan begins a scan; the caller closes it.
func (r *RowSet) Scan(o ScanOptions) (*Scan, error) {
	s, err := newScan(r.parquet, o)
	if err != nil {
		return nil, err
	}
	if o.At != 0 {
		switch least, greatest := r.Births(); {
		case least > o.At:
			s.todo = nil
		case greatest > o.At:
			births, err := r.keys.Load().allBirths()
			if err != nil {
				s.Close()
				return nil, err
			}
			s.births = func(first int, selection []uint64) { births.until(o.At, first, selection) }
		}
	}
	return s, nil
}

// File is a Parquet file of ours on its own: an export.
type File struct{ parquet *parquetFile }

// OpenFile opens a file that a Stream wrote. Its pages are checked by their own CRCs.
func OpenFile(fsys vfs.FS, name string) (*File, error) {
	p, err := openParquet(fsys, name, 0, nil)
	if err != nil {
		return nil, err
	}
	return &File{p}, nil
}

// Close closes the file.
func (f *File) Close() error { return f.parquet.close() }

// Rows is the number of rows.
func (f *File) Rows() int { return f.parquet.rows }

// Schema is the schema that the rows were written with.
func (f *File) Schema() *schema.Schema { return f.parquet.schema }

// Footer is what the footer says beside the rows.
func (f *File) Footer() []Pair { return f.parquet.footer }

// Scan begins a scan; the caller closes it. A file on its own knows no births: At must be 0.
func (f *File) Scan(o ScanOptions) (*Scan, error) {
	if o.At != 0 {
		return nil, errors.New("rowset: a scan at a time of a file that has no births")
	}
	return newScan(f.parquet, o)
}
