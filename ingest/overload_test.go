package ingest

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/offsets"
	"nyala/store/batch"
)

// idsOf are the first n ids whose rows belong to bucket 0 of the event table, or to others.
func idsOf(t *testing.T, n int, hot bool) []int {
	t.Helper()
	s := eventTable()
	var out []int
	for id := 0; len(out) < n; id += 1000 {
		b := batch.NewBuilder(s.Columns, 1000)
		for i := range 1000 {
			for c := range b.Columns {
				if c == 1 {
					b.Columns[c].AppendInt(int64(id + i))
				} else if s.Columns[c].Nullable {
					b.Columns[c].AppendNull()
				} else {
					b.Columns[c].AppendInt(0)
				}
			}
		}
		c := &chunk{decoded: &decoded{view: b.View()}}
		l := &Layout{Schema: s, Ranges: []RangeTablets{{Low: -everything, High: everything, Tablets: []uint64{0, 1, 2, 3}}}}
		if _, err := c.route(t.Context(), nil, "events", l); err != nil {
			t.Fatal(err)
		}
		for _, slot := range c.slots {
			for _, row := range slot.rows {
				if (slot.tablet == 0) == hot {
					out = append(out, id+int(row))
				}
			}
		}
	}
	slices.Sort(out)
	return out[:n]
}

// TestSlowTablet: six of eight partitions have rows of one tablet only, which takes an entry a second; what they have to say would fill
// the memory many times. The two others go on as if they were alone, each of the six moves, and all comes to an end.
func TestSlowTablet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow, all, rows = 6, 8, 3000
		w := newWorld(t, map[string]int32{"app": all})
		var hot uint64
		w.mu.Lock()
		hot = w.mu.layouts["events"].Ranges[0].Tablets[0]
		w.mu.Unlock()
		sender := NewSender(SenderOptions{EntryRows: 100, Logger: w.logger, Write: func(ctx context.Context, tablet uint64, entry []byte) (Answer, error) {
			if tablet == hot && !pause(ctx, time.Second) {
				return Answer{}, ctx.Err()
			}
			return w.write(ctx, tablet, entry)
		}})
		defer sender.Close()
		want := map[int32][]int{}
		for p := range int32(all) {
			want[p] = idsOf(t, rows, p < slow)
			for some := range slices.Chunk(want[p], 20) {
				var records []*kgo.Record
				for _, id := range some {
					records = append(records, &kgo.Record{Topic: "app", Partition: p, Value: event(p, id)})
				}
				w.produceRecords(records...)
			}
		}
		n := w.connector(func(o *Options) { o.Sender, o.SessionBytes = sender, 1_000_000 })
		defer n.Close(context.Background())
		low, most := map[offsets.Source]int64{}, int64(0)
		for begin, left := time.Now(), 1; left > 0; {
			for range 300 {
				time.Sleep(100 * time.Millisecond)
				n.Connector.mu.Lock()
				most = max(most, n.Connector.mu.session.held.Load())
				n.Connector.mu.Unlock()
			}
			left = all * rows
			for _, p := range n.Status().Partitions {
				source := offsets.Source{Connector: "app", Topic: p.TopicID, Partition: p.Partition}
				if before, known := low[source]; known && p.Watermark == before && p.LagRecords > 0 {
					t.Errorf("partition %d stands at %d for 30 s: %s", p.Partition, before, p.Reason)
				}
				low[source] = p.Watermark
				left -= int(p.Watermark)
				if p.Partition >= slow && p.Watermark < rows && time.Since(begin) > 40*time.Second {
					t.Fatalf("partition %d is held up at %d", p.Partition, p.Watermark)
				}
			}
			if took := time.Since(begin); took > 10*time.Minute || left == 0 && took < slow*rows/300*time.Second {
				t.Fatalf("%d records are left after %s", left, took)
			}
		}
		// The first fetch is as large as it becomes; from then on the client knows.
		if most > 3_000_000 {
			t.Errorf("records held %d bytes, want little more than one and a half times 1,000,000 and a first fetch", most)
		}
		w.exactlyOnce(want)
	})
}
