package store

import (
	"bytes"
	"testing"

	"nyala/offsets"
	"nyala/store/batch"
)

func sampleManifest() *manifest {
	m := emptyManifest(Spec{ID: 9, Schema: pairSchema()})
	m.durable = Durable{Index: 12, Term: 3, Members: []byte("members"), MembersIndex: 2}
	m.timestamp, m.horizon, m.installed = 500, 20, 13
	m.ledger.Advance(offsets.Segment{Source: offsets.Source{Connector: "c"}, Range: offsets.Range{Next: 7}})
	m.rowsets = []manifestRowSet{{added: added{id: 4, rows: 10, parquet: file{size: 100}, keys: file{size: 50}}, deaths: []death{{0, 499}, {3, 500}, {9, 1}}}}
	return m
}

// FuzzManifest: a parser never panics, and what it accepts it writes again as it was.
func FuzzManifest(f *testing.F) {
	f.Add(sampleManifest().appendTo(nil))
	f.Add(emptyManifest(Spec{ID: 1, Schema: pairSchema()}).appendTo(nil))
	changed := sampleManifest()
	changed.schema, changed.changed = 2, appended(pairSchema(), 0)
	f.Add(changed.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		DumpManifest(b)
		m, err := parseManifest(b)
		if err != nil {
			return
		}
		again, err := parseManifest(m.appendTo(nil))
		if err != nil || !bytes.Equal(again.appendTo(nil), m.appendTo(nil)) {
			t.Fatalf("%v\n%s\n%s", err, DumpManifest(b), DumpManifest(m.appendTo(nil)))
		}
	})
}

// FuzzManifestFile: whatever stands in the file, it is refused or one of its records is found.
func FuzzManifestFile(f *testing.F) {
	one := manifestRecord(manifestMagic, 1, sampleManifest().appendTo(nil))
	two := append(bytes.Clone(one), manifestRecord(manifestMagic, 2, emptyManifest(Spec{ID: 1, Schema: pairSchema()}).appendTo(nil))...)
	f.Add(one)
	f.Add(two)
	f.Add(two[:len(two)-9])
	f.Add(append(bytes.Clone(two), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		last, err := readManifests(b)
		if err == nil && (last.body == nil || last.end > len(b)) {
			t.Fatalf("no record and no error; end %d of %d", last.end, len(b))
		}
	})
}

func FuzzCommand(f *testing.F) {
	f.Add(freezeCommand{horizon: -5, after: 3}.entry()[batch.HeaderSize:])
	f.Add(installCommand{freeze: 7, removed: []uint64{1, 2}, added: sampleManifest().addedOnes()}.entry()[batch.HeaderSize:])
	f.Add(AdvanceEntry(5)[batch.HeaderSize:])
	f.Add(FenceEntry(offsets.Fence{Connector: "app", Decision: 2})[batch.HeaderSize:])
	f.Add(SchemaEntry(appended(pairSchema(), 1))[batch.HeaderSize:])
	f.Fuzz(func(t *testing.T, body []byte) {
		if s, err := parseSchema(body); err == nil && !bytes.Equal(SchemaEntry(s)[batch.HeaderSize:], body) {
			t.Fatal("schema")
		}
		if c, err := parseFreeze(body); err == nil && !bytes.Equal(c.entry()[batch.HeaderSize:], body) {
			t.Fatal("freeze")
		}
		if c, err := parseInstall(body); err == nil && !bytes.Equal(c.entry()[batch.HeaderSize:], body) {
			t.Fatal("install")
		}
		if to, err := parseAdvance(body); err == nil && !bytes.Equal(AdvanceEntry(to)[batch.HeaderSize:], body) {
			t.Fatal("advance")
		}
		if to, err := parseFence(body); err == nil && !bytes.Equal(FenceEntry(to)[batch.HeaderSize:], body) {
			t.Fatal("fence")
		}
		for _, k := range []batch.Kind{batch.KindWrite, batch.KindFreeze, batch.KindInstall, batch.KindAdvance, batch.KindFence, batch.KindSchema, 77} {
			DumpEntry(command(k, body))
		}
		if r, err := ParseResult(body); err == nil {
			if again, err := ParseResult(r.Append(nil)); err != nil || again != r {
				t.Fatal("result")
			}
		}
	})
}

func (m *manifest) addedOnes() (out []added) {
	for _, r := range m.rowsets {
		out = append(out, r.added)
	}
	return out
}

// TestCorruptManifestFile: damage before a whole record is refused; damage of the last record, which may be torn, is not one.
func TestCorruptManifestFile(t *testing.T) {
	body := sampleManifest().appendTo(nil)
	b := append(manifestRecord(manifestMagic, 1, body), manifestRecord(manifestMagic, 2, body)...)
	size := len(b) / 2
	for at := range b {
		c := bytes.Clone(b)
		c[at] ^= 0x10
		last, err := readManifests(c)
		seq := last.seq
		padding := at%size >= manifestHeader+len(body)
		switch {
		case padding && err == nil && seq == 2:
		case at < size && err == nil:
			t.Fatalf("byte %d flipped: got record %d", at, seq)
		case at >= size && !padding && (err != nil || seq != 1):
			t.Fatalf("byte %d flipped: got record %d %v", at, seq, err)
		}
	}
}
