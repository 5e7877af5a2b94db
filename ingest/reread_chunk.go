package ingest

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
)

// Reread is what became of some records of a source that were read again.
type Reread struct {
	Source int           // position in RereadOptions.Sources
	Span   offsets.Range // the offsets that this is about; those without a record are markers, aborted, or compacted
	Gone   bool          // Kafka has deleted them all: retention overtook the reader
	// TooLarge says that the last of these offsets are a batch that becomes too large when it is decompressed: nobody reads it.
	TooLarge bool
	Records  int
	Holes    int64       // offsets of the span that have neither a record nor a marker: aborted, or compacted
	Rows     batch.Batch // of the table
	Offsets  []int64     // per row
	Letters  batch.Batch // of nyala.dead_letters: records that are no rows

	chunk *rereadChunk
}

// Op is what a row does.
func (r *Reread) Op(row int) batch.Op { return r.chunk.ops[row] }

// Refused is the rows of nyala.dead_letters that rows become for which the table has no place. It is valid until the next
// call, or visit's end.
func (r *Reread) Refused(rows []int) batch.Batch {
	c := r.chunk
	c.refused.Reset()
	for _, row := range rows {
		appendLetter(c.refused, c.source, c.records[c.from[row]], &rangeRefused)
	}
	return c.refused.View()
}

// rereadChunk decides on records; its memory is used again and again.
type rereadChunk struct {
	options   *RereadOptions
	pool      *recordPool // of the records
	decisions *Decisions
	deciders  []*decider       // by decision
	builders  []*batch.Builder // by decision: rows of its schema
	source    offsets.Source
	records   []*kgo.Record
	rows      *batch.Builder
	letters   *batch.Builder
	refused   *batch.Builder
	offsets   []int64
	from      []int32 // per row: its record
	ops       []batch.Op
	out       Reread
}

func (c *rereadChunk) init(o *RereadOptions) error {
	c.options = o
	c.letters = batch.NewBuilder(schema.DeadLetters().Columns, 16)
	c.refused = batch.NewBuilder(schema.DeadLetters().Columns, 16)
	var err error
	if c.decisions, err = o.Connector.decisions(); err != nil {
		return err
	}
	for i := range c.decisions.Each {
		s := c.decisions.Each[i].schema(&Layout{Schema: o.Schema})
		d, err := newDecider(&c.decisions.Each[i].Settings, s)
		if err != nil {
			return err
		}
		rows := batch.NewBuilder(s.Columns, o.Connector.ChunkRows)
		if i > 0 && sameSchema(s, c.decisions.Each[i-1].schema(&Layout{Schema: o.Schema})) {
			rows = c.builders[i-1]
		}
		c.deciders, c.builders = append(c.deciders, d), append(c.builders, rows)
	}
	return nil
}

// take decides on the records of s below what is wanted, and gives the memory of all back; next is where they are to begin.
func (c *rereadChunk) take(s *RereadSource, at int, next int64, records []*kgo.Record, visit func(*Reread) error) error {
	defer c.pool.takeBack(records, len(records))
	if i, known := c.decisions.at(s.Source, next); i < 0 {
		return fmt.Errorf("ingest: %s/%d: records below %d were decided by settings that are no longer known: nyala cannot tell which rows they should be",
			s.Topic, s.Source.Partition, known)
	}
	for {
		n := c.decide(s, next, records)
		if n < 0 {
			return fmt.Errorf("ingest: %s/%d: offset went back below %d: the partition's log was rewritten", s.Topic, s.Source.Partition, next)
		}
		c.out.Source = at
		if err := visit(&c.out); err != nil {
			return err
		}
		next = c.out.Span.Next
		if records = records[n:]; len(records) == 0 || next >= s.Wanted.Next {
			return nil
		}
	}
}

// decide works off a run of records of one decision and returns how many it took, -1 when their offsets do not rise. Rows have the
// columns of the table, whatever the schema of their decision: what that lacks is a default or null, as it is where they are stored.
func (c *rereadChunk) decide(s *RereadSource, next int64, records []*kgo.Record) int {
	i, until := c.decisions.at(s.Source, max(records[0].Offset, next))
	c.rows = c.builders[i]
	c.rows.Reset()
	c.letters.Reset()
	c.source, c.records = s.Source, records
	c.offsets, c.from, c.ops = c.offsets[:0], c.from[:0], c.ops[:0]
	c.out = Reread{Span: offsets.Range{First: next}, chunk: c}
	n, bytes := 0, int64(0)
	for ; n < len(records) && n < c.options.Connector.ChunkRows && bytes < int64(c.options.Connector.ChunkBytes); n++ {
		r := records[n]
		if r.Offset < next {
			return -1
		}
		if r.Offset >= s.Wanted.Next {
			c.out.Holes += s.Wanted.Next - next
			next = s.Wanted.Next
			n = len(records)
			break
		}
		if r.Offset >= until {
			break
		}
		bytes += recordBytes(r)
		c.out.Holes += r.Offset - next
		if next = r.Offset + 1; r.Attrs.IsControl() {
			continue
		}
		c.out.Records++
		op, why := c.deciders[i].decide(r, c.rows)
		if why != nil {
			appendLetter(c.letters, s.Source, r, why)
			continue
		}
		c.offsets, c.from, c.ops = append(c.offsets, r.Offset), append(c.from, int32(n)), append(c.ops, op)
	}
	c.out.Span.Next = next
	rows := c.rows.View()
	c.out.Rows, c.out.Letters, c.out.Offsets = *rowset.Fill(&rows, c.options.Schema.Columns), c.letters.View(), c.offsets
	return n
}
