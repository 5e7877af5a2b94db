package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var errShort = errors.New("raftlog: message: shorter than its fields")

// encoder appends little-endian fields; byte strings carry their length in 4 bytes.
type encoder struct{ b []byte }

func (e *encoder) u8(v uint8)      { e.b = append(e.b, v) }
func (e *encoder) u16(v uint16)    { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32)    { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64)    { e.b = binary.LittleEndian.AppendUint64(e.b, v) }
func (e *encoder) bytes(v []byte)  { e.u32(uint32(len(v))); e.b = append(e.b, v...) }
func (e *encoder) string(v string) { e.u32(uint32(len(v))); e.b = append(e.b, v...) }
func (e *encoder) bool(v bool) {
	if v {
		e.u8(1)
	} else {
		e.u8(0)
	}
}

// decoder reads what encoder wrote. After the first field that is not there, all are zero and err says so.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		d.err = errShort
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8() uint8 {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if v := d.take(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if v := d.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) bytes() []byte  { return d.take(int(d.u32())) }
func (d *decoder) string() string { return string(d.bytes()) }
func (d *decoder) bool() bool     { return d.u8() == 1 }

// finish reports a message that is too short, or too long.
func (d *decoder) finish() error {
	if d.err == nil && len(d.b) > 0 {
		return fmt.Errorf("raftlog: message: %d bytes behind its last field", len(d.b))
	}
	return d.err
}

// status is the first byte of every answer.
type status uint8

const (
	statusOK          status = 0
	statusError       status = 1 // followed by a text
	statusUnavailable status = 2 // surely nothing was done: not the leader, too busy, no such group
	statusUnknown     status = 3 // it may have been done
)

// remoteError is an answer that is not statusOK.
type remoteError struct {
	status status
	text   string
}

func (e *remoteError) Error() string { return "raftlog: peer answers: " + e.text }

func encodeStatus(s status, text string) []byte {
	var e encoder
	e.u8(uint8(s))
	if s != statusOK {
		e.string(text)
	}
	return e.b
}

// decodeStatus returns the decoder of what follows a statusOK, or the error that the answer is.
func decodeStatus(meta []byte) (*decoder, error) {
	d := &decoder{b: meta}
	s := status(d.u8())
	if d.err != nil {
		return nil, d.err
	}
	if s != statusOK {
		return nil, &remoteError{s, d.string()}
	}
	return d, nil
}
