package store

import (
	"context"
	"fmt"
	"path"
	"slices"

	"nyala/store/rowset"
)

// carryOut does what the oldest waiting Install says. The order is always: files written and synced, their
// names synced, manifest appended and synced, swapped in memory; only then is the log told that it may be cut.
// Whatever fails before the swap is tried again from the start: nothing has changed for anybody.
func (t *Tablet) carryOut(ctx context.Context, w waitingInstall, generation int) error {
	t.mu.RLock()
	i := slices.IndexFunc(t.mu.frozen, func(f *frozenRowSet) bool { return f.freeze == w.freeze })
	var f *frozenRowSet
	if i >= 0 {
		f = t.mu.frozen[i]
	}
	same := t.mu.generation == generation
	t.mu.RUnlock()
	if !same {
		return nil
	}
	must(f != nil, "store: tablet %d: install of %d, which is not frozen", t.spec.ID, w.freeze)
	t.cutBefore(f)
	t.compare(f, &w)
	files, err := t.obtain(ctx, f, &w)
	if err != nil {
		return err
	}
	done, err := t.install(f, w, generation, files)
	if err != nil && unusable(err) {
		f.encoded, f.copied = nil, false // what was written is gone or damaged: it is written again
	}
	if err != nil || !done {
		return err
	}
	t.log.Info("flush installed", "job", w.freeze, "index", w.index, "rowsets", len(w.added))
	if t.manager.options.Durable != nil {
		t.manager.options.Durable(t.spec.ID)
		t.manager.reached(LogReleased)
	}
	return nil
}

// tempName is the name of file i of a rowset (0 Parquet, 1 keys) before it counts.
func tempName(id uint64, suffix string, i int) string {
	return baseName(id) + suffix + [2]string{rowset.ParquetSuffix, rowset.KeysSuffix}[i]
}

// install gives the files their names and makes manifest and memory speak of them.
func (t *Tablet) install(f *frozenRowSet, w waitingInstall, generation int, files obtained) (done bool, err error) {
	t.lockDisk()
	defer t.unlockDisk()
	t.mu.RLock()
	same, disks := t.mu.generation == generation, t.mu.disks
	t.mu.RUnlock()
	if !same {
		return false, nil
	}
	var fresh *diskRowSet
	if len(w.added) > 0 {
		if fresh, err = t.adopt(f, w.added[0], files); err != nil {
			return false, err
		}
		disks = append(slices.Clip(disks), fresh)
	}
	t.lockTurn()
	late := f.late // most of it; what dies from here on is left to swap, which holds up Apply
	t.unlockTurn()
	if err := t.buryLate(f, fresh, late, files.rowOf); err != nil {
		fresh.release()
		return false, err
	}
	m := t.manifestOf(f, w, disks)
	body := m.appendTo(nil)
	if err := t.manifest.add(body, t.broken == manifestUnsynced); err != nil {
		if fresh != nil {
			fresh.release()
		}
		return false, err
	}
	err = t.swap(f, w, replacement{fresh, disks, m, body}, files.rowOf, len(late))
	t.manager.reached(Swapped)
	return true, err
}

// adopt renames the files to what they are from now on, and opens them with the deaths up to the Freeze.
func (t *Tablet) adopt(f *frozenRowSet, a added, files obtained) (*diskRowSet, error) {
	t.manager.reached(Renaming)
	for i, name := range a.names() {
		temp := path.Join(t.dir, tempName(a.id, files.suffix, i))
		final := path.Join(t.dir, name)
		if _, err := t.fs.Stat(temp); err != nil {
			if size, err := t.fs.Stat(final); err == nil && size == a.files()[i].size {
				continue // renamed by an attempt before
			}
		}
		if err := t.fs.Rename(temp, final); err != nil {
			return nil, fmt.Errorf("store: install: %w", err)
		}
	}
	t.manager.reached(Renamed)
	if err := t.fs.SyncDir(t.dir); err != nil {
		return nil, fmt.Errorf("store: install: %w", err)
	}
	t.manager.reached(DirectorySynced)
	d, err := openDisk(t.fs, t.dir, manifestRowSet{added: a})
	if err != nil {
		return nil, err
	}
	t.guard(d)
	from := f.batches
	if t.broken == partsShort {
		from = from[:1]
	}
	d.ranges.divide(from)
	f.deaths.each(f.rows, f.manifest.timestamp, func(row uint32, at Timestamp) {
		if e := f.bury(d, death{row, at}, files.rowOf); e != nil {
			err = e
		}
	})
	if err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// bury marks in the DiskRowSet d that a row of f died. If the file was encoded or its rows sorted here, rowOf says which row that is
// there; if not, its key and its birth do. Rows that died in the entry that brought them are in no file, and may have the key and the
// birth of one that is: of the row that this entry put in their place.
func (f *frozenRowSet) bury(d *diskRowSet, k death, rowOf []uint32) error {
	if rowOf != nil {
		if row := rowOf[k.row]; row != noRow {
			d.deaths.set(row, k.at)
		}
		return nil
	}
	birth := f.birth(k.row)
	if k.at == birth {
		return nil
	}
	row, n, err := d.Lookup(f.keys.At(int(k.row)))
	for i := row; i < row+n; i++ {
		if d.Birth(i) == birth {
			d.deaths.set(uint32(i), k.at)
		}
	}
	return err
}

// buryLate marks what died since the Freeze in the DiskRowSet that takes the place of f.
func (t *Tablet) buryLate(f *frozenRowSet, fresh *diskRowSet, late []death, rowOf []uint32) error {
	if fresh == nil || t.broken == lateForgotten {
		return nil
	}
	for _, k := range late {
		if err := f.bury(fresh, k, rowOf); err != nil {
			return err
		}
	}
	return nil
}

// manifestOf is the manifest after the Install w: the state as of the Freeze, with the deaths up to the Freeze of all rowsets.
func (t *Tablet) manifestOf(f *frozenRowSet, w waitingInstall, disks []*diskRowSet) *manifest {
	m := f.manifest
	m.installed = w.index
	upTo := m.timestamp
	t.mu.RLock()
	switch t.broken {
	case ledgerNow:
		m.ledger = t.mu.ledger.Clone()
	case membersNow:
		m.durable.Members, m.durable.MembersIndex = t.mu.members, t.mu.membersAt
	case timestampNow:
		m.timestamp = t.mu.last
	case schemaNow:
		m.schema, m.changed = t.mu.schema.Version, t.changed(t.mu.schema)
	case schemaLost:
		m.schema, m.changed = t.spec.Schema.Version, nil
	case vectorsNow:
		upTo = t.mu.last
	}
	t.mu.RUnlock()
	for _, d := range disks {
		r := manifestRowSet{added: d.added}
		d.deaths.each(uint32(d.added.rows), upTo, func(row uint32, at Timestamp) { r.deaths = append(r.deaths, death{row, at}) })
		if t.broken == vectorsNew {
			r.deaths = t.deathsBefore(d, r.deaths)
		}
		m.rowsets = append(m.rowsets, r)
	}
	return &m
}

// replacement is what an Install makes of a tablet.
type replacement struct {
	fresh *diskRowSet // nil: no row was left
	disks []*diskRowSet
	m     *manifest
	body  []byte
}

// swap makes the DiskRowSet take the place of the frozen MemRowSet. What died since the first buried deaths were carried over is
// carried over while nothing is applied.
func (t *Tablet) swap(f *frozenRowSet, w waitingInstall, r replacement, rowOf []uint32, buried int) error {
	t.lockTurn()
	defer t.unlockTurn()
	err := t.buryLate(f, r.fresh, f.late[buried:], rowOf)
	s := &t.mu.state
	before := s.usage()
	t.mu.Lock()
	s.frozen = slices.DeleteFunc(slices.Clone(s.frozen), func(o *frozenRowSet) bool { return o == f })
	s.waiting = slices.DeleteFunc(slices.Clone(s.waiting), func(o waitingInstall) bool { return o.index == w.index })
	s.disks, s.installed, s.durable, s.body = r.disks, w.index, r.m.durable, r.body
	s.resident = residentBytes(r.disks) + s.directory.bytes()
	if err != nil {
		s.failed = fmt.Errorf("store: tablet %d: install %d: %w", t.spec.ID, w.index, err)
	}
	t.notifyLocked()
	t.mu.Unlock()
	t.manager.budget.add(s.usage().minus(before))
	f.release()
	if err != nil {
		t.tellFailed()
	}
	return err
}

// deathsBefore gives an installed rowset the deaths that the manifest before had, and a new one its own.
func (t *Tablet) deathsBefore(d *diskRowSet, fresh []death) []death {
	m, err := parseManifest(t.mu.body)
	must(err == nil, "store: own manifest: %v", err)
	for _, r := range m.rowsets {
		if r.id == d.id {
			return r.deaths
		}
	}
	return fresh
}
