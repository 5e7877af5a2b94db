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
	"nyala/store/vfs"
)

const (
	events      = "events"
	healthLimit = 2 * time.Minute
	pollEvery   = 25 * time.Millisecond
)

// cluster is all nodes, in this process.
type cluster struct {
	config *configs.Config
	nodes  []*member
	http   *http.Client
	log    *os.File
	logger *slog.Logger

	mu struct {
		sync.Mutex
		freshness *distribution // nil: nobody measures
	}
}

// member is a node and its network; both are new after a kill.
type member struct {
	id, http string
	node     *connector.Node // nil while it is down
	plug     *plug
}

// startCluster writes the nodes' log into dir, and starts them.
func startCluster(o options, dir, kafka string) (c *cluster, err error) {
	c = &cluster{http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	if c.log, err = os.Create(filepath.Join(dir, "nodes.log")); err != nil {
		return nil, fmt.Errorf("perf: %w", err)
	}
	c.logger = slog.New(slog.NewTextHandler(c.log, nil))
	text, err := c.text(o, dir, kafka)
	if err == nil {
		c.config, err = configs.Parse("perf.yaml", []byte(text), os.LookupEnv, os.ReadFile)
	}
	if err != nil {
		return nil, errors.Join(err, c.log.Close())
	}
	for _, m := range c.nodes {
		if err := c.start(m); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
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

// kill cuts a node off; its remains are closed by the function that it returns.
func (c *cluster) kill(m *member) (bury func()) {
	m.plug.pull()
	node := m.node
	m.node = nil
	return func() {
		// A node whose network is gone closes with errors; its successor opens the same files, and would say if
		// something was wrong with them.
		_ = node.Close()
	}
}

func (c *cluster) close() error {
	var errs []error
	for _, m := range c.nodes {
		if m.node != nil {
			errs = append(errs, m.node.Close())
		}
	}
	c.http.CloseIdleConnections()
	return errors.Join(append(errs, c.log.Close())...)
}

// fresh collects the freshness of rows of all nodes, while someone measures.
func (c *cluster) fresh(seconds float64, rows int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.freshness != nil {
		c.mu.freshness.add(seconds*1000, rows)
	}
}

// measureFreshness begins or ends the collection.
func (c *cluster) measureFreshness(d *distribution) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.freshness = d
}

// alive is a node to ask.
func (c *cluster) alive() *api.Client {
	for _, m := range c.nodes {
		if m.node != nil {
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
	err := until(ctx, func() bool {
		s, err := c.status(ctx)
		if err != nil {
			return false
		}
		readers := 0
		for _, k := range s.Connectors {
			readers += len(k.Partitions)
		}
		why = strings.Join(s.Reasons, "; ")
		if readers < partitions {
			why = strings.TrimPrefix(fmt.Sprintf("%s; %d of %d partitions have a reader", why, readers, partitions), "; ")
		}
		return s.Healthy && readers == partitions
	})
	if err != nil {
		return fmt.Errorf("perf: the cluster is not healthy after %s: %s: %w", healthLimit, why, err)
	}
	return nil
}

// until polls until done says so, or ctx is done.
func until(ctx context.Context, done func() bool) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// committed is how many offsets of the topic are decided: read from every node, which costs less than a status.
func (c *cluster) committed(ctx context.Context) (n int64, err error) {
	low := map[int32]int64{}
	for _, m := range c.nodes {
		if m.node == nil {
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
	var last error
	stalled, best := time.Now(), int64(-1)
	err := until(ctx, func() bool {
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
	err := c.alive().Get(ctx, "/api/v1/tables/"+events+"/rows", url.Values{"count": {"true"}}, &rows)
	return rows, err
}
