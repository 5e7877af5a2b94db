package perf

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"nyala/connector/child"
)

// recovery measures on processes that are killed: first leaders one by one, then, in a cluster of its own, all at once.
func recovery(ctx context.Context, o options, p *progress) (result, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("perf: which program is this: %w", err)
	}
	r := &recoverReport{Replicas: o.replicas, Tablets: o.tablets, Durability: "fsync"}
	if o.kills > 0 {
		err := measure(ctx, o, p, program, func(m *run, ctx context.Context) (err error) {
			r.Machine = thisMachine(m.dir)
			r.Resume, err = m.killUnderLoad(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if o.unflushed > 0 {
		err := measure(ctx, o, p, program, func(m *run, ctx context.Context) (err error) {
			if r.Resume == nil {
				r.Machine = thisMachine(m.dir)
			}
			r.Restart, err = m.killAll(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	r.Machine.LoadEnd = loadAverage()
	return r, nil
}

// killUnderLoad kills leaders while events are produced.
func (m *run) killUnderLoad(ctx context.Context) (*resumed, error) {
	if err := m.release(); err != nil {
		return nil, err
	}
	producing, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- m.produceUntil(producing) }()
	r, err := m.killLeaders(ctx)
	stop()
	if produced := <-done; err == nil {
		err = produced
	}
	if err != nil {
		return nil, err
	}
	r.Rate = m.options.rate
	r.Rows, err = m.check(ctx)
	return r, err
}

// produceUntil produces at the rate, a second at a time.
func (m *run) produceUntil(ctx context.Context) error {
	for ctx.Err() == nil && m.options.rate > 0 {
		a, err := m.broker.ask(request{Rate: m.options.rate, Millis: 1000}, nil)
		m.produced += a.Done
		if err != nil {
			return err
		}
	}
	return nil
}

// killAll kills all nodes at once with rows that are in no file, again and again, and measures how long it is from their start until
// a read has all rows.
func (m *run) killAll(ctx context.Context) (*restarted, error) {
	o := &m.options
	if err := m.fill(ctx, "filling the log", o.unflushed); err != nil {
		return nil, err
	}
	r := &restarted{Restarts: o.restarts, Unflushed: m.produced}
	var d distribution
	for k := range o.restarts {
		m.progress.begin("killing all nodes", int64(o.restarts), "restarts")
		m.progress.at(int64(k))
		for _, n := range m.cluster.nodes {
			if files, _ := filepath.Glob(filepath.Join(m.dir, n.id, "tablets", "*", "*.parquet")); len(files) > 0 {
				return nil, fmt.Errorf("perf: recover: %d rowsets of node %s were flushed before it was killed, as a tablet does after 2 minutes: rows are not all in the log; fewer --unflushed or --restarts are faster", len(files), n.id)
			}
		}
		took, err := m.restart(ctx)
		if err != nil {
			return nil, err
		}
		d.add(float64(took.Microseconds())/1000, 1)
		if err := m.cluster.awaitHealthy(ctx, o.partitions); err != nil {
			return nil, err
		}
	}
	for _, n := range m.cluster.nodes {
		r.WALBytes = max(r.WALBytes, sizeOf(filepath.Join(m.dir, n.id, "wal")).bytes)
	}
	r.P50, r.P99, r.Max = d.quantile(0.5), d.quantile(0.99), d.quantile(1)
	if err := m.release(); err != nil { // what is behind the last checkpoint is read again, and dropped
		return nil, err
	}
	_, err := m.check(ctx)
	return r, err
}

// restart kills all nodes, starts them, and waits until one answers with all rows.
func (m *run) restart(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, restartLimit)
	defer cancel()
	var killed []*child.Process
	for _, n := range m.cluster.nodes {
		if n.process.Ended() {
			return 0, m.cluster.ended(n)
		}
		n.process.Signal(syscall.SIGKILL)
		killed = append(killed, n.process)
	}
	for i, n := range m.cluster.nodes {
		<-killed[i].Done()
		n.process = nil
	}
	began := time.Now()
	for _, n := range m.cluster.nodes {
		if err := m.cluster.start(n); err != nil {
			return 0, err
		}
	}
	var failed, last error
	err := until(ctx, func() bool {
		if failed = m.cluster.failed(); failed != nil {
			return true
		}
		var rows int64
		if rows, last = m.cluster.count(ctx); last == nil && rows != m.produced {
			failed = fmt.Errorf("perf: a read after the restart answered %d of %d rows", rows, m.produced)
		}
		return last == nil
	})
	switch {
	case failed != nil:
		return 0, failed
	case err != nil:
		return 0, fmt.Errorf("perf: no read is answered %s after all nodes were started: %w", restartLimit, last)
	}
	return time.Since(began), nil
}

const restartLimit = 5 * time.Minute
