package connector

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"net/http"
	"slices"

	"nyala/connector/api"
	"nyala/connector/query"
	"nyala/ingest"
	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/schema"
)

// columns of nyala.replays, in its schema's order. The first four are the key, and the same as in nyala.dead_letters.
const (
	replayTopicID = iota
	replayPartition
	replayOffset
	replayConnector
	replayTopic
	replayTable
	replayRun
	replaySequence
	replayOperation
	replayRow
	replayClaimed
	replayReplayed
	replayNote
)

// columns of nyala.dead_letters behind the key, in the order in which they are read.
const (
	letterTopic = iota + 4
	letterTimestamp
	letterKey
	letterValue
	letterHeaders
)

var letterColumns = []string{"topic_id", "partition", "offset", "connector", "topic", "timestamp", "key", "value", "headers"}

var operations = map[batch.Op]string{batch.Upsert: "upsert", batch.Insert: "insert", batch.Delete: "delete"}

func operationOf(name string) (batch.Op, bool) {
	for op, n := range operations {
		if n == name {
			return op, true
		}
	}
	return 0, false
}

func names(s *schema.Schema) []string {
	var out []string
	for _, c := range s.Columns {
		out = append(out, c.Name)
	}
	return out
}

// freshLetters are the selected dead letters that nobody has taken up, in the order of their keys, as of one timestamp. A
// claim that is made afterwards is met when ours is written: the first one wins.
type freshLetters struct {
	letters *query.Cursor
	claims  *query.Cursor
	ended   bool // there are no more claims
	streams []query.Stream
}

func (r *replay) letters(ctx context.Context) (*freshLetters, error) {
	letters, err := r.n.read(ctx, schema.DeadLettersTable, query.Request{Columns: letterColumns, Where: r.request.where, Order: query.OrderKey})
	if err != nil {
		return nil, err
	}
	claims, err := r.n.read(ctx, schema.ReplaysTable, query.Request{Columns: letterColumns[:4], Order: query.OrderKey})
	if err != nil {
		return nil, errors.Join(err, letters.stream.Close())
	}
	return &freshLetters{
		letters: query.NewCursor(schema.DeadLetters(), letters.columns, letters.stream),
		claims:  query.NewCursor(schema.Replays(), claims.columns, claims.stream),
		streams: []query.Stream{letters.stream, claims.stream},
	}, nil
}

// next goes to the next letter without a claim; io.EOF: there is none.
func (f *freshLetters) next() error {
	for {
		if err := f.letters.Next(); err != nil {
			return err
		}
		taken, err := f.taken()
		if err != nil || !taken {
			return err
		}
	}
}

func (f *freshLetters) taken() (bool, error) {
	for !f.ended {
		if f.claims.Rows != nil {
			switch c := bytes.Compare(f.claims.Key(), f.letters.Key()); {
			case c == 0:
				return true, nil
			case c > 0:
				return false, nil
			}
		}
		if err := f.claims.Next(); err == io.EOF {
			f.ended = true
		} else if err != nil {
			return false, err
		}
	}
	return false, nil
}

// Close ends both reads.
func (f *freshLetters) Close() {
	for _, s := range f.streams {
		s.Close()
	}
}

func (f *freshLetters) connector() string { return string(f.letters.Value(replayConnector).Bytes) }

// bytes is what taking up the letter may take: its own bytes, and its row's.
func (f *freshLetters) bytes() int64 {
	return 2*int64(len(f.letters.Value(letterKey).Bytes)+len(f.letters.Value(letterValue).Bytes)+len(f.letters.Value(letterHeaders).Bytes)) + 256
}

// letter is valid until next.
func (f *freshLetters) letter() *ingest.DeadLetter {
	v := f.letters.Value
	return &ingest.DeadLetter{
		Topic: string(v(letterTopic).Bytes), Partition: int32(v(replayPartition).Int), Offset: v(replayOffset).Int, Timestamp: v(letterTimestamp).Int,
		Key: bytesOrNil(v(letterKey)), Value: bytesOrNil(v(letterValue)), Headers: bytesOrNil(v(letterHeaders)),
	}
}

// bytesOrNil tells a value of no bytes from none: a tombstone has none.
func bytesOrNil(v schema.Value) []byte {
	if v.Null {
		return nil
	}
	return append([]byte{}, v.Bytes...)
}

func sampleOf(f *freshLetters, table string, v *ingest.Verdict) api.ReplayLetter {
	l := f.letter()
	s := api.ReplayLetter{Connector: f.connector(), Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Stage: v.Stage, Reason: v.Reason}
	if v.Row != nil {
		s.Table, s.Operation = table, operations[v.Op]
	}
	return s
}

// appendClaim appends the row of nyala.replays by which run r takes a letter up.
func appendClaim(rows *batch.Builder, f *freshLetters, r *replay, table string, v *ingest.Verdict) {
	k := rows.Columns
	for i := range replayTopic {
		k[i].AppendValue(f.letters.Value(i))
	}
	k[replayTopic].AppendValue(f.letters.Value(letterTopic))
	k[replayTable].AppendBytes([]byte(table))
	k[replayRun].AppendFixed16(r.run)
	k[replaySequence].AppendInt(r.sequence)
	k[replayOperation].AppendBytes([]byte(operations[v.Op]))
	k[replayRow].AppendBytes(v.Row)
	k[replayClaimed].AppendInt(r.n.options.Now().UnixMicro())
	k[replayReplayed].AppendNull()
	k[replayNote].AppendNull()
}

// openClaims are rows of nyala.replays that are not marked.
type openClaims struct{ *batch.Batch }

// nextClaims takes the next rows of a stream of all columns.
func nextClaims(in query.Stream) (*openClaims, error) {
	for {
		b, err := in.Next()
		if err != nil {
			return nil, err
		}
		if b.Rows > 0 {
			return &openClaims{b}, nil
		}
	}
}

// byTable gives the claims of each table, in their order.
func (o *openClaims) byTable() iter.Seq2[string, []int] {
	of := map[string][]int{}
	for row := range o.Rows {
		table := string(o.Columns[replayTable].Bytes(row))
		of[table] = append(of[table], row)
	}
	return func(yield func(string, []int) bool) {
		for _, table := range slices.Sorted(maps.Keys(of)) {
			if !yield(table, of[table]) {
				return
			}
		}
	}
}

func (o *openClaims) run(row int) offsets.TopicID {
	return offsets.TopicID(o.Columns[replayRun].Value(row).Bytes)
}

// replaySource begins the name of the source of a run; a connector's name has no colon.
const replaySource = "replay:"

func (o *openClaims) claim(row int) (ingest.Claim, error) {
	name := string(o.Columns[replayOperation].Bytes(row))
	op, ok := operationOf(name)
	if !ok {
		return ingest.Claim{}, coded(http.StatusInternalServerError, "claim_unknown", "table %s: operation %q is unknown: was it written by a newer nyala?", schema.ReplaysTable, name)
	}
	return ingest.Claim{
		Source:   offsets.Source{Connector: replaySource + string(o.Columns[replayConnector].Bytes(row)), Topic: o.run(row)},
		Sequence: o.Columns[replaySequence].Int(row), Op: op, Row: o.Columns[replayRow].Bytes(row),
	}, nil
}

// appendMark appends a claim's row as it is once it is carried out.
func (o *openClaims) appendMark(rows *batch.Builder, row int, now int64, note string) {
	for i := range rows.Columns {
		k := &rows.Columns[i]
		switch {
		case i == replayRow:
			k.AppendNull()
		case i == replayReplayed:
			k.AppendInt(now)
		case i == replayNote && note != "":
			k.AppendBytes([]byte(note))
		default:
			k.AppendValue(o.Columns[i].Value(row))
		}
	}
}
