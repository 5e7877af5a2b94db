package store

import (
	"io"
	"testing"

	"nyala/store/schema"
)

// BenchmarkScan is the cost of a row of a tablet, by where it is: in its MemRowSet, in the order of arrival, or in a DiskRowSet.
func BenchmarkScan(b *testing.B) {
	s := eventSchema()
	const rows, per = 1 << 18, 4096
	t := benchTablet(b, s)
	t.Apply(eventEntries(s, rows, per, false))
	scan := func(b *testing.B, o ScanOptions) {
		for b.Loop() {
			in, err := t.Scan(o)
			n := 0
			for err == nil {
				batch, next := in.Next()
				if err = next; err == nil {
					n += batch.Rows
				}
			}
			if err != io.EOF || n != rows {
				b.Fatalf("%d rows of %d: %v", n, rows, err)
			}
			if err := in.Close(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
	}
	all := func(b *testing.B) {
		b.Run("count", func(b *testing.B) { scan(b, ScanOptions{}) })
		b.Run("value", func(b *testing.B) { scan(b, ScanOptions{Columns: []schema.ColumnID{4}}) })
		b.Run("ordered", func(b *testing.B) { scan(b, ScanOptions{Columns: []schema.ColumnID{4}, Ordered: true}) })
	}
	b.Run("memory", all)
	installNow(b, t)
	b.Run("disk", all)
}
