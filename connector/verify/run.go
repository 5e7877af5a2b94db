package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/connector/query"
	"nyala/ingest"
	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// Options of a verification.
type Options struct {
	FS          vfs.FS
	Dir         string // for temporary files; it belongs to one run at a time
	MemoryBytes int64  // about what is used

	Table     *catalog.Table // as of the snapshot
	Cluster   string
	Timestamp int64
	Sources   []Source
	// Connectors are those whose topics are read, with their settings.
	Connectors []ingest.Options
	// SettingsSince is when a connector's present settings came into force, microseconds since 1970; 0: they were always.
	SettingsSince map[string]int64

	Scan     func(ctx context.Context, tablet catalog.TabletID) (query.Stream, error) // all columns of a tablet, as of the snapshot
	System   func(ctx context.Context, table string) (query.Stream, error)            // all columns of a system table, by primary key, as of now
	Began    func(context.Context, offsets.Source) bool                               // whether a source is known by now; one that is not takes a while
	Progress func(api.VerifyProgress)
	Limit    int  // differences that are looked up and listed; the others are counted
	Values   bool // list values, too
}

// Source is a source that has written to the table.
type Source struct {
	offsets.Source
	Begun         int64 // records below are not the table's business
	CompleteBelow int64 // all records below are in, or are dead letters, or in gaps
	NothingFrom   int64 // and none from here on
	// Applied is what each tablet's ledger said before the snapshot: of the records that belong to the tablet all below are
	// in. It is mostly ahead of CompleteBelow, which says more.
	Applied map[catalog.TabletID]int64
}

// Run is one verification. It belongs to one goroutine.
type Run struct {
	o         Options
	began     time.Time
	hash      *hasher
	letters   *letterHasher
	readers   map[string]*ingest.Rereader // by connector
	sources   []source
	index     map[offsets.Source]uint32
	others    map[offsets.Source]bool // not of the snapshot: whether they began later
	evidence  []evidence
	buckets   *buckets
	total     int64 // offsets to read
	result    api.Verification
	found     []found            // at most Limit
	columns   []int              // all positions of the schema's columns
	lastPlace *catalog.Partition // of the row before
	placing   []uint64           // hashes that choose the bucket, of the rows at hand
}

// source is a Source on its way.
type source struct {
	Source
	topic   string
	wanted  offsets.Range // found in Kafka
	gaps    []gap
	records int64
	letters int64
	gone    int64
	holes   int64  // offsets that a compacted topic has no record of
	compact bool   // the topic is compacted
	unknown string // why nothing of it can be read
}

type gap struct {
	offsets.Range
	contradicted bool
}

// found is a difference before it is looked up.
type found struct {
	kind   string
	key    [2]uint64
	source int   // -1: none
	offset int64 // of the record or dead letter
	tablet catalog.TabletID
}

// Prepare asks Kafka what there is to read. Close the run in the end.
func Prepare(ctx context.Context, o Options) (*Run, error) {
	r := &Run{o: o, began: time.Now(), readers: map[string]*ingest.Rereader{}, index: map[offsets.Source]uint32{}, others: map[offsets.Source]bool{}}
	r.result = api.Verification{Table: o.Table.Name, Cluster: o.Cluster, Timestamp: o.Timestamp, Kinds: map[string]int64{}}
	r.hash, r.letters = newHasher(o.Table.Schema), newLetterHasher()
	for i := range o.Table.Schema.Columns {
		r.columns = append(r.columns, i)
	}
	for i, s := range o.Sources {
		r.sources = append(r.sources, source{Source: s, unknown: "it is no topic of a connector that writes the table now"})
		r.index[s.Source] = uint32(i)
	}
	r.evidence = make([]evidence, len(o.Sources))
	if err := Clean(o.FS, o.Dir); err != nil {
		return nil, err
	}
	for _, c := range o.Connectors {
		if err := r.open(ctx, c); err != nil {
			r.Close()
			return nil, err
		}
	}
	inserts, deletes := false, false
	for i := range r.sources {
		s, e := &r.sources[i], &r.evidence[i]
		if connector, ok := r.replayOf(s.Source.Source); ok {
			s.unknown, s.topic = "", "dead letters"
			*e = evidenceOf(r.readers[connector])
			s.wanted.Next = s.NothingFrom
		}
		e.unknown = r.readers[s.Connector] == nil && s.topic == ""
		e.lost = s.gone > 0
		inserts, deletes = inserts || e.inserts, deletes || e.deletes
		if r.readers[s.Connector] != nil {
			r.total += s.wanted.Next - s.wanted.First
		}
	}
	r.buckets = newBuckets(&o, 2*r.total, !inserts || !deletes)
	return r, nil
}

// open asks for the sources of one connector.
func (r *Run) open(ctx context.Context, c ingest.Options) error {
	reader, err := ingest.OpenReread(ctx, ingest.RereadOptions{
		Connector: c, Schema: r.o.Table.Schema, Sources: r.wanted(c.Name), FetchBytes: int(r.o.MemoryBytes / 5),
	})
	if err != nil {
		return err
	}
	r.readers[c.Name] = reader
	e := evidenceOf(reader)
	for _, f := range reader.Sources() {
		i := r.index[f.Source]
		s := &r.sources[i]
		s.topic, s.wanted, s.compact, s.unknown = f.Topic, f.Found, f.Compacted, ""
		r.evidence[i] = e
		if f.Topic == "" {
			s.unknown = "kafka has no topic of this id any more"
			s.gone = max(0, s.NothingFrom-s.Begun)
			continue
		}
		s.gone = max(0, s.wanted.First-s.Begun)
	}
	return nil
}

// evidenceOf says what records of a connector may do, under whatever settings they were decided.
func evidenceOf(reader *ingest.Rereader) (e evidence) {
	for _, s := range reader.Settings() {
		insert := s.Op == batch.Insert
		e.inserts, e.upserts, e.deletes = e.inserts || insert, e.upserts || !insert, e.deletes || s.Changes
	}
	return e
}

func (r *Run) wanted(connector string) []ingest.RereadSource {
	var out []ingest.RereadSource
	for i := range r.sources {
		if s := &r.sources[i]; s.Connector == connector {
			out = append(out, ingest.RereadSource{Source: s.Source.Source, Wanted: offsets.Range{First: s.Begun, Next: max(s.NothingFrom, s.CompleteBelow)}})
		}
	}
	return out
}

// Close ends the clients and removes the files.
func (r *Run) Close() error {
	for _, reader := range r.readers {
		reader.Close()
	}
	if r.buckets == nil {
		return nil
	}
	return r.buckets.close()
}

// Do compares. The table is read first: its history is kept for a limited time, as are Kafka's records, but for a shorter one.
func (r *Run) Do(ctx context.Context, difference func(*api.Difference) error) (*api.Verification, error) {
	for _, step := range []func(context.Context) error{r.readGaps, r.readTable, r.readLetters, r.readTopics, r.compare} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.locate(ctx, difference); err != nil {
		return nil, err
	}
	return r.finish(), nil
}

func (r *Run) finish() *api.Verification {
	v := &r.result
	for i := range r.sources {
		s := &r.sources[i]
		lost := int64(0)
		for _, g := range s.gaps {
			lost += g.Next - g.First
		}
		v.Records += s.records
		v.Sources = append(v.Sources, api.VerifiedSource{
			Connector: s.Connector, Topic: s.topic, TopicID: topicID(s.Topic), Partition: s.Partition, Begun: s.Begun, First: s.wanted.First,
			CompleteBelow: s.CompleteBelow, NothingFrom: s.NothingFrom, Records: s.records, DeadLetters: s.letters,
			Gaps: lost, Gone: max(0, s.gone-lost), Compacted: s.holes, Reason: s.unknown,
		})
	}
	v.Exact = v.Differences == 0
	v.Complete = v.Exact && v.NotCheckable == 0
	v.Seconds = time.Since(r.began).Seconds()
	return v
}

func topicID(id offsets.TopicID) string {
	return string(schema.AppendText(nil, schema.Type{Kind: schema.UUID}, schema.Value{Bytes: id[:]}))
}

// differ counts a difference and keeps it if there is room.
func (r *Run) differ(f found) {
	r.result.Differences++
	r.result.Kinds[f.kind]++
	if len(r.found) < r.o.Limit {
		r.found = append(r.found, f)
	}
}

// each gives the batches of a stream to visit and closes it.
func each(s query.Stream, err error, visit func(*batch.Batch) error) error {
	for err == nil {
		var b *batch.Batch
		if b, err = s.Next(); err == nil {
			err = visit(b)
		}
	}
	if s != nil {
		err = errors.Join(eof(err), s.Close())
	}
	return err
}

func eof(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// readTable makes a digest of every row, and looks whether each is in the tablet where it belongs.
func (r *Run) readTable(ctx context.Context) error {
	for p := range r.o.Table.Partitions {
		for bucket, id := range r.o.Table.Partitions[p].Tablets {
			in, err := r.o.Scan(ctx, id)
			err = each(in, err, func(b *batch.Batch) error { return r.addRows(b, p, bucket) })
			if err != nil {
				return fmt.Errorf("verify: table %s: tablet %d: %w", r.o.Table.Name, id, err)
			}
		}
	}
	return nil
}

func (r *Run) addRows(b *batch.Batch, partition, bucket int) error {
	hashes := r.hash.hash(b, r.columns)
	r.hash.encode(b)
	r.checkPlaces(b, partition, bucket)
	for i := range b.Rows {
		d := digest{key: r.hash.keyOf(r.hash.keys.At(i)), row: hashes[i], kind: rowKind}
		if err := r.buckets.add(&d); err != nil {
			return err
		}
	}
	r.result.Rows += int64(b.Rows)
	r.o.Progress(api.VerifyProgress{Step: api.VerifyTable, Done: r.result.Rows})
	return nil
}

// checkPlaces looks whether rows are in the tablet where a reader of their key would look for them.
func (r *Run) checkPlaces(b *batch.Batch, partition, bucket int) {
	s, p := r.o.Table.Schema, &r.o.Table.Partitions[partition]
	r.place(b)
	for i := range b.Rows {
		right := schema.BucketOf(r.placing[i], len(p.Tablets)) == bucket
		if s.Range != nil {
			v := b.Columns[s.Range.Column].Int(i)
			right = right && p.Low <= v && v < p.High
		}
		if !right {
			r.differ(found{kind: api.MisplacedRow, key: r.hash.keyOf(r.hash.keys.At(i)), source: -1, tablet: p.Tablets[bucket]})
		}
	}
}

// readTopics makes a digest of every record.
func (r *Run) readTopics(ctx context.Context) error {
	done := int64(0)
	for _, c := range r.o.Connectors {
		reader := r.readers[c.Name]
		if reader == nil {
			continue
		}
		sources := reader.Sources()
		err := reader.Run(ctx, func(in *ingest.Reread) error {
			i := r.index[sources[in.Source].Source]
			s := &r.sources[i]
			done += in.Span.Next - in.Span.First
			r.o.Progress(api.VerifyProgress{Step: api.VerifyTopics, Topic: s.topic, Done: done, Total: r.total})
			if in.Gone {
				s.gone += in.Span.Next - in.Span.First
				r.evidence[i].lost = true
				return nil
			}
			if in.TooLarge {
				r.wantGap(s, int(i), in.Span)
				return nil
			}
			s.records += int64(in.Records)
			if s.compact && in.Holes > 0 {
				s.holes += in.Holes
				r.evidence[i].holes = true
			}
			return errors.Join(r.addRecords(s, i, in), r.addBad(s, i, &in.Letters, false))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addRecords takes the records that are rows, or delete them.
func (r *Run) addRecords(s *source, at uint32, in *ingest.Reread) error {
	b := &in.Rows
	hashes := r.hash.hash(b, r.columns)
	r.hash.encode(b)
	r.place(b)
	var refused, dropped []int
	for i := range b.Rows {
		offset := in.Offsets[i]
		s.contradict(offset)
		open := offset >= s.CompleteBelow
		switch p, place := r.placeOf(b, i); place {
		case refusedPlace:
			refused = append(refused, i)
			continue
		case droppedPlace:
			dropped = append(dropped, i)
			continue
		case noPlace:
			if open {
				continue // its range was made after the snapshot
			}
		case hasPlace:
			open = open && offset >= s.Applied[p.Tablets[schema.BucketOf(r.placing[i], len(p.Tablets))]]
		}
		if open {
			r.result.Open++
		}
		d := digest{key: r.hash.keyOf(r.hash.keys.At(i)), row: hashes[i], offset: offset, kind: recordKind, op: in.Op(i), open: open, source: at}
		if err := r.buckets.add(&d); err != nil {
			return err
		}
	}
	return r.addUnplaced(s, at, in, refused, dropped)
}

// addUnplaced takes rows for whose range the table has no place. Those whose range was dropped were in the table, or were dead letters if they came later.
func (r *Run) addUnplaced(s *source, at uint32, in *ingest.Reread, refused, dropped []int) error {
	if len(refused) > 0 {
		letters := in.Refused(refused)
		if err := r.addBad(s, at, &letters, false); err != nil {
			return err
		}
	}
	if len(dropped) == 0 {
		return nil
	}
	r.result.Dropped += int64(len(dropped))
	letters := in.Refused(dropped)
	return r.addBad(s, at, &letters, true)
}

// wantGap looks whether nyala.gaps has a batch that was too large to be read: the last of span.
func (r *Run) wantGap(s *source, at int, span offsets.Range) {
	for _, g := range s.gaps {
		if g.First < span.Next && span.Next <= g.Next {
			return
		}
	}
	if span.Next <= s.CompleteBelow {
		r.differ(found{kind: api.MissingGap, source: at, offset: span.Next - 1})
	}
}

// contradict notes that Kafka has a record of which nyala.gaps says that it was gone.
func (s *source) contradict(offset int64) {
	for i := range s.gaps {
		if g := &s.gaps[i]; g.First <= offset && offset < g.Next {
			g.contradicted = true
		}
	}
}

// placement is what the table says of a value of its range column.
type placement uint8

const (
	hasPlace     placement = iota
	noPlace                // nobody asked for its range yet
	refusedPlace           // its range will never be made
	droppedPlace           // its range was dropped, or is older than those that were
)

// place fills r.placing for the rows of b.
func (r *Run) place(b *batch.Batch) {
	r.placing = slices.Grow(r.placing[:0], b.Rows)[:b.Rows]
	batch.HashRows(r.o.Table.Schema, b, 0, b.Rows, r.placing)
}

// placeOf finds the range that a row falls into.
func (r *Run) placeOf(b *batch.Batch, row int) (*catalog.Partition, placement) {
	t := r.o.Table
	v := int64(0)
	if t.Schema.Range != nil {
		v = b.Columns[t.Schema.Range.Column].Int(row)
	}
	if p := r.lastPlace; p != nil && (t.Schema.Range == nil || p.Low <= v && v < p.High) {
		return p, hasPlace
	}
	if p, ok := t.Partition(v); ok {
		r.lastPlace = &p
		return r.lastPlace, hasPlace
	}
	low := t.Schema.Range.RangeOf(v)
	_, refused := slices.BinarySearch(t.Refused, low)
	switch high := low + t.Schema.Range.Every; {
	case low > v || high <= low: // it wrapped around: such a range has no bounds
		return nil, refusedPlace
	case low < t.Floor:
		return nil, droppedPlace
	case refused:
		return nil, refusedPlace
	}
	return nil, noPlace
}
