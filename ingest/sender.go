package ingest

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Answer is what applying an entry came to.
type Answer struct {
	Status    Status
	Segment   int   // Refused, Stale: the segment that was not taken
	Timestamp int64 // Applied: when the rows became readable, microseconds since 1970
	Rows      int   // rows that took effect
	Seen      int   // rows dropped because the ledger was past them
}

// Status of an Answer.
type Status uint8

// The statuses. An entry that was not Applied changed nothing.
const (
	Applied Status = iota
	Refused        // a segment would leave a hole
	Stale          // a segment was decided under settings that are no longer taken
)

// SenderOptions of a Sender.
type SenderOptions struct {
	// Write proposes an entry to a tablet's group and waits until it is applied. The entry must not be changed
	// afterwards. An error leaves its fate open and it is written again as it was; ErrTabletGone is final.
	Write      func(ctx context.Context, tablet uint64, entry []byte) (Answer, error)
	EntryRows  int // most rows an entry takes before the next is begun; 0 means 16384
	EntryBytes int // likewise bytes; 0 means 512 KiB
	EntryRate  int // most entries a second, of all tablets; 0 means 500 for each that GOMAXPROCS allows to run
	Logger     *slog.Logger
	Reached    func(Point) // told of each step; only tests set it
	broken     mistake     // likewise
}

// Sender brings rows to tablets: a queue for each, and one entry in flight for each.
//
// The size of entries follows the load without a timer. An idle tablet gets what there is at once; while an entry
// is on its way the queue gathers, and the next entry takes all of it up to a bound. So latency is one round trip
// when there is little to do, and entries have their best size when there is much; where that much is for hundreds of tablets, pace
// sees to it.
type Sender struct {
	options SenderOptions
	pace    pace
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	mu      struct {
		sync.Mutex
		queues   map[uint64]*tabletQueue
		builders []*entryBuilder // free ones
		closed   bool
	}
}

// buildersMax bounds the free builders: each has up to a megabyte, and no more are at work at a time than there are
// processors. With one for each queue a thousand tablets would hold a gigabyte.
const buildersMax = 8

// build makes the entry of pieces, or the one that brings the lane of distant up to it. owners are those of its segments.
func (s *Sender) build(pieces []piece, distant *piece) (entry []byte, owners []*owner) {
	s.mu.Lock()
	b := &entryBuilder{broken: s.options.broken}
	if n := len(s.mu.builders); n > 0 {
		b, s.mu.builders = s.mu.builders[n-1], s.mu.builders[:n-1]
	}
	s.mu.Unlock()
	if distant != nil {
		entry, _ = b.buildAdvance(distant)
	} else {
		entry, _ = b.build(pieces)
	}
	owners = slices.Clone(b.owners)
	b.forget()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.builders) < buildersMax {
		s.mu.builders = append(s.mu.builders, b)
	}
	return entry, owners
}

// NewSender starts nothing yet; Close it in the end, after the connectors that use it.
func NewSender(o SenderOptions) *Sender {
	setDefault(&o.EntryRows, 16384)
	setDefault(&o.EntryBytes, 512<<10)
	setDefault(&o.EntryRate, entriesPerProcessor*runtime.GOMAXPROCS(0))
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Sender{options: o, pace: newPace(o.EntryRate)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.mu.queues = map[uint64]*tabletQueue{}
	return s
}

// Close abandons what is not answered yet and waits for the goroutines.
func (s *Sender) Close() {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
}

// tabletQueue is the pieces that wait for one tablet. Its goroutine exists while there are any.
type tabletQueue struct {
	sender *Sender
	tablet uint64
	mu     struct {
		sync.Mutex
		pieces  []piece
		running bool
	}
}

// send queues a piece. After Close it is abandoned.
func (s *Sender) send(tablet uint64, p piece) {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		p.chunk.release(false)
		return
	}
	q := s.mu.queues[tablet]
	if q == nil {
		q = &tabletQueue{sender: s, tablet: tablet}
		s.mu.queues[tablet] = q
	}
	q.mu.Lock()
	q.mu.pieces = append(q.mu.pieces, p)
	start := !q.mu.running
	q.mu.running = true
	q.mu.Unlock()
	if start {
		s.wg.Add(1)
		go q.run()
	}
	s.mu.Unlock()
}

// run sends until nothing is left. Sender.Close waits for it.
func (q *tabletQueue) run() {
	defer q.sender.wg.Done()
	for q.more() {
		q.sender.pace.wait(q.sender.ctx)
		pieces := q.take()
		if q.sender.options.broken == inFlight {
			q.deliverAhead(pieces)
			continue
		}
		q.deliver(pieces)
	}
}

// more tells whether pieces wait. If not, the goroutine ends.
func (q *tabletQueue) more() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.running = len(q.mu.pieces) > 0
	return q.mu.running
}

// take removes the pieces of the next entry from the queue: rows of one schema, all with origins or all without,
// up to the bounds but at least one piece.
func (q *tabletQueue) take() []piece {
	q.mu.Lock()
	defer q.mu.Unlock()
	rows, bytes, n := 0, 0, 0
	for n < len(q.mu.pieces) {
		p, first := &q.mu.pieces[n], &q.mu.pieces[0]
		rows, bytes = rows+len(p.rows), bytes+p.bytes
		full := rows > q.sender.options.EntryRows || bytes > q.sender.options.EntryBytes
		other := p.chunk.schema.Version != first.chunk.schema.Version || (p.lane == nil) != (first.lane == nil)
		if n > 0 && (full || other) {
			break
		}
		n++
	}
	out := append([]piece(nil), q.mu.pieces[:n]...)
	rest := copy(q.mu.pieces, q.mu.pieces[n:])
	clear(q.mu.pieces[rest:])
	q.mu.pieces = q.mu.pieces[:rest]
	return out
}

// deliver sends pieces until they are applied or their owners are gone.
func (q *tabletQueue) deliver(pieces []piece) {
	for {
		if pieces = dropDead(pieces); len(pieces) == 0 {
			return
		}
		distant := far(pieces)
		entry, owners := q.sender.build(pieces, distant)
		q.sender.options.reached(EntryBuilt)
		answer, err := q.write(pieces, entry)
		switch {
		case errors.Is(err, ErrTabletGone):
			q.sender.options.Logger.Warn("tablet gone", "tablet", q.tablet, "segments", len(owners))
			if q.restartOwners(pieces, nil, "its tablet was dropped") {
				continue
			}
			if !pause(q.sender.ctx, time.Second) {
				releaseAll(pieces, false)
				return
			}
		case err != nil:
			q.sender.options.broken.goOn(pieces)
			releaseAll(pieces, false)
			return
		case answer.Status == Applied && distant != nil:
			distant.lane.next = distant.chunk.span.First
		case answer.Status == Applied:
			q.applied(pieces, answer)
			return
		default:
			// A refused entry changed nothing. The owner whose segment it was begins again at its checkpoint;
			// the others' rows are cut again from where they started.
			if answer.Segment < len(owners) {
				q.restartOwners(pieces, owners[answer.Segment], refusals[answer.Status])
			} else if !q.restartOwners(pieces, nil, "a tablet refused its entry") && !pause(q.sender.ctx, time.Second) {
				releaseAll(pieces, false)
				return
			}
		}
	}
}

// refusals say why an owner begins again.
var refusals = map[Status]string{
	Refused: "a tablet refused its segment, which would leave a hole",
	Stale:   "a tablet refused its segment, which was decided under older settings",
}

func dropDead(pieces []piece) []piece {
	out := pieces[:0]
	for _, p := range pieces {
		if (p.lane != nil || p.chunk.noted) && p.chunk.ownerOf().dead.Load() {
			p.chunk.release(false)
			continue
		}
		out = append(out, p)
	}
	return out
}

// restartOwners kills the given owner, or those of all pieces when it is nil, and tells whether there was one.
func (q *tabletQueue) restartOwners(pieces []piece, only *owner, why string) bool {
	found := false
	for _, p := range pieces {
		if o := p.chunk.ownerOf(); (p.lane != nil || p.chunk.noted) && (only == nil || o == only) {
			found = true
			o.refused(why)
		}
	}
	return found
}

// triesQuiet is how often an entry may fail before that is worth a line: a leader that moves costs a few tries.
const triesQuiet = 4

// write sends the entry of pieces until it is answered. The error is ErrTabletGone, or that of a sender that was closed.
func (q *tabletQueue) write(pieces []piece, entry []byte) (answer Answer, err error) {
	tries := 0
	err = retry(q.sender.ctx, func() error {
		if tries++; tries > 1 { // the log may hold the bytes of the first attempt, and a leader stamps an entry in place
			entry = q.sender.options.broken.recut(q, pieces, slices.Clone(entry))
		}
		q.sender.options.reached(Proposing)
		var err error
		answer, err = q.sender.options.Write(q.sender.ctx, q.tablet, entry)
		if err != nil && q.sender.ctx.Err() == nil && tries >= triesQuiet && tries&(tries-1) == 0 {
			q.sender.options.Logger.Warn("entry not applied yet", "tablet", q.tablet, "tries", tries, "error", err)
		}
		return err
	}, ErrTabletGone, context.Canceled)
	return answer, err
}

func (q *tabletQueue) applied(pieces []piece, answer Answer) {
	q.sender.options.reached(Answered)
	for i := range pieces {
		p := &pieces[i]
		if p.lane == nil {
			continue
		}
		p.lane.next = p.chunk.span.Next
		p.lane.owner.counters.rows.Add(int64(len(p.rows)))
	}
	if answer.Seen > 0 {
		pieces[0].chunk.ownerOf().counters.seen.Add(int64(answer.Seen))
	}
	releaseAll(pieces, true)
}

func releaseAll(pieces []piece, decided bool) {
	for _, p := range pieces {
		p.chunk.release(decided)
	}
}

// ownerOf is the owner of a chunk or of the chunk that it belongs to.
func (c *chunk) ownerOf() *owner {
	if c.parent != nil {
		return c.parent.owner
	}
	return c.owner
}
