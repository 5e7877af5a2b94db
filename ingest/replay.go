package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/schema"
)

// DeadLetter is a record as nyala.dead_letters keeps it.
type DeadLetter struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp int64 // microseconds since 1970
	Key       []byte
	Value     []byte
	Headers   []byte // JSON, as it is there; nil: none
}

// Verdict is what becomes of a letter that is judged once more.
type Verdict struct {
	Row    []byte // an entry of kind Rows with the one row; nil: there is still none
	Op     batch.Op
	Stage  string // why there is none
	Code   string
	Reason string
}

// Judge decides on dead letters as their connector decides on records now. Not safe for concurrent use.
type Judge struct {
	options Options
	layout  *Layout
	version uint32 // of the settings that decider has
	decider *decider
	schema  *schema.Schema // of the rows that it makes
	rows    *batch.Builder
}

// NewJudge makes the judge of a connector, of whose options it needs the table, what decides on records, and the router.
func NewJudge(o Options) *Judge { return &Judge{options: o} }

// Table is where rows go.
func (j *Judge) Table() string { return j.options.Table }

// Judge decides on one letter. With dry no range is made for its row. The error is that of a table that is not there, or of
// a ctx that is done.
func (j *Judge) Judge(ctx context.Context, l *DeadLetter, dry bool) (Verdict, error) {
	if err := j.prepare(); err != nil {
		return Verdict{}, err
	}
	r := &kgo.Record{
		Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Timestamp: time.UnixMicro(l.Timestamp), Key: l.Key, Value: l.Value,
	}
	var err error
	if r.Headers, err = parseHeaders(l.Headers); err != nil {
		return Verdict{}, fmt.Errorf("ingest: dead letter of topic %s partition %d offset %d: %w", l.Topic, l.Partition, l.Offset, err)
	}
	j.rows.Reset()
	op, refused := j.decider.decide(r, j.rows)
	if refused == nil && !dry {
		if refused, err = j.place(ctx); err != nil {
			return Verdict{}, err
		}
	}
	if refused != nil {
		return Verdict{Stage: refused.stage, Code: refused.code, Reason: refused.message}, nil
	}
	view := j.rows.View()
	return Verdict{Op: op, Row: batch.AppendRows(nil, &view, batch.Header{SchemaVersion: j.schema.Version})}, nil
}

// prepare takes the table's present layout and the newest settings and, where they changed, another decider.
func (j *Judge) prepare() error {
	l, err := j.options.Router.Layout(j.options.Table)
	if err != nil {
		return err
	}
	d, err := j.options.decisions()
	if err != nil {
		return err
	}
	newest := &d.Each[len(d.Each)-1]
	if s := newest.schema(l); j.layout == nil || j.version != d.Version || !sameSchema(j.schema, s) {
		if j.decider, err = newDecider(&newest.Settings, s); err != nil {
			return err
		}
		j.schema, j.rows = s, batch.NewBuilder(s.Columns, 1)
	}
	j.layout, j.version = l, d.Version
	return nil
}

// place makes sure that the row's range is there.
func (j *Judge) place(ctx context.Context) (*refusal, error) {
	if j.layout.Schema.Range == nil {
		return nil, nil
	}
	v := j.rows.View().Columns[j.layout.Schema.Range.Column]
	_, _, err := ensure(ctx, j.options.Router, j.options.Table, j.layout, v.Int(0))
	if errors.Is(err, ErrRangeRefused) {
		return &rangeRefused, nil
	}
	return nil, err
}

// parseHeaders reads what headersJSON wrote.
func parseHeaders(text []byte) ([]kgo.RecordHeader, error) {
	if text == nil {
		return nil, nil
	}
	var list []headerJSON
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	out := make([]kgo.RecordHeader, len(list))
	for i, h := range list {
		out[i] = kgo.RecordHeader{Key: h.Key, Value: h.Value}
	}
	return out, nil
}

// Claim is a verdict that was written down: the letter becomes this row and no other, whatever is configured later.
type Claim struct {
	Source   offsets.Source // of the run
	Sequence int64          // the row's offset in it
	Op       batch.Op
	Row      []byte
}

// ErrClaim says that a claim does not fit its table.
var ErrClaim = errors.New("claim does not fit")

// claimed collects the rows of claims as a chunk of a table.
func claimed(l *Layout, claims []Claim) (*chunk, error) {
	c := &chunk{decoded: newDecoded(l.Schema, len(claims)), schema: l.Schema}
	for i := range claims {
		p, err := batch.ParseWrite(alignedCopy(claims[i].Row))
		if err == nil && p.Header.SchemaVersion > l.Schema.Version {
			return nil, fmt.Errorf("ingest: claim %d of %s has columns that the layout has not: %w", claims[i].Sequence, claims[i].Source, errStale)
		}
		if err == nil && p.Batch.Rows != 1 {
			err = fmt.Errorf("%d rows, want 1", p.Batch.Rows)
		}
		if err == nil {
			err = appendRow(c.rows, l, &p.Batch, claims[i].Op)
		}
		if err != nil {
			return nil, fmt.Errorf("ingest: claim %d of %s: %w: %w", claims[i].Sequence, claims[i].Source, err, ErrClaim)
		}
		c.offsets = append(c.offsets, claims[i].Sequence)
		c.addOp(claims[i].Op)
	}
	c.seal()
	c.encodeKeys()
	return c, nil
}

// alignedCopy is b at an address that is a multiple of 8, as entries need.
func alignedCopy(b []byte) []byte { return append(make([]byte, 0, max(len(b), 8)), b...) }

// appendRow appends the row by its columns' ids: a column that the table has since got is its default, one that it has
// no more is left out.
func appendRow(rows *batch.Builder, l *Layout, from *batch.Batch, op batch.Op) error {
	for i, want := range l.Schema.Columns {
		k := &rows.Columns[i]
		at := -1
		for c := range from.Columns {
			if from.Columns[c].ID == want.ID {
				at = c
			}
		}
		switch {
		case at >= 0 && from.Columns[at].Type != want.Type:
			return fmt.Errorf("column %s is of type %s, want %s", want.Name, from.Columns[at].Type, want.Type)
		case at >= 0:
			k.AppendValue(from.Columns[at].Value(0))
		case want.Default != nil:
			k.AppendValue(*want.Default)
		case want.Nullable || op == batch.Delete:
			k.AppendNull()
		default:
			return fmt.Errorf("the table has got a column %s that must have a value", want.Name)
		}
	}
	return nil
}
