package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
)

// Sizes of the file format, see doc.go. Everything is little endian.
const (
	formatVersion = 1
	segmentMagic  = "NYALAWAL"
	drainMagic    = 0x6e417264 // "drAn"

	// pageSize is what drains and headers begin at a multiple of. A page that was synced is never
	// written again by a later drain, so that a torn write cannot reach what was acknowledged.
	pageSize = 4096

	segmentHeaderSize = 64
	liveSize          = 24
	drainHeaderSize   = 64
	recordHeaderSize  = 56

	// recordBytesMax bounds one record, so that no length in the format overflows.
	recordBytesMax = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var order = binary.LittleEndian

func padded(n int64) int64 { return (n + pageSize - 1) &^ (pageSize - 1) }

func aligned(n int) int { return (n + 7) &^ 7 }

// identity is what makes a segment's records its own: the seed of every checksum in it.
type identity struct {
	number uint64
	salt   uint64
}

func (id identity) seed() uint32 {
	var b [16]byte
	order.PutUint64(b[0:], id.number)
	order.PutUint64(b[8:], id.salt)
	return crc32.Checksum(b[:], castagnoli)
}

// liveSegment is how a segment's header speaks of an older segment that is needed.
type liveSegment struct {
	number uint64
	end    int64  // where its last drain ends, with padding
	last   uint64 // sequence of its last drain
}

// segmentHeader begins a segment. Number 0 marks a file that was prepared and never used.
type segmentHeader struct {
	identity
	first   uint64 // sequence of its first drain
	durable uint64 // every drain up to this sequence was synced when the header was written
	created int64  // microseconds since 1970
	live    []liveSegment
}

func (h *segmentHeader) size() int64 { return padded(int64(segmentHeaderSize + liveSize*len(h.live))) }

func (h *segmentHeader) encode() []byte {
	b := make([]byte, h.size())
	copy(b, segmentMagic)
	order.PutUint32(b[8:], formatVersion)
	order.PutUint64(b[16:], h.number)
	order.PutUint64(b[24:], h.salt)
	order.PutUint64(b[32:], h.first)
	order.PutUint64(b[40:], h.durable)
	order.PutUint64(b[48:], uint64(h.created))
	order.PutUint32(b[56:], uint32(len(h.live)))
	for i, l := range h.live {
		e := b[segmentHeaderSize+i*liveSize:]
		order.PutUint64(e[0:], l.number)
		order.PutUint64(e[8:], uint64(l.end))
		order.PutUint64(e[16:], l.last)
	}
	order.PutUint32(b[12:], segmentHeaderCRC(b))
	return b
}

// segmentHeaderCRC covers the whole padded header but itself.
func segmentHeaderCRC(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[16:])
}

// segmentHeaderLength returns how long the header is that begins with b, 0 if b begins none.
func segmentHeaderLength(b []byte) int64 {
	if len(b) < segmentHeaderSize || string(b[:8]) != segmentMagic {
		return 0
	}
	return padded(segmentHeaderSize + liveSize*int64(order.Uint32(b[56:])))
}

// parseSegmentHeader reads a header of segmentHeaderLength bytes.
func parseSegmentHeader(b []byte) (*segmentHeader, error) {
	length := segmentHeaderLength(b)
	if length == 0 || length > int64(len(b)) {
		return nil, fmt.Errorf("no segment header")
	}
	b = b[:length]
	if got, want := order.Uint32(b[12:]), segmentHeaderCRC(b); got != want {
		return nil, fmt.Errorf("segment header: crc %08x, want %08x", got, want)
	}
	if v := order.Uint32(b[8:]); v != formatVersion {
		return nil, fmt.Errorf("segment header: version %d, want %d: %w", v, formatVersion, errVersion)
	}
	h := &segmentHeader{
		identity: identity{number: order.Uint64(b[16:]), salt: order.Uint64(b[24:])},
		first:    order.Uint64(b[32:]),
		durable:  order.Uint64(b[40:]),
		created:  int64(order.Uint64(b[48:])),
	}
	for i := range int(order.Uint32(b[56:])) {
		e := b[segmentHeaderSize+i*liveSize:]
		h.live = append(h.live, liveSegment{order.Uint64(e[0:]), int64(order.Uint64(e[8:])), order.Uint64(e[16:])})
	}
	return h, nil
}

// drainHeader begins a drain: what one write and one sync carry.
type drainHeader struct {
	identity
	sequence uint64
	durable  uint64 // every drain up to this sequence was synced when this one was written
	length   int64  // from the header's start, without the padding to a page
	count    int    // records
	records  uint32 // checksum of the header checksums of all records
	flags    uint32
	written  int64 // microseconds since 1970
}

// flagClose marks the drain that a Close writes.
const flagClose = 1

func (h *drainHeader) encode(b []byte, seed uint32) {
	order.PutUint32(b[4:], drainMagic)
	order.PutUint64(b[8:], h.number)
	order.PutUint64(b[16:], h.salt)
	order.PutUint64(b[24:], h.sequence)
	order.PutUint64(b[32:], h.durable)
	order.PutUint32(b[40:], uint32(h.length))
	order.PutUint32(b[44:], uint32(h.count))
	order.PutUint32(b[48:], h.records)
	order.PutUint32(b[52:], h.flags)
	order.PutUint64(b[56:], uint64(h.written))
	order.PutUint32(b[0:], crc32.Update(seed, castagnoli, b[4:drainHeaderSize]))
}

// parseDrainHeader reads a drain's header by itself: it checks it against the segment and salt
// that it names, not against those of the file that it stands in.
func parseDrainHeader(b []byte) (drainHeader, error) {
	var h drainHeader
	if len(b) < drainHeaderSize || order.Uint32(b[4:]) != drainMagic {
		return h, fmt.Errorf("no drain")
	}
	h.identity = identity{number: order.Uint64(b[8:]), salt: order.Uint64(b[16:])}
	want := crc32.Update(h.seed(), castagnoli, b[4:drainHeaderSize])
	if got := order.Uint32(b[0:]); got != want {
		return h, fmt.Errorf("drain header: crc %08x, want %08x", got, want)
	}
	h.sequence = order.Uint64(b[24:])
	h.durable = order.Uint64(b[32:])
	h.length = int64(order.Uint32(b[40:]))
	h.count = int(order.Uint32(b[44:]))
	h.records = order.Uint32(b[48:])
	h.flags = order.Uint32(b[52:])
	h.written = int64(order.Uint64(b[56:]))
	if h.length < drainHeaderSize {
		return h, fmt.Errorf("drain header: length %d", h.length)
	}
	return h, nil
}

// recordType says what a record is to the log; Record.Kind is the caller's.
type recordType uint8

const (
	entryRecord recordType = 1 // one log entry
	stateRecord recordType = 2 // the small state of a group, replacing all of what was said before
	dropRecord  recordType = 3 // the same of a group that was dropped: nothing of it is left
)

// rawRecord is a record in the file.
type rawRecord struct {
	Record
	group  uint64
	typ    recordType
	offset int64 // in the file
	size   int64 // with header and padding
	crc    uint32
}

func recordSize(r *Record) int64 {
	return int64(recordHeaderSize + aligned(len(r.Data)) + aligned(len(r.Extensions)))
}

// payloadCRC is not salted, so that it can be computed before the record has its place.
func payloadCRC(r *Record) uint32 {
	return crc32.Update(crc32.Checksum(r.Data, castagnoli), castagnoli, r.Extensions)
}

// encodeRecordHeader writes a record's header to b and returns its checksum.
func encodeRecordHeader(b []byte, typ recordType, group uint64, r *Record, payload, seed uint32) uint32 {
	order.PutUint32(b[4:], payload)
	order.PutUint64(b[8:], group)
	order.PutUint64(b[16:], r.Index)
	order.PutUint64(b[24:], r.Term)
	order.PutUint64(b[32:], uint64(r.AppendedAt))
	order.PutUint32(b[40:], uint32(len(r.Data)))
	order.PutUint32(b[44:], uint32(len(r.Extensions)))
	b[48], b[49] = byte(typ), r.Kind
	clear(b[50:recordHeaderSize])
	crc := crc32.Update(seed, castagnoli, b[4:recordHeaderSize])
	order.PutUint32(b[0:], crc)
	return crc
}

// parseRecord reads the record that b begins with. Data and Extensions are parts of b.
func parseRecord(b []byte, seed uint32) (rawRecord, error) {
	var r rawRecord
	if len(b) < recordHeaderSize {
		return r, fmt.Errorf("record: %d bytes left", len(b))
	}
	r.crc = order.Uint32(b[0:])
	if want := crc32.Update(seed, castagnoli, b[4:recordHeaderSize]); r.crc != want {
		return r, fmt.Errorf("record header: crc %08x, want %08x", r.crc, want)
	}
	data, extensions := int(order.Uint32(b[40:])), int(order.Uint32(b[44:]))
	r.size = int64(recordHeaderSize) + int64(aligned(data)) + int64(aligned(extensions))
	if r.size > int64(len(b)) {
		return r, fmt.Errorf("record: %d bytes, %d left", r.size, len(b))
	}
	r.group = order.Uint64(b[8:])
	r.typ = recordType(b[48])
	r.Record = Record{
		Index: order.Uint64(b[16:]), Term: order.Uint64(b[24:]), Kind: b[49], AppendedAt: int64(order.Uint64(b[32:])),
		Data: b[recordHeaderSize:][:data:data],
	}
	if extensions > 0 {
		r.Extensions = b[recordHeaderSize+aligned(data):][:extensions:extensions]
	}
	if got, want := payloadCRC(&r.Record), order.Uint32(b[4:]); got != want {
		return r, fmt.Errorf("record payload: crc %08x, want %08x", got, want)
	}
	return r, nil
}

// groupState is the small state of a group. The newest record of it tells all; entries that come
// behind it extend it.
type groupState struct {
	first, next uint64            // the entries are [first, next); 0, 0: none ever, any may come
	values      map[string][]byte // never changed, only replaced
	dropped     bool
}

// record makes the state's record: first in Index, next in Term, the values in Data.
func (s *groupState) record() (recordType, Record) {
	data := order.AppendUint32(nil, uint32(len(s.values)))
	for _, key := range sortedKeys(s.values) {
		data = order.AppendUint32(data, uint32(len(key)))
		data = append(data, key...)
		data = order.AppendUint32(data, uint32(len(s.values[key])))
		data = append(data, s.values[key]...)
	}
	typ := stateRecord
	if s.dropped {
		typ = dropRecord
	}
	return typ, Record{Index: s.first, Term: s.next, Data: data}
}

func sortedKeys(values map[string][]byte) []string { return slices.Sorted(maps.Keys(values)) }

// parseState is the inverse of record. The state keeps nothing of r.
func parseState(r *rawRecord) (groupState, error) {
	s := groupState{first: r.Index, next: r.Term, dropped: r.typ == dropRecord, values: map[string][]byte{}}
	if s.first > s.next {
		return s, fmt.Errorf("state: first %d, next %d", s.first, s.next)
	}
	b := r.Data
	take := func() ([]byte, bool) {
		if len(b) < 4 || uint64(order.Uint32(b)) > uint64(len(b)-4) {
			return nil, false
		}
		part := b[4 : 4+order.Uint32(b)]
		b = b[4+len(part):]
		return part, true
	}
	if len(b) < 4 {
		return s, fmt.Errorf("state: %d bytes", len(b))
	}
	count := order.Uint32(b)
	b = b[4:]
	for range count {
		key, ok := take()
		value, ok2 := take()
		if !ok || !ok2 {
			return s, fmt.Errorf("state: its values are cut off")
		}
		s.values[string(key)] = slices.Clone(value)
	}
	if len(b) != 0 {
		return s, fmt.Errorf("state: %d bytes too many", len(b))
	}
	return s, nil
}
