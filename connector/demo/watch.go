package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"nyala/connector/api"
)

const (
	watchEvery    = 200 * time.Millisecond // often enough to tell how long a recovery takes
	metricsEvery  = time.Second
	answerLimit   = 3 * time.Second
	freshnessName = "nyala_ingest_freshness_seconds_bucket{"
)

// watch asks the nodes again and again how the cluster is.
type watch struct {
	cluster *cluster
	http    *http.Client
	last    []map[float64]float64 // of each node: its freshness histogram when last asked, cumulated
	mu      struct {
		sync.Mutex
		view
		changed chan struct{} // closed and replaced with each view
	}
}

// view is how the cluster was a moment ago.
type view struct {
	at       time.Time
	answered bool // some node answered
	status   api.Status
	p50, p99 float64 // freshness in seconds, of what became readable in the last second; NaN when nothing did
}

func newWatch(c *cluster) *watch {
	w := &watch{cluster: c, http: &http.Client{Timeout: answerLimit}, last: make([]map[float64]float64, len(c.nodes))}
	w.mu.changed = make(chan struct{})
	w.mu.p50, w.mu.p99 = math.NaN(), math.NaN()
	return w
}

// run asks until ctx is done.
func (w *watch) run(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	defer w.http.CloseIdleConnections()
	var metrics time.Time
	for {
		status, answered := w.status(ctx)
		if ctx.Err() != nil {
			return
		}
		p50, p99, fresh := 0.0, 0.0, false
		if time.Since(metrics) >= metricsEvery {
			metrics, fresh = time.Now(), true
			p50, p99 = w.freshness(ctx)
		}
		w.mu.Lock()
		w.mu.at, w.mu.answered = time.Now(), answered
		if answered {
			w.mu.status = status
		}
		if fresh {
			w.mu.p50, w.mu.p99 = p50, p99
		}
		close(w.mu.changed)
		w.mu.changed = make(chan struct{})
		w.mu.Unlock()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// now is the newest view, and a channel that is closed when there is a newer one.
func (w *watch) now() (view, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.view, w.mu.changed
}

// await waits until a view taken after this call satisfies ok, or ctx is done.
func (w *watch) await(ctx context.Context, ok func(view) bool) error {
	begin := time.Now()
	for {
		v, changed := w.now()
		if v.at.Sub(begin) > watchEvery && v.answered && ok(v) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// status asks one node after the other. The answer of one that is not up itself is only taken if there is no
// other: it does not know all tables yet.
func (w *watch) status(ctx context.Context) (best api.Status, answered bool) {
	for _, n := range w.cluster.nodes {
		var s api.Status
		c := api.Client{Server: n.http, HTTP: w.http}
		if c.Get(ctx, "/api/v1/status", nil, &s) != nil {
			continue
		}
		if slices.ContainsFunc(s.Nodes, func(o api.Node) bool { return o.ID == n.id && o.State == api.StateUp }) {
			return s, true
		}
		if !answered {
			best, answered = s, true
		}
	}
	return best, answered
}

// server is the address of a node that answers.
func (w *watch) server() string {
	v, _ := w.now()
	for _, n := range v.status.Nodes {
		if n.State == api.StateUp {
			return n.HTTP
		}
	}
	return w.cluster.nodes[0].http
}

// rows is how many rows of the table are readable.
func (v *view) rows() int64 {
	for _, t := range v.status.Tables {
		if t.Name == table {
			return t.Rows
		}
	}
	return 0
}

// reason is one sentence on what is not as it should be, "" when all is.
func (v *view) reason() string {
	reasons := v.status.Reasons
	switch {
	case !v.answered:
		return "no node answers yet"
	case v.status.Healthy:
		return ""
	case len(reasons) == 0:
		return "the cluster is not healthy"
	}
	first, _, _ := strings.Cut(reasons[0], "\n")
	first = strings.TrimSuffix(first, ": ")
	if len(reasons) > 1 {
		return fmt.Sprintf("%s (and %d more)", first, len(reasons)-1)
	}
	return first
}

// freshness asks all nodes for their histograms and tells what was added since the last time.
func (w *watch) freshness(ctx context.Context) (p50, p99 float64) {
	added := map[float64]float64{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, n := range w.cluster.nodes {
		wg.Go(func() {
			now, err := w.histogram(ctx, n.http)
			if err != nil {
				return // it is down; its histogram begins anew
			}
			mu.Lock()
			defer mu.Unlock()
			if w.last[i] != nil {
				for le, v := range now {
					if before := w.last[i][le]; v >= before {
						added[le] += v - before
					} else {
						added[le] += v
					}
				}
			}
			w.last[i] = now
		})
	}
	wg.Wait()
	return quantile(added, 0.5), quantile(added, 0.99)
}

// histogram reads the freshness buckets of a node: counts by upper bound, cumulated.
func (w *watch) histogram(ctx context.Context, server string) (map[float64]float64, error) {
	c := api.Client{Server: server, HTTP: w.http}
	res, err := c.Do(ctx, http.MethodGet, "/metrics", nil, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return parseHistogram(res.Body)
}

func parseHistogram(in io.Reader) (map[float64]float64, error) {
	out := map[float64]float64{}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		labels, ok := strings.CutPrefix(lines.Text(), freshnessName)
		if !ok {
			continue
		}
		labels, number, ok1 := strings.Cut(labels, "} ")
		_, le, ok2 := strings.Cut(labels, `le="`)
		le, _, ok3 := strings.Cut(le, `"`)
		bound, err1 := strconv.ParseFloat(le, 64) // "+Inf" too
		v, err2 := strconv.ParseFloat(number, 64)
		if err := errors.Join(err1, err2); err != nil || !ok1 || !ok2 || !ok3 {
			return nil, fmt.Errorf("demo: metrics: %q: %w", lines.Text(), err)
		}
		out[bound] += v
	}
	return out, lines.Err()
}

// quantile estimates one from a cumulated histogram, linear within a bucket; NaN of nothing.
func quantile(cumulated map[float64]float64, q float64) float64 {
	total := cumulated[math.Inf(1)]
	if total == 0 {
		return math.NaN()
	}
	low, high, below, upTo := 0.0, math.Inf(1), 0.0, total
	for bound, n := range cumulated {
		if n < q*total && bound >= low {
			low, below = bound, n
		}
		if n >= q*total && bound < high {
			high, upTo = bound, n
		}
	}
	if math.IsInf(high, 1) || upTo == below {
		return low
	}
	return low + (high-low)*(q*total-below)/(upTo-below)
}
