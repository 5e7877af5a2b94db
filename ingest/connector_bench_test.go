package ingest

import (
	"context"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nyala/ingest/broker"
	"nyala/ingest/decode"
	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/schema"
)

// benchRouter has one table of four tablets, and dead letters.
type benchRouter struct{ layouts map[string]*Layout }

func (r benchRouter) Layout(table string) (*Layout, error) { return r.layouts[table], nil }

func (r benchRouter) EnsureRange(context.Context, string, int64) error { return nil }

func benchSchema() *schema.Schema {
	s := &schema.Schema{Version: 1, Key: []int{0, 1, 2}, Hash: []int{2}, Buckets: 4}
	for i, c := range []struct {
		name string
		kind schema.Kind
	}{
		{"tenant", schema.Int32}, {"event_time", schema.Timestamp}, {"event_id", schema.Int64}, {"user_id", schema.String},
		{"session", schema.UUID}, {"event_name", schema.String}, {"url", schema.String}, {"country", schema.String},
		{"duration_ms", schema.Int64}, {"value", schema.Float64}, {"ok", schema.Bool},
	} {
		s.Columns = append(s.Columns, schema.Column{ID: schema.ColumnID(i + 1), Name: c.name, Type: schema.Type{Kind: c.kind}})
	}
	return s
}

// BenchmarkIngest takes reference events from a broker in this process to finished entries, which are thrown
// away: lz4, 8 partitions, 4 tablets. CPU time includes the broker's.
func BenchmarkIngest(b *testing.B) { benchIngest(b, false) }

// BenchmarkBadRecords is the same with records of which each is a dead letter.
func BenchmarkBadRecords(b *testing.B) { benchIngest(b, true) }

func benchIngest(b *testing.B, bad bool) {
	const partitions = 8
	k, err := broker.Start(broker.Options{Partitions: partitions, Topics: []string{"events"}})
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	p, err := broker.NewProducer(broker.ProducerOptions{Brokers: k.Addresses(), Topic: "events", Partitions: partitions, Run: 4000, Start: time.UnixMicro(1_795_000_000_000_000)})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	if err := p.Run(context.Background(), int64(b.N), 0); err != nil {
		b.Fatal(err)
	}
	var bytes, entries, left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan struct{})
	sender := NewSender(SenderOptions{Write: func(_ context.Context, _ uint64, entry []byte) (Answer, error) {
		bytes.Add(int64(len(entry)))
		entries.Add(1)
		p, err := batch.ParseWrite(entry)
		if err != nil {
			panic(err)
		}
		if left.Add(-int64(p.Batch.Rows)) == 0 {
			close(done)
		}
		return Answer{}, nil
	}})
	defer sender.Close()
	router := benchRouter{map[string]*Layout{
		"events":                {Schema: benchSchema(), Ranges: []RangeTablets{{Low: -1 << 62, High: 1 << 62, Tablets: []uint64{2, 3, 4, 5}}}},
		schema.DeadLettersTable: {Schema: schema.DeadLetters(), Ranges: []RangeTablets{{Low: -1 << 62, High: 1 << 62, Tablets: []uint64{6}}}},
	}}
	if bad {
		router.layouts["events"].Schema.Columns[0].Name = "another"
	}
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime(b)
	c, err := New(Options{
		Logger: slog.New(slog.DiscardHandler), Name: "bench", Topics: []string{"events"}, Table: "events", Kafka: Kafka{Brokers: k.Addresses()}, Settings: Settings{TimestampUnit: decode.Microseconds},
		Router: router, Sender: sender,
		CreateCheckpoint: func(_ context.Context, _ []offsets.Source, starts []int64) ([]int64, error) {
			return starts, nil
		},
		RaiseCheckpoints: func(context.Context, map[offsets.Source]int64) error { return nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	<-done
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(b.N), "cpu-ns/event")
	b.ReportMetric(float64(bytes.Load())/float64(b.N), "B/event")
	b.ReportMetric(float64(b.N)/float64(max(entries.Load(), 1)), "rows/entry")
	c.Close(context.Background())
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
