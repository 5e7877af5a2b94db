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

// findOlder fills scratch.older with the place of the newest version of each key from base on, outside of the MemRowSet;
// it stays empty when there is no such rowset at all. In a frozen MemRowSet the index has the newest version of a
// key; if that is dead, so are all older ones. A DiskRowSet may have several versions of a key, one behind the other.
func (t *Tablet) findOlder(keys *batch.Keys, base int) error {
	x, s := &t.scratch, &t.mu.state
	x.older = x.older[:0]
	if len(s.frozen) == 0 && len(s.disks) == 0 {
		return nil
	}
	n := len(x.hashes)
	x.older = slices.Grow(x.older, n)[:n]
	clear(x.older)
	for k := len(s.frozen) - 1; k >= 0; k-- {
		f := s.frozen[k]
		x.sum += f.index.touch(x.hashes)
		for i, h := range x.hashes {
			if x.older[i].frozen != nil {
				continue
			}
			if row1 := f.find(h, keys.At(base+i)); row1 != 0 {
				x.older[i] = place{frozen: f, row: row1 - 1}
			}
		}
	}
	if t.broken == frozenUnseen {
		clear(x.older)
	}
	return t.findOnDisk(keys, base)
}

// findOnDisk looks up the keys that no frozen MemRowSet had, each until a DiskRowSet has it.
func (t *Tablet) findOnDisk(keys *batch.Keys, base int) error {
	x, s := &t.scratch, &t.mu.state
	if len(s.disks) == 0 {
		return nil
	}
	n := len(x.hashes)
	view := part(keys, base, n)
	ascending := true
	for i := 1; i < n && ascending; i++ {
		ascending = bytes.Compare(view.At(i-1), view.At(i)) <= 0
	}
	x.found = x.found[:0]
	for i := range x.older {
		x.found = append(x.found, x.older[i] != (place{}))
	}
	for k := len(s.disks) - 1; k >= 0; k-- {
		d := s.disks[k]
		if !ascending {
			if err := t.findEach(d, view); err != nil {
				return err
			}
			continue
		}
		if lo, hi := d.Bounds(); bytes.Compare(view.At(n-1), lo) < 0 || bytes.Compare(view.At(0), hi) > 0 {
			continue
		}
		var err error
		if x.hits, err = d.LookupAll(view, x.hashes, x.found, x.hits[:0]); err != nil {
			return err
		}
		for _, h := range x.hits {
			x.take(int(h.Key), d, h.Row, h.Count)
		}
	}
	return nil
}

// findEach is findOnDisk for an entry that is not in key order.
func (t *Tablet) findEach(d *diskRowSet, keys *batch.Keys) error {
	for i := range keys.Len() {
		if t.scratch.found[i] || !d.MayContain(t.scratch.hashes[i]) {
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

// take notes the version among rows [row, row+count) of d that has no death yet. Newer rowsets come first; a version without a
// death is the only one of its key.
func (x *scratch) take(key int, d *diskRowSet, row, count uint32) {
	for k := row; k < row+count; k++ {
		if d.deaths.at(k) == 0 {
			x.older[key], x.found[key] = place{disk: d, row: k}, true
		}
	}
}
