package demo

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"nyala/connector/child"
	"nyala/ingest/broker"
)

const (
	nodes      = 3
	partitions = 8
	buckets    = 4
	topic      = "app-events"
	table      = "events"
)

// node is a place of the cluster: its process changes, its addresses and files stay.
type node struct {
	id, peer, http, log string

	mu struct {
		sync.Mutex
		process *child.Process
		started time.Time
		killed  bool // by us: its end is no surprise
	}
}

// cluster is what the demo runs.
type cluster struct {
	program string
	dir     string
	config  string
	kafka   *broker.Broker
	nodes   []*node
	guard   *guard
	deaths  chan *node // a node whose process ended by itself
}

// prepare chooses ports, starts the broker and writes the configuration. Nodes are not started yet.
func prepare(dir string) (c *cluster, err error) {
	c = &cluster{dir: dir, config: filepath.Join(dir, "nyala.yaml"), deaths: make(chan *node, nodes)}
	if c.program, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("demo: which program is this: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o755); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	ports := reserved{}
	defer ports.release()
	for i := range nodes {
		id := fmt.Sprintf("n%d", i+1)
		n := &node{id: id, log: filepath.Join(dir, "logs", id+".log")}
		if n.peer, err = ports.take(7401 + i); err != nil {
			return nil, err
		}
		if n.http, err = ports.take(7481 + i); err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, n)
	}
	kafka, err := ports.take(9092)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(kafka) // it is a listener's
	number, _ := strconv.Atoi(port)
	ports.release()
	if c.kafka, err = broker.Start(broker.Options{Ports: []int{number}, Topics: []string{topic}, Partitions: partitions}); err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.config, []byte(c.text()), 0o644); err != nil {
		c.kafka.Close()
		return nil, fmt.Errorf("demo: %w", err)
	}
	if !child.Guarded {
		c.guard, err = startGuard(c.program)
	}
	return c, err
}

// reserved holds ports while others are chosen, so that none is given twice.
type reserved []net.Listener

// take reserves a port of the loopback interface: the usual one if it is free, else any.
func (r *reserved) take(usual int) (address string, err error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(usual)))
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", fmt.Errorf("demo: no port on the loopback interface: %w", err)
	}
	*r = append(*r, l)
	return l.Addr().String(), nil
}

func (r *reserved) release() {
	for _, l := range *r {
		_ = l.Close() // nothing was ever sent there
	}
	*r = nil
}

// text is the configuration: one that a person can go on from.
func (c *cluster) text() string {
	var list strings.Builder
	for _, n := range c.nodes {
		fmt.Fprintf(&list, "    - {id: %s, peer: '%s', http: '%s', data: %s}\n", n.id, n.peer, n.http, strconv.Quote(filepath.Join(c.dir, n.id)))
	}
	return fmt.Sprintf(configuration, list.String(), c.kafka.Addresses()[0], buckets, topic)
}

const configuration = `# Made by nyala demo: three nodes on this machine.
cluster:
  name: demo
  replicas: 3
  nodes:
%s
node:
  memory: 512MiB
kafka:
  brokers: ['%s']
tables:
  - name: events
    columns:
      - {name: tenant, type: int32}
      - {name: event_time, type: timestamp}
      - {name: event_id, type: int64}
      - {name: user_id, type: string}
      - {name: session, type: uuid}
      - {name: event_name, type: string}
      - {name: url, type: string}
      - {name: country, type: string}
      - {name: duration_ms, type: int64}
      - {name: value, type: float64}
      - {name: ok, type: bool}
      - {name: kafka_partition, type: int32}
      - {name: kafka_offset, type: int64}
    primary_key: [tenant, event_time, event_id]
    hash: {columns: [event_id], buckets: %d}
    range: {column: event_time, every: 1d, ahead: 1}
connectors:
  - name: app-events
    topics: [%s]
    table: events
    format: json
    timestamp_unit: us
    add: {kafka_partition: partition, kafka_offset: offset}
`

// start starts a node's process.
func (c *cluster) start(n *node) error {
	p, err := child.StartLogged(n.log, c.program, "run", "--config", c.config, "--node", n.id)
	if err != nil {
		return fmt.Errorf("demo: starting node %s: %w", n.id, err)
	}
	if err := c.guard.watch(p.PID(), true); err != nil {
		p.Kill()
		return err
	}
	n.mu.Lock()
	n.mu.process, n.mu.started, n.mu.killed = p, time.Now(), false
	n.mu.Unlock()
	go func() { // ends with the process, which close ends
		_ = p.Wait()
		n.mu.Lock()
		surprise := n.mu.process == p && !n.mu.killed
		n.mu.Unlock()
		if surprise {
			c.deaths <- n
		}
	}()
	return nil
}

// lived is how long ago the node's process was started.
func (n *node) lived() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Since(n.mu.started)
}

// end takes a node's process from it, so that its end is no surprise.
func (n *node) end() *child.Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.mu.process
	n.mu.killed = true
	return p
}

// kill ends a node's process by SIGKILL.
func (c *cluster) kill(n *node) error {
	p := n.end()
	p.Kill()
	return c.guard.watch(p.PID(), false)
}

// stop ends all nodes at once: gracefully if limit is not 0.
func (c *cluster) stop(limit time.Duration) error {
	var wg sync.WaitGroup
	errs := make([]error, len(c.nodes))
	for i, n := range c.nodes {
		p := n.end()
		if p == nil || p.Ended() {
			continue
		}
		wg.Go(func() {
			if limit == 0 {
				p.Kill()
			} else if err := p.Stop(limit); err != nil {
				errs[i] = fmt.Errorf("demo: node %s: %w", n.id, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// close ends all that is left, at once.
func (c *cluster) close() error {
	err := errors.Join(c.stop(0), c.guard.close())
	c.kafka.Close()
	return err
}
