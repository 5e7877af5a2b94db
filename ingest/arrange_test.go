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

// TestArrange builds the entries of many tablets from a chunk as it comes and from the same chunk arranged: they are equal byte for
// byte. Some rows have nulls, some are deletes, some are refused.
func TestArrange(t *testing.T) {
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
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 1))
		make := func() *chunk {
			rng := rand.New(rand.NewPCG(seed, 2))
			c := newChunkPool(s, 1<<30).get(3000)
			c.owner = &owner{source: offsets.Source{Connector: "a"}}
			offset := int64(0)
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
			c.span = offsets.Range{Next: offset}
			c.seal()
			if _, err := c.route(context.Background(), nil, "events", l); err != nil {
				t.Fatal(err)
			}
			return c
		}
		plain, arranged := make(), make()
		if seed > 3 { // as if their range were refused
			drop := rng.IntN(len(plain.slots))
			plain.slots[drop].rows, arranged.slots[drop].rows = plain.slots[drop].rows[:1], arranged.slots[drop].rows[:1]
		}
		arranged.arrange()
		if len(arranged.records) != 0 || &arranged.view.Columns[0].Values[0] == &plain.view.Columns[0].Values[0] || len(arranged.slots) < arrangeSlots {
			t.Fatalf("%d slots: not arranged", len(arranged.slots))
		}
		for i := range plain.slots {
			var entries [2][]byte
			for k, c := range []*chunk{plain, arranged} {
				var b entryBuilder
				entries[k], _ = b.build([]piece{{chunk: c, rows: c.slots[i].rows, lane: &lane{owner: c.owner}}})
			}
			if !bytes.Equal(entries[0], entries[1]) {
				t.Fatalf("seed %d: the entry of tablet %d is another", seed, plain.slots[i].tablet)
			}
		}
	}
}
