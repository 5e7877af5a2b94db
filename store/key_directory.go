package store

import (
	"math/bits"
	"slices"

	"nyala/store/batch"
)

// keyDirectory says which DiskRowSets of a tablet may have a key. Without it a fresh key asks the Bloom filter of every DiskRowSet, a
// cache miss each, and passes one in eighty of them; rows stored would make writes slower and slower. With it a key costs a cache
// miss for each table, and every table holds as many keys as all before it.
//
// It only ever leaves out DiskRowSets that cannot have a key. A DiskRowSet is in it (listed) once all its keys are; others are asked
// by their filters. So it can be filled while rows are written, and where memory is short it is not.
//
// Under the tablet's turn.
type keyDirectory struct {
	tables []*keyTable
}

// keyTable is a hash table of 16-bit slots, by linear probing: the upper tagBits are of the key's hash, the others the number of a
// group of DiskRowSets. 0 is an empty slot. The keys themselves are in the DiskRowSets, and one in about sixty that are asked for and are
// not there is looked up in one of them in vain. As in Chucky (Dayan, Twitto: SIGMOD 2021), which has a cuckoo filter in this place.
type keyTable struct {
	slots []uint16
	room  int // keys that it takes
	used  int
	next  int // the group that the next DiskRowSet comes to
	group [groups][]*diskRowSet
	asked [groups][]uint32 // keys that may be in this group; scratch
}

const (
	tagBits   = 9
	groupBits = 16 - tagBits
	groups    = 1<<groupBits - 1 // 0 would make a slot look empty

	tableLoad   = 0.75    // keys a slot: a key that is not there passes 8 others on average
	tableRoom   = 1 << 12 // of the smallest table
	listAtLeast = 4       // DiskRowSets that are not listed are asked by their filters; as many as that cost little
	listRows    = 1 << 15 // and the filters of fewer rows are in the processor's caches, while a table would be large for them

	listChunk  = 4  // blocks of keys that are listed while no entry is applied
	probeGroup = 64 // keys whose slots are loaded before one is looked at: their cache misses overlap
	slotBytes  = 2
)

func newKeyTable(room int) *keyTable {
	room = max(room, tableRoom)
	t := &keyTable{slots: make([]uint16, int(float64(room)/tableLoad)+1), room: room}
	writePages(t.slots)
	return t
}

// bytes is the memory that the directory holds.
func (d *keyDirectory) bytes() (n int64) {
	if d == nil {
		return 0
	}
	for _, t := range d.tables {
		n += int64(len(t.slots)) * slotBytes
	}
	return n
}

// keys is how many keys are in it.
func (d *keyDirectory) keys() (n int) {
	for _, t := range d.tables {
		n += t.used
	}
	return n
}

// tableFor returns the table that has room for the keys of a DiskRowSet, nil if a new one is needed.
func (d *keyDirectory) tableFor(rows int) *keyTable {
	if d == nil || len(d.tables) == 0 {
		return nil
	}
	if t := d.tables[len(d.tables)-1]; t.used+rows <= t.room {
		return t
	}
	return nil
}

// place is where the search for a hash begins, and what its slots are tagged with.
func (t *keyTable) place(h uint64) (at int, tag uint16) {
	hi, lo := bits.Mul64(h, uint64(len(t.slots)))
	return int(hi), uint16(lo >> (64 - tagBits))
}

// join picks the group of a DiskRowSet whose keys are to be added.
func (t *keyTable) join(d *diskRowSet) (number uint16) {
	t.group[t.next] = append(t.group[t.next], d)
	number = uint16(t.next + 1)
	t.next = (t.next + 1) % groups
	return number
}

// add puts keys of a group in.
func (t *keyTable) add(hashes []uint64, number uint16) {
	must(t.used+len(hashes) < len(t.slots), "store: %d keys more in a table of %d with %d slots", len(hashes), t.used, len(t.slots))
	for _, h := range hashes {
		at, tag := t.place(h)
		for t.slots[at] != 0 {
			if at++; at == len(t.slots) {
				at = 0
			}
		}
		t.slots[at] = tag<<groupBits | number
	}
	t.used += len(hashes)
}

// ask fills asked with the keys that may be in each group; those that skip leaves out are not asked for.
func (t *keyTable) ask(hashes []uint64, skip []bool) (sum uint64) {
	var at [probeGroup]int
	var tag [probeGroup]uint16
	for from := 0; from < len(hashes); from += probeGroup {
		some := hashes[from:min(from+probeGroup, len(hashes))]
		for i, h := range some {
			at[i], tag[i] = t.place(h)
			sum += uint64(t.slots[at[i]])
		}
		for i := range some {
			if !skip[from+i] {
				t.probe(at[i], tag[i], uint32(from+i))
			}
		}
	}
	return sum
}

// probe notes the groups that key may be in.
func (t *keyTable) probe(at int, tag uint16, key uint32) {
	for {
		s := t.slots[at]
		if s == 0 {
			return
		}
		if s>>groupBits == tag {
			g := s&groups - 1
			if a := t.asked[g]; len(a) == 0 || a[len(a)-1] != key { // a key may be there several times
				t.asked[g] = append(a, key)
			}
		}
		if at++; at == len(t.slots) {
			at = 0
		}
	}
}

// findListed looks up in the listed DiskRowSets those of the keys that nothing newer had. A version without a death is the only one of
// its key, so the order does not matter.
func (t *Tablet) findListed(b *batch.Batch, keys *batch.Keys) error {
	x, d := &t.scratch, t.mu.directory
	if d == nil {
		return nil
	}
	x.listed.reset()
	for _, disk := range t.mu.disks {
		if disk.listed {
			x.listed.join(disk.ranges)
		}
	}
	if !t.mayHave(x.listed, b) {
		return nil
	}
	for _, table := range d.tables {
		x.sum += table.ask(x.hashes, x.skip)
		for g, asked := range table.asked {
			if len(asked) == 0 {
				continue
			}
			table.asked[g] = asked[:0]
			for _, disk := range table.group[g] {
				if !disk.listed {
					continue
				}
				disk.asked.Add(int64(len(asked)))
				var err error
				if x.hits, err = disk.LookupSome(keys, x.hashes, asked, x.hits[:0]); err != nil {
					return err
				}
				for _, h := range x.hits {
					x.take(int(h.Key), disk, h.Row, h.Count)
				}
			}
		}
	}
	return nil
}

// unlisted returns the DiskRowSet to be listed next, nil if there are so few that it would not pay or memory is short. To list a key costs
// about what to ask two filters does. So a DiskRowSet is listed when its filter was asked for as many keys as it has: where fresh keys are beyond its ranges
// (keyRanges), that is never.
func (t *Tablet) unlisted(s *state) *diskRowSet {
	var first *diskRowSet
	n, rows := 0, 0
	for _, d := range s.disks {
		if !d.listing {
			n, rows = n+1, rows+d.Rows()
			if first == nil && (d.asked.Load() >= int64(d.Rows()) || t.manager.listAlways) {
				first = d
			}
		}
	}
	few := s.directory == nil && (n < t.manager.listAtLeast || rows < listRows && !t.manager.listAlways)
	if first == nil || few || t.manager.excess() > 0 {
		return nil
	}
	return first
}

// list puts the keys of a DiskRowSet into the directory, a few at a time, for entries wait meanwhile. A Restore in between has made
// another directory, and what is put into the old one does not matter.
func (t *Tablet) list(s *state, d *diskRowSet) error {
	d.listing = true // also if it fails: it would only fail again
	fresh := t.tableToBe(s, d)
	var table *keyTable
	var number uint16
	var hashes []uint64
	for block := 0; block < d.KeyBlocks(); {
		var err error
		hashes = hashes[:0]
		for range min(listChunk, d.KeyBlocks()-block) {
			if hashes, err = d.AppendBlockHashes(hashes, block); err != nil {
				return err
			}
			block++
		}
		t.lockTurn()
		if t.mu.generation != s.generation || t.mu.failed != nil {
			t.unlockTurn()
			return nil
		}
		if table == nil {
			table = t.joinTable(fresh, d)
			number = table.join(d)
		}
		if t.broken != keysUnlisted {
			table.add(hashes, number)
		}
		d.listed = block == d.KeyBlocks()
		t.unlockTurn()
	}
	return nil
}

// tableToBe makes a table, unless there is one with room: large ones take a while.
func (t *Tablet) tableToBe(s *state, d *diskRowSet) *keyTable {
	if s.directory.tableFor(d.Rows()) != nil {
		return nil
	}
	listed, waiting := 0, 0
	if s.directory != nil {
		listed = s.directory.keys()
	}
	for _, o := range s.disks {
		if !o.listing || o == d {
			waiting += o.Rows()
		}
	}
	return newKeyTable(max(listed, waiting+waiting/2))
}

// joinTable returns the table that a DiskRowSet's keys come to; it has the turn.
func (t *Tablet) joinTable(fresh *keyTable, d *diskRowSet) *keyTable {
	if fresh == nil {
		return t.mu.directory.tableFor(d.Rows())
	}
	next := &keyDirectory{}
	if t.mu.directory != nil {
		next.tables = slices.Clip(t.mu.directory.tables)
	}
	next.tables = append(next.tables, fresh)
	before := t.mu.usage()
	t.mu.Lock()
	t.mu.resident += int64(len(fresh.slots)) * slotBytes
	t.mu.directory = next
	t.mu.Unlock()
	t.manager.budget.add(t.mu.usage().minus(before))
	return fresh
}
