package perf

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"nyala/connector/query"
	"nyala/store/batch"
)

// reading is one kind of read that perf scan measures. country has 20 values, the rarest of which are hardly there; FR is in about
// one row of nineteen, spread evenly.
type reading struct {
	name, text string
	query      url.Values
}

var readings = []reading{
	{"count", "all rows counted", url.Values{"count": {"true"}}},
	{"count_where", "rows with country = 'FR' counted", url.Values{"count": {"true"}, "where": {"country = 'FR'"}}},
	{"columns", "3 of 11 columns, all rows", url.Values{"columns": {"country,duration_ms,value"}}},
	{"columns_where", "3 of 11 columns, country = 'FR'", url.Values{"columns": {"country,duration_ms,value"}, "where": {"country = 'FR'"}}},
}

const pointKeys = 1000 // that are known, and read in random order

// scanning is a measurement of perf scan.
type scanning struct {
	*run
	report *scanReport
}

func scan(ctx context.Context, o options, p *progress) (result, error) {
	s := &scanning{report: &scanReport{Replicas: o.replicas, Tablets: o.tablets, Reads: map[string]*readReport{}}}
	err := measure(ctx, o, p, "", func(m *run, ctx context.Context) (err error) {
		s.run, s.report.Machine = m, thisMachine(m.dir)
		if err := m.fill(ctx, "storing rows", o.events); err != nil {
			return err
		}
		if err := m.cluster.flush(ctx); err != nil {
			return err
		}
		if err := m.release(); err != nil {
			return err
		}
		if s.report.Rows, err = m.check(ctx); err != nil {
			return err
		}
		for _, r := range readings {
			if err := s.read(ctx, r); err != nil {
				return fmt.Errorf("perf: scan, %s: %w", r.text, err)
			}
		}
		return s.points(ctx)
	})
	if err != nil {
		return nil, err
	}
	s.report.Machine.LoadEnd = loadAverage()
	return s.report, nil
}

// read repeats a read for the time that is asked for.
func (s *scanning) read(ctx context.Context, r reading) error {
	s.progress.begin(r.text, 0, "")
	out := &readReport{}
	if _, err := s.rows(ctx, r.query, nil); err != nil { // the first one may read from the disk, and make buffers
		return err
	}
	var d distribution
	begin := used()
	for n := 1; time.Since(begin.at) < s.options.reads || n == 1; n++ {
		one := time.Now()
		rows, err := s.rows(ctx, r.query, nil)
		if err != nil {
			return err
		}
		if out.Rows = rows; r.query.Has("where") == (rows == s.report.Rows) {
			return fmt.Errorf("%d rows of %d", rows, s.report.Rows)
		}
		d.add(float64(time.Since(one).Microseconds())/1000, 1)
		out.Reads = n
	}
	end := used()
	all := float64(s.report.Rows) * float64(out.Reads)
	out.RowsPerSecond = all / end.at.Sub(begin.at).Seconds()
	out.RowsPerSecondPerCore = all / (end.cpu - begin.cpu).Seconds()
	out.P50, out.P99 = d.quantile(0.5), d.quantile(0.99)
	s.report.Reads[r.name] = out
	return nil
}

// rows reads, and counts what comes. each, if not nil, sees the batches.
func (s *scanning) rows(ctx context.Context, q url.Values, each func(*batch.Batch)) (rows int64, err error) {
	client := s.cluster.alive()
	if q.Has("count") {
		err := client.Get(ctx, rowsPath, q, &rows)
		return rows, err
	}
	res, err := client.Do(ctx, http.MethodGet, rowsPath, withBatches(q), nil)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	for in := query.NewStreamReader(res.Body); ; {
		b, err := in.Next()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		if rows += int64(b.Rows); each != nil {
			each(b)
		}
	}
}

const rowsPath = "/api/v1/tables/" + events + "/rows"

// withBatches asks for columns as nodes send them to each other.
func withBatches(q url.Values) url.Values {
	out := url.Values{"format": {"batches"}}
	for k, v := range q {
		out[k] = v
	}
	return out
}

// points reads single rows by their primary key, one after the other.
func (s *scanning) points(ctx context.Context) error {
	s.progress.begin("rows by primary key", 0, "")
	keys, err := s.someKeys(ctx)
	if err != nil {
		return fmt.Errorf("perf: scan, keys: %w", err)
	}
	var d distribution
	client := s.cluster.alive()
	begin := used()
	for time.Since(begin.at) < s.options.reads || len(d.values) == 0 {
		k := keys[rand.IntN(len(keys))]
		one := time.Now()
		var rows int64
		where := []string{fmt.Sprintf("tenant = %d", k.tenant), "event_time = " + strconv.FormatInt(k.time, 10), fmt.Sprintf("event_id = %d", k.id)}
		if rows, err = s.rows(ctx, url.Values{"where": where}, nil); err == nil && rows != 1 {
			err = fmt.Errorf("%d rows", rows)
		}
		if err != nil {
			return fmt.Errorf("perf: scan, row (%d, %d, %d) from %s: %w", k.tenant, k.time, k.id, client.Server, err)
		}
		d.add(float64(time.Since(one).Microseconds())/1000, 1)
	}
	end := used()
	n := float64(len(d.values))
	s.report.Points = &pointReport{Reads: len(d.values), P50: d.quantile(0.5), P99: d.quantile(0.99), ReadsPerSecond: n / end.at.Sub(begin.at).Seconds(),
		CPUMicrosPerRead: float64((end.cpu - begin.cpu).Microseconds()) / n}
	return nil
}

// someKeys reads all keys and keeps some, each as likely as any other.
func (s *scanning) someKeys(ctx context.Context) ([]eventKey, error) {
	keep := newKeySample(pointKeys, s.report.Rows)
	_, err := s.rows(ctx, url.Values{"columns": {"tenant,event_time,event_id"}}, func(b *batch.Batch) {
		for i := range b.Rows {
			keep.add(eventKey{int32(b.Columns[0].Value(i).Int), b.Columns[1].Value(i).Int, b.Columns[2].Value(i).Int})
		}
	})
	return keep.keys, err
}
