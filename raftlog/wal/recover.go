package wal

import (
	"fmt"
	"time"

	"nyala/store/vfs"
)

// recover reads the log in w.dir, verifies it, and makes w show it. It runs before anybody else has
// w, which is as good as the lock, and lets it do I/O.
func (w *WAL) recover() error {
	if err := vfs.MakeDir(w.fs, w.dir); err != nil {
		return fmt.Errorf("wal: make %s: %w", w.dir, err)
	}
	images, err := openImages(w.fs, w.dir, w.fs.OpenFile)
	if err != nil {
		return err
	}
	if err := w.load(images); err != nil {
		closeImages(images)
		w.mu.segments, w.mu.spares, w.mu.freed, w.writer.quarantine = nil, nil, nil, nil
		return err
	}
	return nil
}

func (w *WAL) load(images []*image) error {
	for _, img := range images {
		n, _ := slotNumber(img.name)
		w.mu.nextSlot = max(w.mu.nextSlot, n)
	}
	c, e, r, err := readLog(images)
	if err != nil {
		return err
	}
	if c.newest != nil {
		r.segmentOf(c.live[len(c.live)-1]) // it may have no drain yet
	}
	w.adopt(r)
	w.writer.number, w.writer.sequence, w.mu.durable = c.maxNumber(), e.last, e.last
	w.writer.switchNow, w.writer.proved = e.leftover || c.cut, r.proved
	if err := w.settle(c, e); err != nil {
		return err
	}
	w.shareOut(c)
	return nil
}

// adopt makes what was replayed the log's.
func (w *WAL) adopt(r *replay) {
	w.mu.segments = r.segments
	for id, from := range r.groups {
		g := w.groupLocked(id)
		g.first, g.next, g.values = from.first, from.next, from.values
		g.dropped, g.dropSegment = from.dropped, from.dropSegment
		g.moveStateLocked(from.stateSegment)
		if len(from.runs) > 0 {
			g.base, g.entries = from.runs[0].base, from.runs[0].entries
		}
		for i := range g.entries {
			g.entries[i].segment.refs++
		}
		g.planned = from.groupState
	}
}

// settle makes durable what was read: after a process was killed it may be in the page cache
// only. The last drain and the newest header are written again first, as they are, because a sync
// of the old process may have failed, and then the page cache calls clean what is not on the disk.
// Writing the same bytes over themselves harms nothing, wherever the power goes.
func (w *WAL) settle(c *chain, e *ending) error {
	if c.newest != nil {
		if err := rewrite(c.newest.slot, 0, c.newest.header.size()); err != nil {
			return err
		}
	}
	if e.scan != nil && e.scan.begin > 0 {
		if err := rewrite(e.scan.img.slot, e.scan.begin, e.scan.at-e.scan.begin); err != nil {
			return err
		}
	}
	for _, s := range w.mu.segments {
		if err := s.slot.file.Sync(); err != nil {
			return fmt.Errorf("wal: sync %s: %w", s.slot.name, err)
		}
	}
	if err := w.fs.SyncDir(w.dir); err != nil {
		return fmt.Errorf("wal: sync %s: %w", w.dir, err)
	}
	return nil
}

func rewrite(s *slot, off, n int64) error {
	b := make([]byte, n)
	k, err := readFull(s.file, b, off)
	if err == nil {
		_, err = s.file.WriteAt(b[:k], off)
	}
	if err != nil {
		return fmt.Errorf("wal: write %s at %d again: %w", s.name, off, err)
	}
	return nil
}

// shareOut gives each file its use: live segments, the current one, spares. After a cut the
// newest header on disk still lists files that are not live any more: they wait for the next one.
func (w *WAL) shareOut(c *chain) {
	if n := len(w.mu.segments); n > 0 {
		w.writer.segment = w.mu.segments[n-1]
	}
	w.mu.usage = usage{since: time.Now(), most: len(c.images)} // before the start, or they would not be there
	inUse := map[*slot]bool{}
	for _, s := range w.mu.segments {
		inUse[s.slot] = true
	}
	for _, img := range c.images {
		switch {
		case inUse[img.slot]:
		case c.cut:
			w.writer.quarantine = append(w.writer.quarantine, img.slot)
		case img.size == w.opts.SegmentBytes && len(w.mu.spares) < w.sparesMaxLocked():
			w.mu.spares = append(w.mu.spares, img.slot)
		default:
			w.mu.freed = append(w.mu.freed, img.slot)
		}
	}
}
