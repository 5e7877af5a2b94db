package ingest

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/ingest/broker"
	"nyala/ingest/decode"
	"nyala/offsets"
)

// benchChunks are decoded runs of reference events, more than a processor's caches hold, as chunks are when their entries are built.
func benchChunks(b *testing.B, chunks, rows int) []*chunk {
	s := benchSchema()
	d, err := newDecider(&Settings{TimestampUnit: decode.Microseconds}, s)
	if err != nil {
		b.Fatal(err)
	}
	pool := newDecodedPool(s, 1<<30)
	g := broker.NewGenerator(1, 1_795_000_000_000_000, 20, 0)
	out := make([]*chunk, chunks)
	var e broker.Event
	offset := int64(0)
	for i := range out {
		c := &chunk{decoded: pool.get(rows), schema: s}
		for range rows {
			g.Next(&e)
			if _, refusal := d.decide(&kgo.Record{Value: e.AppendJSON(nil), Offset: offset}, c.rows); refusal != nil {
				b.Fatal(refusal.message)
			}
			c.offsets = append(c.offsets, offset)
			offset++
		}
		c.owner = &owner{source: offsets.Source{Connector: "bench", Partition: int32(i)}}
		c.span = offsets.Range{First: offset - int64(rows), Next: offset}
		c.seal()
		c.encodeKeys()
		out[i] = c
	}
	return out
}

func benchLayout() *Layout {
	return &Layout{Schema: benchSchema(), Ranges: []RangeTablets{{Low: -1 << 62, High: 1 << 62, Tablets: []uint64{2, 3, 4, 5}}}}
}

// BenchmarkRoute sorts the rows of chunks by tablet.
func BenchmarkRoute(b *testing.B) {
	const rows = 4096
	chunks, l := benchChunks(b, 16, rows), benchLayout()
	for i := 0; b.Loop(); i++ {
		if _, err := chunks[i%len(chunks)].route(context.Background(), nil, "events", l); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}

// BenchmarkEntry builds the entries of tablets, each out of a quarter of the rows of four chunks: keys, sort, gather, checksum.
func BenchmarkEntry(b *testing.B) {
	const rows, together = 4096, 4
	chunks, l := benchChunks(b, 64, rows), benchLayout()
	for _, c := range chunks {
		if _, err := c.route(context.Background(), nil, "events", l); err != nil {
			b.Fatal(err)
		}
	}
	var builder entryBuilder
	built, pieces := 0, make([]piece, 0, together)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		at, tablet := i/4*together%len(chunks), i%4
		pieces = pieces[:0]
		for _, c := range chunks[at : at+together] {
			pieces = append(pieces, piece{chunk: c, rows: c.slots[tablet].rows, lane: &lane{owner: c.owner, next: c.span.First}})
			built += len(c.slots[tablet].rows)
		}
		builder.build(pieces)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(built), "ns/row")
}

// BenchmarkEntryOfMany builds the entries of 256 tablets, with chunks as they come and cut into blocks.
func BenchmarkEntryOfMany(b *testing.B) {
	const rows, tablets, together = 4096, 256, 16
	for _, cut := range []bool{false, true} {
		b.Run(fmt.Sprintf("cut=%t", cut), func(b *testing.B) {
			chunks := manyTablets(b, 64, rows, tablets)
			pieces := make([][]piece, tablets*len(chunks)/together)
			for at, c := range chunks {
				if cut {
					c.putInBlocks()
				}
				for i := range c.slots {
					k := at/together*tablets + int(c.slots[i].tablet)
					p := piece{chunk: c, block: i, rows: c.slots[i].rows, lane: &lane{owner: c.owner, next: c.span.First}}
					if cut {
						p.rows = everyRow[:len(p.rows)]
					}
					pieces[k] = append(pieces[k], p)
				}
			}
			var builder entryBuilder
			built := 0
			for i := 0; b.Loop(); i++ {
				for _, p := range pieces[i%len(pieces)] {
					built += len(p.rows)
				}
				builder.build(pieces[i%len(pieces)])
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(built), "ns/row")
		})
	}
}

// manyTablets are chunks that are routed to so many tablets.
func manyTablets(b *testing.B, chunks, rows, tablets int) []*chunk {
	l := benchLayout()
	l.Ranges[0].Tablets = nil
	for i := range tablets {
		l.Ranges[0].Tablets = append(l.Ranges[0].Tablets, uint64(i))
	}
	all := benchChunks(b, chunks, rows)
	for _, c := range all {
		if _, err := c.route(context.Background(), nil, "events", l); err != nil {
			b.Fatal(err)
		}
	}
	return all
}

// BenchmarkCut cuts chunks of rows of 256 tablets into blocks.
func BenchmarkCut(b *testing.B) {
	const rows = 4096
	c := manyTablets(b, 1, rows, 256)[0]
	for b.Loop() {
		c.putInBlocks()
		c.pool.putBlocked(c.blocked)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}
