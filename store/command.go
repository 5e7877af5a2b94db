package store

import (
	"encoding/binary"
	"fmt"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
)

// Timestamp is a hybrid time: microseconds since 1970 UTC, made unique within a tablet by adding 1.
type Timestamp = int64

// Commands of the tablet engine are log entries with the header of package batch. Their bodies, all
// integers little endian:
//
//	Freeze   8 horizon: rows dead by then may be left out, reads below are refused from here on
//	         8 index of the newest Freeze that the proposer knew: a second one is superseded
//	Install  8 index of the Freeze
//	         8, 8, 8 what the added rowset was made from: sums of entries and of deaths, and of the manifest before (share.go)
//	         4 rowsets removed   4 rowsets added
//	         8 id of a removed rowset, each
//	         8 id, 8 rows, then for the Parquet file and the keys file: 8 size, 32 hash; each added rowset
//	Advance  8 timestamp that the tablet must reach
//	Fence    4 decision version: entries of the connector with an older one are refused from here on
//	         4 length, name of the connector
//	Schema   the table's next schema, as text: the columns so far, and new ones behind
//
// The body of a Write is described in package batch.

// file is what a manifest and an Install know of a file's content.
type file struct {
	size int64
	hash rowset.Hash
}

// added is a DiskRowSet as an Install or a manifest names it.
type added struct {
	id      uint64 // index of the Freeze that it came from
	rows    uint64
	parquet file
	keys    file
}

func (a added) names() [2]string { return [2]string{parquetName(a.id), keysName(a.id)} }
func (a added) files() [2]file   { return [2]file{a.parquet, a.keys} }

// String says all that replicas must agree on, of hashes the beginning.
func (a added) String() string {
	return fmt.Sprintf("%d rows %d parquet %d %.8s keys %d %.8s", a.id, a.rows, a.parquet.size, a.parquet.hash, a.keys.size, a.keys.hash)
}

func baseName(id uint64) string    { return fmt.Sprintf("%016d", id) }
func parquetName(id uint64) string { return baseName(id) + rowset.ParquetSuffix }
func keysName(id uint64) string    { return baseName(id) + rowset.KeysSuffix }

type freezeCommand struct {
	horizon Timestamp
	after   uint64
}

type installCommand struct {
	freeze  uint64
	sums    sums
	removed []uint64
	added   []added
}

func command(kind batch.Kind, body []byte) []byte {
	e := append(batch.Begin(make([]byte, 0, batch.HeaderSize+len(body))), body...)
	batch.Seal(e, batch.Header{Kind: kind})
	return e
}

// AdvanceEntry is a command that raises a tablet's last timestamp to at least to, so that a read at
// to gives the same answer on every replica for ever.
func AdvanceEntry(to Timestamp) []byte {
	return command(batch.KindAdvance, binary.LittleEndian.AppendUint64(nil, uint64(to)))
}

// FenceEntry is a command that makes a tablet refuse, for ever, what a connector decided under an older version of its
// settings than f's. The ledger of a replica that has reached the command's timestamp says how far the older ones came.
func FenceEntry(f offsets.Fence) []byte {
	b := binary.LittleEndian.AppendUint32(nil, f.Decision)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Connector)))
	return command(batch.KindFence, append(b, f.Connector...))
}

// SchemaEntry is a command that gives a tablet's table the columns that s appends to the schema so far. From there on a row may have
// them; what was written under an older version, before or after, has their defaults, or nulls. A second copy changes nothing.
func SchemaEntry(s *schema.Schema) []byte { return command(batch.KindSchema, s.Text()) }

func (c freezeCommand) entry() []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(c.horizon))
	return command(batch.KindFreeze, binary.LittleEndian.AppendUint64(b, c.after))
}

func (c installCommand) entry() []byte {
	b := binary.LittleEndian.AppendUint64(nil, c.freeze)
	for _, s := range []uint64{c.sums.entries, c.sums.deaths, c.sums.before} {
		b = binary.LittleEndian.AppendUint64(b, s)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c.removed)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c.added)))
	for _, id := range c.removed {
		b = binary.LittleEndian.AppendUint64(b, id)
	}
	for _, a := range c.added {
		b = appendAdded(b, a)
	}
	return command(batch.KindInstall, b)
}

func appendAdded(b []byte, a added) []byte {
	b = binary.LittleEndian.AppendUint64(b, a.id)
	b = binary.LittleEndian.AppendUint64(b, a.rows)
	for _, f := range a.files() {
		b = binary.LittleEndian.AppendUint64(b, uint64(f.size))
		b = append(b, f.hash[:]...)
	}
	return b
}

const addedBytes = 16 + 2*(8+len(rowset.Hash{}))

// reader takes fixed-width fields off the front of bytes; after the first shortage all reads give zero
// and err is set.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) || r.err != nil {
		if r.err == nil {
			r.err = fmt.Errorf("want %d bytes more, got %d", n, len(r.b))
		}
		return make([]byte, max(0, min(n, 64)))
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// count reads the number of items that take at least size bytes each, so that it cannot ask for memory.
func (r *reader) count(size int) int {
	n := int64(r.u32())
	if r.err == nil && n*int64(size) > int64(len(r.b)) {
		r.err = fmt.Errorf("%d items of %d bytes in %d bytes", n, size, len(r.b))
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte { return r.take(int(r.u32())) }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		if r.err == nil {
			r.err = fmt.Errorf("bad varint")
		}
		return 0
	}
	r.take(n)
	return v
}

func (r *reader) added() (a added) {
	a.id, a.rows = r.u64(), r.u64()
	for _, f := range []*file{&a.parquet, &a.keys} {
		f.size = int64(r.u64())
		copy(f.hash[:], r.take(len(f.hash)))
	}
	if r.err == nil && (a.rows == 0 || a.rows > rowsMax || a.parquet.size < 0 || a.keys.size < 0) {
		r.err = fmt.Errorf("rowset %d: %d rows, files of %d and %d bytes", a.id, a.rows, a.parquet.size, a.keys.size)
	}
	return a
}

func (r *reader) end(what string) error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return fmt.Errorf("store: %s: %w: %w", what, r.err, batch.ErrCorrupt)
	}
	return nil
}

func parseFreeze(body []byte) (c freezeCommand, err error) {
	r := &reader{b: body}
	c.horizon, c.after = int64(r.u64()), r.u64()
	return c, r.end("freeze command")
}

func parseInstall(body []byte) (c installCommand, err error) {
	r := &reader{b: body}
	c.freeze = r.u64()
	c.sums = sums{r.u64(), r.u64(), r.u64()}
	removed := int64(r.u32())
	n := r.count(addedBytes)
	if r.err == nil && removed*8 > int64(len(r.b)) {
		r.err = fmt.Errorf("%d removed rowsets in %d bytes", removed, len(r.b))
	}
	for i := int64(0); i < removed && r.err == nil; i++ {
		c.removed = append(c.removed, r.u64())
	}
	for i := 0; i < n && r.err == nil; i++ {
		c.added = append(c.added, r.added())
	}
	return c, r.end("install command")
}

func parseAdvance(body []byte) (Timestamp, error) {
	r := &reader{b: body}
	to := int64(r.u64())
	return to, r.end("advance command")
}

func parseFence(body []byte) (f offsets.Fence, err error) {
	r := &reader{b: body}
	f.Decision = r.u32()
	f.Connector = string(r.bytes())
	if r.err == nil && (f.Decision == 0 || f.Connector == "" || len(f.Connector) > offsets.MaxConnector) {
		r.err = fmt.Errorf("connector's name of %d bytes, decision version %d", len(f.Connector), f.Decision)
	}
	return f, r.end("fence command")
}

func parseSchema(body []byte) (*schema.Schema, error) {
	s, err := schema.ParseSchema(body)
	if err != nil {
		return nil, fmt.Errorf("store: schema command: %w: %w", err, batch.ErrCorrupt)
	}
	return s, nil
}

// Validate checks an entry as far as one can without a tablet. Whoever takes entries from outside of
// the node calls it before it proposes them: an entry whose checksum does not hold stops every replica.
func Validate(entry []byte) error {
	h, body, err := batch.Open(entry)
	if err != nil {
		return err
	}
	switch h.Kind {
	case batch.KindWrite:
		_, err = batch.ParseWrite(aligned(entry))
	case batch.KindFreeze:
		_, err = parseFreeze(body)
	case batch.KindInstall:
		_, err = parseInstall(body)
	case batch.KindAdvance:
		_, err = parseAdvance(body)
	case batch.KindFence:
		_, err = parseFence(body)
	case batch.KindSchema:
		_, err = parseSchema(body)
	default:
		err = fmt.Errorf("store: entry of kind %s is no log entry: %w", h.Kind, batch.ErrCorrupt)
	}
	return err
}

// DumpEntry says in a few words what a log entry is, for `nyala dump`.
func DumpEntry(entry []byte) string {
	h, body, err := batch.Open(entry)
	if err != nil {
		return err.Error()
	}
	head := fmt.Sprintf("%s at %d", h.Kind, h.Timestamp)
	switch h.Kind {
	case batch.KindWrite:
		p, err := batch.ParseWrite(aligned(entry))
		if err != nil {
			return err.Error()
		}
		head += fmt.Sprintf(" schema %d rows %d bytes %d", h.SchemaVersion, p.Batch.Rows, len(entry))
		for _, s := range p.Segments {
			head += fmt.Sprintf(" %s%s decision %d", s.Source, s.Range, s.Decision)
		}
	case batch.KindFreeze:
		c, err := parseFreeze(body)
		if err != nil {
			return err.Error()
		}
		head += fmt.Sprintf(" horizon %d after %d", c.horizon, c.after)
	case batch.KindInstall:
		c, err := parseInstall(body)
		if err != nil {
			return err.Error()
		}
		head += fmt.Sprintf(" of freeze %d entries %016x deaths %016x before %016x removed %v", c.freeze, c.sums.entries, c.sums.deaths, c.sums.before, c.removed)
		for _, a := range c.added {
			head += " added " + a.String()
		}
	case batch.KindAdvance:
		to, err := parseAdvance(body)
		if err != nil {
			return err.Error()
		}
		head += fmt.Sprintf(" to %d", to)
	case batch.KindFence:
		f, err := parseFence(body)
		if err != nil {
			return err.Error()
		}
		head += fmt.Sprintf(" %s decision %d", f.Connector, f.Decision)
	case batch.KindSchema:
		s, err := parseSchema(body)
		if err != nil {
			return err.Error()
		}
		head += fmt.Sprintf(" version %d columns %d, the last %s", s.Version, len(s.Columns), s.Columns[len(s.Columns)-1].Name)
	}
	return head
}
