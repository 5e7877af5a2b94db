package wal

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"nyala/store/vfs"
)

// slot is a file that holds the life of one segment after another. What is written over an old life
// is faster to sync than what makes a file grow: its blocks are there already.
type slot struct {
	name string   // without the directory
	file vfs.File // for reading, and for what recovery writes

	// Guarded by its holder: the writer, the tidier, or the lists in WAL.mu.
	size   int64
	direct vfs.File // for writing past the page cache; nil: not opened yet; file: not wanted
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

// close closes all handles. What counts was synced, so that only who removes the file cares.
func (s *slot) close() error {
	err := s.file.Close()
	if s.direct != nil && s.direct != s.file {
		err = errors.Join(err, s.direct.Close())
	}
	return err
}

// openDirect opens a slot for writing, past the page cache if drains are synced: then the copy that
// would be left in it is of little use, and making it the most expensive part of a write. A file that
// can not be opened a second time is written through the handle that it has.
func (w *WAL) openDirect(s *slot) {
	if s.direct != nil {
		return
	}
	if !w.opts.PageCache {
		if file, err := vfs.OpenDirect(w.fs, path.Join(w.dir, s.name)); err == nil {
			s.direct = file
			return
		}
	}
	s.direct = s.file
}

// gatherBytes is the most that one direct write carries: large enough for what the drains of a busy
// log have, small enough to stay in the processor's cache. The memory for it grows with the drains.
const gatherFirst, gatherBytes = 64 << 10, 2 << 20

// write writes the buffers, which together begin and end at a multiple of pageSize. A direct write
// needs them in one piece of aligned memory: that copy, into memory that stays in the processor's
// cache, costs far less than the one into the page cache.
func (s *slot) write(bufs [][]byte, off int64, gather *[]byte) (int, error) {
	if s.direct == s.file {
		return s.file.WritevAt(bufs, off)
	}
	all := 0
	for _, b := range bufs {
		all += len(b)
	}
	if len(*gather) < min(all, gatherBytes) {
		*gather = vfs.AlignedBytes(min(max(gatherFirst, 1<<bits.Len(uint(all-1))), gatherBytes))
	}
	total, used := 0, 0
	flush := func() error {
		n, err := s.direct.WriteAt((*gather)[:used], off+int64(total))
		total, used = total+n, 0
		return err
	}
	for _, b := range bufs {
		for len(b) > 0 {
			if used == len(*gather) {
				if err := flush(); err != nil {
					return total, err
				}
			}
			n := copy((*gather)[used:], b)
			used, b = used+n, b[n:]
		}
	}
	return total, flush()
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

// usage is how many segments the log needed at most, in the window that runs and in the one before.
type usage struct {
	since        time.Time
	most, before int
}

// usageWindow is longer than a log takes to grow and be cut: tablets are flushed every two minutes or more often.
const usageWindow = 10 * time.Minute

// noteUsageLocked is called when a segment begins.
func (w *WAL) noteUsageLocked() {
	u := &w.mu.usage
	if now := time.Now(); now.Sub(u.since) >= usageWindow {
		u.since, u.before, u.most = now, u.most, 0
	}
	u.most = max(u.most, len(w.mu.segments))
}

// sparesMaxLocked is how many free files are kept. A log that is cut needs the room again soon: to remove files and to fill new ones
// doubles what is written, and a file system that discards the blocks of what is removed holds up syncs meanwhile.
func (w *WAL) sparesMaxLocked() int {
	if !w.opts.sparesFollow {
		return w.opts.SpareSegments
	}
	return max(w.opts.SpareSegments, max(w.mu.usage.most, w.mu.usage.before)+sparesAhead-len(w.mu.segments))
}

// sparesAhead is how many files are made ready before they are needed. More come from segments that
// are done with, up to sparesMaxLocked.
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
	spares, most := len(w.mu.spares), w.sparesMaxLocked()
	switch {
	case w.mu.err != nil || w.mu.closed:
	case w.mu.syncFirst:
		sync = true
	case len(w.mu.freed) > 0:
		s = w.mu.freed[0]
		w.mu.freed = slices.Delete(w.mu.freed, 0, 1)
		// A file that one huge record made larger is not worth its room.
		keep = spares < most && s.size <= w.opts.SegmentBytes
	case spares > most:
		s = w.mu.spares[spares-1]
		w.mu.spares = w.mu.spares[:spares-1]
	default:
		coming := len(w.writer.quarantine) // free in a moment, when the drain that is being written is synced
		create = spares+coming < min(sparesAhead, w.opts.SpareSegments)
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
		w.opts.reached(SegmentRemoving)
		err := s.close()
		return errors.Join(err, w.fs.Remove(path.Join(w.dir, s.name)))
	}
	w.opts.reached(SegmentFilling)
	err := w.fill(s)
	if err != nil && err != ErrClosed {
		// A file of which a sync failed is not worth a second try.
		return errors.Join(err, s.close(), w.fs.Remove(path.Join(w.dir, s.name)))
	}
	if err == nil {
		w.opts.reached(SegmentRecycled)
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
	w.openDirect(s)
	zeros := vfs.AlignedBytes(int(min(chunk, w.opts.SegmentBytes)))
	if n := padded(s.size) - s.size; n > 0 {
		// A crash left the file with a part of a page, which only a plain write can fill.
		if _, err := s.file.WriteAt(zeros[:n], s.size); err != nil {
			return err
		}
		s.size += n
	}
	if s.size == 0 {
		blank := segmentHeader{}
		header := zeros[:copy(zeros, blank.encode())]
		if err := s.append(header); err != nil {
			return err
		}
		clear(header)
	}
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
			if err := s.direct.Sync(); err != nil {
				return err
			}
		}
	}
	if err := s.direct.Sync(); err != nil {
		return err
	}
	return w.fs.SyncDir(w.dir)
}

func (s *slot) append(p []byte) error {
	n, err := s.direct.WriteAt(p, s.size)
	s.size += int64(n)
	return err
}
