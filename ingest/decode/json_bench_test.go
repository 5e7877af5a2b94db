package decode

import (
	"testing"

	"nyala/ingest/broker"
	"nyala/store/batch"
	"nyala/store/schema"
)

// eventSchema is the table of the reference event.
func eventSchema(session schema.Kind) *schema.Schema {
	kinds := []struct {
		name string
		kind schema.Kind
	}{
		{"tenant", schema.Int32}, {"event_time", schema.Timestamp}, {"event_id", schema.Int64},
		{"user_id", schema.String}, {"session", session}, {"event_name", schema.String},
		{"url", schema.String}, {"country", schema.String}, {"duration_ms", schema.Int64},
		{"value", schema.Float64}, {"ok", schema.Bool},
	}
	s := &schema.Schema{Version: 1, Key: []int{0, 1, 2}, Hash: []int{2}, Buckets: 4}
	for i, k := range kinds {
		s.Columns = append(s.Columns, schema.Column{ID: schema.ColumnID(i + 1), Name: k.name, Type: schema.Type{Kind: k.kind}})
	}
	return s
}

func eventRecords(n int) [][]byte {
	g := broker.NewGenerator(1, 1_795_000_000_000_000, 20, 0)
	out := make([][]byte, n)
	var e broker.Event
	for i := range out {
		g.Next(&e)
		out[i] = e.AppendJSON(nil)
	}
	return out
}

func benchmarkEvents(b *testing.B, session schema.Kind) {
	s := eventSchema(session)
	d, err := NewJSON(Options{Schema: s, TimestampUnit: Microseconds})
	if err != nil {
		b.Fatal(err)
	}
	// So many that a processor cannot learn them by heart, as it does a thousand.
	events := eventRecords(16384)
	rows := batch.NewBuilder(s.Columns, 4096)
	var r Record
	bytes := 0
	for _, e := range events {
		bytes += len(e)
	}
	b.SetBytes(int64(bytes / len(events)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%4096 == 0 {
			rows.Reset()
		}
		r.Value = events[i%len(events)]
		if _, err := d.Decode(&r, rows); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEvent is one reference event into columns, all text as strings.
func BenchmarkEvent(b *testing.B) { benchmarkEvents(b, schema.String) }

// BenchmarkEventUUID has the session as a UUID.
func BenchmarkEventUUID(b *testing.B) { benchmarkEvents(b, schema.UUID) }
