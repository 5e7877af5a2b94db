package store

import (
	"cmp"
	"slices"
)

const (
	// What was asked of a DiskRowSet counts less with every tick: half after 44 s.
	heatKept = 1 - 1.0/64
	// Below this heat nobody asks any more.
	coldHeat = 1
	// A Bloom filter is loaded again when so many keys were looked for without it. Each reads a block of keys, a filter is as large as some hundred of them.
	filterAfter = 256
)

// excess is by how much the memory of DiskRowSets is more than its share.
func (m *Manager) excess() int64 { return m.budget.Usage().Resident - m.options.KeysBytes }

// openRowSet is a DiskRowSet of an open tablet.
type openRowSet struct {
	tablet *Tablet
	disk   *diskRowSet
}

// evict has DiskRowSets give up the memory of their keys while they take more than their share, those first of which the fewest keys a row were asked of
// late, and of equal ones the oldest. Bloom filters are given up only where nobody asks: without one every key would cost a read.
// It is the manager's goroutine's, every tick, which also is the clock of heat.
func (m *Manager) evict() {
	var all []openRowSet
	for _, t := range m.Tablets() {
		t.mu.RLock()
		disks := t.mu.disks
		t.mu.RUnlock()
		for _, d := range disks {
			asked := d.asked.Load()
			d.heat = d.heat*heatKept + float64(asked-d.askedThen)
			if d.askedThen = asked; d.heat < coldHeat {
				d.heat = 0
			}
			if keys, filter := d.Evicted(); !keys || !filter && d.heat == 0 { // it has something to give up
				all = append(all, openRowSet{t, d})
			}
		}
	}
	excess := m.excess()
	if excess <= 0 {
		return
	}
	slices.SortStableFunc(all, func(a, b openRowSet) int {
		return cmp.Or(cmp.Compare(a.disk.heat/float64(a.disk.rows), b.disk.heat/float64(b.disk.rows)), cmp.Compare(a.disk.id, b.disk.id))
	})
	count, freed := 0, int64(0)
	for _, o := range all {
		if freed >= excess {
			break
		}
		if n := o.tablet.evict(o.disk, o.disk.heat == 0); n > 0 {
			count, freed = count+1, freed+n
		}
	}
	if count > 0 {
		m.options.Logger.Info("keys evicted", "rowsets", count, "bytes", freed, "residentBytes", m.budget.Usage().Resident)
	}
}

// evict has d, if it is the tablet's still, give up its keys.
func (t *Tablet) evict(d *diskRowSet, filter bool) (freed int64) {
	t.lockTurn()
	if slices.Contains(t.mu.disks, d) {
		freed = d.Evict(filter)
		t.mu.Lock()
		t.mu.resident -= freed
		t.mu.Unlock()
		if filter {
			d.unfiltered = d.asked.Load()
		}
	}
	t.unlockTurn()
	t.manager.budget.add(usage{resident: -freed})
	return freed
}

// evictOldest is evict for what is being opened, whose memory nobody has counted yet.
func (m *Manager) evictOldest(disks []*diskRowSet) {
	excess := m.excess() + residentBytes(disks)
	for _, d := range disks {
		if excess <= 0 {
			return
		}
		excess -= d.Evict(true)
	}
}

// wantFilter loads the Bloom filter of d if it pays. It has the turn.
func (t *Tablet) wantFilter(d *diskRowSet) error {
	if _, evicted := d.Evicted(); !evicted || d.asked.Load()-d.unfiltered < t.manager.filterAfter {
		return nil
	}
	n, err := d.LoadFilter()
	t.scratch.resident += n
	return err
}
