package command

import (
	"bytes"
	"context"
	"errors"
	"io"

	"nyala/connector/api"
	"nyala/connector/query"
	"nyala/store/batch"
	"nyala/store/schema"
)

// The states of a dead letter.
const (
	letterNew       = "new"
	letterReplaying = "replaying" // taken up by a replay that has not finished: the next one does
	letterReplayed  = "replayed"
	letterDropped   = "dropped" // taken up, and then its range was no longer kept
)

var letterStates = []string{letterNew, letterReplaying, letterReplayed, letterDropped}

// letterStream is the rows of nyala.dead_letters with what nyala.replays says of each: two streams in the order of the same
// key. It gives letterColumns.
type letterStream struct {
	letters *query.Cursor
	claims  *query.Cursor
	closers []io.Closer
	ended   bool // there are no more claims
	state   string
	limit   int64 // rows left
	columns []schema.Column
	rows    *batch.Builder
}

// columns that the joined rows have beside those of nyala.dead_letters.
var stateColumns = []schema.Column{
	{ID: 1001, Name: "state", Type: schema.Type{Kind: schema.String}},
	{ID: 1002, Name: "replayed", Type: schema.Type{Kind: schema.Timestamp}, Nullable: true},
}

const letterRows = 256 // of a batch

// openLetters reads letters of one state, or all, and at most limit of them; 0: all.
func openLetters(ctx context.Context, client *api.Client, state string, limit int64) (*letterStream, int64, error) {
	s := &letterStream{state: state, limit: limit}
	table, letters, err := s.open(ctx, client, schema.DeadLettersTable, append(letterRecord[:len(letterRecord):len(letterRecord)], "topic_id"))
	if err != nil {
		return nil, 0, err
	}
	s.letters = query.NewCursor(table.schema, letters.columns, letters)
	s.columns = append(letters.columns[:len(letterRecord):len(letterRecord)], stateColumns...)
	table, claims, err := s.open(ctx, client, schema.ReplaysTable, []string{"replayed", "note", "topic_id", "partition", "offset", "connector"})
	if err != nil {
		return nil, 0, errors.Join(err, s.Close())
	}
	s.claims = query.NewCursor(table.schema, claims.columns, claims)
	s.rows = batch.NewBuilder(s.columns, letterRows)
	return s, letters.timestamp, nil
}

func (s *letterStream) open(ctx context.Context, client *api.Client, name string, columns []string) (*remoteTable, *answer, error) {
	table, err := openTable(ctx, client, name)
	if err != nil {
		return nil, nil, err
	}
	in, err := table.read(ctx, query.Request{Columns: columns, Order: query.OrderKey})
	if err == nil {
		s.closers = append(s.closers, in)
	}
	return table, in, err
}

// Close implements query.Stream.
func (s *letterStream) Close() error {
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Next implements query.Stream.
func (s *letterStream) Next() (*batch.Batch, error) {
	s.rows.Reset()
	for s.rows.Rows() < letterRows && (s.limit == 0 || s.limit > int64(s.rows.Rows())) {
		err := s.letters.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		state, at, err := s.stateOf()
		if err != nil {
			return nil, err
		}
		if s.state != "" && s.state != state {
			continue
		}
		for i := range letterRecord {
			s.rows.Columns[i].AppendValue(s.letters.Value(i))
		}
		s.rows.Columns[len(letterRecord)].AppendBytes([]byte(state))
		s.rows.Columns[len(letterRecord)+1].AppendValue(at)
	}
	n := int64(s.rows.Rows())
	if n == 0 {
		return nil, io.EOF
	}
	if s.limit > 0 {
		if s.limit -= n; s.limit == 0 {
			s.limit = -1 // nothing more, which is not the same as no limit
		}
	}
	view := s.rows.View()
	return &view, nil
}

// stateOf is the state of the present letter, and when it was replayed.
func (s *letterStream) stateOf() (string, schema.Value, error) {
	for !s.ended {
		if s.claims.Rows != nil {
			switch c := bytes.Compare(s.claims.Key(), s.letters.Key()); {
			case c > 0:
				return letterNew, schema.Null, nil
			case c == 0:
				at := s.claims.Value(0)
				switch {
				case at.Null:
					return letterReplaying, at, nil
				case !s.claims.Value(1).Null:
					return letterDropped, at, nil
				}
				return letterReplayed, at, nil
			}
		}
		if err := s.claims.Next(); err == io.EOF {
			s.ended = true
		} else if err != nil {
			return "", schema.Null, err
		}
	}
	return letterNew, schema.Null, nil
}
