package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"nyala/connector/api"
	"nyala/connector/child"
	"nyala/test/kafka"
)

const (
	tailLines = 5
	askAgain  = 200 * time.Millisecond // between two questions whether something has come true
	askLimit  = 3 * time.Second        // a node that is frozen does not answer
	stopLimit = 45 * time.Second       // a node ends within 30 s of SIGTERM by itself
)

// Config is the configuration of the tests: three nodes, the README's table with the offsets as columns, and another of the same topic
// whose keys repeat, so that only the last record of each is in it.
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
  - name: latest
    columns:
      - {name: kafka_partition, type: int32}
      - {name: tenant, type: int32}
      - {name: event_id, type: int64}
      - {name: kafka_offset, type: int64}
    primary_key: [kafka_partition, tenant]
    hash: {columns: [tenant], buckets: 2}
connectors:
  - name: app-events
    topics: [app-events]
    table: events
    format: json
    fields: {event_time: ts, user_id: user.id}
    add: {kafka_offset: offset, kafka_partition: partition}
    on_offset_out_of_range: fail
  - name: latest
    topics: [app-events]
    table: latest
    format: json
    add: {kafka_offset: offset, kafka_partition: partition}
    on_offset_out_of_range: fail
`

// Cluster is node processes of one built binary in one directory.
type Cluster struct {
	Binary string
	Dir    string
	Config string
	Nodes  []*Process
	http   *http.Client
}

// Process is one node. It may be running or not.
type Process struct {
	ID, HTTP, Data string
	Log            string // the file of its words, of all its lives
	cluster        *Cluster
	life           *child.Process // nil when it was stopped or killed
	frozen         bool           // by SIGSTOP
	deaths         []string       // how lives ended that nobody ended
}

// New writes the configuration of n nodes on free ports; none of them is started.
func New(binary, dir, broker string, n int) (*Cluster, error) {
	ports, err := kafka.FreePorts(2 * n)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Binary: binary, Dir: dir, Config: filepath.Join(dir, "nyala.yaml"), http: &http.Client{Timeout: askLimit, Transport: &http.Transport{DisableKeepAlives: true}}}
	var list strings.Builder
	for i := range n {
		p := &Process{ID: fmt.Sprintf("n%d", i+1), HTTP: fmt.Sprintf("127.0.0.1:%d", ports[2*i+1]), cluster: c}
		p.Data, p.Log = filepath.Join(dir, "data", p.ID), filepath.Join(dir, p.ID+".log")
		fmt.Fprintf(&list, "    - {id: %s, peer: '127.0.0.1:%d', http: '%s', data: '%s'}\n", p.ID, ports[2*i], p.HTTP, p.Data)
		c.Nodes = append(c.Nodes, p)
	}
	text := fmt.Sprintf(Config, min(n, 3), list.String(), broker)
	return c, os.WriteFile(c.Config, []byte(text), 0o644)
}

// Replace changes the configuration wherever it has a text; nodes see it at their next start.
func (c *Cluster) Replace(old, new string) error {
	text, err := os.ReadFile(c.Config)
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), old) {
		return fmt.Errorf("acceptance: %s has no %q", c.Config, old)
	}
	return os.WriteFile(c.Config, []byte(strings.ReplaceAll(string(text), old, new)), 0o644)
}

// Start runs the node; its output is appended to its log.
func (p *Process) Start() error {
	life, err := child.StartLogged(p.Log, p.cluster.Binary, "run", "--config", p.cluster.Config, "--node", p.ID)
	if err != nil {
		return fmt.Errorf("acceptance: %s: %w", p.ID, err)
	}
	p.life = life
	return nil
}

// Kill ends the node by SIGKILL.
func (p *Process) Kill() {
	p.bury()
	if p.life != nil {
		p.life.Kill()
		p.life, p.frozen = nil, false
	}
}

// Stop ends the node by SIGTERM; how it ended is the error.
func (p *Process) Stop() error {
	p.bury()
	if p.life == nil {
		return nil
	}
	err := p.life.Stop(stopLimit)
	p.life = nil
	if err != nil {
		return fmt.Errorf("acceptance: %s: after SIGTERM: %s", p.ID, child.Cause(err))
	}
	return nil
}

// Freeze stops the node's process as a hung machine would, by SIGSTOP.
func (p *Process) Freeze() {
	p.life.Signal(syscall.SIGSTOP)
	p.frozen = true
}

// Thaw lets the process go on, by SIGCONT.
func (p *Process) Thaw() {
	p.life.Signal(syscall.SIGCONT)
	p.frozen = false
}

// Running tells whether the process runs, frozen or not.
func (p *Process) Running() bool { return p.life != nil && !p.life.Ended() }

// bury notes how the node's process ended if nobody ended it, and tells whether that was so.
func (p *Process) bury() bool {
	if p.life == nil || !p.life.Ended() {
		return false
	}
	p.deaths = append(p.deaths, child.Cause(p.life.Wait()))
	p.life, p.frozen = nil, false
	return true
}

// Tail is the end of the node's log.
func (p *Process) Tail() string { return child.Tail(p.Log, tailLines) }

// Close ends every process at once.
func (c *Cluster) Close() {
	for _, p := range c.Nodes {
		p.Kill()
	}
}

// Any is a node that can be asked: the first one that runs and is not frozen; the first of all if there is none.
func (c *Cluster) Any() int {
	for i, p := range c.Nodes {
		if p.Running() && !p.frozen {
			return i
		}
	}
	return 0
}

// Command is a command of the binary that asks a node.
func (c *Cluster) Command(ctx context.Context, node int, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Binary, args...)
	cmd.Env = append(os.Environ(), "NYALA_SERVER="+c.Nodes[node].HTTP)
	return cmd
}

// Run runs a command of the binary against a node and returns its stdout; the error has its stderr.
func (c *Cluster) Run(ctx context.Context, node int, args ...string) ([]byte, error) {
	var out, words bytes.Buffer
	cmd := c.Command(ctx, node, args...)
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("acceptance: nyala %s: %w: %s", strings.Join(args, " "), err, words.String())
	}
	return out.Bytes(), nil
}

// ExitStatus is that of a command that Run ran.
func ExitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// Status asks a node how the cluster is; exit 3 (not healthy) is no error here.
func (c *Cluster) Status(ctx context.Context, node int) (s api.Status, err error) {
	out, err := c.Run(ctx, node, "status", "--json")
	if len(out) == 0 {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

// Offsets asks a node where every source stands. It is no command, so that it can be asked often.
func (c *Cluster) Offsets(ctx context.Context, node int) (out []api.Offset, err error) {
	client := api.Client{Server: c.Nodes[node].HTTP, HTTP: c.http}
	return out, client.Get(ctx, "/api/v1/offsets", nil, &out)
}

// Await asks a node that can be asked how the cluster is, until it is as wanted.
func (c *Cluster) Await(ctx context.Context, what string, wanted func(api.Status) bool) (s api.Status, err error) {
	for {
		node := c.Any()
		if s, err = c.Status(ctx, node); err == nil && wanted(s) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return s, fmt.Errorf("acceptance: not %s: %v: %w: %v\n%s", what, s.Reasons, ctx.Err(), err, c.Nodes[node].Tail())
		case <-time.After(askAgain):
		}
	}
}

// AwaitHealthy waits until a node calls the cluster healthy.
func (c *Cluster) AwaitHealthy(ctx context.Context) (s api.Status, err error) {
	return c.Await(ctx, "healthy", func(s api.Status) bool { return s.Healthy })
}
