package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"
)

const (
	helloMagic     = 0x414c594e // "NYLA"
	helloVersion   = 1
	helloBytesMax  = 4 << 10
	handshakeLimit = 5 * time.Second
)

// purpose says what a connection is for.
type purpose uint8

const (
	purposeMessages purpose = 1
	purposeFile     purpose = 2
)

// hello is what the dialling side says first.
type hello struct {
	purpose           purpose
	cluster           string
	node, incarnation string // who dials
	to                string // the node that it wants to talk to
}

// errRefused is a handshake that the other side turned down: another cluster, another node, another version.
var errRefused = errors.New("raftlog: connection refused by the peer")

// writeBlock writes magic, version, length, crc and payload: both sides of the handshake look like this.
func writeBlock(w io.Writer, payload []byte) error {
	var e encoder
	e.u32(helloMagic)
	e.u16(helloVersion)
	e.u16(uint16(len(payload)))
	e.u32(crc32.Checksum(payload, castagnoli))
	_, err := w.Write(append(e.b, payload...))
	return err
}

func readBlock(r io.Reader) (*decoder, error) {
	var b [12]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, fmt.Errorf("raftlog: handshake: %w", err)
	}
	if magic := binary.LittleEndian.Uint32(b[0:]); magic != helloMagic {
		return nil, fmt.Errorf("raftlog: handshake: magic %08x, want %08x: this is no Nyala peer", magic, helloMagic)
	}
	if version := binary.LittleEndian.Uint16(b[4:]); version != helloVersion {
		return nil, fmt.Errorf("raftlog: handshake: protocol version %d, want %d", version, helloVersion)
	}
	payload := make([]byte, binary.LittleEndian.Uint16(b[6:]))
	if len(payload) > helloBytesMax {
		return nil, fmt.Errorf("raftlog: handshake: %d bytes, want at most %d", len(payload), helloBytesMax)
	}
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, fmt.Errorf("raftlog: handshake: %w", noEOF(err))
	}
	if got, want := crc32.Checksum(payload, castagnoli), binary.LittleEndian.Uint32(b[8:]); got != want {
		return nil, fmt.Errorf("raftlog: handshake: crc %08x, want %08x", got, want)
	}
	return &decoder{b: payload}, nil
}

// greet does the dialling side's part of a handshake and returns the incarnation of the node it reached.
func greet(conn net.Conn, h hello) (incarnation string, err error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		return "", err
	}
	var e encoder
	e.u8(uint8(h.purpose))
	e.string(h.cluster)
	e.string(h.node)
	e.string(h.incarnation)
	e.string(h.to)
	if err := writeBlock(conn, e.b); err != nil {
		return "", err
	}
	d, err := readBlock(conn)
	if err != nil {
		return "", err
	}
	ok, incarnation, text := d.bool(), d.string(), d.string()
	if err := d.finish(); err != nil {
		return "", err
	}
	if !ok {
		return "", fmt.Errorf("%w: %s", errRefused, text)
	}
	return incarnation, conn.SetDeadline(time.Time{})
}

// welcome does the listening side's part. A caller that is turned down is told why.
func welcome(conn net.Conn, cluster, node, incarnation string) (hello, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		return hello{}, err
	}
	d, err := readBlock(conn)
	if err != nil {
		return hello{}, err
	}
	h := hello{purpose: purpose(d.u8()), cluster: d.string(), node: d.string(), incarnation: d.string(), to: d.string()}
	if err := d.finish(); err != nil {
		return hello{}, err
	}
	var text string
	switch {
	case h.cluster != cluster:
		text = fmt.Sprintf("cluster of %s is %q, cluster of %s is %q", h.node, h.cluster, node, cluster)
	case h.to != node:
		text = fmt.Sprintf("%s wants to reach node %q, this is %q", h.node, h.to, node)
	case h.purpose != purposeMessages && h.purpose != purposeFile:
		text = fmt.Sprintf("connection purpose %d is not known", h.purpose)
	}
	var e encoder
	e.bool(text == "")
	e.string(incarnation)
	e.string(text)
	if err := writeBlock(conn, e.b); err != nil {
		return hello{}, err
	}
	if text != "" {
		return hello{}, fmt.Errorf("raftlog: handshake: %s", text)
	}
	return h, conn.SetDeadline(time.Time{})
}
