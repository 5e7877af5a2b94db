package connector

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/store/batch"
	"nyala/store/schema"
)

// replays are those of dead letters that a seed has, from any node, several at a time, interrupted at any step. What they do is drawn apart, so that
// it does not change when other faults do.
type replays struct {
	rng   *rand.Rand
	wg    sync.WaitGroup
	ended bool  // all letters were replayed, behind all faults
	rows  int64 // that they become, as far as was read
}

// replayLimit is how much of the bubble's time a replay may take in the middle of faults.
const replayLimit = 15 * time.Second

// prepareReplays gives a third of the seeds replays, and settings to begin with that leave something to replay once they have changed.
func (s *simulation) prepareReplays() {
	if rng := rand.New(rand.NewPCG(s.seed, 4)); rng.IntN(3) == 0 {
		s.replaying = &replays{rng: rng}
		s.refuses, s.config = true, refusing(s.config, true)
	}
}

// replaySome begins a replay now and then.
func (s *simulation) replaySome() {
	if s.replaying == nil || s.replaying.rng.IntN(2) == 0 {
		return
	}
	if id := s.ids()[s.replaying.rng.IntN(len(s.ids()))]; s.nodes[id] != nil {
		s.replayFrom(id)
	}
}

// replayFrom begins a replay of all letters in small steps that may be cut short, and does not wait for it.
func (s *simulation) replayFrom(id string) {
	p := s.replaying
	r, err := s.nodes[id].newReplay(replayRequest{}, func(api.Replay) error { return nil })
	if err != nil {
		s.t.Fatal(err)
	}
	r.steps.letters, r.writer.EntryRows = 1+p.rng.IntN(20), 1+p.rng.IntN(4)
	last, rng := p.rng.IntN(40), rand.New(rand.NewPCG(p.rng.Uint64(), 0))
	s.note("%s replays dead letters, %d steps at most", id, last)
	var mu sync.Mutex // entries of several tablets are sent at a time
	r.steps.after = func(ctx context.Context, _ string) error {
		mu.Lock()
		last--
		left, late := last, time.Duration(0)
		if rng.IntN(3) == 0 {
			late = time.Duration(rng.IntN(800)) * time.Millisecond
		}
		mu.Unlock()
		if left < 0 {
			return interrupt(ctx)
		}
		sleep(ctx, late)
		return ctx.Err()
	}
	p.wg.Go(func() { _, _ = r.runWithin(replayLimit) })
}

// replayAll replays on one node until that has come to its end, and on another, which must find nothing to do.
func (s *simulation) replayAll() {
	s.t.Helper()
	if s.replaying == nil {
		return
	}
	s.replaying.wg.Wait()
	for range 4 { // the settings hold by now, so that these have something to be cut short in
		s.replayFrom(s.anyNode())
	}
	s.replaying.wg.Wait()
	s.note("n1 replays dead letters")
	s.await(time.Now().Add(endLimit), func() error {
		last, err := s.replayOn("n1", replayRequest{})
		if err != nil {
			return err
		}
		s.note("replayed %d, finished %d of %d", last.Replayed, last.Finished, last.Letters)
		return nil
	})
	s.await(time.Now().Add(endLimit), func() error {
		again, err := s.replayOn("n2", replayRequest{})
		if err == nil && (again.Replayed != 0 || again.Finished != 0) {
			return &wrongRows{fmt.Sprintf("another replay did something: %+v", again)}
		}
		return err
	})
	s.replaying.ended = true
	s.await(time.Now().Add(endLimit), func() error { return s.compareTables("n1") })
}

// carriedOut is how many rows were letters before.
func (p *replays) carriedOut() int64 {
	if p == nil {
		return 0
	}
	return p.rows
}

// letter names a dead letter.
type letter struct {
	flow
	at place
}

var letterNames = []string{"connector", "topic", "partition", "offset"}

// letterAt is the letter that a row names in its first columns, which are letterNames.
func letterAt(b *batch.Batch, row int) letter {
	of := flow{string(b.Columns[0].Bytes(row)), string(b.Columns[1].Bytes(row))}
	return letter{of, place{int32(b.Columns[2].Int(row)), b.Columns[3].Int(row)}}
}

// readClaims lists the letters that were taken up, and whether they are marked as carried out.
func (s *simulation) readClaims(id string) (map[letter]bool, error) {
	if s.replaying == nil {
		return nil, nil
	}
	stream, _, err := s.readAt(id, schema.ReplaysTable, 0, append(slices.Clip(letterNames), "replayed", "note"), 20*time.Second)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	claims := map[letter]bool{}
	err = pour(stream, func(b *batch.Batch) error {
		for i := range b.Rows {
			l := letterAt(b, i)
			if _, twice := claims[l]; twice || !b.Columns[5].IsNull(i) {
				return &wrongRows{fmt.Sprintf("the claim on dead letter %v is there twice, or has a note", l)}
			}
			claims[l] = !b.Columns[4].IsNull(i)
		}
		return nil
	})
	s.replaying.rows = int64(len(claims))
	return claims, err
}

// takes tells whether a decision makes a row of an odd record.
func takes(t *catalog.Table, d catalog.Decision, key int64) bool {
	return strings.Contains(d.Settings, `"on_unknown_field":"ignore"`) || columnsOf(t, d) >= 2 && !alwaysUnknown(key)
}

// retaken are the decisions by which a replay may have made a row of a record that its own decision refused.
func retaken(c *catalog.Connector, t *catalog.Table, d catalog.Decision, key int64) []catalog.Decision {
	if takes(t, d, key) {
		return nil
	}
	i := slices.IndexFunc(c.Decisions, func(later catalog.Decision) bool { return later.Version > d.Version })
	if i < 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(c.Decisions[i:]), func(later catalog.Decision) bool { return !takes(t, later, key) })
}

// checkClaim holds what was replayed of a dead letter of an odd record against the settings: claims are made of letters that a later decision
// takes; marked ones have their row, and only claims have one; in the end all that can be replayed is.
func (s *simulation) checkClaim(c *catalog.Connector, t *catalog.Table, d catalog.Decision, l letter, key int64, isRow bool, claims map[letter]bool) error {
	marked, claimed := claims[l]
	text := fmt.Sprintf("%s: dead letter %v is claimed: %v, marked: %v, a row: %v, under decision %d of %+v", c.Name, l, claimed, marked, isRow, d.Version, c.Decisions)
	switch {
	case isRow && !claimed, claimed && len(retaken(c, t, d, key)) == 0:
		return &wrongRows{text}
	case marked && !isRow:
		return errors.New(text) // rows are read before claims are
	case s.replaying != nil && s.replaying.ended && (claimed != marked || takes(t, c.Decision(), key) && !marked):
		return &wrongRows{text + ", and all letters were replayed"}
	}
	return nil
}
