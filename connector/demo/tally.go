package demo

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/bits"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"

	"nyala/ingest/broker"
	"nyala/store/batch"
	"nyala/store/schema"
)

// tally knows what was produced: a hash of each event by partition and offset.
type tally struct {
	partitions []partitionTally
}

type partitionTally struct {
	mu struct {
		sync.Mutex
		hashes []uint64 // by offset
		fault  error
		text   []byte
	}
}

// newTally makes an empty one.
func newTally(partitions int) *tally { return &tally{make([]partitionTally, partitions)} }

// add notes an acknowledged event. Offsets of a partition must come one after the other from 0: the topic is ours alone.
func (t *tally) add(partition int32, offset int64, e *broker.Event) {
	p := &t.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	if want := int64(len(p.mu.hashes)); offset != want && p.mu.fault == nil {
		p.mu.fault = fmt.Errorf("demo: partition %d: the broker acknowledged offset %d, want %d", partition, offset, want)
	}
	p.mu.text = appendEvent(p.mu.text[:0], e)
	p.mu.hashes = append(p.mu.hashes, xxhash.Sum64(p.mu.text))
}

// records is how many were produced, and a fault of the broker if there was one.
func (t *tally) records() (n int64, err error) {
	for i := range t.partitions {
		p := &t.partitions[i]
		p.mu.Lock()
		n += int64(len(p.mu.hashes))
		if err == nil {
			err = p.mu.fault
		}
		p.mu.Unlock()
	}
	return n, err
}

// columns are the columns that a comparison needs, in this order, and the type of each.
var columns = []struct {
	name string
	kind schema.Kind
}{
	{"tenant", schema.Int32}, {"event_time", schema.Timestamp}, {"event_id", schema.Int64}, {"user_id", schema.String},
	{"session", schema.UUID}, {"event_name", schema.String}, {"url", schema.String}, {"country", schema.String},
	{"duration_ms", schema.Int64}, {"value", schema.Float64}, {"ok", schema.Bool},
	{"kafka_partition", schema.Int32}, {"kafka_offset", schema.Int64},
}

func columnNames() (names []string) {
	for _, c := range columns {
		names = append(names, c.name)
	}
	return names
}

// appendEvent appends the one form that an event has as JSON and as a row: fixed widths, and texts with their lengths.
func appendEvent(b []byte, e *broker.Event) []byte {
	b = appendInt(b, int64(e.Tenant))
	b = appendInt(b, e.EventTime)
	b = appendInt(b, e.EventID)
	b = appendText(b, e.UserID)
	var session [16]byte
	// A session that is no UUID leaves zeros, which no row has.
	_, _ = hex.Decode(session[:], []byte(strings.ReplaceAll(e.Session, "-", "")))
	b = append(b, session[:]...)
	b = appendText(b, e.EventName)
	b = appendText(b, e.URL)
	b = appendText(b, e.Country)
	b = appendInt(b, e.DurationMs)
	b = appendInt(b, int64(math.Float64bits(e.Value)))
	if e.OK {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendRow(b []byte, rows *batch.Batch, i int) []byte {
	c := rows.Columns
	b = appendInt(b, c[0].Int(i))
	b = appendInt(b, c[1].Int(i))
	b = appendInt(b, c[2].Int(i))
	b = appendText(b, c[3].Bytes(i))
	b = append(b, c[4].Values[16*i:16*i+16]...)
	b = appendText(b, c[5].Bytes(i))
	b = appendText(b, c[6].Bytes(i))
	b = appendText(b, c[7].Bytes(i))
	b = appendInt(b, c[8].Int(i))
	b = appendInt(b, int64(math.Float64bits(c[9].Float64s()[i])))
	if c[10].Bit(i) {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendInt(b []byte, v int64) []byte { return binary.LittleEndian.AppendUint64(b, uint64(v)) }

func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...)
}

// comparison holds rows against a tally. Rows may come in any order; it needs a bit for each record.
type comparison struct {
	tally *tally
	seen  [][]uint64 // by partition, a bit for each offset
	text  []byte

	rows    int64
	twice   int64 // rows of an offset that had come before
	wrong   int64 // rows that are not what was produced at their offset
	unknown int64 // rows of an offset that was never acknowledged
}

// compare begins a comparison; nothing is produced any more.
func (t *tally) compare() *comparison {
	c := &comparison{tally: t}
	for i := range t.partitions {
		c.seen = append(c.seen, make([]uint64, (len(t.partitions[i].mu.hashes)+63)/64))
	}
	return c
}

// add takes rows whose columns are those of the variable columns.
func (c *comparison) add(b *batch.Batch) error {
	if len(b.Columns) != len(columns) {
		return fmt.Errorf("demo: rows of %d columns, want %d", len(b.Columns), len(columns))
	}
	for i := range columns {
		if got := &b.Columns[i]; got.Type.Kind != columns[i].kind || got.Nulls > 0 {
			return fmt.Errorf("demo: column %s: got %s with %d nulls, want %s and none", columns[i].name, got.Type, got.Nulls, schema.Type{Kind: columns[i].kind})
		}
	}
	partitions, offsets := b.Columns[11].Int32s(), b.Columns[12].Int64s()
	for i := range b.Rows {
		c.row(partitions[i], offsets[i], b, i)
	}
	c.rows += int64(b.Rows)
	return nil
}

func (c *comparison) row(partition int32, offset int64, b *batch.Batch, i int) {
	if partition < 0 || int(partition) >= len(c.seen) || offset < 0 || offset >= int64(len(c.tally.partitions[partition].mu.hashes)) {
		c.unknown++
		return
	}
	word, bit := &c.seen[partition][offset/64], uint64(1)<<(offset%64)
	if *word&bit != 0 {
		c.twice++
		return
	}
	*word |= bit
	c.text = appendRow(c.text[:0], b, i)
	if xxhash.Sum64(c.text) != c.tally.partitions[partition].mu.hashes[offset] {
		c.wrong++
	}
}

// missing is how many records no row came of.
func (c *comparison) missing() (n int64) {
	for p, words := range c.seen {
		n += int64(len(c.tally.partitions[p].mu.hashes))
		for _, w := range words {
			n -= int64(bits.OnesCount64(w))
		}
	}
	return n
}

// exact tells whether each record is there once, as it was produced, and nothing else.
func (c *comparison) exact() bool {
	return c.missing() == 0 && c.twice == 0 && c.wrong == 0 && c.unknown == 0
}

// place is where a record is.
type place struct {
	partition int32
	offset    int64
}

// missed are the first few records that no row came of.
func (c *comparison) missed(most int) (places []place) {
	for p := range c.seen {
		for offset := range c.tally.partitions[p].mu.hashes {
			if c.seen[p][offset/64]&(1<<(offset%64)) != 0 {
				continue
			}
			if len(places) == most {
				return places
			}
			places = append(places, place{int32(p), int64(offset)})
		}
	}
	return places
}
