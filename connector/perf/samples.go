package perf

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// The phases of perf ingest that are sampled.
const (
	phaseIngest    = "ingest"
	phaseFreshness = "freshness"
)

// second is what a second was like: a line of --samples. Its names are a contract.
type second struct {
	Phase           string  `json:"phase"`
	Second          float64 `json:"second"` // its end, from the begin of the phase
	Events          int64   `json:"events"` // committed in the phase so far
	EventsPerSecond float64 `json:"events_per_second"`
	FreshP50        float64 `json:"fresh_p50_ms"`
	FreshP99        float64 `json:"fresh_p99_ms"`
	FreshMax        float64 `json:"fresh_max_ms"`
	CPUCores        float64 `json:"cpu_cores"` // of all nodes, without the broker
	RSSBytes        int64   `json:"rss_bytes"`
	Files           int     `json:"files"`      // of all replicas
	DiskBytes       int64   `json:"disk_bytes"` // without the log
	WALBytes        int64   `json:"wal_bytes"`  // segments in use and empty ones
}

// sampler looks at the nodes every second of a phase and writes down what it sees. Its goroutine runs from begin to end.
type sampler struct {
	file   *os.File // nil: nobody asks for samples
	cancel context.CancelFunc
	done   chan error
}

func newSampler(file string) (s *sampler, err error) {
	s = &sampler{}
	if file == "" {
		return s, nil
	}
	if s.file, err = os.Create(file); err != nil {
		return nil, fmt.Errorf("perf: --samples: %w", err)
	}
	return s, nil
}

func (s *sampler) close() error {
	if s.file == nil {
		return nil
	}
	return errors.Join(s.end(), s.file.Close())
}

// begin begins a phase, for which the clock starts now.
func (s *sampler) begin(phase string, c *cluster) {
	if s.file == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.done = cancel, make(chan error, 1)
	c.recently(&distribution{})
	go func() {
		defer c.recently(nil)
		s.done <- s.run(ctx, phase, c)
	}()
}

// end ends a phase.
func (s *sampler) end() error {
	if s.cancel == nil {
		return nil
	}
	s.cancel()
	s.cancel = nil
	return <-s.done
}

func (s *sampler) run(ctx context.Context, phase string, c *cluster) error {
	out := json.NewEncoder(s.file)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	begin := used()
	first, err := c.committed(ctx)
	for last, events := begin, first; ; {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("perf: sample: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		now := used()
		var n int64
		if n, err = c.committed(ctx); err != nil {
			continue
		}
		d, took := c.recently(&distribution{}), now.at.Sub(last.at).Seconds()
		x := second{Phase: phase, Second: round(now.at.Sub(begin.at).Seconds(), 2), Events: n - first, EventsPerSecond: round(float64(n-events)/took, 0),
			FreshP50: round(d.quantile(0.5), 2), FreshP99: round(d.quantile(0.99), 2), FreshMax: round(d.quantile(1), 2),
			CPUCores: round((now.cpu-last.cpu).Seconds()/took, 2), RSSBytes: resident()}
		for _, m := range c.nodes {
			tablets, wal := sizeOf(filepath.Join(c.dir, m.id, "tablets")), sizeOf(filepath.Join(c.dir, m.id, "wal"))
			x.Files, x.DiskBytes, x.WALBytes = x.Files+tablets.files+wal.files, x.DiskBytes+tablets.bytes, x.WALBytes+wal.bytes
		}
		if err := out.Encode(x); err != nil {
			return fmt.Errorf("perf: --samples: %w", err)
		}
		last, events = now, n
	}
}

// readSamples reads a file of samples.
func readSamples(name string) (samples []second, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("perf: samples: %w", err)
	}
	defer f.Close()
	in := json.NewDecoder(bufio.NewReader(f))
	for {
		var s second
		if err := in.Decode(&s); err == io.EOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("perf: samples: %s: after %d of them: %w", name, len(samples), err)
		}
		if s.Phase == "" {
			return nil, fmt.Errorf("perf: samples: %s: object %d has no phase: it is no file of perf ingest --samples", name, len(samples)+1)
		}
		samples = append(samples, s)
	}
	if len(samples) == 0 {
		return nil, fmt.Errorf("perf: samples: %s is empty", name)
	}
	return samples, nil
}
