package perf

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"nyala/configs"
	"nyala/connector"
	"nyala/connector/api"
	"nyala/connector/child"
	"nyala/store/vfs"
)

const (
	events      = "events"
	healthLimit = 2 * time.Minute
	pollEvery   = 25 * time.Millisecond
	pollShare   = 50
	pollMax     = 250 * time.Millisecond
	reasonsMax  = 4 // why a cluster is not healthy: hundreds of tablets have the same
)

// cluster is all nodes: in this process, or each in one of its own.
type cluster struct {
	program string // what a node is a process of; "": they are in this process
	dir     string
	config  *configs.Config
	nodes   []*member
	http    *http.Client
	log     *os.File // of the nodes in this process
	logger  *slog.Logger

	mu struct {
		sync.Mutex
		freshness, recent *distribution // nil: nobody measures
	}
}

// member is one life of a node after the other: all but its name and address is new after a kill.
type member struct {
	id, http string
	node     *connector.Node // nil while it is down, or a process
	plug     *plug           // of node: its network
	process  *child.Process  // nil while it is down, or in this process
}

func (m *member) up() bool { return m.node != nil || m.process != nil }

const (
	logFile    = "nodes.log"
	configFile = "perf.yaml"
)

// startCluster writes configuration and log of the nodes into dir, and starts them.
func startCluster(o options, dir, kafka, program string) (c *cluster, err error) {
	c = &cluster{program: program, dir: dir, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	text, err := c.text(o, dir, kafka)
	if err == nil {
		c.config, err = configs.Parse(configFile, []byte(text), os.LookupEnv, os.ReadFile)
	}
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, configFile), []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("perf: %w", err)
	}
	if c.log, err = os.Create(filepath.Join(dir, logFile)); err != nil {
		return nil, fmt.Errorf("perf: %w", err)
	}
	c.logger = slog.New(slog.NewTextHandler(c.log, nil))
	for _, m := range c.nodes {
		if err := c.start(m); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// explain adds to an error what the nodes said last that is worse than usual: their log goes with the folder.
func (c *cluster) explain(err error) error {
	text, readErr := os.ReadFile(filepath.Join(c.dir, logFile))
	if readErr != nil {
		return err
	}
	var bad []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "level=ERROR") {
			bad = append(bad, strings.TrimSpace(line))
		}
	}
	if len(bad) == 0 {
		return err
	}
	return fmt.Errorf("%w; the nodes' last error: %s", err, bad[len(bad)-1])
}

func (c *cluster) text(o options, dir, kafka string) (string, error) {
	ports, err := freePorts(2 * o.replicas)
	if err != nil {
		return "", err
	}
	var list strings.Builder
	for i := range o.replicas {
		m := &member{id: fmt.Sprintf("n%d", i+1), http: ports[2*i+1]}
		c.nodes = append(c.nodes, m)
		fmt.Fprintf(&list, "    - {id: %s, peer: '%s', http: '%s', data: %s}\n", m.id, ports[2*i], m.http, strconv.Quote(filepath.Join(dir, m.id)))
	}
	return fmt.Sprintf(configuration, o.replicas, list.String(), o.memory, kafka, o.session, o.tablets, topic), nil
}

const configuration = `cluster:
  name: perf
  replicas: %d
  nodes:
%s
node: {memory: %s, durability: fsync}
kafka: {brokers: ['%s']}
tables:
  - name: events
    columns:
      - {name: tenant, type: int32}
      - {name: event_time, type: timestamp}
      - {name: event_id, type: int64}
      - {name: user_id, type: string}
      - {name: session, type: %s}
      - {name: event_name, type: string}
      - {name: url, type: string}
      - {name: country, type: string}
      - {name: duration_ms, type: int64}
      - {name: value, type: float64}
      - {name: ok, type: bool}
    primary_key: [tenant, event_time, event_id]
    hash: {columns: [event_id], buckets: %d}
connectors:
  - {name: events, topics: [%s], table: events, format: json, timestamp_unit: us}
`

// freePorts finds addresses of the loopback interface that nobody listens at.
func freePorts(n int) (addresses []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("perf: %w", err)
		}
		defer l.Close() // all together in the end, so that none is given twice
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

func (c *cluster) start(m *member) (err error) {
	if c.program != "" {
		m.process, err = child.StartLogged(filepath.Join(c.dir, logFile), c.program, "run", "--config", filepath.Join(c.dir, configFile), "--node", m.id)
		if err != nil {
			return fmt.Errorf("perf: node %s: %w", m.id, err)
		}
		return nil
	}
	m.plug = newPlug()
	m.node, err = connector.Start(connector.Options{
		Config: c.config, Node: m.id, FS: vfs.OS(), Listen: m.plug.listen, Dial: m.plug.dial, Entropy: rand.Reader,
		Logger: c.logger, Version: "perf", Freshness: c.fresh,
	})
	if err != nil {
		return fmt.Errorf("perf: node %s: %w", m.id, err)
	}
	return nil
}

// kill ends a node: its process by SIGKILL, or, where it is in this one, by cutting it off. Then its remains are closed by
// the function that it returns.
func (c *cluster) kill(m *member) (bury func(), err error) {
	if p := m.process; p != nil {
		if p.Ended() {
			return nil, c.ended(m)
		}
		p.Kill()
		m.process = nil
		return func() {}, nil
	}
	m.plug.pull()
	node := m.node
	m.node = nil
	return func() {
		// A node whose network is gone closes with errors; its successor opens the same files, and would say if
		// something was wrong with them.
		_ = node.Close()
	}, nil
}

// ended is the error of a process that ended by itself.
func (c *cluster) ended(m *member) error {
	return fmt.Errorf("perf: node %s ended by itself: %s", m.id, child.Cause(m.process.Wait()))
}

// failed is why a node that should be up is not.
func (c *cluster) failed() error {
	for _, m := range c.nodes {
		if m.process != nil && m.process.Ended() {
			return c.ended(m)
		}
		if m.node == nil {
			continue
		}
		select {
		case <-m.node.Done():
			return fmt.Errorf("perf: node %s ended by itself", m.id)
		default:
		}
	}
	return nil
}

func (c *cluster) close() error {
	errs := make([]error, len(c.nodes))
	var wg sync.WaitGroup
	for i, m := range c.nodes {
		wg.Go(func() {
			switch {
			case m.node != nil:
				errs[i] = m.node.Close()
			case m.process != nil:
				m.process.Kill() // what it has is about to be removed
			}
		})
	}
	wg.Wait()
	c.http.CloseIdleConnections()
	return errors.Join(append(errs, c.log.Close())...)
}

// fresh collects the freshness of rows of all nodes, while someone measures.
func (c *cluster) fresh(seconds float64, rows int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range []*distribution{c.mu.freshness, c.mu.recent} {
		if d != nil {
			d.add(seconds*1000, rows)
		}
	}
}

// measureFreshness begins or ends the collection.
func (c *cluster) measureFreshness(d *distribution) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.freshness = d
}

// recently gives what was collected since the last call, and goes on with d.
func (c *cluster) recently(d *distribution) (last *distribution) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, c.mu.recent = c.mu.recent, d
	return last
}

// alive is a node to ask.
func (c *cluster) alive() *api.Client {
	for _, m := range c.nodes {
		if m.up() {
			return &api.Client{Server: m.http, HTTP: c.http}
		}
	}
	return &api.Client{Server: c.nodes[0].http, HTTP: c.http}
}

func (c *cluster) status(ctx context.Context) (s api.Status, err error) {
	err = c.alive().Get(ctx, "/api/v1/status", nil, &s)
	return s, err
}

// awaitHealthy waits until every node is up, every tablet has all its replicas and a leader, and every
// partition has a reader.
func (c *cluster) awaitHealthy(ctx context.Context, partitions int) error {
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	why := "no node answers"
	var failed error
	err := until(ctx, func() bool {
		if failed = c.failed(); failed != nil {
			return true
		}
		s, err := c.status(ctx)
		if err != nil {
			return false
		}
		readers := 0
		for _, k := range s.Connectors {
			readers += len(k.Partitions)
		}
		why = strings.Join(s.Reasons[:min(len(s.Reasons), reasonsMax)], "; ")
		if more := len(s.Reasons) - reasonsMax; more > 0 {
			why += fmt.Sprintf("; and %d more", more)
		}
		if readers < partitions {
			why = strings.TrimPrefix(fmt.Sprintf("%s; %d of %d partitions have a reader", why, readers, partitions), "; ")
		}
		return s.Healthy && readers == partitions
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("perf: the cluster is not healthy after %s: %s: %w", healthLimit, why, err)
	}
	return nil
}

// until polls until done says so, or ctx is done. What takes long is asked rarely, for it is part of what is measured: the status of hundreds
// of tablets took 6 % of the CPU.
func until(ctx context.Context, done func() bool) error {
	for {
		begin := time.Now()
		if done() {
			return nil
		}
		select {
		case <-time.After(max(pollEvery, min(pollShare*time.Since(begin), pollMax))):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// committed is how many offsets of the topic are decided: read from every node, which costs less than a status.
func (c *cluster) committed(ctx context.Context) (n int64, err error) {
	low := map[int32]int64{}
	for _, m := range c.nodes {
		if !m.up() {
			continue
		}
		var l api.Local
		client := api.Client{Server: m.http, HTTP: c.http}
		if err := client.Get(ctx, "/internal/v1/local", nil, &l); err != nil {
			return 0, err
		}
		for _, f := range l.Connectors {
			for _, p := range f.Partitions {
				low[p.Partition] = max(low[p.Partition], p.Watermark)
			}
		}
	}
	for _, w := range low {
		n += w
	}
	return n, nil
}

// awaitCommitted waits until n offsets are decided.
func (c *cluster) awaitCommitted(ctx context.Context, n int64, progress func(int64)) error {
	var last, failed error
	stalled, best := time.Now(), int64(-1)
	err := until(ctx, func() bool {
		if failed = c.failed(); failed != nil {
			return true
		}
		now, err := c.committed(ctx)
		if last = err; err != nil {
			return false
		}
		if now > best {
			best, stalled = now, time.Now()
			progress(now)
		}
		return now >= n || time.Since(stalled) > healthLimit
	})
	if failed != nil {
		return failed
	}
	if err == nil && best < n {
		err = fmt.Errorf("perf: %d of %d events are committed, and no more in %s: %w", best, n, healthLimit, errors.Join(last, errors.New("stalled")))
	}
	return err
}

// flush checkpoints all tablets on all nodes.
func (c *cluster) flush(ctx context.Context) error {
	errs := make([]error, len(c.nodes))
	var wg sync.WaitGroup
	for i, m := range c.nodes {
		wg.Go(func() { errs[i] = m.node.Checkpoint(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// count counts the table's rows by reading it.
func (c *cluster) count(ctx context.Context) (int64, error) {
	var rows int64
	err := c.alive().Get(ctx, rowsPath, url.Values{"count": {"true"}}, &rows)
	return rows, err
}
