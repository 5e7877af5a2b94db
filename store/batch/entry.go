package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Kind says what a log entry does. The numbers are in logs: never renumber.
type Kind uint8

// The kinds of entries. Those but Write and Rows are commands of the tablet engine.
const (
	KindWrite   Kind = 1
	KindRows    Kind = 2 // not a log entry: rows on their way to a reader
	KindFreeze  Kind = 3
	KindInstall Kind = 4
	KindAdvance Kind = 5
	KindFence   Kind = 6
	KindSchema  Kind = 7
)

// HeaderSize is the length of an entry's header in bytes.
const HeaderSize = 40

const (
	magic         = 0x3145594e // "NYE1"
	formatVersion = 1
)

// ErrCorrupt marks bytes that no entry can have: a flipped bit, a cut, or something else altogether.
var ErrCorrupt = errors.New("corrupt entry")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is what every entry begins with.
type Header struct {
	Kind          Kind
	Timestamp     int64 // as stamped by the leader; what apply uses may be later
	SchemaVersion uint32
}

// Begin appends room for a header; the body follows, then Seal.
func Begin(dst []byte) []byte {
	var zero [HeaderSize]byte
	return append(dst, zero[:]...)
}

// Seal completes an entry that was started with Begin at the start of entry.
func Seal(entry []byte, h Header) {
	body := entry[HeaderSize:]
	binary.LittleEndian.PutUint32(entry, magic)
	entry[4], entry[5], entry[6], entry[7] = byte(h.Kind), formatVersion, 0, 0
	binary.LittleEndian.PutUint32(entry[16:], h.SchemaVersion)
	binary.LittleEndian.PutUint32(entry[20:], 0)
	binary.LittleEndian.PutUint32(entry[24:], uint32(len(body)))
	binary.LittleEndian.PutUint32(entry[28:], crc32.Checksum(body, castagnoli))
	Stamp(entry, h.Timestamp)
}

// Stamp sets the timestamp of a sealed entry in place.
func Stamp(entry []byte, timestamp int64) {
	binary.LittleEndian.PutUint64(entry[8:], uint64(timestamp))
	binary.LittleEndian.PutUint32(entry[32:], crc32.Checksum(entry[:32], castagnoli))
	binary.LittleEndian.PutUint32(entry[36:], 0)
}

// Open checks an entry's two checksums and returns its header and body; the body aliases entry.
func Open(entry []byte) (Header, []byte, error) {
	if len(entry) < HeaderSize {
		return Header{}, nil, fmt.Errorf("batch: entry of %d bytes, want at least %d: %w", len(entry), HeaderSize, ErrCorrupt)
	}
	if got := binary.LittleEndian.Uint32(entry); got != magic || entry[5] != formatVersion {
		return Header{}, nil, fmt.Errorf("batch: entry begins with %08x version %d, want %08x version %d: %w", got, entry[5], magic, formatVersion, ErrCorrupt)
	}
	if got, want := crc32.Checksum(entry[:32], castagnoli), binary.LittleEndian.Uint32(entry[32:]); got != want {
		return Header{}, nil, fmt.Errorf("batch: entry header: crc %08x, want %08x: %w", got, want, ErrCorrupt)
	}
	body := entry[HeaderSize:]
	if want := binary.LittleEndian.Uint32(entry[24:]); uint32(len(body)) != want {
		return Header{}, nil, fmt.Errorf("batch: entry body of %d bytes, want %d: %w", len(body), want, ErrCorrupt)
	}
	if got, want := crc32.Checksum(body, castagnoli), binary.LittleEndian.Uint32(entry[28:]); got != want {
		return Header{}, nil, fmt.Errorf("batch: entry body: crc %08x, want %08x: %w", got, want, ErrCorrupt)
	}
	return Header{
		Kind:          Kind(entry[4]),
		Timestamp:     int64(binary.LittleEndian.Uint64(entry[8:])),
		SchemaVersion: binary.LittleEndian.Uint32(entry[16:]),
	}, body, nil
}

func (k Kind) String() string {
	switch k {
	case KindWrite:
		return "write"
	case KindRows:
		return "rows"
	case KindFreeze:
		return "freeze"
	case KindInstall:
		return "install"
	case KindAdvance:
		return "advance"
	case KindFence:
		return "fence"
	case KindSchema:
		return "schema"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}
