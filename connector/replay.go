package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"nyala/configs"
	"nyala/connector/api"
	"nyala/connector/query"
	"nyala/ingest"
	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/schema"
)

// replay puts dead letters in again: those that their connector would take today become rows of its table, once, whatever
// is interrupted or done twice.
//
// It decides first, and carries out then.
//
//  1. Judge. A letter that nobody has taken up is decoded by its connector's present settings. One that is still no row is
//     only counted.
//  2. Claim. What it becomes - the very row - goes into nyala.replays under the letter's key, together with the run's
//     random id and a sequence number. It is an insert: the first one wins, so a letter is taken up once for ever, by one
//     run, as one row. The next claims of a run are written only after the last ones were acknowledged.
//  3. Carry out. All claims that are not marked, of whatever run, are read back and sent to their tablets as rows of the
//     source (replay:connector, run, 0) with the sequence number as the offset, contiguous from 0. The ledger drops what
//     a tablet has.
//  4. Mark. The claim gets the time, and gives the row's bytes back.
//
// Why this is exactly once. A row's tablet and bytes are fixed by its claim, not by what is configured when it is sent: so all
// who ever send it, the run itself, one that finishes it, one that wakes up after hours, send the same rows at the same
// offsets of the same source, which is all that the ledger needs. What a reader sees of a run's claims is all below some sequence number,
// so its segments never speak for a claim that it does not know. What is left out of a segment was marked, hence applied. A
// claim without a mark is sent again, so nothing is lost.
//
// Deciding when a letter is sent, and only noting that it is being worked on, was rejected: settings that change between two
// attempts could send one letter to two keys, and which of them was applied would be a question to all tablets.
type replay struct {
	n        *Node
	request  replayRequest
	run      offsets.TopicID
	writer   ingest.TableWriter
	judges   map[string]*ingest.Judge // by connector; nil: there is none, see why
	why      map[string]string
	sequence int64
	progress api.Replay
	sample   []api.ReplayLetter
	report   func(api.Replay) error
	steps    replayBreaks
}

// replayBreaks is how tests make the steps of replays small and interrupt them; zero values are those of users.
type replayBreaks struct {
	letters   int // of one step
	entryRows int
	after     func(ctx context.Context, step string) error // called after each step; an error ends the replay there
}

// replayRequest selects letters; the zero value is all of them.
type replayRequest struct {
	where []string // conditions on nyala.dead_letters
	ours  []string // conditions on nyala.replays: whose unfinished claims are carried out
	limit int64    // letters looked at; 0: all
	dry   bool
}

const (
	replayLetters = 2048    // of one step: each costs a read of the claims that are not marked
	replayBytes   = 1 << 20 // likewise, of what they hold
	replaySample  = 1000    // letters that a dry run lists
)

func (n *Node) newReplay(request replayRequest, report func(api.Replay) error) (*replay, error) {
	r := &replay{n: n, request: request, judges: map[string]*ingest.Judge{}, why: map[string]string{}, report: report,
		steps: n.options.replays}
	r.writer = ingest.TableWriter{Router: n.router, Write: r.write, EntryRows: r.steps.entryRows}
	if r.steps.letters == 0 {
		r.steps.letters = replayLetters
	}
	if _, err := io.ReadFull(n.options.Entropy, r.run[:]); err != nil {
		return nil, fmt.Errorf("connector: id of a replay: %w", err)
	}
	r.progress.Run, r.progress.Dry = topicID(r.run), request.dry
	return r, nil
}

// all replays what is selected, step by step.
func (r *replay) all(ctx context.Context) error {
	if _, err := r.n.viewNow(ctx, r.n.options.Now().UnixMicro()); err != nil { // a node whose catalog is behind would judge by older settings
		return err
	}
	if !r.request.dry {
		if err := r.carryOut(ctx); err != nil {
			return err
		}
	}
	letters, err := r.letters(ctx)
	if err != nil {
		return err
	}
	defer letters.Close()
	for {
		claims, held, err := r.step(ctx, letters)
		more := err == nil
		if err == io.EOF {
			err = nil
		}
		if err == nil && claims.Rows() > 0 {
			if err = r.claim(ctx, claims); err == nil {
				err = r.carryOut(ctx)
			}
		}
		r.n.tablets.Budget().Release(held)
		if !r.request.dry {
			r.progress.Elsewhere = r.sequence - r.progress.Replayed
		}
		if err != nil || !more {
			return err
		}
		if err := r.report(r.progress); err != nil {
			return err
		}
	}
}

// step judges the next letters, and returns the claims on those that are rows, and the memory that was taken for them. The error is
// io.EOF behind the last letter.
func (r *replay) step(ctx context.Context, letters *freshLetters) (claims *batch.Builder, held int64, err error) {
	claims = ingest.SystemRows(schema.Replays())
	for seen := 0; seen < r.steps.letters && held < replayBytes; seen++ {
		if r.request.limit > 0 && r.progress.Letters >= r.request.limit {
			return claims, held, io.EOF
		}
		if err := letters.next(); err != nil {
			return claims, held, err
		}
		size := letters.bytes()
		if err := r.n.tablets.Budget().Acquire(ctx, size); err != nil {
			return claims, held, err
		}
		held += size
		r.progress.Letters++
		l := letters.letter()
		verdict, table, err := r.judge(ctx, letters.connector(), l)
		if err != nil {
			return claims, held, err
		}
		switch {
		case verdict.Row == nil:
			r.refuse(letters.connector(), &verdict)
		case r.request.dry:
			r.progress.Replayed++
		default:
			appendClaim(claims, letters, r, table, &verdict)
			r.sequence++
		}
		if r.request.dry && len(r.sample) < replaySample {
			r.sample = append(r.sample, sampleOf(letters, table, &verdict))
		}
	}
	return claims, held, nil
}

// judge decides on a letter, if this node knows how.
func (r *replay) judge(ctx context.Context, connector string, l *ingest.DeadLetter) (ingest.Verdict, string, error) {
	j, ok := r.judges[connector]
	if !ok {
		var err error
		if j, err = r.n.judgeOf(connector); err != nil {
			r.why[connector] = err.Error()
		}
		r.judges[connector] = j
	}
	if j == nil {
		return ingest.Verdict{Stage: "connector", Code: "not_running", Reason: r.why[connector]}, "", nil
	}
	v, err := j.Judge(ctx, l, r.request.dry)
	return v, j.Table(), err
}

// judgeOf makes the judge of a connector. It decides by the settings in force, which are the same on all nodes.
func (n *Node) judgeOf(name string) (*ingest.Judge, error) {
	i := slices.IndexFunc(n.options.Config.Connectors, func(c configs.Connector) bool { return c.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("connector %s is not in the configuration of node %s: who took its records can no longer be asked", name, n.options.Node)
	}
	o, err := n.feedOptions(n.options.Config.Connectors[i])
	if err != nil {
		return nil, err
	}
	return ingest.NewJudge(o), nil
}

func (r *replay) refuse(connector string, v *ingest.Verdict) {
	for i := range r.progress.Refused {
		if f := &r.progress.Refused[i]; f.Connector == connector && f.Stage == v.Stage && f.Code == v.Code {
			f.Letters++
			return
		}
	}
	r.progress.Refused = append(r.progress.Refused, api.ReplayRefusal{Connector: connector, Stage: v.Stage, Code: v.Code, Letters: 1, Reason: v.Reason})
}

// claim writes claims down. Those whose letter has one already change nothing.
func (r *replay) claim(ctx context.Context, claims *batch.Builder) error {
	if err := r.hook(ctx, "judged"); err != nil {
		return err
	}
	if err := r.writer.WriteRows(ctx, schema.ReplaysTable, claims, batch.Insert); err != nil {
		return err
	}
	return r.hook(ctx, "claimed")
}

// carryOut sends the rows of all claims that are not marked, and marks them, in the order of the letters' keys, which is that
// of each run's sequence too.
func (r *replay) carryOut(ctx context.Context) error {
	out, err := r.n.read(ctx, schema.ReplaysTable, query.Request{
		Columns: names(schema.Replays()), Where: append([]string{"replayed is null"}, r.request.ours...), Order: query.OrderKey,
	})
	if err != nil {
		return err
	}
	defer out.stream.Close()
	for {
		open, err := nextClaims(out.stream)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = r.put(ctx, open)
		}
		if err != nil {
			return err
		}
	}
}

// put sends some claims, table by table, and marks them.
func (r *replay) put(ctx context.Context, open *openClaims) error {
	for table, rows := range open.byTable() {
		if r.n.options.broken == replayForgotten {
			rows = slices.DeleteFunc(rows, func(row int) bool { return open.run(row) != r.run })
		}
		if r.n.options.broken == replayMarkedEarly {
			if err := r.mark(ctx, open, rows, nil); err != nil {
				return err
			}
		}
		refused, err := r.send(ctx, table, open, rows)
		if err != nil {
			return err
		}
		if err := r.mark(ctx, open, rows, refused); err != nil {
			return err
		}
		for _, row := range rows {
			if open.run(row) == r.run {
				r.progress.Replayed++
			} else {
				r.progress.Finished++
			}
		}
	}
	return nil
}

// send has the rows of some claims on a table applied, and returns which of the claims have none: their range is no longer kept.
func (r *replay) send(ctx context.Context, table string, open *openClaims, rows []int) (refused []uint32, err error) {
	claims := make([]ingest.Claim, len(rows))
	for i, row := range rows {
		if claims[i], err = open.claim(row); err != nil {
			return nil, err
		}
	}
	refused, err = r.writer.Put(ctx, table, claims)
	if errors.Is(err, ingest.ErrClaim) {
		return nil, coded(http.StatusConflict, "claim_does_not_fit", "%v: the table %s has changed so that a letter that was taken up before does not fit any more", err, table)
	}
	if err != nil {
		return nil, err
	}
	return refused, r.hook(ctx, "put")
}

// mark says of claims that they are carried out.
func (r *replay) mark(ctx context.Context, open *openClaims, rows []int, refused []uint32) error {
	marks := ingest.SystemRows(schema.Replays())
	for i, row := range rows {
		note := ""
		if slices.Contains(refused, uint32(i)) {
			note = "its range is no longer kept: there is no row"
		}
		open.appendMark(marks, row, r.n.options.Now().UnixMicro(), note)
	}
	if err := r.writer.WriteRows(ctx, schema.ReplaysTable, marks, batch.Upsert); err != nil {
		return err
	}
	return r.hook(ctx, "marked")
}

// write proposes an entry. The error of an interruption leaves its fate open, as that of a lost connection does.
func (r *replay) write(ctx context.Context, tablet uint64, entry []byte) (ingest.Answer, error) {
	answer, err := r.n.writeRows(ctx, tablet, entry)
	if err == nil {
		err = r.hook(ctx, "entry")
	}
	return answer, err
}

// hook is where tests interrupt.
func (r *replay) hook(ctx context.Context, step string) error {
	if r.steps.after == nil {
		return nil
	}
	return r.steps.after(ctx, step)
}
