package store

import (
	"bytes"
	"slices"

	"nyala/store/batch"
)

// alive tells whether the row is there and not dead as of t.
func (p *place) alive(t Timestamp) bool {
	switch {
	case p.frozen != nil:
		return p.frozen.alive(p.row, t)
	case p.disk != nil:
		d := p.disk.deaths.at(p.row)
		return d == 0 || d > t
	}
	return false
}

// kill says that the row died. What dies in a frozen MemRowSet is also listed, for the file that is being made of it.
func (t *Tablet) kill(p place, ts Timestamp) {
	if p.frozen != nil {
		if p.frozen.deaths.set(p.row, ts) {
			p.frozen.late = append(p.frozen.late, death{p.row, ts})
		}
		return
	}
	before := p.disk.deaths.pages.Load()
	p.disk.deaths.set(p.row, ts)
	t.scratch.resident += (p.disk.deaths.pages.Load() - before) * deathPageBytes
}

// findOlder fills scratch.older with the place of the newest version of each key of b, which are those from base on, outside of the MemRowSet;
// it stays empty when there is no such rowset at all. In a frozen MemRowSet the index has the newest version of a
// key; if that is dead, so are all older ones. A DiskRowSet may have several versions of a key, one behind the other.
func (t *Tablet) findOlder(b *batch.Batch, keys *batch.Keys, base int) error {
	x, s := &t.scratch, &t.mu.state
	if x.ranges == nil {
		x.ranges, x.listed = newKeyRanges(s.schema), newKeyRanges(s.schema)
	}
	x.ranges.reset()
	x.ranges.take(b)
	x.older = x.older[:0]
	if len(s.frozen) == 0 && len(s.disks) == 0 {
		return nil
	}
	n := len(x.hashes)
	x.older, x.found = slices.Grow(x.older, n)[:n], slices.Grow(x.found[:0], n)[:n]
	clear(x.older)
	clear(x.found)
	for k := len(s.frozen) - 1; k >= 0 && t.broken != frozenUnseen; k-- {
		f := s.frozen[k]
		if !t.mayHave(f.ranges, b) {
			continue
		}
		x.sum += f.index.touchSome(x.hashes, x.skip)
		for i, h := range x.hashes {
			if x.skip[i] {
				continue
			}
			if row1 := f.find(h, keys.At(base+i)); row1 != 0 {
				x.older[i], x.found[i] = place{frozen: f, row: row1 - 1}, true
			}
		}
	}
	return t.findOnDisk(b, part(keys, base, n))
}

// findOnDisk looks up the keys that no frozen MemRowSet had, each until a DiskRowSet has it.
func (t *Tablet) findOnDisk(b *batch.Batch, keys *batch.Keys) error {
	x, s := &t.scratch, &t.mu.state
	if len(s.disks) == 0 {
		return nil
	}
	n := keys.Len()
	ascending := true
	for i := 1; i < n && ascending; i++ {
		ascending = bytes.Compare(keys.At(i-1), keys.At(i)) <= 0
	}
	if err := t.findListed(b, keys); err != nil {
		return err
	}
	for k := len(s.disks) - 1; k >= 0; k-- {
		d := s.disks[k]
		if invariants && t.broken == none {
			t.checkSkipped(d, b, keys)
		}
		if d.listed || !t.mayHave(d.ranges, b) {
			continue
		}
		left := x.left()
		if left == 0 {
			continue
		}
		d.asked.Add(left)
		if err := t.wantFilter(d); err != nil {
			return err
		}
		if !ascending {
			if err := t.findEach(d, keys); err != nil {
				return err
			}
			continue
		}
		if lo, hi := d.Bounds(); bytes.Compare(keys.At(n-1), lo) < 0 || bytes.Compare(keys.At(0), hi) > 0 {
			continue
		}
		var err error
		if x.hits, err = d.LookupAll(keys, x.hashes, x.skip, x.hits[:0]); err != nil {
			return err
		}
		for _, h := range x.hits {
			x.take(int(h.Key), d, h.Row, h.Count)
		}
	}
	return nil
}

// checkSkipped looks up in d what is not looked for there: keys beyond its ranges, and all of them if the directory has left it out.
func (t *Tablet) checkSkipped(d *diskRowSet, b *batch.Batch, keys *batch.Keys) {
	x := &t.scratch
	some := t.mayHave(d.ranges, b)
	for i, found := range x.found {
		outside := !some || x.skip[i]
		if found || !d.listed && !outside {
			continue
		}
		row, n, _ := d.Lookup(keys.At(i))
		must(n == 0 || !outside, "store: tablet %d: rowset %d has a key at row %d, which is beyond its ranges", t.spec.ID, d.id, row)
		for k := row; k < row+n; k++ {
			must(d.deaths.at(uint32(k)) != 0, "store: tablet %d: rowset %d has a key at row %d, which the directory does not know", t.spec.ID, d.id, k)
		}
	}
}

// findEach is findOnDisk for an entry that is not in key order.
func (t *Tablet) findEach(d *diskRowSet, keys *batch.Keys) error {
	for i := range keys.Len() {
		if t.scratch.skip[i] || !d.MayContain(t.scratch.hashes[i]) {
			continue
		}
		row, count, err := d.Lookup(keys.At(i))
		if err != nil {
			return err
		}
		t.scratch.take(i, d, uint32(row), uint32(count))
	}
	return nil
}

// left is how many keys are to be looked for.
func (x *scratch) left() (n int64) {
	for _, skip := range x.skip {
		if !skip {
			n++
		}
	}
	return n
}

// take notes the version among rows [row, row+count) of d that has no death yet. Newer rowsets come first; a version without a
// death is the only one of its key.
func (x *scratch) take(key int, d *diskRowSet, row, count uint32) {
	for k := row; k < row+count; k++ {
		if d.deaths.at(k) == 0 {
			x.older[key], x.found[key] = place{disk: d, row: k}, true
		}
	}
}
