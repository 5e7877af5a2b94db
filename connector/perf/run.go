package perf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"nyala/connector"
)

// run is one measurement: a folder of its own, a broker and a cluster.
type run struct {
	options  options
	progress *progress
	broker   *brokerProcess
	cluster  *cluster
	dir      string
	produced int64 // events of all phases so far
	again    int64 // of these with the key of an earlier one
}

// measure makes a cluster, measures, and takes everything away again. program is what each node is a process of, "" for nodes
// in this one.
func measure(ctx context.Context, o options, p *progress, program string, phases ...func(*run, context.Context) error) (err error) {
	defer p.end()
	m := &run{options: o, progress: p}
	remove, err := m.makeDir()
	if err != nil {
		return err
	}
	free, _ := freeOnDisk(m.dir)
	defer func() { err = errors.Join(err, o.left.add(m.dir, free, remove)) }()
	if err := m.roomOnDisk(); err != nil {
		return err
	}
	if program == "" {
		limitMemory(o)
	}
	p.begin("starting nodes", 0, "")
	if m.broker, err = startBroker(o); err != nil {
		return err
	}
	defer m.broker.close()
	// What waits for the broker's process ends with it, too.
	defer context.AfterFunc(ctx, m.broker.kill)()
	if m.cluster, err = startCluster(o, m.dir, m.broker.address, program); err != nil {
		return err
	}
	defer func() {
		// The end of nodes that failed says what was said before; the folder is about to go, so their last words are kept.
		closed := m.cluster.close()
		switch {
		case err == nil:
			err = closed
		case ctx.Err() == nil:
			err = m.cluster.explain(err)
		}
	}()
	if err := m.cluster.awaitHealthy(ctx, o.partitions); err != nil {
		return interrupted(ctx, err)
	}
	for _, phase := range phases {
		if err := phase(m, ctx); err != nil {
			return interrupted(ctx, err)
		}
	}
	return nil
}

// limitMemory sets the collector's limit as the processes of so many nodes have it together, unless the environment says how.
func limitMemory(o options) {
	if memory, err := parseMemory(o.memory); err == nil && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(o.replicas) * connector.MemoryLimit(memory))
	}
}

// interrupted says why something failed: what Ctrl-C ended has many names.
func interrupted(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// produce lets the broker's process produce, and counts.
func (m *run) produce(r request) error {
	a, err := m.broker.ask(r, m.progress.at)
	m.produced += a.Done
	return err
}

func (m *run) release() error {
	_, err := m.broker.ask(request{Release: true}, nil)
	return err
}

func (m *run) hold() error {
	_, err := m.broker.ask(request{Hold: true}, nil)
	return err
}

// fillStep is how many events are at the broker at once while a table is filled, so that they fit into its memory.
const fillStep = 2_000_000

// fill ingests so many events, which is not measured, and leaves the broker as it found it: held.
func (m *run) fill(ctx context.Context, what string, events int64) error {
	if events == 0 {
		return nil
	}
	if err := m.release(); err != nil {
		return err
	}
	before := m.produced
	for left := events; left > 0; left -= min(left, fillStep) {
		m.progress.begin(what, events, "events")
		m.progress.from = m.produced - before
		if err := m.produce(request{Load: min(left, fillStep)}); err != nil {
			return err
		}
		if err := m.cluster.awaitCommitted(ctx, m.produced, func(int64) {}); err != nil {
			return err
		}
	}
	return m.hold()
}

// check counts the rows: a figure of work that was not done is worth nothing.
func (m *run) check(ctx context.Context) (rows int64, err error) {
	m.progress.begin("counting rows", 0, "")
	if err := m.cluster.awaitCommitted(ctx, m.produced, func(int64) {}); err != nil {
		return 0, err
	}
	if rows, err = m.cluster.count(ctx); err == nil && rows != m.produced-m.again {
		err = fmt.Errorf("perf: %d rows of %d events: nothing measured here counts", rows, m.produced-m.again)
	}
	return rows, err
}

// settle is the first part of a steady phase, which is not measured: consumers come out of their long polls, and
// buffers find their size.
const settle = time.Second
