package wal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"nyala/store/vfs"
)

var (
	// ErrNotFound says that a log has no entry of that index. It is returned as it is, never
	// wrapped, because raft compares it with ==.
	ErrNotFound = errors.New("wal: no such entry")
	// ErrCorrupt says that something is lost or changed that had been synced. The error that wraps
	// it is a Problem, which names the file and the offset.
	ErrCorrupt = errors.New("wal: corrupt")
	// ErrDeadline says that a write or sync took longer than WriteTimeout. The log is poisoned.
	ErrDeadline = errors.New("wal: the disk did not answer in time")
	// ErrClosed is the answer of a closed log.
	ErrClosed = errors.New("wal: closed")

	errVersion = errors.New("written by a version that this one does not know")
)

// Record is one log entry. Its slices are kept by the log after Append, and shared by all who Get
// it: nobody changes them.
type Record struct {
	Index, Term uint64
	Kind        uint8
	Data        []byte
	Extensions  []byte
	AppendedAt  int64 // the caller's own clock reading
}

// Options of a log. The zero value of a field means its default.
type Options struct {
	SegmentBytes  int64                                 // size of a segment, a multiple of 4096; 0 means 64 MiB
	SpareSegments int                                   // free segments kept for use again; 0 means 4, or what the log needed of late; negative none
	CacheBytes    int64                                 // newest entries kept in memory, all groups together; 0 means 64 MiB, negative none
	DrainBytes    int64                                 // at most so much in one write, except for one larger record; 0 means 8 MiB
	WriteTimeout  time.Duration                         // a write and its sync may take so long; 0 means 1s, negative for ever
	PageCache     bool                                  // never sync: a power cut loses acknowledged entries, a killed process does not
	OnSync        func(took time.Duration, bytes int64) // told of each write and its sync, by the writer; it must be quick
	SlowWrite     time.Duration                         // OnSlow is told of a write that is under way for so long; 0 means never
	OnSlow        func()                                // must be quick, and may be called once more when the write has just ended
	OnFailed      func(err error)                       // told once that the log is poisoned, before anybody is answered so; must be quick
	Reached       func(Point)                           // told of each step; only tests set it
	Salt          func() uint64                         // makes the salt of a segment's life; nil means random

	sparesFollow bool // SpareSegments is the least
}

func (o *Options) setDefaults() {
	o.SegmentBytes = valueOr(o.SegmentBytes, 64<<20)
	o.sparesFollow = o.SpareSegments == 0
	o.SpareSegments = max(0, valueOr(o.SpareSegments, 4))
	o.CacheBytes = max(0, valueOr(o.CacheBytes, 64<<20))
	o.DrainBytes = valueOr(o.DrainBytes, 8<<20)
	o.WriteTimeout = valueOr(o.WriteTimeout, time.Second)
	if o.Salt == nil {
		o.Salt = randomSalt
	}
}

func valueOr[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

func randomSalt() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

func (o *Options) validate() error {
	var faults []error
	if o.SegmentBytes < 4*pageSize || o.SegmentBytes%pageSize != 0 || o.SegmentBytes > recordBytesMax {
		faults = append(faults, fmt.Errorf("wal: options: segment bytes %d, want a multiple of %d from %d to %d",
			o.SegmentBytes, pageSize, 4*pageSize, recordBytesMax))
	}
	if o.DrainBytes < 0 || o.DrainBytes > recordBytesMax {
		faults = append(faults, fmt.Errorf("wal: options: drain bytes %d, want up to %d", o.DrainBytes, recordBytesMax))
	}
	return errors.Join(faults...)
}

// WAL is the write-ahead log of a node: the logs of all its groups in one sequence of segments, so
// that one sync makes durable what all of them wait for.
//
// The writer goroutine takes what waits, writes it as one drain, syncs once, and answers all. While
// it does that the next ones gather: the slower the disk, the larger the drains. A log per group
// would sync as often as there are groups, and N syncs at once cost the disk about as much as N
// one after another.
//
// Invariants:
//   - A drain is written only after the one before it was synced (not with PageCache). So a valid
//     drain proves that every byte before it had been durable, and only the last one may be torn.
//   - What a group's index shows is durable. The index follows the file, never the other way.
//   - A segment's file is used again only after the header of a later segment, which no longer
//     lists it as live, was synced. So whatever a crash leaves, the newest header that can be read
//     lists only files that nobody has touched.
//   - After a write or sync that failed or hung nothing is written any more: the state of the file
//     is unknown, and a second sync that succeeds would prove nothing.
type WAL struct {
	fs   vfs.FS
	dir  string
	opts Options

	wake    chan struct{} // for the writer: there is something to write
	tidy    chan struct{} // for the tidier: there is something to prepare or remove
	closing chan struct{} // closed by Close
	written chan struct{} // closed when the writer has ended
	tidied  chan struct{} // closed when the tidier has ended
	writer  writer        // the writer goroutine's own
	mu      struct {      // never held across I/O, a channel or a callback
		sync.Mutex
		err       error // the poison; never changes once set
		closed    bool
		queue     []*request // bounded by its senders: each waits for its answer
		inflight  []*request // taken by the writer, not answered
		groups    map[uint64]*GroupLog
		dirty     []*GroupLog // their state is to be written with the next drain
		segments  []*segment  // by number; the last one is written to
		spares    []*slot     // ready to become a segment
		freed     []*slot     // for the tidier to make ready or remove
		usage     usage
		nextSlot  uint64 // number of the newest file
		durable   uint64 // sequence of the last drain that is known to be synced
		syncFirst bool   // before freed is used: PageCache has not synced what made it free
		cache     cache
		stats     Stats
	}
}

// segment is the life of a slot as a part of the log.
type segment struct {
	identity
	seed  uint32
	slot  *slot
	first uint64 // sequence of its first drain

	// The rest is guarded by WAL.mu.
	end    int64  // where the next drain goes
	last   uint64 // sequence of its last drain; first-1 when it has none
	refs   int    // entries and states in it that are needed
	states int    // of which states, which can be written again elsewhere
}

// Stats are counts since Open, and sizes now.
type Stats struct {
	Syncs      int64 // also counts writes without a sync when PageCache is set
	Records    int64
	Bytes      int64 // written to segments, with headers and padding
	Segments   int   // that are needed
	Spares     int   // files that are free
	LogBytes   int64 // of the segments that are needed
	CacheBytes int64
	Groups     int
	SpareError error // why the newest attempt to make a spare file or to remove one failed
}

// Pin says what a group holds on to.
type Pin struct {
	Group   uint64
	Segment uint64 // the oldest segment that has an entry of the group
	First   uint64 // index of the group's first entry
	Bytes   int64  // of all segments from that one on: what could go at most if the group let go
}

// Open opens the log in a directory, and creates it if it is not there. It reads and verifies every
// record that is needed. An error that is ErrCorrupt means that something durable was lost.
func Open(fsys vfs.FS, dir string, opts Options) (*WAL, error) {
	opts.setDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	w := &WAL{
		fs: fsys, dir: dir, opts: opts,
		wake: make(chan struct{}, 1), tidy: make(chan struct{}, 1), closing: make(chan struct{}),
		written: make(chan struct{}), tidied: make(chan struct{}),
	}
	w.mu.groups = map[uint64]*GroupLog{}
	w.mu.cache.limit = opts.CacheBytes
	if err := w.recover(); err != nil {
		w.closeFiles()
		return nil, err
	}
	go w.write()
	go w.keepTidy()
	return w, nil
}

// Group returns a group's log, an empty one if it was never used.
func (w *WAL) Group(id uint64) *GroupLog {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.groupLocked(id)
}

func (w *WAL) groupLocked(id uint64) *GroupLog {
	g := w.mu.groups[id]
	if g == nil {
		g = &GroupLog{wal: w, id: id}
		w.mu.groups[id] = g
	}
	return g
}

// Groups returns the ids of all groups of which the log holds anything, in order.
func (w *WAL) Groups() []uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(w.groupIDsLocked(), func(id uint64) bool {
		g := w.mu.groups[id]
		return g.dropped || (g.state == nil && len(g.entries) == 0)
	})
}

func (w *WAL) groupIDsLocked() []uint64 { return slices.Sorted(maps.Keys(w.mu.groups)) }

// Err returns why the log can not be written any more, nil if it can.
func (w *WAL) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.err
}

// Pins returns what each group with entries holds on to, the oldest segment first.
func (w *WAL) Pins() []Pin {
	w.mu.Lock()
	defer w.mu.Unlock()
	var pins []Pin
	for id, g := range w.mu.groups {
		if g.first >= g.next {
			continue
		}
		pin := Pin{Group: id, Segment: g.entries[g.first-g.base].segment.number, First: g.first}
		for _, s := range w.mu.segments {
			if s.number >= pin.Segment {
				pin.Bytes += s.end
			}
		}
		pins = append(pins, pin)
	}
	slices.SortFunc(pins, func(a, b Pin) int {
		if a.Segment != b.Segment {
			return compare(a.Segment, b.Segment)
		}
		return compare(a.Group, b.Group)
	})
	return pins
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Stats returns the counters.
func (w *WAL) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.mu.stats
	s.Segments, s.Spares = len(w.mu.segments), len(w.mu.spares)+len(w.mu.freed)
	for _, seg := range w.mu.segments {
		s.LogBytes += seg.end
	}
	s.CacheBytes = w.mu.cache.bytes
	s.Groups = len(w.mu.groups)
	return s
}

// Close writes what waits, ends the goroutines and closes the files. If the disk hangs it waits no
// longer than WriteTimeout, leaves the hung goroutine behind, and says so.
func (w *WAL) Close() error {
	w.mu.Lock()
	if w.mu.closed {
		w.mu.Unlock()
		return ErrClosed
	}
	w.mu.closed = true
	w.mu.Unlock()
	close(w.closing)

	var limit <-chan time.Time
	if w.opts.WriteTimeout > 0 {
		timer := time.NewTimer(2 * w.opts.WriteTimeout)
		defer timer.Stop()
		limit = timer.C
	}
	for _, ended := range []chan struct{}{w.written, w.tidied} {
		select {
		case <-ended:
		case <-limit:
			return fmt.Errorf("wal: close %s: the disk still hangs: %w", w.dir, ErrDeadline)
		}
	}
	w.closeFiles()
	return w.Err()
}

// closeFiles runs when no goroutine uses the files any more. They were synced where it counts, so
// that there is nothing that an error of a close could tell.
func (w *WAL) closeFiles() {
	w.mu.Lock()
	slots := slices.Concat(w.mu.spares, w.mu.freed, w.writer.quarantine)
	for _, s := range w.mu.segments {
		slots = append(slots, s.slot)
	}
	w.mu.Unlock()
	for _, s := range slots {
		s.close()
	}
}

// poison makes err the answer to every request from now on, and to those that wait.
func (w *WAL) poison(err error) {
	w.mu.Lock()
	first := w.mu.err == nil
	if first {
		w.mu.err = err
	}
	w.mu.Unlock()
	if first && w.opts.OnFailed != nil {
		w.opts.OnFailed(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(w.mu.err)
}

func (w *WAL) failLocked(err error) {
	for _, r := range append(w.mu.inflight, w.mu.queue...) {
		r.answer(err)
	}
	w.mu.inflight, w.mu.queue = nil, nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func must(ok bool, format string, args ...any) {
	if !ok {
		panic("wal: " + fmt.Sprintf(format, args...))
	}
}
