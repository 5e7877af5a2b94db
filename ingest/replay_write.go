package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/schema"
)

const (
	replayEntryRows  = 4096
	replayEntryBytes = 512 << 10 // and at least one row
	replayTablets    = 8         // that are written at once
)

// TableWriter writes rows that do not come out of Kafka: claims of dead letters, and rows of system tables.
type TableWriter struct {
	Router Router
	Write  func(ctx context.Context, tablet uint64, entry []byte) (Answer, error) // as SenderOptions.Write
	// EntryRows is how many rows an entry takes at most; 0 means 4096.
	EntryRows int
}

// Put brings claims to their table, each tablet's in the order given, which must be that of the sequence for every source.
// It returns the positions of those whose range the table will not have.
//
// Every tablet gets contiguous segments from 0 on, whatever it got before: rows that it has are below its ledger, and are
// dropped. Claims may be left out only if all of their source below them in their tablet are known to be applied.
func (w *TableWriter) Put(ctx context.Context, table string, claims []Claim) (refused []uint32, err error) {
	err = w.untilTaken(ctx, table, func(l *Layout) error {
		c, err := claimed(l, claims)
		if err != nil {
			return err
		}
		if refused, err = c.route(ctx, w.Router, table, l); err != nil {
			return err
		}
		return w.each(ctx, c, func(ctx context.Context, s *slot) error {
			return w.putSlot(ctx, c, s, claims)
		})
	})
	return refused, err
}

// WriteRows writes rows of a system table, without origin.
func (w *TableWriter) WriteRows(ctx context.Context, table string, rows *batch.Builder, op batch.Op) error {
	return w.untilTaken(ctx, table, func(l *Layout) error {
		c := newSystemChunk(l.Schema)
		c.rows, c.op = rows, op
		c.seal()
		c.encodeKeys()
		if _, err := c.route(ctx, w.Router, table, l); err != nil {
			return err
		}
		return w.each(ctx, c, func(ctx context.Context, s *slot) error {
			return w.send(ctx, s.tablet, c, s.rows, nil)
		})
	})
}

// errStale says that an entry was made under a layout that is no longer taken.
var errStale = errors.New("stale layout")

// untilTaken calls do with the table's present layout until it is not refused for its age.
func (w *TableWriter) untilTaken(ctx context.Context, table string, do func(l *Layout) error) error {
	for {
		l, err := w.Router.Layout(table)
		if err != nil {
			return err
		}
		if err = do(l); !errors.Is(err, errStale) && !errors.Is(err, ErrTabletGone) {
			return err
		}
		if !pause(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// each calls do for the slots of c, a few at a time, and returns the first error.
func (w *TableWriter) each(ctx context.Context, c *chunk, do func(ctx context.Context, s *slot) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	room := make(chan struct{}, replayTablets)
	var wg sync.WaitGroup
	for i := range c.slots {
		room <- struct{}{}
		wg.Go(func() {
			if err := do(ctx, &c.slots[i]); err != nil {
				cancel(err)
			}
			<-room
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// putSlot brings one tablet's claims to it, entry by entry.
func (w *TableWriter) putSlot(ctx context.Context, c *chunk, s *slot, claims []Claim) error {
	next := map[offsets.Source]int64{}
	most := w.EntryRows
	setDefault(&most, replayEntryRows)
	for rows := s.rows; len(rows) > 0; {
		n, size := 0, 0
		for n < len(rows) && n < most && (n == 0 || size+len(claims[rows[n]].Row) <= replayEntryBytes) {
			size += len(claims[rows[n]].Row)
			n++
		}
		segments := []offsets.Segment{}
		of := map[offsets.Source]int{}
		for _, r := range rows[:n] {
			source, after := claims[r].Source, claims[r].Sequence+1
			i, ok := of[source]
			if !ok {
				i, of[source] = len(segments), len(segments)
				segments = append(segments, offsets.Segment{Source: source, Range: offsets.Range{First: next[source]}})
			}
			must(after > segments[i].Next, "claims of %s are not in order: %d after %d", source, after-1, segments[i].Next-1)
			segments[i].Next, next[source] = after, after
		}
		if err := w.send(ctx, s.tablet, c, rows[:n], func(e *batch.Write, r uint32) {
			i := of[claims[r].Source]
			e.Segments, e.Segment = segments, append(e.Segment, uint16(i))
			e.Delta = append(e.Delta, uint32(claims[r].Sequence-segments[i].First))
		}); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// send writes one entry until it is applied. origin is called for every row in the entry's order; nil: rows without origin.
func (w *TableWriter) send(ctx context.Context, tablet uint64, c *chunk, rows []uint32, origin func(*batch.Write, uint32)) error {
	entry := c.entry(rows, origin)
	var answer Answer
	err := retry(ctx, func() (err error) {
		answer, err = w.Write(ctx, tablet, append([]byte(nil), entry...)) // a log may hold the bytes of an earlier attempt
		return err
	}, ErrTabletGone)
	switch {
	case err != nil:
		return err
	case answer.Status == Stale:
		return errStale
	case answer.Status == Refused:
		return fmt.Errorf("ingest: tablet %d refused segment %d of %d of an entry that begins at 0: want none of its ledger lost", tablet, answer.Segment, len(rows))
	}
	return nil
}

// entry makes an entry of some rows of c, in key order, equal keys in the order of rows.
func (c *chunk) entry(rows []uint32, origin func(*batch.Write, uint32)) []byte {
	keys := batch.NewKeys(c.schema)
	for _, r := range rows {
		keys.Data = append(keys.Data, c.keys.At(int(r))...)
		if keys.Width == 0 {
			keys.Offsets = append(keys.Offsets, uint32(len(keys.Data)))
		}
	}
	e := &batch.Write{
		Header:  batch.Header{Kind: batch.KindWrite, SchemaVersion: c.schema.Version},
		Batches: []batch.Batch{c.view}, Op: c.op,
	}
	var sorter batch.Sorter
	for _, i := range sorter.Sort(keys, nil) {
		r := rows[i]
		e.Refs = append(e.Refs, batch.Ref{Row: r})
		if origin != nil {
			origin(e, r)
		}
		if c.mixed {
			e.Ops = append(e.Ops, c.ops[r])
		}
	}
	return batch.AppendWrite(nil, e)
}

// SystemRows is a builder for rows of a system table.
func SystemRows(s *schema.Schema) *batch.Builder { return batch.NewBuilder(s.Columns, 64) }
