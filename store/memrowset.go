package store

import (
	"math"
	"sort"
	"sync/atomic"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"nyala/store/batch"
	"nyala/store/schema"
)

// rowsMax is how many rows a rowset can number.
const rowsMax = math.MaxUint32 - 1

// memBatch is the rows of one Write as they came: the columns alias the entry.
type memBatch struct {
	rows  *batch.Batch
	first uint32 // number of its row 0 in the MemRowSet
	birth Timestamp
	sum   uint32 // the entry's checksum
}

// memRowSet holds rows in memory: the batches of the log, untouched, in the order in which they were applied, and
// an index from primary key to newest row. All rows of a batch share its timestamp as their birth.
//
// Every row of a batch has a number, also one that is no row (a delete, a row that the ledger had seen, an insert
// that came second): it died when it was born, which no reader can see. So the columns are never copied
// before the flush, which leaves such rows out.
//
// Apply alone changes it, until it is frozen; then nothing does but deaths. Readers copy the header of batches under
// Tablet.mu; what it shows never changes.
type memRowSet struct {
	batches []memBatch
	keys    *batch.Keys // of all rows, by number
	piece   []uint64    // that the keys are in, if all have one length
	spare   *spare
	index   keyIndex
	ranges  keyRanges // of keys
	deaths  deaths
	rows    uint32
	bytes   atomic.Int64 // memory that its rows take, roughly
	base    int64        // what it took before it had any
	flushAt int64        // bytes of rows at which it is full; never, unless somebody sets it
}

// full tells that it should be flushed for its size.
func (m *memRowSet) full() bool { return m.bytes.Load() >= m.flushAt }

// newMemRowSet makes one with room for hint rows, in memory of from, which may be nil.
func newMemRowSet(s *schema.Schema, hint int, from *spare) *memRowSet {
	m := &memRowSet{keys: batch.NewKeys(s), index: newKeyIndex(hint, from), ranges: newKeyRanges(s), spare: from, flushAt: math.MaxInt64}
	if w := m.keys.Width; w > 0 && hint > 0 {
		m.growKeys(hint * w)
	}
	m.base = m.footprint()
	return m
}

// reserve makes room for n more rows. Memory doubles, so that a row is moved about once.
func (m *memRowSet) reserve(n int) {
	if need := len(m.keys.Data) + n*m.keys.Width; cap(m.keys.Data) < need {
		m.growKeys(need)
	}
	m.index.reserve(n)
}

// growKeys moves keys of one length into a piece of at least so many bytes. (Those of different lengths grow as slices do.)
func (m *memRowSet) growKeys(bytes int) {
	old := m.piece
	m.piece, _ = m.spare.take((bytes + 7) / 8)
	data := batch.BytesOf(m.piece)
	m.keys.Data = data[:copy(data, m.keys.Data)]
	m.spare.give(old)
}

// release gives the memory of index and keys away. Nobody looks a key up here any more; the batches stay for scans.
func (m *memRowSet) release() {
	m.index.release()
	if m.piece != nil {
		m.keys.Data = nil
		m.spare.give(m.piece)
		m.piece = nil
	}
}

// batchOf returns the position of the batch that has the row.
func batchOf(batches []memBatch, row uint32) int {
	return sort.Search(len(batches), func(i int) bool { return batches[i].first > row }) - 1
}

// birth of a row.
func (m *memRowSet) birth(row uint32) Timestamp { return m.batches[batchOf(m.batches, row)].birth }

// alive tells whether a row that was born is not dead as of t.
func (m *memRowSet) alive(row uint32, t Timestamp) bool {
	d := m.deaths.at(row)
	return d == 0 || d > t
}

// find returns the newest row that has the key, plus one, or 0.
func (m *memRowSet) find(h uint64, key []byte) uint32 {
	_, row1 := m.index.find(m.keys, h, key)
	return row1
}

// footprint is what m holds beside the entries.
func (m *memRowSet) footprint() int64 {
	return int64(cap(m.keys.Data)+4*cap(m.keys.Offsets)+8*len(m.index.slots)) + m.deaths.pages.Load()*deathPageBytes
}

// entryBytes is what an entry costs that is kept for its rows: its bytes, and what describes them. Small entries consist
// of that for the most part.
func entryBytes(data []byte, b *batch.Batch) int64 {
	const parsed = 512
	return int64(cap(data)) + parsed + int64(len(b.Columns))*int64(unsafe.Sizeof(batch.Column{}))
}

// hashKeys appends the hash of keys [from, k.Len()) to out.
func hashKeys(k *batch.Keys, from int, out []uint64) []uint64 {
	if w := k.Width; w > 0 {
		for d := k.Data[from*w:]; len(d) > 0; d = d[w:] {
			out = append(out, xxhash.Sum64(d[:w:w]))
		}
		return out
	}
	for i := from; i < k.Len(); i++ {
		out = append(out, xxhash.Sum64(k.At(i)))
	}
	return out
}
