package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"nyala/connector/query"
	"nyala/ingest"
	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
)

// replayPrefix begins the name of the source of a run of `nyala dead-letters replay`; what follows is its connector.
const replayPrefix = "replay:"

const unknownReplay = "a dead letter was replayed as a row that nobody knows any more"

// replayOf is the connector whose dead letters a source replays, if it is such a source.
func (r *Run) replayOf(s offsets.Source) (connector string, ok bool) {
	connector, ok = strings.CutPrefix(s.Connector, replayPrefix)
	return connector, ok && r.readers[connector] != nil
}

// replays makes records of the dead letters that were replayed: each is a record of its run, at its sequence number. Which row
// it became is in nyala.replays until it is one; afterwards its connector is asked once more, which answers the same as long as its
// settings are the same.
type replays struct {
	r      *Run
	claims *query.Cursor
	ended  bool
	judges map[string]*ingest.Judge
	column map[string]int // of nyala.replays
}

func (r *Run) openReplays(ctx context.Context) (*replays, query.Stream, error) {
	p := &replays{r: r, judges: map[string]*ingest.Judge{}, column: map[string]int{}}
	for _, c := range r.o.Connectors {
		p.judges[c.Name] = ingest.NewJudge(c)
	}
	s := schema.Replays()
	for i, c := range s.Columns {
		p.column[c.Name] = i
	}
	in, err := r.o.System(ctx, schema.ReplaysTable)
	if err != nil {
		return nil, nil, err
	}
	p.claims = query.NewCursor(s, s.Columns, in)
	return p, in, nil
}

// of makes a record of a letter if it was claimed for this table. Letters come in the order of their keys, as claims do.
func (p *replays) of(ctx context.Context, key []byte, connector string, letter func() *ingest.DeadLetter) error {
	if claimed, err := p.seek(key); err != nil || !claimed {
		return err
	}
	if string(p.claims.Value(p.column["table"]).Bytes) != p.r.o.Table.Name {
		return nil
	}
	run := offsets.Source{Connector: replayPrefix + connector, Topic: offsets.TopicID(p.claims.Value(p.column["run"]).Bytes)}
	at, known := p.r.index[run]
	if !known {
		return nil // no tablet has anything of the run yet
	}
	row, op, err := p.content(ctx, connector, letter)
	if err != nil {
		return err
	}
	if row == nil {
		p.r.sources[at].unknown, p.r.evidence[at].unknown = unknownReplay, true
		return nil
	}
	return p.r.addReplayed(at, p.claims.Value(p.column["sequence"]).Int, op, row)
}

// seek tells whether the letter with a key has a claim, and stands at it.
func (p *replays) seek(key []byte) (bool, error) {
	for !p.ended {
		if p.claims.Rows != nil {
			switch c := bytes.Compare(p.claims.Key(), key); {
			case c == 0:
				return true, nil
			case c > 0:
				return false, nil
			}
		}
		if err := p.claims.Next(); err == io.EOF {
			p.ended = true
		} else if err != nil {
			return false, err
		}
	}
	return false, nil
}

// content is the row that a claimed letter becomes, nil if that is not known any more.
func (p *replays) content(ctx context.Context, connector string, letter func() *ingest.DeadLetter) (*batch.Batch, batch.Op, error) {
	var row []byte
	var op batch.Op
	if v := p.claims.Value(p.column["row"]); !v.Null {
		row, op = v.Bytes, operations[string(p.claims.Value(p.column["operation"]).Bytes)]
	} else if p.claims.Value(p.column["claimed"]).Int >= p.r.o.SettingsSince[connector] {
		v, err := p.judges[connector].Judge(ctx, letter(), true)
		if err != nil {
			return nil, 0, err
		}
		row, op = v.Row, v.Op
	}
	if row == nil {
		return nil, 0, nil
	}
	w, err := batch.ParseWrite(append(make([]byte, 0, len(row)), row...))
	if err != nil {
		return nil, 0, fmt.Errorf("verify: row of a claim in %s: %w", schema.ReplaysTable, err)
	}
	if w.Batch.Rows != 1 {
		return nil, 0, nil
	}
	return rowset.Fill(&w.Batch, p.r.o.Table.Schema.Columns), op, nil // it may have been made under another schema
}

var operations = map[string]batch.Op{"upsert": batch.Upsert, "insert": batch.Insert, "delete": batch.Delete}

// addReplayed takes the row of a replayed letter. It is in the table for sure where the tablet's ledger is past it.
func (r *Run) addReplayed(at uint32, sequence int64, op batch.Op, row *batch.Batch) error {
	s := &r.sources[at]
	hashes := r.hash.hash(row, r.columns)
	r.hash.encode(row)
	r.place(row)
	p, place := r.placeOf(row, 0)
	if place != hasPlace {
		return nil // its range is no longer kept
	}
	s.records++
	s.wanted.Next = max(s.wanted.Next, sequence+1)
	d := digest{key: r.hash.keyOf(r.hash.keys.At(0)), row: hashes[0], offset: sequence, kind: recordKind, op: op, source: at}
	d.open = sequence >= s.Applied[p.Tablets[schema.BucketOf(r.placing[0], len(p.Tablets))]]
	return r.buckets.add(&d)
}

// readLetters makes a digest of every dead letter of the table's connectors, and a record of those that were replayed.
func (r *Run) readLetters(ctx context.Context) error {
	p, claims, err := r.openReplays(ctx)
	if err != nil {
		return err
	}
	s := schema.DeadLetters()
	from := originOf(s, "offset")
	in, err := r.o.System(ctx, schema.DeadLettersTable)
	if err != nil {
		return errors.Join(err, claims.Close())
	}
	c := query.NewCursor(s, s.Columns, in)
	var of *batch.Batch
	var hashes []uint64
	for err = c.Next(); err == nil; err = c.Next() {
		if c.Rows != of {
			of, hashes = c.Rows, r.letters.hash(c.Rows, r.letters.columns)
		}
		source, offset := from.of(c.Rows, c.At)
		if !r.ours(source) {
			continue
		}
		if err = r.addLetter(ctx, source, offset, hashes[c.At]); err != nil {
			break
		}
		if err = p.of(ctx, c.Key(), source.Connector, func() *ingest.DeadLetter { return letterOf(s, c) }); err != nil {
			break
		}
	}
	return errors.Join(eof(err), in.Close(), claims.Close())
}

// letterOf is the letter at a cursor.
func letterOf(s *schema.Schema, c *query.Cursor) *ingest.DeadLetter {
	text := func(name string) []byte {
		v := c.Value(s.Position(name))
		if v.Null {
			return nil
		}
		return append([]byte{}, v.Bytes...)
	}
	number := func(name string) int64 { return c.Value(s.Position(name)).Int }
	return &ingest.DeadLetter{
		Topic: string(text("topic")), Partition: int32(number("partition")), Offset: number("offset"), Timestamp: number("timestamp"),
		Key: text("key"), Value: text("value"), Headers: text("headers"),
	}
}
