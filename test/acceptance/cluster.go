package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"nyala/connector/api"
)

// Config is the configuration of the tests: the README's table, three nodes, and the offsets as columns.
const Config = `
cluster:
  name: acceptance
  replicas: %d
  nodes:
%s
node:
  memory: 1GiB
kafka:
  brokers: [%s]
tables:
  - name: events
    columns:
      - {name: tenant, type: int32}
      - {name: event_time, type: timestamp}
      - {name: event_id, type: int64}
      - {name: user_id, type: int64}
      - {name: session, type: uuid}
      - {name: url, type: string, nullable: true}
      - {name: value, type: float64, nullable: true}
      - {name: kafka_partition, type: int32}
      - {name: kafka_offset, type: int64}
    primary_key: [tenant, event_time, event_id]
    hash: {columns: [event_id], buckets: 2}
    range: {column: event_time, every: 1d}
connectors:
  - name: app-events
    topics: [app-events]
    table: events
    format: json
    fields: {event_time: ts, user_id: user.id}
    add: {kafka_offset: offset, kafka_partition: partition}
`

// Cluster is node processes of one built binary in one directory.
type Cluster struct {
	Binary string
	Dir    string
	Config string
	Nodes  []*Process
}

// Process is one node. It may be running or not.
type Process struct {
	ID, HTTP, Data string
	cluster        *Cluster
	cmd            *exec.Cmd
	log            *os.File
	done           chan struct{} // closed when cmd has ended
}

// New writes the configuration of n nodes on free ports; none of them is started.
func New(binary, dir, broker string, n int) (*Cluster, error) {
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Binary: binary, Dir: dir, Config: filepath.Join(dir, "nyala.yaml")}
	var list strings.Builder
	for i := range n {
		p := &Process{ID: fmt.Sprintf("n%d", i+1), HTTP: ports[2*i+1], cluster: c}
		p.Data = filepath.Join(dir, "data", p.ID)
		fmt.Fprintf(&list, "    - {id: %s, peer: '%s', http: '%s', data: '%s'}\n", p.ID, ports[2*i], p.HTTP, p.Data)
		c.Nodes = append(c.Nodes, p)
	}
	text := fmt.Sprintf(Config, min(n, 3), list.String(), broker)
	return c, os.WriteFile(c.Config, []byte(text), 0o644)
}

func freePorts(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// Start runs the node; its output is appended to ID.log.
func (p *Process) Start() error {
	var err error
	if p.log, err = os.OpenFile(filepath.Join(p.cluster.Dir, p.ID+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return err
	}
	p.cmd = exec.Command(p.cluster.Binary, "run", "--config", p.cluster.Config, "--node", p.ID)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = endsWithUs()
	if err := p.cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	p.done = done
	cmd := p.cmd
	go func() {
		cmd.Wait()
		close(done)
	}()
	return nil
}

// Signal sends a signal and, for one that ends the process, waits for its end.
func (p *Process) Signal(s syscall.Signal) error {
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("acceptance: %s: %w", p.ID, err)
	}
	if s == syscall.SIGKILL || s == syscall.SIGTERM {
		<-p.done
		p.log.Close()
		p.cmd = nil
	}
	return nil
}

// Running tells whether the process has not ended by itself.
func (p *Process) Running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Tail is the end of the node's log.
func (p *Process) Tail() string {
	text, err := os.ReadFile(filepath.Join(p.cluster.Dir, p.ID+".log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// Close ends every process at once.
func (c *Cluster) Close() {
	for _, p := range c.Nodes {
		if p.cmd != nil {
			_ = p.Signal(syscall.SIGKILL)
		}
	}
}

// Run runs a command of the binary against a node and returns its stdout; the error has its stderr.
func (c *Cluster) Run(ctx context.Context, node int, args ...string) ([]byte, error) {
	var out, words bytes.Buffer
	cmd := exec.CommandContext(ctx, c.Binary, args...)
	cmd.Env = append(os.Environ(), "NYALA_SERVER="+c.Nodes[node].HTTP)
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("acceptance: nyala %s: %w: %s", strings.Join(args, " "), err, words.String())
	}
	return out.Bytes(), nil
}

// Status asks a node how the cluster is; exit 3 (not healthy) is no error here.
func (c *Cluster) Status(ctx context.Context, node int) (s api.Status, err error) {
	out, err := c.Run(ctx, node, "status", "--json")
	if len(out) == 0 {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

// AwaitHealthy waits until a node calls the cluster healthy.
func (c *Cluster) AwaitHealthy(ctx context.Context, node int) (s api.Status, err error) {
	for {
		if s, err = c.Status(ctx, node); err == nil && s.Healthy {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return s, fmt.Errorf("acceptance: not healthy: %v: %w\n%s", s.Reasons, ctx.Err(), c.Nodes[node].Tail())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
