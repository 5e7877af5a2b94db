package raftlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"time"
)

// Files go over a connection of their own on the same port, so that TCP's flow control of a file never holds
// up the groups. The reader asks for (group, name, offset) and gets data frames, each with a checksum, closed
// by a frame that says the file is complete: a stream that breaks off is an error, never a short file.

// fileBuffer is for the headers of frames: their bytes are read past it.
const fileBuffer = 4 << 10

// Fetch opens a file of another node's group at an offset. Every frame must come within Timings.Stall of the
// last one; ctx ends the stream at any time.
func (l *Log) Fetch(ctx context.Context, node string, group GroupID, name string, off int64) (io.ReadCloser, error) {
	if l.ctx.Err() != nil {
		return nil, ErrStopped
	}
	dialCtx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, _, err := l.dial(dialCtx, node, purposeFile)
	if err != nil {
		return nil, fmt.Errorf("raftlog: fetch %s of group %d: %w: %w", name, group, ErrUnavailable, err)
	}
	s := &fileStream{log: l, conn: conn, r: bufio.NewReaderSize(conn, fileBuffer), name: name}
	s.stopCaller = context.AfterFunc(ctx, func() { conn.Close() })
	s.stopLog = context.AfterFunc(l.ctx, func() { conn.Close() })
	var e encoder
	e.u64(uint64(group))
	e.u64(uint64(off))
	e.string(name)
	if err := s.open(&message{kind: kindFetch, id: 1, meta: e.b}); err != nil {
		s.Close()
		return nil, fmt.Errorf("raftlog: fetch %s of group %d from %s: %w", name, group, node, err)
	}
	return s, nil
}

// fileStream is the receiving side of a file.
type fileStream struct {
	log                 *Log
	conn                net.Conn
	r                   *bufio.Reader
	name                string
	buf                 [frameHeaderBytes]byte
	chunk, rest         []byte
	err                 error
	stopCaller, stopLog func() bool
}

func (s *fileStream) open(m *message) error {
	if err := s.conn.SetDeadline(time.Now().Add(s.log.o.Timings.Stall)); err != nil {
		return err
	}
	if _, err := s.conn.Write(m.startFrame()); err != nil {
		return err
	}
	answer, err := (&frameReader{r: s.r}).next()
	if err != nil {
		return noEOF(err)
	}
	_, err = decodeStatus(answer.meta)
	var remote *remoteError
	if errors.As(err, &remote) && remote.status == statusUnavailable {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func (s *fileStream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 && s.err == nil {
		s.err = s.next()
	}
	if len(s.rest) == 0 {
		return 0, s.err
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// next reads one frame. A whole frame is checked before its bytes are given out.
func (s *fileStream) next() error {
	if err := s.conn.SetReadDeadline(time.Now().Add(s.log.o.Timings.Stall)); err != nil {
		return err
	}
	h, err := readHeader(s.r, &s.buf)
	if err != nil {
		return fmt.Errorf("raftlog: fetch %s: %w", s.name, noEOF(err))
	}
	if h.length > chunkBytes {
		return fmt.Errorf("raftlog: fetch %s: frame of %d bytes, want at most %d", s.name, h.length, chunkBytes)
	}
	if cap(s.chunk) < h.length {
		s.chunk = make([]byte, h.length) // the first frame is the largest
	}
	b := s.chunk[:h.length]
	if _, err := io.ReadFull(s.r, b); err != nil {
		return fmt.Errorf("raftlog: fetch %s: %w", s.name, noEOF(err))
	}
	if got := crc32.Checksum(b, castagnoli); got != h.crc {
		return fmt.Errorf("raftlog: fetch %s: crc %08x, want %08x", s.name, got, h.crc)
	}
	switch h.kind {
	case kindData:
		s.rest = b
		return nil
	case kindFileEnd:
		if len(b) > 0 {
			return fmt.Errorf("raftlog: fetch %s: the sender failed: %s", s.name, b)
		}
		return io.EOF
	default:
		return fmt.Errorf("raftlog: fetch %s: frame of kind %d", s.name, h.kind)
	}
}

func (s *fileStream) Close() error {
	s.stopCaller()
	s.stopLog()
	if s.err == nil {
		s.err = net.ErrClosed
	}
	s.rest = nil
	return s.conn.Close()
}

// sendFile serves one file connection.
func (l *Log) sendFile(conn net.Conn, h hello) error {
	if err := conn.SetDeadline(time.Now().Add(l.o.Timings.Stall)); err != nil {
		return err
	}
	m, err := (&frameReader{r: conn}).next()
	if err != nil {
		return err
	}
	d := &decoder{b: m.meta}
	group, off, name := GroupID(d.u64()), int64(d.u64()), d.string()
	if err := d.finish(); err != nil || m.kind != kindFetch {
		return fmt.Errorf("raftlog: file request of kind %d: %w", m.kind, err)
	}
	select {
	case l.sending <- struct{}{}:
		defer func() { <-l.sending }()
	default:
		return l.refuseFile(conn, m.id, statusUnavailable, fmt.Sprintf("node %s sends %d files already", l.o.Node, filesMax))
	}
	if l.o.Files == nil {
		return l.refuseFile(conn, m.id, statusError, "node "+l.o.Node+" serves no files")
	}
	f, err := l.o.Files(group, name, off)
	if err != nil {
		return l.refuseFile(conn, m.id, statusError, err.Error())
	}
	defer f.Close()
	if _, err := conn.Write((&message{kind: kindReply, id: m.id, meta: encodeStatus(statusOK, "")}).startFrame()); err != nil {
		return err
	}
	return l.streamFile(conn, f)
}

func (l *Log) refuseFile(conn net.Conn, id uint64, s status, text string) error {
	_, err := conn.Write((&message{kind: kindReply, id: id, meta: encodeStatus(s, text)}).startFrame())
	return errors.Join(errors.New(text), err)
}

// fileFrame is a data frame of a file. They are kept between files, most of which are small.
type fileFrame [frameHeaderBytes + chunkBytes]byte

var fileFrames = sync.Pool{New: func() any { return new(fileFrame) }}

func (l *Log) streamFile(conn net.Conn, f io.Reader) error {
	kept := fileFrames.Get().(*fileFrame)
	defer fileFrames.Put(kept)
	buf := kept[:]
	for {
		n, err := 0, error(nil)
		for n < chunkBytes && err == nil {
			var k int
			k, err = f.Read(buf[frameHeaderBytes+n:])
			n += k
		}
		if err := conn.SetWriteDeadline(time.Now().Add(l.o.Timings.Stall)); err != nil {
			return err
		}
		if n > 0 {
			b := buf[:frameHeaderBytes+n]
			appendHeader(b[:0], kindData, 0, 1, n, crc32.Checksum(b[frameHeaderBytes:], castagnoli))
			if _, err := conn.Write(b); err != nil {
				return err
			}
		}
		if err == nil {
			continue
		}
		text := ""
		if err != io.EOF {
			text = err.Error()
		}
		end := append(appendHeader(nil, kindFileEnd, 0, 1, len(text), crc32.Checksum([]byte(text), castagnoli)), text...)
		_, err = conn.Write(end)
		return err
	}
}
