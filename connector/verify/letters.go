package verify

import (
	"context"
	"slices"

	"nyala/connector/api"
	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/schema"
)

// letterColumns are the columns of a dead letter that its record decides. The reason is not: its words may change from one
// version to the next. Nor is the time.
var letterColumns = []string{"topic", "timestamp", "key", "value", "headers", "stage"}

// letterHasher hashes rows of nyala.dead_letters.
type letterHasher struct {
	*hasher
	columns []int
}

func newLetterHasher() *letterHasher {
	s := schema.DeadLetters()
	l := &letterHasher{hasher: newHasher(s)}
	for _, name := range letterColumns {
		l.columns = append(l.columns, s.Position(name))
	}
	return l
}

// origin reads where a row of one of the system tables comes from; first is the name of the column with the offset.
type origin struct{ connector, topic, partition, first int }

func originOf(s *schema.Schema, first string) origin {
	return origin{s.Position("connector"), s.Position("topic_id"), s.Position("partition"), s.Position(first)}
}

func (o origin) of(b *batch.Batch, row int) (offsets.Source, int64) {
	s := offsets.Source{Connector: string(b.Columns[o.connector].Bytes(row)), Partition: int32(b.Columns[o.partition].Int(row))}
	copy(s.Topic[:], b.Columns[o.topic].Values[row*16:])
	return s, b.Columns[o.first].Int(row)
}

// ours tells whether a source is one of a connector of the table.
func (r *Run) ours(s offsets.Source) bool { return r.readers[s.Connector] != nil }

// readGaps reads the offsets that were lost before they were read.
func (r *Run) readGaps(ctx context.Context) error {
	from, next := originOf(schema.Gaps(), "first"), schema.Gaps().Position("next")
	in, err := r.o.System(ctx, schema.GapsTable)
	return each(in, err, func(b *batch.Batch) error {
		for i := range b.Rows {
			s, first := from.of(b, i)
			if at, ok := r.index[s]; ok && r.ours(s) {
				k := &r.sources[at]
				k.gaps = append(k.gaps, gap{Range: offsets.Range{First: first, Next: b.Columns[next].Int(i)}})
			}
		}
		return nil
	})
}

// beganLater asks once for each source that the snapshot does not have.
func (r *Run) beganLater(ctx context.Context, s offsets.Source) bool {
	began, asked := r.others[s]
	if !asked {
		began = r.o.Began(ctx, s)
		r.others[s] = began
	}
	return began
}

// addLetter takes a row of nyala.dead_letters.
func (r *Run) addLetter(ctx context.Context, s offsets.Source, offset int64, hash uint64) error {
	at, known := r.index[s]
	if !known && r.beganLater(ctx, s) {
		return nil // it began after the snapshot, of which letters are read later
	}
	if !known { // none of its records was ever read
		r.differ(found{kind: api.ExtraLetter, source: -1})
		r.result.DeadLetters++
		return nil
	}
	d := digest{key: r.letters.letterKey(at, offset), row: hash, offset: offset, kind: letterKind, source: at}
	return r.buckets.add(&d)
}

// addBad takes records that should be dead letters: rows of nyala.dead_letters as ingest makes them. Where open is set they may
// be none.
func (r *Run) addBad(s *source, at uint32, letters *batch.Batch, open bool) error {
	if letters.Rows == 0 {
		return nil
	}
	hashes := r.letters.hash(letters, r.letters.columns)
	offset := &letters.Columns[schema.DeadLetters().Position("offset")]
	for i, o := range offset.Int64s() {
		s.contradict(o)
		if !open {
			s.letters++
		}
		d := digest{key: r.letters.letterKey(at, o), row: hashes[i], offset: o, kind: badKind, open: open || o >= s.CompleteBelow, source: at}
		if err := r.buckets.add(&d); err != nil {
			return err
		}
	}
	return nil
}

// compare judges bucket by bucket.
func (r *Run) compare(ctx context.Context) error {
	for i := range r.sources {
		s := &r.sources[i]
		slices.SortFunc(s.gaps, func(a, b gap) int { return int(a.First - b.First) })
		for _, g := range s.gaps {
			if g.contradicted {
				r.differ(found{kind: api.GapOfARecord, source: i, offset: g.First})
			}
		}
	}
	var list []digest
	var err error
	for i := range r.buckets.all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if list, err = r.buckets.load(i, list); err != nil {
			return err
		}
		for rest := list; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].key == rest[0].key {
				n++
			}
			r.judgeKey(rest[:n])
			rest = rest[n:]
		}
		r.o.Progress(api.VerifyProgress{Step: api.VerifyCompare, Done: int64(i + 1), Total: int64(len(r.buckets.all))})
	}
	return nil
}

// judgeKey judges the digests of one key, which are sorted by kind, source and offset.
func (r *Run) judgeKey(list []digest) {
	var of [letterKind + 1][]digest
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].kind == list[0].kind {
			n++
		}
		of[list[0].kind], list = list[:n], list[n:]
	}
	if len(of[badKind])+len(of[letterKind]) > 0 {
		r.judgeLetter(of[badKind], of[letterKind])
		return
	}
	records, rows := of[recordKind], of[rowKind]
	v, culprit := judge(records, rows, r.evidence)
	switch v {
	case fine:
		return
	case unchecked:
		r.result.NotCheckable++
		return
	}
	f := found{kind: rowKinds[v], source: -1}
	if culprit >= 0 {
		f.source, f.offset, f.key = int(records[culprit].source), records[culprit].offset, records[culprit].key
	} else {
		f.key = rows[0].key
	}
	r.differ(f)
}

var rowKinds = map[verdict]string{
	missing: api.MissingRow, differs: api.OtherRow, extra: api.ExtraRow, doubled: api.DoubledRow, deleted: api.DeletedRow,
}

func (r *Run) judgeLetter(bad, letters []digest) {
	var one digest
	switch {
	case len(letters) > 0:
		one = letters[0]
		r.result.DeadLetters++
	default:
		one = bad[0]
	}
	s := &r.sources[one.source]
	f := found{source: int(one.source), offset: one.offset}
	switch {
	case len(letters) > 1:
		f.kind = api.DoubledLetter
	case len(letters) == 0 && bad[0].open:
		return
	case len(letters) == 0:
		f.kind = api.MissingLetter
	case len(bad) > 0 && bad[0].row == letters[0].row:
		return
	case len(bad) > 0:
		f.kind = api.OtherLetter
	case one.offset >= s.CompleteBelow:
		return // not compared: the snapshot says nothing about it
	case s.unknown != "" || s.holes > 0 || one.offset >= s.Begun && one.offset < s.Begun+s.gone:
		r.result.NotCheckable++
		return
	default:
		f.kind = api.ExtraLetter
	}
	r.differ(f)
}
