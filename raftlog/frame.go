package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// kind says what a frame is. The numbers are part of the wire format.
type kind uint8

const (
	kindData       kind = 0 // the next bytes of the parts of the message under way
	kindHeartbeats kind = 1
	kindVote       kind = 2
	kindPreVote    kind = 3
	kindTimeoutNow kind = 4
	kindAppend     kind = 5
	kindInstall    kind = 6
	kindPropose    kind = 7
	kindCall       kind = 8
	kindPing       kind = 9
	kindFetch      kind = 10
	kindFileEnd    kind = 11
	kindReply      kind = 16
	kindBeatReply  kind = 17
)

const (
	frameHeaderBytes = 24
	chunkBytes       = 256 << 10 // of a data frame: a heartbeat waits for at most one write of this size
	metaBytesMax     = 4 << 20
	partsMax         = 4096
	messageBytesMax  = 1 << 30 // of all parts; the senders keep far below (appendBytesMax, entryBytesMax)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// message is what connections carry: a kind, the number of the request that it is or answers, a small
// encoded part and any number of raw ones. The raw parts go by reference on the sender's side, and are
// read from the socket straight into their own memory, aligned to 8 bytes, on the receiver's.
type message struct {
	kind  kind
	id    uint64
	meta  []byte
	parts [][]byte

	to string // incarnation the request is for, empty for any; not on the wire
}

func (m *message) size() int {
	n := frameHeaderBytes + len(m.meta) + 4*len(m.parts)
	for _, p := range m.parts {
		n += len(p)
	}
	return n
}

func (m *message) partBytes() int {
	n := 0
	for _, p := range m.parts {
		n += len(p)
	}
	return n
}

// appendHeader appends a frame's header for a payload of the given length and checksum.
func appendHeader(b []byte, k kind, parts int, id uint64, length int, crc uint32) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(length))
	b = append(b, byte(k), 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(parts))
	b = binary.LittleEndian.AppendUint64(b, id)
	b = binary.LittleEndian.AppendUint32(b, crc)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// startFrame returns the first frame of a message.
func (m *message) startFrame() []byte {
	b := make([]byte, frameHeaderBytes, frameHeaderBytes+4*len(m.parts)+len(m.meta))
	for _, p := range m.parts {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
	}
	b = append(b, m.meta...)
	payload := b[frameHeaderBytes:]
	appendHeader(b[:0], m.kind, len(m.parts), m.id, len(payload), crc32.Checksum(payload, castagnoli))
	return b
}

// chunker cuts the parts of a message into data frames.
type chunker struct {
	m    *message
	part int
	off  int
}

// next appends the buffers of the next data frame to bufs and says how many bytes they hold.
func (c *chunker) next(bufs [][]byte) ([][]byte, int) {
	header := len(bufs)
	bufs = append(bufs, nil)
	size, crc := 0, uint32(0)
	for c.part < len(c.m.parts) && size < chunkBytes {
		b := c.m.parts[c.part][c.off:]
		if len(b) > chunkBytes-size {
			b = b[:chunkBytes-size]
		}
		if c.off += len(b); c.off == len(c.m.parts[c.part]) {
			c.part, c.off = c.part+1, 0
		}
		if len(b) == 0 {
			continue
		}
		crc = crc32.Update(crc, castagnoli, b)
		size += len(b)
		bufs = append(bufs, b)
	}
	for c.part < len(c.m.parts) && len(c.m.parts[c.part]) == 0 {
		c.part++ // the reader, too, is done with a message at its last byte
	}
	bufs[header] = appendHeader(make([]byte, 0, frameHeaderBytes), kindData, 0, c.m.id, size, crc)
	return bufs, size + frameHeaderBytes
}

func (c *chunker) done() bool { return c.part == len(c.m.parts) }

// frameHeader is a decoded header.
type frameHeader struct {
	length int
	kind   kind
	parts  int
	id     uint64
	crc    uint32
}

func readHeader(r io.Reader, b *[frameHeaderBytes]byte) (frameHeader, error) {
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return frameHeader{}, err
	}
	if got, want := crc32.Checksum(b[:20], castagnoli), binary.LittleEndian.Uint32(b[20:]); got != want {
		return frameHeader{}, fmt.Errorf("raftlog: frame header: crc %08x, want %08x", got, want)
	}
	return frameHeader{
		length: int(binary.LittleEndian.Uint32(b[0:])),
		kind:   kind(b[4]),
		parts:  int(binary.LittleEndian.Uint16(b[6:])),
		id:     binary.LittleEndian.Uint64(b[8:]),
		crc:    binary.LittleEndian.Uint32(b[16:]),
	}, nil
}

// frameReader puts messages together. The data frames of a message follow its first frame in order, but
// messages without parts may lie between them: that is how heartbeats and votes overtake large entries.
type frameReader struct {
	r    io.Reader
	buf  [frameHeaderBytes]byte
	cur  *message // the message whose parts are under way
	left []int    // lengths of its parts
	part int
	off  int
}

// next returns the next complete message.
func (f *frameReader) next() (*message, error) {
	for {
		h, err := readHeader(f.r, &f.buf)
		if err != nil {
			return nil, err
		}
		var m *message
		if h.kind == kindData {
			m, err = f.data(h)
		} else {
			m, err = f.start(h)
		}
		if m != nil || err != nil {
			return m, err
		}
	}
}

// start reads a first frame. It returns the message if it has no parts.
func (f *frameReader) start(h frameHeader) (*message, error) {
	if h.length > metaBytesMax || h.parts > partsMax || 4*h.parts > h.length {
		return nil, fmt.Errorf("raftlog: frame of kind %d: length %d with %d parts, want at most %d with %d", h.kind, h.length, h.parts, metaBytesMax, partsMax)
	}
	payload := make([]byte, h.length)
	if _, err := io.ReadFull(f.r, payload); err != nil {
		return nil, noEOF(err)
	}
	if got := crc32.Checksum(payload, castagnoli); got != h.crc {
		return nil, fmt.Errorf("raftlog: frame of kind %d: crc %08x, want %08x", h.kind, got, h.crc)
	}
	m := &message{kind: h.kind, id: h.id, meta: payload[4*h.parts:]}
	if h.parts == 0 {
		return m, nil
	}
	if f.cur != nil {
		return nil, fmt.Errorf("raftlog: message %d begins inside message %d", h.id, f.cur.id)
	}
	total := 0
	f.left = f.left[:0]
	for i := range h.parts {
		n := int(binary.LittleEndian.Uint32(payload[4*i:]))
		total += n
		f.left = append(f.left, n)
	}
	if total > messageBytesMax {
		return nil, fmt.Errorf("raftlog: message of kind %d: %d bytes, want at most %d", h.kind, total, messageBytesMax)
	}
	m.parts = make([][]byte, 0, h.parts)
	f.cur, f.part, f.off = m, 0, 0
	f.skipEmpty()
	return f.finished(), nil
}

// data reads a data frame into the parts of the message under way, and returns it when it is complete.
func (f *frameReader) data(h frameHeader) (*message, error) {
	if f.cur == nil || h.id != f.cur.id {
		return nil, fmt.Errorf("raftlog: data frame of message %d, which is not under way", h.id)
	}
	crc := uint32(0)
	for left := h.length; left > 0; {
		if f.part == len(f.left) {
			return nil, fmt.Errorf("raftlog: message %d: %d bytes more than announced", h.id, left)
		}
		if f.off == 0 {
			f.cur.parts = append(f.cur.parts, alignedBytes(f.left[f.part]))
		}
		p := f.cur.parts[f.part][f.off:]
		p = p[:min(len(p), left)]
		if _, err := io.ReadFull(f.r, p); err != nil {
			return nil, noEOF(err)
		}
		crc = crc32.Update(crc, castagnoli, p)
		left -= len(p)
		if f.off += len(p); f.off == f.left[f.part] {
			f.part, f.off = f.part+1, 0
			f.skipEmpty()
		}
	}
	if crc != h.crc {
		return nil, fmt.Errorf("raftlog: data frame of message %d: crc %08x, want %08x", h.id, crc, h.crc)
	}
	return f.finished(), nil
}

func (f *frameReader) skipEmpty() {
	for f.part < len(f.left) && f.left[f.part] == 0 {
		f.cur.parts = append(f.cur.parts, []byte{})
		f.part++
	}
}

func (f *frameReader) finished() *message {
	if f.part < len(f.left) {
		return nil
	}
	m := f.cur
	f.cur = nil
	return m
}

// alignedBytes returns n bytes that begin on a multiple of 8: the runtime aligns blocks whose size is one.
func alignedBytes(n int) []byte {
	return make([]byte, (n+7)&^7)[:n:n]
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
