package rowset

import (
	"io"
	"syscall"
	"testing"
	"time"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// sink is a file that forgets: benchmarks of encoding do not measure a disk.
type sink struct{ vfs.FS }

type sinkFile struct{ vfs.File }

func (sink) Create(string) (vfs.File, error)              { return sinkFile{}, nil }
func (sink) OpenFile(string) (vfs.File, error)            { return sinkFile{}, nil }
func (sinkFile) WriteAt(p []byte, off int64) (int, error) { return len(p), nil }
func (sinkFile) Close() error                             { return nil }
func (sinkFile) Sync() error                              { return nil }

const benchRows = 400_000

func benchEvents(b *testing.B) (*schema.Schema, *Rows) {
	return eventSchema(), eventRows(b, benchRows, 4000)
}

func BenchmarkWrite(b *testing.B) {
	s, rows := benchEvents(b)
	keys := make([]*batch.Keys, len(rows.Batches))
	for i, x := range rows.Batches {
		keys[i] = batch.NewKeys(s)
		keys[i].Append(x, 0, x.Rows)
	}
	for _, c := range []struct {
		name  string
		level Level
	}{{"zstd", Fastest}, {"default", Default}, {"none", levelNone}} {
		b.Run(c.name, func(b *testing.B) {
			w, err := NewWriter(s, Options{Level: c.level})
			if err != nil {
				b.Fatal(err)
			}
			var out *Written
			b.ReportAllocs()
			started := cpuTime()
			for b.Loop() {
				if out, err = w.Write(sink{}, "x", rows); err != nil {
					b.Fatal(err)
				}
			}
			per(b, started, benchRows)
			b.ReportMetric(float64(out.Parquet.Size)/benchRows, "B/row")
			b.ReportMetric(float64(out.Keys.Size)/benchRows, "keysB/row")
		})
	}
	b.Run("small", func(b *testing.B) { // files as 256 tablets write them, and all their rows more than the caches hold
		const files, fileRows = 28, 14_000
		var many [files]*Rows
		for i := range many {
			many[i] = eventRows(b, fileRows, 390)
		}
		w, err := NewWriter(s, Options{})
		if err != nil {
			b.Fatal(err)
		}
		started := cpuTime()
		for i := 0; b.Loop(); i++ {
			if _, err := w.Write(sink{}, "x", many[i%files]); err != nil {
				b.Fatal(err)
			}
		}
		per(b, started, fileRows)
	})
	b.Run("keys", func(b *testing.B) {
		w, _ := NewWriter(s, Options{})
		started := cpuTime()
		for b.Loop() {
			if _, err := w.keys.write(sinkFile{}, rows, FileInfo{}, 0, []uint32{0}); err != nil {
				b.Fatal(err)
			}
		}
		per(b, started, benchRows)
	})
}

// per reports the time of a row, and its CPU time, which neighbours disturb less. Both count from started.
func per(b *testing.B, started time.Duration, rows int) {
	n := float64(b.N) * float64(rows)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/row")
	b.ReportMetric(float64(cpuTime()-started)/n, "cpu-ns/row")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkColumn writes one column at a time.
func BenchmarkColumn(b *testing.B) {
	s, rows := benchEvents(b)
	for i := range s.Columns {
		one := &schema.Schema{Version: 1, Buckets: 1, Columns: s.Columns[i : i+1]}
		if i < 3 {
			one.Key = []int{0}
		}
		b.Run(s.Columns[i].Name, func(b *testing.B) {
			w, err := newParquetWriter(Fastest)
			if err == nil {
				err = w.setSchema(one, nil)
			}
			if err != nil {
				b.Fatal(err)
			}
			var info FileInfo
			started := cpuTime()
			for b.Loop() {
				w.begin(sinkFile{}, false)
				if err := w.writeGroup(rows.Batches, rows.Refs); err != nil {
					b.Fatal(err)
				}
				info, _ = w.end()
			}
			per(b, started, benchRows)
			b.ReportMetric(float64(info.Size)/benchRows, "B/row")
		})
	}
}

func BenchmarkScan(b *testing.B) {
	s, rows := benchEvents(b)
	fsys := vfs.NewMem()
	write(b, fsys, "1", s, rows, Options{})
	r := open(b, fsys, "1")
	country, _ := NewFilter([]Predicate{{Column: 8, Op: Equal, Values: []schema.Value{{Bytes: []byte("CN")}}}}, s.Columns)
	for _, c := range []struct {
		name string
		o    ScanOptions
	}{{"all", ScanOptions{Columns: s.Columns}}, {"three", ScanOptions{Columns: s.Columns[7:10]}},
		{"where", ScanOptions{Columns: s.Columns[8:10], Where: country}}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			started := cpuTime()
			for b.Loop() {
				scan, err := r.Scan(c.o)
				for err == nil {
					_, err = scan.Next()
				}
				if err != io.EOF {
					b.Fatal(err)
				}
				scan.Close()
			}
			per(b, started, benchRows)
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	s, rows := benchEvents(b)
	fsys := vfs.NewMem()
	write(b, fsys, "1", s, rows, Options{})
	r := open(b, fsys, "1")
	keys, absent := batch.NewKeys(s), batch.NewKeys(s)
	var sparse []uint32
	for i := 0; i < benchRows; i += 100 { // every hundredth row
		sparse = append(sparse, uint32(i))
	}
	for _, i := range sparse {
		ref := rows.Refs[i]
		keys.Append(rows.Batches[ref.Batch], int(ref.Row), int(ref.Row)+1)
	}
	absent.Data = append(absent.Data, keys.Data...)
	for i := range absent.Len() {
		absent.At(i)[absent.Width-1] ^= 1 // odd ids do not exist
	}
	for _, c := range []struct {
		name string
		keys *batch.Keys
	}{{"hit", keys}, {"absent", absent}} {
		hashes := AppendHashes(nil, c.keys)
		b.Run(c.name, func(b *testing.B) {
			var hits []Hit
			skip := make([]bool, c.keys.Len())
			started := cpuTime()
			for b.Loop() {
				hits, _ = r.LookupAll(c.keys, hashes, skip, hits[:0])
			}
			per(b, started, c.keys.Len())
			b.ReportMetric(float64(len(hits))/float64(c.keys.Len()), "hits/key")
		})
	}
}
