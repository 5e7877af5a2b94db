package store

import (
	"context"
	"fmt"
	"math/bits"
	"time"

	"nyala/store/batch"
)

// Failed work is tried again after a pause that doubles between these. There is no last attempt: the
// disk may be full for hours, and the log keeps what is not yet in files.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 30 * time.Second
)

// proposeTimeout ends the wait for a leader that cannot commit; the proposal is made again later.
const proposeTimeout = 10 * time.Second

// idleFactor is how much longer than FlushAge a tablet waits that has nothing but advances in its log.
const idleFactor = 10

// run is the tablet's goroutine: it encodes frozen MemRowSets or copies what the leader has encoded, carries out Installs in log order, and
// where this replica leads proposes Freezes and Installs. Manager.CloseTablet waits for it.
func (t *Tablet) run(ctx context.Context) {
	defer close(t.done)
	pause := retryMin
	for ctx.Err() == nil {
		more, err := t.step(ctx)
		t.setFault(err)
		if err == nil {
			if pause = retryMin; more {
				continue
			}
			select {
			case <-t.kick:
			case <-ctx.Done():
			}
			continue
		}
		if ctx.Err() == nil {
			t.log.Warn("tablet work failed", "error", err, "again", pause)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, retryMax)
	}
}

func (t *Tablet) setFault(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.fault = err
}

// step does one piece of work; more says that there may be another one at once.
func (t *Tablet) step(ctx context.Context) (more bool, err error) {
	t.mu.RLock()
	s := t.mu.state
	t.mu.RUnlock()
	if s.failed != nil {
		return false, nil
	}
	if len(s.flaws) > 0 && t.mendOne(ctx) {
		return true, nil
	}
	if len(s.waiting) > 0 {
		return true, t.carryOut(ctx, s.waiting[0], s.generation)
	}
	for _, f := range t.broken.inOrder(s.frozen) {
		if f.encoded == nil && t.encodes(f) {
			return true, t.encode(ctx, f)
		}
		if f.encoded != nil && (s.pending[0] == f.freeze || t.broken == anyOrder) && t.leads() {
			t.manager.reached(InstallProposing)
			return false, t.proposeOwn(ctx, t.installOf(f).entry())
		}
	}
	if d := t.unlisted(&s); d != nil {
		return true, t.list(&s, d)
	}
	now := time.Now()
	if s.commands == 0 || s.lastFreeze != t.age.freeze || t.age.since.IsZero() {
		t.age.since, t.age.freeze = now, s.lastFreeze
	}
	if s.commands == 0 {
		return false, nil
	}
	forced := t.force.Swap(false) && s.writes > 0
	if t.broken.wait(s.frozen) || !forced && !(t.leads() && t.full(&s, now.Sub(t.age.since))) {
		return false, nil
	}
	return false, t.proposeOwn(ctx, t.freezeEntry(&s))
}

// full tells whether the MemRowSet should be frozen by its size or its age.
func (t *Tablet) full(s *state, age time.Duration) bool {
	o := &t.manager.options
	if s.writes == 0 {
		return age >= idleFactor*o.FlushAge
	}
	return age >= o.FlushAge || s.mem.full()
}

// nextFlush is at which size the MemRowSet is full that follows m. Tablets that begin to fill in the same moment, after a
// start, a Checkpoint of each or FlushAge, and fill equally fast would all be encoded in the same moment, again and again, while fresh rows
// wait for a processor. So the first MemRowSet then is full at a size of the tablet's own; those behind it, at FlushBytes, keep that distance.
// All replicas reckon so, whoever leads next.
func (t *Tablet) nextFlush(m *memRowSet) int64 {
	most := t.manager.options.FlushBytes
	if m.full() || t.manager.budget.pressed() { // what is flushed for want of memory comes one after the other by itself
		return most
	}
	return firstFlush(t.spec.ID, most)
}

// firstFlush spreads tablets, whose ids follow each other as a rule, evenly between an eighth of a flush and a whole one: multiples of
// the golden ratio (Knuth, The Art of Computer Programming, 6.4).
func firstFlush(id ID, most int64) int64 {
	share, _ := bits.Mul64(uint64(most-most/8), uint64(id)*0x9E3779B97F4A7C15)
	return most/8 + int64(share)
}

func (t *Tablet) leads() bool {
	o := &t.manager.options
	return o.IsLeader != nil && o.IsLeader(t.spec.ID)
}

// freezeEntry is a Freeze of what s shows.
func (t *Tablet) freezeEntry(s *state) []byte {
	horizon := t.manager.options.Now().Add(-max(t.spec.History, historyMin)).UnixMicro()
	return freezeCommand{horizon: horizon, after: s.lastFreeze}.entry()
}

// proposeOwn proposes for the tablet's goroutine, which has other work: as soon as there is an Install to carry out, or a
// Restore has changed everything, the proposal is given up. An old leader would else sit on its proposal while its
// successor's Install waits.
func (t *Tablet) proposeOwn(ctx context.Context, entry []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.overtaken.Store(&cancel)
	defer t.overtaken.Store(nil)
	t.mu.RLock()
	generation, waiting := t.mu.generation, len(t.mu.waiting)
	t.mu.RUnlock()
	if waiting > 0 {
		return nil
	}
	_, err := t.propose(ctx, entry)
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.mu.generation != generation || len(t.mu.waiting) > 0 {
		return nil
	}
	return err
}

// overtake ends the proposal that proposeOwn waits for.
func (t *Tablet) overtake() {
	if cancel := t.overtaken.Load(); cancel != nil {
		(*cancel)()
	}
}

func (t *Tablet) propose(ctx context.Context, entry []byte) (Result, error) {
	if t.manager.options.Propose == nil {
		return Result{}, fmt.Errorf("store: tablet %d has no log", t.spec.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	out, err := t.manager.options.Propose(ctx, t.spec.ID, entry)
	if err != nil {
		return Result{}, fmt.Errorf("store: propose %s: %w", batch.Kind(entry[4]), err)
	}
	r, err := ParseResult(out)
	if err == nil {
		err = r.Err()
	}
	return r, err
}
