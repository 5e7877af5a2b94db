package command

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nyala/configs"
	"nyala/connector"
	"nyala/connector/api"
	"nyala/store/vfs"
)

const (
	stopLimit = 30 * time.Second       // for a node to drain and close
	readyPoll = 200 * time.Millisecond // between two questions whether the node is ready
)

type runOptions struct {
	config, node        string
	logLevel, logFormat string
	flags               map[string]*string // of the section node, by name
}

func (p *program) runCommand() *cobra.Command {
	o := runOptions{flags: map[string]*string{}}
	c := &cobra.Command{
		Use:   "run --config FILE --node ID",
		Short: "Run a node until SIGTERM",
		Long: `Runs one node of the cluster that the configuration describes; the file is the same on every node. On
SIGTERM or SIGINT the node drains: it saves its checkpoints, leaves the consumer groups and hands over what it leads,
in at most 30 seconds. A second signal ends it at once, which loses nothing that was acknowledged.`,
		Example: `  nyala run --config cluster.yaml --node n1
  NYALA_CONFIG=cluster.yaml NYALA_NODE=n1 nyala run --log-format json`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error { return p.run(c, o) },
	}
	c.Flags().StringVar(&o.config, "config", "", "the cluster's configuration `file`; NYALA_CONFIG")
	c.Flags().StringVar(&o.node, "node", "", "`id` of this node in the configuration; NYALA_NODE")
	for _, f := range configs.NodeFlags() {
		o.flags[f.Name] = c.Flags().String(f.Name, "", fmt.Sprintf("%s (default: the configuration's, else %s)", f.Usage, f.Default))
	}
	c.Flags().StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	c.Flags().StringVar(&o.logFormat, "log-format", "text", "text or json, a line each on stderr")
	return c
}

func (p *program) run(c *cobra.Command, o runOptions) error {
	logger, err := newLogger(p.stderr, o.logLevel, o.logFormat)
	if err != nil {
		return err
	}
	config, self, err := p.loadForRun(c, o)
	if err != nil {
		return err
	}
	tuneRuntime(config.Node.MemoryBytes, p.env)
	logger.Info("node starts", "node", self.ID, "version", Version(), "durability", config.Node.Durability,
		"memory", config.Node.MemoryBytes, "memory_limit", debug.SetMemoryLimit(-1), "gomaxprocs", runtime.GOMAXPROCS(0))
	ctx, began := c.Context(), time.Now()
	node, err := connector.Start(connector.Options{
		Config: config, Node: self.ID, FS: vfs.OS(), Logger: logger, Version: Version(), Entropy: rand.Reader,
		Listen: func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) },
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		},
	})
	if err != nil {
		return err
	}
	web := &api.Client{Server: reachable(self), HTTP: &http.Client{Transport: &http.Transport{}}}
	defer web.HTTP.CloseIdleConnections()
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for {
		select {
		case <-poll.C:
			if isReady(ctx, web) {
				poll.Stop()
				logger.Info("node ready", "node", self.ID, "http", self.HTTP, "peer", self.Peer, "data", self.Data, "took", time.Since(began).Round(time.Millisecond))
			}
		case <-node.Done():
			return fmt.Errorf("node %s cannot go on: %w", self.ID, cmp.Or(node.Close(), errors.New("it stopped by itself")))
		case <-ctx.Done():
			logger.Info("node stops", "node", self.ID, "within", stopLimit)
			return stop(node, self.ID, logger)
		}
	}
}

// loadForRun reads the configuration with the flags on top, and finds the node in it.
func (p *program) loadForRun(c *cobra.Command, o runOptions) (*configs.Config, configs.ClusterNode, error) {
	var none configs.ClusterNode
	if o.config == "" {
		o.config, _ = p.env("NYALA_CONFIG")
	}
	if o.node == "" {
		o.node, _ = p.env("NYALA_NODE")
	}
	switch {
	case o.config == "":
		return nil, none, wrongUse("which configuration? give --config FILE, or NYALA_CONFIG")
	case o.node == "":
		return nil, none, wrongUse("which node is this? give --node ID, or NYALA_NODE")
	}
	var overrides []configs.Option
	for _, f := range configs.NodeFlags() {
		if c.Flags().Changed(f.Name) {
			overrides = append(overrides, configs.Override("node."+f.Name, *o.flags[f.Name]))
		}
	}
	config, err := configs.Load(o.config, overrides...)
	if err != nil {
		return nil, none, err
	}
	i := slices.IndexFunc(config.Cluster.Nodes, func(n configs.ClusterNode) bool { return n.ID == o.node })
	if i < 0 {
		var ids []string
		for _, n := range config.Cluster.Nodes {
			ids = append(ids, n.ID)
		}
		return nil, none, wrongUse("node %q is not in %s, want one of %s", o.node, o.config, strings.Join(ids, ", "))
	}
	return config, config.Cluster.Nodes[i], nil
}

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var o slog.HandlerOptions
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, wrongUse("--log-level %q: want debug, info, warn or error", level)
	}
	o.Level = l
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &o)), nil
	}
	return nil, wrongUse("--log-format %q: want text or json", format)
}

// isReady asks the node as a user would.
func isReady(ctx context.Context, web *api.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	res, err := web.Do(ctx, http.MethodGet, "/ready", nil, nil)
	if err != nil {
		return false
	}
	res.Body.Close()
	return true
}

// stop drains and closes the node. A part that hangs, as on a dead disk, does not keep the process: what
// was acknowledged is safe without a goodbye.
func stop(node *connector.Node, id string, logger *slog.Logger) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- node.Stop(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("node %s stopped with an error: %w", id, err)
		}
		logger.Info("node stopped", "node", id, "took", time.Since(began).Round(time.Millisecond))
		return nil
	case <-ctx.Done():
		return fmt.Errorf("node %s did not stop within %s and was cut short", id, stopLimit)
	}
}

// procsMin is the least number of threads that run Go code at once, and smallCores the number of cores
// up to which there are twice as many.
const (
	procsMin   = 4
	smallCores = 8
)

// tuneRuntime fits Go's scheduler and collector to a node, unless the environment says how.
//
// A goroutine in fdatasync keeps its processor (a P, of which there are GOMAXPROCS) until the runtime
// takes it back some 20 us to 10 ms later. With as many of them as two cores, group commit fell to one
// request a sync; with twice as many its throughput doubled. A large machine has enough of them.
//
// The memory limit makes the collector run more often before the heap is twice what lives, which the
// default allows. What lives is bounded by node.memory (connector/memory.go), a good part of it is left for
// garbage. It is not a wall: beyond it the collector works harder, at most half of the time.
func tuneRuntime(memoryBytes int64, env func(string) (string, bool)) {
	tuneScheduler(env)
	if _, given := env("GOMEMLIMIT"); !given {
		debug.SetMemoryLimit(connector.MemoryLimit(memoryBytes))
	}
}

// tuneScheduler is tuneRuntime's part for every process that runs a node.
func tuneScheduler(env func(string) (string, bool)) {
	if _, given := env("GOMAXPROCS"); !given {
		if cores := runtime.GOMAXPROCS(0); procsFor(cores) > cores {
			runtime.GOMAXPROCS(procsFor(cores))
		}
	}
}

func procsFor(cores int) int {
	if cores > smallCores {
		return cores
	}
	return max(procsMin, 2*cores)
}
