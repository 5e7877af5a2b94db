package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestKeyTable fills a table with the keys of more DiskRowSets than it has groups: each key is asked for in the group of its DiskRowSet, those
// that are left out are not, and few that are not there are asked for anywhere.
func TestKeyTable(t *testing.T) {
	const disks, rows = 300, 100
	rng := rand.New(rand.NewPCG(1, 2))
	table := newKeyTable(disks * rows)
	var all []uint64
	number := map[uint64]uint16{}
	for range disks {
		d := &diskRowSet{}
		n := table.join(d)
		if !slices.Contains(table.group[n-1], d) {
			t.Fatalf("a DiskRowSet is not in group %d", n)
		}
		var hashes []uint64
		for range rows {
			h := rng.Uint64()
			hashes, number[h] = append(hashes, h), n
		}
		table.add(hashes, n)
		all = append(all, hashes...)
	}
	skip := make([]bool, len(all))
	for i := range skip {
		skip[i] = i%10 == 3
	}
	table.ask(all, skip)
	for i, h := range all {
		if got := slices.Contains(table.asked[number[h]-1], uint32(i)); got == skip[i] {
			t.Fatalf("key %d: asked for in its group: %v", i, got)
		}
	}
	clear(table.asked[:])
	absent := make([]uint64, 100_000)
	for i := range absent {
		absent[i] = rng.Uint64()
	}
	table.ask(absent, make([]bool, len(absent)))
	vain := 0
	for _, a := range table.asked {
		vain += len(a)
	}
	if vain > len(absent)/30 {
		t.Errorf("%d of %d keys that are not there were asked for", vain, len(absent))
	}
}

// TestKeysListed lets a tablet list the keys of its DiskRowSets while it goes on: memory is counted, and what is written again dies in its
// file.
func TestKeysListed(t *testing.T) {
	s := eventSchema()
	tablet := benchTablet(t, s)
	tablet.manager.listAlways = true
	const per = 1000
	all := eventEntries(s, 20*per, per, true)
	next := func(e Entry) Entry {
		e.Index = tablet.mu.applied + 1
		return e
	}
	for k := range 10 {
		tablet.Apply([]Entry{next(all[2*k])})
		installNow(t, tablet)
		for range 2 {
			if d := tablet.unlisted(&tablet.mu.state); d != nil {
				if err := tablet.list(&tablet.mu.state, d); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	listed := 0
	for _, d := range tablet.mu.disks {
		if d.listed {
			listed++
		}
	}
	if listed != 10 || len(tablet.mu.directory.tables) < 2 || tablet.mu.directory.keys() != 10*per {
		t.Errorf("%d of 10 DiskRowSets are listed, %d keys in %d tables", listed, tablet.mu.directory.keys(), len(tablet.mu.directory.tables))
	}
	if got, want := tablet.mu.resident, residentBytes(tablet.mu.disks)+tablet.mu.directory.bytes(); got != want {
		t.Errorf("%d bytes are counted, want %d", got, want)
	}
	for k := range 20 { // every other entry was written before
		r, err := ParseResult(tablet.Apply([]Entry{next(all[k])})[0])
		if err != nil || r.Outcome != Applied {
			t.Fatal(r, err)
		}
	}
	alive := 0
	for _, d := range tablet.mu.disks {
		alive += int(d.rows) - int(d.deaths.count.Load())
	}
	if alive != 0 {
		t.Errorf("%d rows of files are alive, which were written again", alive)
	}
}

// TestListedWhenAsked: keys are listed of DiskRowSets that were asked for as many, which those that no fresh key can be in are not.
func TestListedWhenAsked(t *testing.T) {
	s := eventSchema()
	tablet := benchTablet(t, s)
	const per, disks = 8192, 5
	all := eventEntries(s, (disks+1)*per, per, false)
	for k := range disks {
		tablet.Apply(numbered(tablet, all[k:k+1]))
		installNow(t, tablet)
	}
	tablet.Apply(numbered(tablet, all[disks:]))
	if d := tablet.unlisted(&tablet.mu.state); d != nil {
		t.Errorf("rowset %d is to be listed, of which %d keys were asked", d.id, d.asked.Load())
	}
	tablet.Apply(numbered(tablet, all[2:3]))
	if d := tablet.unlisted(&tablet.mu.state); d != tablet.mu.disks[2] {
		t.Errorf("rowset %v is to be listed, want that of which all keys were asked", d)
	}
}

// BenchmarkFreshKeys is what a fresh key costs by the number of DiskRowSets, by their filters and by the directory.
func BenchmarkFreshKeys(b *testing.B) {
	s := eventSchema()
	const rows, per = 1 << 16, 4096
	for _, disks := range []int{4, 16} {
		t := benchTablet(b, s)
		all := eventEntries(s, (disks+1)*rows, per, true)
		for k := range disks {
			t.Apply(numbered(t, all[k*rows/per:(k+1)*rows/per]))
			installNow(b, t)
		}
		rest := all[disks*rows/per:]
		t.manager.listAlways = true
		for _, by := range []string{"filters", "directory"} {
			for d := t.unlisted(&t.mu.state); by == "directory" && d != nil; d = t.unlisted(&t.mu.state) {
				if err := t.list(&t.mu.state, d); err != nil {
					b.Fatal(err)
				}
			}
			b.Run(fmt.Sprintf("disks=%d/by=%s", disks, by), func(b *testing.B) {
				applyFresh(b, t, rows, rest)
			})
		}
	}
}
