package perf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"
)

// run is one measurement.
type run struct {
	options  options
	progress *progress
	broker   *brokerProcess
	cluster  *cluster
	dir      string
	report   *report
	produced int64 // events of all phases so far
}

// ingest measures everything that the options ask for.
func ingest(ctx context.Context, o options, p *progress) (r *report, err error) {
	defer p.end()
	if o.dir != "" {
		if err := os.MkdirAll(o.dir, 0o755); err != nil {
			return nil, fmt.Errorf("perf: --dir: %w", err)
		}
	}
	dir, err := os.MkdirTemp(o.dir, "nyala-perf-")
	if err != nil {
		return nil, fmt.Errorf("perf: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("perf: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m := &run{options: o, progress: p, dir: dir, report: newReport(o, dir)}
	if m.broker, err = startBroker(o.partitions); err != nil {
		return nil, err
	}
	defer m.broker.close()
	// What waits for the broker's process ends with it, too.
	defer context.AfterFunc(ctx, m.broker.kill)()
	if o.warmup == 0 { // else the warm-up's records come first
		if err := m.load(ctx); err != nil {
			return nil, errors.Join(context.Cause(ctx), err)
		}
	}
	p.begin("starting nodes", 0)
	if m.cluster, err = startCluster(o, dir, m.broker.address); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.cluster.close()) }()
	if err := m.cluster.awaitHealthy(ctx, o.partitions); err != nil {
		return nil, err
	}
	for _, phase := range []func(context.Context) error{m.warmUp, m.throughput, m.freshness, m.resume, m.check} {
		if err := phase(ctx); err != nil {
			return nil, errors.Join(context.Cause(ctx), err)
		}
	}
	return m.report, nil
}

// produce lets the broker's process produce.
func (m *run) produce(r request) error {
	a, err := m.broker.ask(r, m.progress.at)
	m.produced += a.Done
	return err
}

// load fills the broker with what throughput reads.
func (m *run) load(context.Context) error {
	m.progress.begin("loading the broker", m.options.events)
	return m.produce(request{Load: m.options.events})
}

// warmUp ingests and flushes some events first. Then the log's segments have been written before, and memory
// touched: what a node pays once, and a short measurement would take for the price of every event.
func (m *run) warmUp(ctx context.Context) error {
	if m.options.warmup == 0 {
		return nil
	}
	m.progress.begin("warming up", m.options.warmup)
	if err := m.produce(request{Load: m.options.warmup}); err != nil {
		return err
	}
	if _, err := m.broker.ask(request{Release: true}, nil); err != nil {
		return err
	}
	if err := m.cluster.awaitCommitted(ctx, m.options.warmup, m.progress.at); err != nil {
		return err
	}
	if err := m.cluster.flush(ctx); err != nil {
		return err
	}
	if _, err := m.broker.ask(request{Hold: true}, nil); err != nil {
		return err
	}
	return m.load(ctx)
}

// throughput reads all that was loaded, and flushes it.
func (m *run) throughput(ctx context.Context) error {
	m.progress.begin("ingesting", m.options.events)
	var profile bytes.Buffer
	profiled := pprof.StartCPUProfile(&profile) == nil // someone else may be profiling
	if profiled {
		defer pprof.StopCPUProfile()
	}
	before, err := m.cluster.committed(ctx) // a fetch that was waiting when the broker was held again is not counted
	if err != nil {
		return err
	}
	begin := used()
	if _, err := m.broker.ask(request{Release: true}, nil); err != nil {
		return err
	}
	if err := m.cluster.awaitCommitted(ctx, m.produced, m.progress.at); err != nil {
		return err
	}
	committed := time.Now()
	m.progress.begin("flushing", 0)
	if err := m.cluster.flush(ctx); err != nil {
		return err
	}
	end := used()
	r, n := m.report, float64(m.produced-before)
	r.EventsPerSecond = n / end.at.Sub(begin.at).Seconds()
	r.CommittedPerSecond = n / committed.Sub(begin.at).Seconds()
	r.CPUMicrosPerEvent = float64((end.cpu - begin.cpu).Microseconds()) / n
	r.AllocatedBytesPerEvent = float64(end.allocated-begin.allocated) / n
	for _, node := range m.cluster.nodes {
		r.BytesPerEvent += float64(sizeOf(filepath.Join(m.dir, node.id, "tablets"))) / float64(m.produced) / float64(m.options.replicas)
	}
	if !profiled {
		return nil
	}
	pprof.StopCPUProfile()
	return m.profiled(profile.Bytes(), n)
}

// profiled divides the CPU time by stage, and keeps the profile if asked to.
func (m *run) profiled(profile []byte, events float64) error {
	sums, err := byStage(profile)
	if err != nil {
		return err
	}
	m.report.CPUByStage = map[string]float64{}
	for _, s := range stages {
		m.report.CPUByStage[s] = float64(sums[s]) / 1000 / events
	}
	if m.options.profile == "" {
		return nil
	}
	if err := os.WriteFile(m.options.profile, profile, 0o644); err != nil {
		return fmt.Errorf("perf: --cpuprofile: %w", err)
	}
	return nil
}

// settle is the first part of a steady phase, which is not measured: consumers come out of their long polls, and
// buffers find their size.
const settle = time.Second

// freshness produces at a steady rate and collects how old rows are when they become readable.
func (m *run) freshness(ctx context.Context) error {
	if m.options.freshness == 0 {
		return nil
	}
	rate := int64(m.options.rate)
	if rate == 0 {
		rate = max(1, int64(m.report.CommittedPerSecond/2))
	}
	m.progress.begin("freshness, settling", 0)
	if err := m.produce(request{Rate: rate, Millis: settle.Milliseconds()}); err != nil {
		return err
	}
	var d distribution
	m.cluster.measureFreshness(&d)
	m.progress.begin("freshness", rate*m.options.freshness.Milliseconds()/1000)
	err := m.produce(request{Rate: rate, Millis: m.options.freshness.Milliseconds()})
	if err == nil {
		err = m.cluster.awaitCommitted(ctx, m.produced, func(int64) {})
	}
	m.cluster.measureFreshness(nil)
	if err != nil {
		return err
	}
	m.report.Freshness = &freshness{P50: d.quantile(0.5), P99: d.quantile(0.99), Max: d.quantile(1), Rate: rate, Events: d.weight()}
	return nil
}

// check counts the rows: a figure of work that was not done is worth nothing.
func (m *run) check(ctx context.Context) error {
	m.progress.begin("counting rows", 0)
	if err := m.cluster.awaitCommitted(ctx, m.produced, func(int64) {}); err != nil {
		return err
	}
	rows, err := m.cluster.count(ctx)
	if err != nil {
		return err
	}
	if m.report.Rows = rows; rows != m.produced {
		return fmt.Errorf("perf: %d rows of %d events: nothing measured here counts; see the nodes' log", rows, m.produced)
	}
	return nil
}

// round keeps a figure readable.
func round(v float64, digits int) float64 {
	p := math.Pow(10, float64(digits))
	return math.Round(v*p) / p
}
