package query

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"nyala/store/batch"
)

// A stream of batches between nodes, and to the commands, is a row of frames:
//
//	4  length n of the entry, little endian; 0: the end, all rows were sent; 0xffffffff: an error follows
//	n  an entry of kind Rows (package batch)
//
// and for an error 4 bytes of length and its text. A stream that stops without an end or an error
// frame was cut: the reader says so, and never takes what it has for the whole.

const (
	frameEnd   = 0
	frameError = 1<<32 - 1
	frameMax   = 256 << 20
)

// ErrCut says that a stream of rows ended before its end frame.
var ErrCut = errors.New("the stream of rows was cut")

// StreamWriter writes batches as frames.
type StreamWriter struct {
	w   io.Writer
	buf []byte
}

// NewStreamWriter writes to w; End or Fail completes the stream.
func NewStreamWriter(w io.Writer) *StreamWriter { return &StreamWriter{w: w} }

// Write sends one batch.
func (s *StreamWriter) Write(b *batch.Batch) error {
	s.buf = batch.AppendRows(s.buf[:0], b, batch.Header{})
	var head [4]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(s.buf)))
	if _, err := s.w.Write(head[:]); err != nil {
		return err
	}
	_, err := s.w.Write(s.buf)
	return err
}

// End says that all rows were sent.
func (s *StreamWriter) End() error {
	var head [4]byte
	_, err := s.w.Write(head[:])
	return err
}

// Fail ends the stream with an error that the reader will return.
func (s *StreamWriter) Fail(cause error) error {
	text := cause.Error()
	out := binary.LittleEndian.AppendUint32(nil, frameError)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(text)))
	_, err := s.w.Write(append(out, text...))
	return err
}

// StreamReader reads what a StreamWriter wrote.
type StreamReader struct{ r io.Reader }

// NewStreamReader reads from r.
func NewStreamReader(r io.Reader) *StreamReader { return &StreamReader{r} }

// Next returns the next batch, which has memory of its own; io.EOF after the end frame, ErrCut when
// the stream stopped before it, and the sender's error if it sent one.
func (s *StreamReader) Next() (*batch.Batch, error) {
	n, err := s.length()
	if err != nil {
		return nil, err
	}
	switch {
	case n == frameEnd:
		return nil, io.EOF
	case n == frameError:
		if n, err = s.length(); err != nil {
			return nil, err
		}
		text := make([]byte, min(n, 64<<10))
		if _, err := io.ReadFull(s.r, text); err != nil {
			return nil, fmt.Errorf("query: %w: %w", ErrCut, err)
		}
		return nil, errors.New(string(text))
	case n > frameMax:
		return nil, fmt.Errorf("query: frame of %d bytes, want at most %d", n, frameMax)
	}
	entry := make([]byte, n)
	if _, err := io.ReadFull(s.r, entry); err != nil {
		return nil, fmt.Errorf("query: %w: %w", ErrCut, err)
	}
	p, err := batch.ParseWrite(entry)
	if err != nil {
		return nil, err
	}
	return &p.Batch, nil
}

func (s *StreamReader) length() (uint32, error) {
	var head [4]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return 0, fmt.Errorf("query: %w: %w", ErrCut, err)
	}
	return binary.LittleEndian.Uint32(head[:]), nil
}
