package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
)

// Durable is how far a tablet is on disk: entries at or below Index are in its manifest.
type Durable struct {
	Index, Term  uint64
	Members      []byte // the newest membership entry as of Index, opaque
	MembersIndex uint64
}

// manifest says everything that a tablet is as of one log index, beside the content of the files that it
// names. It is self-contained: it is what a lagging replica is given, and each record of a manifest file.
//
// Its deletion vectors are those of all rowsets up to exactly the durable index, never later and never of
// some rowsets only: the log above that index is applied again to it, and finds each row in the state in which it
// was found the first time. Deaths from above the index would hide rows from replayed inserts.
//
//	1  version: 2 if columns were appended since the tablet was made, else 1    3  zero
//	8  tablet
//	4  schema version
//	   in version 2: 4  length, schema
//	8  durable index     8  its term
//	8  last timestamp as of the durable index
//	8  history horizon as of the durable index
//	8  index of the newest Install carried out
//	8  index of the membership entry    4  length, members
//	4  length, ledger (package offsets) as of the durable index
//	4  rowsets, each:
//	     as in an Install: 8 id, 8 rows, two files of 8 size, 32 hash
//	     4  deaths, each: uvarint rows since the one before (plus one; the first from -1), uvarint durable timestamp - death
type manifest struct {
	tablet    uint64
	schema    uint32
	changed   *schema.Schema // nil: the one that the tablet was made with
	durable   Durable
	timestamp Timestamp
	horizon   Timestamp
	installed uint64
	ledger    *offsets.Ledger
	rowsets   []manifestRowSet
}

type manifestRowSet struct {
	added
	deaths []death
}

type death struct {
	row uint32
	at  Timestamp
}

const (
	manifestVersion       = 1
	manifestVersionSchema = 2
)

func (m *manifest) appendTo(b []byte) []byte {
	le := binary.LittleEndian
	version := byte(manifestVersion)
	if m.changed != nil {
		version = manifestVersionSchema
	}
	b = append(b, version, 0, 0, 0)
	b = le.AppendUint64(b, m.tablet)
	b = le.AppendUint32(b, m.schema)
	if m.changed != nil {
		text := m.changed.Text()
		b = le.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	b = le.AppendUint64(b, m.durable.Index)
	b = le.AppendUint64(b, m.durable.Term)
	b = le.AppendUint64(b, uint64(m.timestamp))
	b = le.AppendUint64(b, uint64(m.horizon))
	b = le.AppendUint64(b, m.installed)
	b = le.AppendUint64(b, m.durable.MembersIndex)
	b = le.AppendUint32(b, uint32(len(m.durable.Members)))
	b = append(b, m.durable.Members...)
	ledger := m.ledger.AppendTo(nil)
	b = le.AppendUint32(b, uint32(len(ledger)))
	b = append(b, ledger...)
	b = le.AppendUint32(b, uint32(len(m.rowsets)))
	for _, r := range m.rowsets {
		b = appendAdded(b, r.added)
		b = le.AppendUint32(b, uint32(len(r.deaths)))
		last := -1
		for _, d := range r.deaths {
			b = binary.AppendUvarint(b, uint64(int(d.row)-last))
			b = binary.AppendUvarint(b, uint64(m.timestamp-d.at))
			last = int(d.row)
		}
	}
	return b
}

func parseManifest(b []byte) (*manifest, error) {
	r := &reader{b: b}
	head := r.take(4)
	if r.err == nil && head[0] != manifestVersion && head[0] != manifestVersionSchema {
		return nil, fmt.Errorf("store: manifest: version %d, want at most %d: %w", head[0], manifestVersionSchema, batch.ErrCorrupt)
	}
	m := &manifest{tablet: r.u64(), schema: r.u32()}
	if head[0] == manifestVersionSchema {
		r.schema(m)
	}
	m.durable.Index, m.durable.Term = r.u64(), r.u64()
	m.timestamp, m.horizon, m.installed = int64(r.u64()), int64(r.u64()), r.u64()
	m.durable.MembersIndex = r.u64()
	m.durable.Members = slices.Clone(r.bytes())
	ledger := r.bytes()
	n := r.count(addedBytes + 4)
	for i := 0; i < n && r.err == nil; i++ {
		s := manifestRowSet{added: r.added()}
		r.deaths(&s, m.timestamp)
		m.rowsets = append(m.rowsets, s)
	}
	if err := r.end("manifest"); err != nil {
		return nil, err
	}
	var err error
	if m.ledger, err = offsets.ParseLedger(ledger); err != nil {
		return nil, fmt.Errorf("store: manifest: %w: %w", err, batch.ErrCorrupt)
	}
	return m, nil
}

func (r *reader) schema(m *manifest) {
	text := r.bytes()
	if r.err != nil {
		return
	}
	if m.changed, r.err = schema.ParseSchema(text); r.err == nil && m.changed.Version != m.schema {
		r.err = fmt.Errorf("schema of version %d, want %d", m.changed.Version, m.schema)
	}
}

func (r *reader) deaths(s *manifestRowSet, until Timestamp) {
	n := r.count(2)
	s.deaths = make([]death, 0, n)
	row := int64(-1)
	for i := 0; i < n && r.err == nil; i++ {
		step, ago := r.uvarint(), r.uvarint()
		if step == 0 || step > s.rows || row+int64(step) >= int64(s.rows) {
			r.err = fmt.Errorf("rowset %d: death of row %d + %d of %d", s.id, row, step, s.rows)
			return
		}
		row += int64(step)
		s.deaths = append(s.deaths, death{uint32(row), until - int64(ago)})
	}
}

// names of all files that the manifest needs, with what they must be.
func (m *manifest) files() map[string]file {
	out := map[string]file{}
	for _, r := range m.rowsets {
		for i, name := range r.names() {
			out[name] = r.added.files()[i]
		}
	}
	return out
}

// DumpManifest prints a manifest, as Tablet.Manifest returns it, for `nyala dump` and goldens.
func DumpManifest(b []byte) string {
	m, err := parseManifest(b)
	if err != nil {
		return err.Error() + "\n"
	}
	var s strings.Builder
	fmt.Fprintf(&s, "tablet %d schema %d\n", m.tablet, m.schema)
	if m.changed != nil {
		for _, c := range m.changed.Columns {
			if c.Since > 0 {
				fmt.Fprintf(&s, "column %d %s %s since schema %d\n", c.ID, c.Name, c.Type, c.Since)
			}
		}
	}
	fmt.Fprintf(&s, "durable %d term %d timestamp %d horizon %d installed %d members %d (%d bytes)\n",
		m.durable.Index, m.durable.Term, m.timestamp, m.horizon, m.installed, m.durable.MembersIndex, len(m.durable.Members))
	for source, next := range m.ledger.All() {
		fmt.Fprintf(&s, "ledger %s %d\n", source, next)
	}
	for _, f := range m.ledger.Fences() {
		fmt.Fprintf(&s, "fence %s decision %d\n", f.Connector, f.Decision)
	}
	for _, r := range m.rowsets {
		fmt.Fprintf(&s, "rowset %d rows %d dead %d parquet %d %s keys %d %s\n",
			r.id, r.rows, len(r.deaths), r.parquet.size, r.parquet.hash, r.keys.size, r.keys.hash)
	}
	return s.String()
}

// manifestHash is the hash of a manifest's content: equal on replicas that have installed the same.
func manifestHash(body []byte) rowset.Hash { return rowset.HashOf(body) }
