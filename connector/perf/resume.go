package perf

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"sync"
	"time"

	"nyala/connector/api"
)

const (
	resumeLimit = time.Minute
	probeLimit  = 80 * time.Millisecond // one attempt to write: the measurement is as fine as that
)

// killLeaders ends the node that leads most tablets, again and again, and measures for each of these how long it
// is until it takes a write again.
func (m *run) killLeaders(ctx context.Context) (*resumed, error) {
	var d distribution
	for k := range m.options.kills {
		m.progress.begin("killing leaders", int64(m.options.kills), "kills")
		m.progress.at(int64(k))
		if err := m.cluster.awaitHealthy(ctx, m.options.partitions); err != nil {
			return nil, err
		}
		if err := m.cluster.awaitCaughtUp(ctx); err != nil {
			return nil, err
		}
		victim, tablets, err := m.cluster.mostLeaders(ctx)
		if err != nil {
			return nil, err
		}
		if err := m.strike(ctx, victim, tablets, &d); err != nil {
			return nil, err
		}
	}
	return &resumed{P50: d.quantile(0.5), P99: d.quantile(0.99), Max: d.quantile(1), Kills: m.options.kills, Tablets: len(d.values)},
		m.cluster.awaitHealthy(ctx, m.options.partitions)
}

// behindMax is how many entries a replica may lack while events are produced: some are always on their way.
const behindMax = 64

// awaitCaughtUp waits until no replica is behind. Before that the end of another node is a second fault beside the one that the
// replica still suffers from, and what is measured is how long it takes to catch up.
func (c *cluster) awaitCaughtUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	err := until(ctx, func() bool {
		s, err := c.status(ctx)
		if err != nil {
			return false
		}
		for _, t := range s.Tablets {
			least, most := uint64(math.MaxUint64), uint64(0)
			for _, r := range t.Replicas {
				least, most = min(least, r.AppliedIndex), max(most, r.AppliedIndex)
			}
			if most-min(least, most) > behindMax {
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("perf: replicas still lag after %s: %w", healthLimit, err)
	}
	return nil
}

// mostLeaders is the node that leads the most tablets of the table, and which.
func (c *cluster) mostLeaders(ctx context.Context) (*member, []string, error) {
	s, err := c.status(ctx)
	if err != nil {
		return nil, nil, err
	}
	leads := map[string][]string{}
	for _, t := range s.Tablets {
		if t.Table == events {
			leads[t.Leader] = append(leads[t.Leader], t.ID)
		}
	}
	best := c.nodes[0]
	for _, n := range c.nodes {
		if len(leads[n.id]) > len(leads[best.id]) {
			best = n
		}
	}
	return best, leads[best.id], nil
}

// strike ends a node, measures, and starts it again.
func (m *run) strike(ctx context.Context, victim *member, tablets []string, d *distribution) error {
	ctx, cancel := context.WithTimeout(ctx, resumeLimit)
	defer cancel()
	began := time.Now()
	bury, err := m.cluster.kill(victim)
	if err != nil {
		return err
	}
	if len(m.cluster.nodes) == 1 {
		// Nobody else can lead: the measurement is of a restart.
		bury()
		if err := m.cluster.start(victim); err != nil {
			return err
		}
		bury = func() {}
	}
	took, err := m.cluster.awaitWrites(ctx, tablets, began)
	for _, t := range took {
		d.add(float64(t.Microseconds())/1000, 1)
	}
	bury()
	if err != nil || victim.up() {
		return err
	}
	return m.cluster.start(victim)
}

// awaitWrites waits until each tablet has accepted a write, and tells when. The write is the one that a read
// makes to settle the past: it goes through the tablet's log like any other, and changes no row.
func (c *cluster) awaitWrites(ctx context.Context, tablets []string, began time.Time) ([]time.Duration, error) {
	client := c.alive()
	took, errs := make([]time.Duration, len(tablets)), make([]error, len(tablets))
	var wg sync.WaitGroup
	for i, id := range tablets {
		wg.Go(func() {
			for {
				err := write(ctx, client, id)
				if err == nil {
					took[i] = time.Since(began)
					return
				}
				if ctx.Err() != nil {
					errs[i] = fmt.Errorf("perf: tablet %s takes no write %s after its leader's end: %w", id, resumeLimit, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return took, nil
}

func write(ctx context.Context, client *api.Client, tablet string) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	began := time.Now()
	var rows int64
	err := client.Get(ctx, rowsPath, url.Values{"tablet": {tablet}, "count": {"true"}, "where": {"event_time < 1970-01-02T00:00:00Z"}}, &rows)
	if err != nil && time.Since(began) < probeLimit/8 {
		<-time.After(probeLimit / 8) // refused at once: not asked again at once
	}
	return err
}
