package wal

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"nyala/store/vfs"
)

// slot is a file that holds the life of one segment after another. What is written over an old life
// is faster to sync than what makes a file grow: its blocks are there already.
type slot struct {
	name string // without the directory
	file vfs.File
	size int64 // guarded by its holder: the writer, the tidier, or the lists in WAL.mu
}

const slotSuffix = ".wal"

// slotNumber returns the number in a slot's name, and whether the name is one.
func slotNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, slotSuffix)
	if !ok || len(digits) < 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	return n, err == nil
}

// readFull reads b, or up to the end of the file, and tells a short file from an error.
func readFull(file vfs.File, b []byte, off int64) (int, error) {
	n, err := file.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// createSlot makes a new, empty file. Its name is not durable yet.
func (w *WAL) createSlot() (*slot, error) {
	w.mu.Lock()
	w.mu.nextSlot++
	s := &slot{name: fmt.Sprintf("%08d%s", w.mu.nextSlot, slotSuffix)}
	w.mu.Unlock()
	file, err := w.fs.Create(path.Join(w.dir, s.name))
	if err != nil {
		return nil, fmt.Errorf("wal: create %s: %w", s.name, err)
	}
	s.file = file
	return s, nil
}

// takeSpare returns a file that is ready for a new segment, nil if there is none.
func (w *WAL) takeSpare() *slot {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mu.spares) == 0 {
		return nil
	}
	s := w.mu.spares[0]
	w.mu.spares = slices.Delete(w.mu.spares, 0, 1)
	return s
}

// sparesAhead is how many files are made ready before they are needed. More come from segments that
// are done with, up to SpareSegments.
const sparesAhead = 2

// keepTidy is the tidier goroutine: it makes files that are done with ready to be used again,
// removes those that are too many, and creates new ones ahead of their use. An error makes it wait
// until it is called again: the log can be written without spares, only slower, and a disk that is
// full or broken will tell the writer.
func (w *WAL) keepTidy() {
	defer close(w.tidied)
	for {
		more, err := w.tidyOnce()
		if err != nil {
			w.mu.Lock()
			w.mu.stats.SpareError = err
			w.mu.Unlock()
		}
		if more && err == nil {
			continue
		}
		select {
		case <-w.tidy:
		case <-w.closing:
			return
		}
	}
}

// tidyOnce does one thing that is to be done, and reports whether there was one.
func (w *WAL) tidyOnce() (more bool, err error) {
	var s *slot
	var sync, keep, create bool
	w.mu.Lock()
	spares := len(w.mu.spares)
	switch {
	case w.mu.err != nil || w.mu.closed:
	case w.mu.syncFirst:
		sync = true
	case len(w.mu.freed) > 0:
		s = w.mu.freed[0]
		w.mu.freed = slices.Delete(w.mu.freed, 0, 1)
		// A file that one huge record made larger is not worth its room.
		keep = spares < w.opts.SpareSegments && s.size <= w.opts.SegmentBytes
	default:
		create = spares < min(sparesAhead, w.opts.SpareSegments)
	}
	w.mu.Unlock()
	switch {
	case sync:
		return true, w.syncAll()
	case create:
		keep = true
		if s, err = w.createSlot(); err != nil {
			return true, err
		}
	case s == nil:
		return false, nil
	}
	return true, w.tidyUp(s, keep)
}

func (w *WAL) tidyUp(s *slot, keep bool) error {
	if !keep {
		err := s.file.Close()
		return errors.Join(err, w.fs.Remove(path.Join(w.dir, s.name)))
	}
	err := w.fill(s)
	if err != nil && err != ErrClosed {
		// A file of which a sync failed is not worth a second try.
		return errors.Join(err, s.file.Close(), w.fs.Remove(path.Join(w.dir, s.name)))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.mu.spares = append(w.mu.spares, s)
	} else {
		w.mu.freed = append(w.mu.freed, s) // closed in the middle: the next Open goes on with it
	}
	return nil
}

// fill writes a file to its full size, with zeros, and makes it durable. It syncs often, so that the
// writer's syncs never wait behind much of it.
func (w *WAL) fill(s *slot) error {
	const chunk, syncEvery = 1 << 20, 4 << 20
	if s.size >= w.opts.SegmentBytes {
		return nil
	}
	if s.size == 0 {
		blank := segmentHeader{}
		if err := s.append(blank.encode()); err != nil {
			return err
		}
	}
	zeros := make([]byte, min(chunk, w.opts.SegmentBytes))
	for s.size < w.opts.SegmentBytes {
		select {
		case <-w.closing:
			return ErrClosed
		default:
		}
		before := s.size
		if err := s.append(zeros[:min(int64(len(zeros)), w.opts.SegmentBytes-s.size)]); err != nil {
			return err
		}
		if before/syncEvery != s.size/syncEvery {
			if err := s.file.Sync(); err != nil {
				return err
			}
		}
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	return w.fs.SyncDir(w.dir)
}

func (s *slot) append(p []byte) error {
	n, err := s.file.WriteAt(p, s.size)
	s.size += int64(n)
	return err
}
