package store

import (
	"bytes"
	"math/rand/v2"
	"path"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"nyala/store/batch"
	"nyala/store/vfs"
)

// evict has a few DiskRowSets of a replica give up their keys. It draws from numbers of its own: what a seed does else is what it did before.
func (m *model) evict(r *modelReplica) {
	rng := rand.New(rand.NewPCG(m.seed, uint64(len(m.log))))
	for _, d := range r.tablet.mu.disks {
		if rng.IntN(3) == 0 {
			r.tablet.evict(d, rng.IntN(2) == 0)
		}
	}
}

// evictTablet is a tablet with DiskRowSets of per rows of events each, and the entries of these.
func evictTablet(t *testing.T, disks, per int) (*Tablet, []Entry) {
	tablet := benchTablet(t, eventSchema())
	all := eventEntries(eventSchema(), disks*per, per, true)
	for k := range disks {
		tablet.Apply(numbered(tablet, all[k:k+1]))
		installNow(t, tablet)
		for i := range tablet.mu.disks[k].ranges { // as after a start: all are asked for what lies in their ranges
			tablet.mu.disks[k].ranges[i].parts = keyParts{}
		}
	}
	m := tablet.manager
	m.mu.tablets[tablet.spec.ID] = tablet
	for range 1000 { // until nobody remembers what was asked meanwhile
		m.evict()
	}
	return tablet, all
}

// evicted is of which DiskRowSets the keys are evicted, and of which the filters.
func evicted(t *Tablet) (keys, filters []int) {
	for i, d := range t.mu.disks {
		k, f := d.Evicted()
		if k {
			keys = append(keys, i)
		}
		if f {
			filters = append(filters, i)
		}
	}
	return keys, filters
}

// TestEvictColdest: keys of which the fewest were asked of late go first, of equal ones the oldest, and no more than must; filters go where nobody asks; what
// is counted is what is held.
func TestEvictColdest(t *testing.T) {
	const disks, per = 6, 2000
	tablet, all := evictTablet(t, disks, per)
	m := tablet.manager
	check := func(what string, keys, filters []int) {
		t.Helper()
		if k, f := evicted(tablet); !slices.Equal(k, keys) || !slices.Equal(f, filters) {
			t.Errorf("%s: keys of %v and filters of %v are evicted, want %v and %v", what, k, f, keys, filters)
		}
		if got, want := tablet.mu.resident, residentBytes(tablet.mu.disks); got != want {
			t.Errorf("%s: %d bytes are counted, %d are held", what, got, want)
		}
		if got := m.budget.Usage().Resident; got != tablet.mu.resident {
			t.Errorf("%s: the budget has %d bytes, want %d", what, got, tablet.mu.resident)
		}
	}
	half := tablet.mu.disks[0].MemoryBytes() / 2
	check("there is room", nil, nil)
	tablet.Apply(numbered(tablet, all[disks-1:])) // all of it is in the newest
	m.options.KeysBytes = tablet.mu.resident - half
	m.evict()
	check("one has to go", []int{0}, []int{0})
	tablet.Apply(numbered(tablet, all[:1])) // which all others are asked for, too
	m.options.KeysBytes = tablet.mu.resident - half
	m.evict()
	check("all are asked", []int{0, 1}, nil)
}

// TestEvictAll: more than all there is to give up must go, and all is still found.
func TestEvictAll(t *testing.T) {
	const disks, per = 5, 1000
	tablet, all := evictTablet(t, disks, per)
	m := tablet.manager
	m.options.KeysBytes = 1
	m.evict()
	if got, want := tablet.mu.resident, residentBytes(tablet.mu.disks); got != want {
		t.Errorf("%d bytes are counted, %d are held", got, want)
	}
	if keys, filters := evicted(tablet); len(keys) != disks || len(filters) != disks {
		t.Fatalf("keys of %v and filters of %v are evicted, want of all %d", keys, filters, disks)
	}
	for i, r := range tablet.Apply(numbered(tablet, all)) {
		if r, err := ParseResult(r); err != nil || r.Outcome != Applied {
			t.Fatal(i, r, err)
		}
	}
	alive := 0
	for _, d := range tablet.mu.disks {
		alive += int(d.rows) - int(d.deaths.count.Load())
	}
	if alive != 0 {
		t.Errorf("%d rows of files are alive, which were written again", alive)
	}
	if _, filters := evicted(tablet); len(filters) != 0 {
		t.Errorf("filters of %v are not loaded, of which %d keys or more were asked", filters, per)
	}
}

// TestEvictedAtStart: a tablet whose keys are more than there is room for opens with those of its newest files.
func TestEvictedAtStart(t *testing.T) {
	mem := vfs.NewMem()
	s := newSingle(t, mem)
	for i := range int64(6) {
		s.apply(pairs(batch.Upsert, i, i), 100+i)
		s.flush(0)
	}
	size := residentBytes(s.mu.disks)
	m, err := NewManager(ManagerOptions{FS: mem, Dir: s.manager.options.Dir, KeysBytes: size - 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	again, err := m.load(s.spec, 0)
	if err != nil {
		t.Fatal(err)
	}
	if keys, filters := evicted(again); !slices.Equal(keys, []int{0}) || !slices.Equal(filters, keys) {
		t.Errorf("keys of %v and filters of %v are evicted, want of the oldest", keys, filters)
	}
	if got, want := m.budget.Usage().Resident, residentBytes(again.mu.disks); got != want {
		t.Errorf("%d bytes are counted, want %d", got, want)
	}
}

// TestEvictedKeysDamaged: a keys file that changed on disk after it was evicted is read from another replica while rows are applied, and mended.
func TestEvictedKeysDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, ManagerOptions{FlushBytes: 1 << 30, FlushAge: time.Hour, KeysBytes: 1})
		if _, err := g.propose(t.Context(), 0, pairs(batch.Upsert, 1, 1, 2, 2)); err != nil {
			t.Fatal(err)
		}
		if err := g.managers[0].Checkpoint(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // keys are evicted
		hurt := g.tablets[1]
		hurt.mu.RLock()
		mem, d := g.managers[1].options.FS, hurt.mu.disks[0]
		hurt.mu.RUnlock()
		name := path.Join(hurt.dir, keysName(d.id))
		good, err := vfs.ReadFile(mem, name)
		if err != nil {
			t.Fatal(err)
		}
		if keys, filter := d.Evicted(); !keys || !filter {
			t.Fatal("nothing is evicted")
		}
		bad := bytes.Clone(good)
		for i := len(bad) / 4; i < len(bad); i++ {
			bad[i] ^= 0x55
		}
		if err := vfs.ReplaceFile(mem, name, bad); err != nil {
			t.Fatal(err)
		}
		if err := d.RenewKeys(mem); err != nil { // as if the disk had changed what was opened
			t.Fatal(err)
		}
		if _, err := g.propose(t.Context(), 0, pairs(batch.Upsert, 1, 10)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := hurt.Err(); err != nil || d.deaths.count.Load() != 1 {
			t.Errorf("%v; %d rows of the file are dead, want 1", err, d.deaths.count.Load())
		}
		if got, err := vfs.ReadFile(mem, name); err != nil || !bytes.Equal(got, good) || hurt.Status().Damage != nil {
			t.Errorf("the file is still damaged: %v, %v", err, hurt.Status().Damage)
		}
		for _, m := range g.managers {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
