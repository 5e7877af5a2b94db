package ingest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/ingest/decode"
	"nyala/offsets"
	"nyala/store/batch"
)

// TestBlocks builds the entries of many tablets from chunks as they come and from the same chunks cut into blocks: they are equal byte for
// byte. Some rows have nulls, some are deletes, some are refused.
func TestBlocks(t *testing.T) {
	s := benchSchema()
	for _, c := range []int{7, 10} {
		s.Columns[c].Nullable = true
	}
	d, err := newDecider(&Settings{TimestampUnit: decode.Microseconds}, s)
	if err != nil {
		t.Fatal(err)
	}
	l := benchLayout()
	l.Ranges[0].Tablets = nil
	for i := range 40 {
		l.Ranges[0].Tablets = append(l.Ranges[0].Tablets, uint64(i))
	}
	pool := newDecodedPool(s, 1<<30)
	for seed := range uint64(8) {
		rng, offset := rand.New(rand.NewPCG(seed, 1)), int64(0)
		o := &owner{source: offsets.Source{Connector: "a"}}
		make := func() *chunk {
			c := &chunk{decoded: pool.get(3000), schema: s, owner: o}
			c.span.First = offset
			for range 600 + rng.IntN(2000) {
				event := fmt.Sprintf(`{"tenant":%d,"event_time":%d,"event_id":%d,"user_id":"u%d","session":"%08x-0000-4000-8000-%012x","event_name":"%s","url":"%s","country":%s,"duration_ms":%d,"value":%g,"ok":%t}`,
					rng.IntN(3), 1_795_000_000_000_000+rng.Int64N(9), rng.IntN(200), rng.IntN(1000), rng.Uint32(), rng.Int64N(1<<48), []string{"a", "bb", ""}[rng.IntN(3)],
					bytes.Repeat([]byte("x"), rng.IntN(40)), []string{"null", `"no"`}[rng.IntN(2)], rng.IntN(100), rng.Float64(), rng.IntN(2) == 0)
				if _, refusal := d.decide(&kgo.Record{Value: []byte(event), Offset: offset}, c.rows); refusal != nil {
					t.Fatal(refusal.message)
				}
				c.offsets = append(c.offsets, offset)
				c.addOp([]batch.Op{batch.Upsert, batch.Upsert, batch.Delete}[rng.IntN(1+2*int(seed%2))])
				offset += 1 + rng.Int64N(3)
			}
			c.span.Next = offset
			c.seal()
			c.encodeKeys()
			if _, err := c.route(context.Background(), nil, "events", l); err != nil {
				t.Fatal(err)
			}
			if drop := rng.IntN(len(c.slots)); seed > 3 { // as if their range were refused
				c.slots[drop].rows = c.slots[drop].rows[:1]
			}
			return c
		}
		ln, entries := &lane{owner: o}, map[uint64][]byte{}
		chunks, pieces := []*chunk{}, map[uint64][]piece{}
		for range 1 + rng.IntN(12) {
			c := make()
			chunks = append(chunks, c)
			for i := range c.slots {
				tablet := c.slots[i].tablet
				pieces[tablet] = append(pieces[tablet], piece{chunk: c, block: i, rows: c.slots[i].rows, lane: ln})
			}
		}
		for tablet := range pieces {
			var b entryBuilder
			entries[tablet], _ = b.build(pieces[tablet])
		}
		clear(pieces)
		for _, c := range chunks {
			c.putInBlocks()
			for i := range c.slots {
				tablet := c.slots[i].tablet
				pieces[tablet] = append(pieces[tablet], piece{chunk: c, block: i, rows: everyRow[:len(c.slots[i].rows)], lane: ln})
			}
			c.free()
		}
		for tablet, want := range entries {
			var b entryBuilder
			if got, _ := b.build(pieces[tablet]); !bytes.Equal(got, want) {
				t.Fatalf("seed %d: the entry of tablet %d is another", seed, tablet)
			}
		}
	}
}
