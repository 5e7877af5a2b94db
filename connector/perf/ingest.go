package perf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"
)

// ingestion is a measurement of perf ingest.
type ingestion struct {
	*run
	report  *report
	sampler *sampler
}

// ingestAll measures one after the other. If one fails, the result has those before.
func ingestAll(ctx context.Context, all []options, p *progress) (_ result, err error) {
	if len(all) == 1 {
		r, err := ingest(ctx, all[0], p)
		if err != nil {
			return nil, err
		}
		return r, nil
	}
	done, left := &seriesReport{}, &leftovers{}
	defer func() { err = errors.Join(err, left.removeAll()) }()
	for i, o := range all {
		o.left = left
		p.name = fmt.Sprintf("%d of %d: %d tablets, %s rows before: ", i+1, len(all), o.tablets, perSecond(float64(o.stored)))
		r, err := ingest(ctx, o, p)
		if err != nil && len(done.Series) == 0 {
			return nil, err
		}
		if err != nil {
			return done, fmt.Errorf("perf: %d tablets, %s rows before: %w", o.tablets, perSecond(float64(o.stored)), err)
		}
		done.Series = append(done.Series, r)
	}
	return done, nil
}

// ingest measures everything that the options ask for.
func ingest(ctx context.Context, o options, p *progress) (r *report, err error) {
	i := &ingestion{}
	if i.sampler, err = newSampler(o.samples); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, i.sampler.close()) }()
	begin := func(m *run, ctx context.Context) error {
		i.run, i.report = m, newReport(o, m.dir)
		return nil
	}
	phases := []func(*run, context.Context) error{begin}
	for _, phase := range []func(context.Context) error{i.store, i.sustained, i.throughput, i.freshness, i.rewrite, i.resume, i.count} {
		phases = append(phases, func(_ *run, ctx context.Context) error { return phase(ctx) })
	}
	if err := measure(ctx, o, p, "", phases...); err != nil {
		return nil, err
	}
	i.report.Machine.LoadEnd = loadAverage()
	i.report.RSSMax = residentMax()
	return i.report, nil
}

// store fills the table first. Then the log's segments have been written before, and memory touched: what a node pays once,
// and a short measurement would take for the price of every event.
func (i *ingestion) store(ctx context.Context) error {
	if err := i.fill(ctx, "storing rows", i.options.stored); err != nil || i.options.stored == 0 {
		return err
	}
	return i.cluster.flush(ctx)
}

// sustained finds out how many events take as long as is asked for: it ingests --events of them.
func (i *ingestion) sustained(ctx context.Context) error {
	if i.options.sustain == 0 {
		return nil
	}
	took, err := i.pass(ctx, "finding the rate", request{Load: i.options.events}, nil)
	if err != nil {
		return err
	}
	i.report.Before = took.events
	// The committed rate is above the one that can be sustained, so it is long enough.
	i.options.events = int64(float64(took.events) / took.committed.Seconds() * i.options.sustain.Seconds())
	i.report.Events = i.options.events
	if need, free := i.options.events*brokerBytes, memoryAvailable(); free > 0 && need > free/2 {
		return fmt.Errorf("perf: --for %s are %s events, for which the broker needs %s of memory, and this machine has %s: --freshness %s with a --rate or --share produces events as they are read",
			i.options.sustain, perSecond(float64(i.options.events)), bytesText(need), bytesText(free), i.options.sustain)
	}
	return nil
}

// brokerBytes is what an event takes in the broker's memory, compressed.
const brokerBytes = 160

// passed is what it took to ingest events.
type passed struct {
	events          int64
	committed, took time.Duration // until all were committed, until all were flushed
	cpu             time.Duration
	allocated       uint64
}

// pass loads the broker while consumers are held, and then lets all be read, committed and flushed, which is measured. begun, if not
// nil, is called when that begins.
func (i *ingestion) pass(ctx context.Context, what string, load request, begun func()) (p passed, err error) {
	i.progress.begin("loading the broker", max(load.Load, load.Again), "events")
	if err := i.produce(load); err != nil {
		return p, err
	}
	before, err := i.cluster.committed(ctx) // a fetch that was on its way when the broker was held is not counted
	if err != nil {
		return p, err
	}
	p.events = i.produced - before
	i.progress.begin(what, p.events, "events")
	if begun != nil {
		begun()
	}
	begin := used()
	if err := i.release(); err != nil {
		return p, err
	}
	if err := i.cluster.awaitCommitted(ctx, i.produced, func(n int64) { i.progress.at(n - before) }); err != nil {
		return p, err
	}
	p.committed = time.Since(begin.at)
	i.progress.begin("flushing", 0, "")
	if err := i.cluster.flush(ctx); err != nil {
		return p, err
	}
	end := used()
	p.took, p.cpu, p.allocated = end.at.Sub(begin.at), end.cpu-begin.cpu, end.allocated-begin.allocated
	return p, i.hold()
}

// throughput measures the way of fresh rows.
func (i *ingestion) throughput(ctx context.Context) error {
	var profile bytes.Buffer
	profiled := false
	p, err := i.pass(ctx, "ingesting", request{Load: i.options.events}, func() {
		profiled = pprof.StartCPUProfile(&profile) == nil // someone else may be profiling
		i.sampler.begin(phaseIngest, i.cluster)
	})
	if profiled {
		pprof.StopCPUProfile()
	}
	if err = errors.Join(err, i.sampler.end()); err != nil {
		return err
	}
	r, n := i.report, float64(p.events)
	r.Seconds = p.took.Seconds()
	r.EventsPerSecond = n / p.took.Seconds()
	r.CommittedPerSecond = n / p.committed.Seconds()
	r.CPUMicrosPerEvent = float64(p.cpu.Microseconds()) / n
	r.AllocatedBytesPerEvent = float64(p.allocated) / n
	for _, node := range i.cluster.nodes {
		r.BytesPerEvent += float64(sizeOf(filepath.Join(i.dir, node.id, "tablets")).bytes) / float64(i.produced) / float64(i.options.replicas)
	}
	if err := i.allocations(); err != nil || !profiled {
		return err
	}
	return i.profiled(profile.Bytes(), n)
}

// allocations keeps the profile of what the process has allocated so far, if asked to.
func (i *ingestion) allocations() error {
	if i.options.allocs == "" {
		return nil
	}
	var b bytes.Buffer
	if err := pprof.Lookup("allocs").WriteTo(&b, 0); err != nil {
		return fmt.Errorf("perf: --allocprofile: %w", err)
	}
	if err := os.WriteFile(i.options.allocs, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("perf: --allocprofile: %w", err)
	}
	return nil
}

// profiled divides the CPU time by stage, and keeps the profile if asked to.
func (i *ingestion) profiled(profile []byte, events float64) error {
	sums, err := byStage(profile)
	if err != nil {
		return err
	}
	i.report.CPUByStage = map[string]float64{}
	for _, s := range stages {
		i.report.CPUByStage[s] = float64(sums[s]) / 1000 / events
	}
	if i.options.profile == "" {
		return nil
	}
	if err := os.WriteFile(i.options.profile, profile, 0o644); err != nil {
		return fmt.Errorf("perf: --cpuprofile: %w", err)
	}
	return nil
}

// freshness produces at a steady rate and collects how old rows are when they become readable.
func (i *ingestion) freshness(ctx context.Context) error {
	o := &i.options
	if o.freshness == 0 {
		return nil
	}
	rate := o.rate
	if rate == 0 {
		rate = max(1, int64(i.report.EventsPerSecond*o.share))
	}
	i.progress.begin("freshness, settling", 0, "")
	if err := i.release(); err != nil {
		return err
	}
	if err := i.produce(request{Rate: rate, Millis: settle.Milliseconds()}); err != nil {
		return err
	}
	var d distribution
	i.cluster.measureFreshness(&d)
	i.sampler.begin(phaseFreshness, i.cluster)
	i.progress.begin("freshness", rate*o.freshness.Milliseconds()/1000, "events")
	err := i.produce(request{Rate: rate, Millis: o.freshness.Milliseconds()})
	err = errors.Join(err, i.sampler.end())
	if err == nil {
		err = i.cluster.awaitCommitted(ctx, i.produced, func(int64) {})
	}
	i.cluster.measureFreshness(nil)
	if err != nil {
		return err
	}
	i.report.Freshness = &freshness{P50: d.quantile(0.5), P99: d.quantile(0.99), Max: d.quantile(1), Rate: rate, Events: d.weight()}
	return i.hold()
}

// rewrite measures rows whose keys are stored already: each is looked up where it is, and marked deleted there.
func (i *ingestion) rewrite(ctx context.Context) error {
	if i.options.upserts == 0 {
		return nil
	}
	i.again += i.options.upserts
	p, err := i.pass(ctx, "upserting", request{Again: i.options.upserts}, nil)
	if err != nil {
		return err
	}
	n := float64(p.events)
	u := &upserts{Events: i.options.upserts, EventsPerSecond: n / p.took.Seconds(), CommittedPerSecond: n / p.committed.Seconds(), CPUMicrosPerEvent: float64(p.cpu.Microseconds()) / n}
	u.ToInserts = u.EventsPerSecond / i.report.EventsPerSecond
	i.report.Upserts = u
	return nil
}

// resume measures what a leader that is cut off is missed for.
func (i *ingestion) resume(ctx context.Context) (err error) {
	if i.options.kills == 0 {
		return nil
	}
	if err := i.release(); err != nil {
		return err
	}
	i.report.Resume, err = i.killLeaders(ctx)
	return err
}

func (i *ingestion) count(ctx context.Context) (err error) {
	if err := i.release(); err != nil {
		return err
	}
	i.report.Rows, err = i.check(ctx)
	return err
}
