package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"nyala/configs"
	"nyala/connector/api"
)

const (
	defaultServer = "127.0.0.1:7481"
	dialLimit     = 3 * time.Second // for a node to accept a connection
	healthLimit   = 2 * time.Second // for a node of --config to say that it is alive, before the next is asked
)

// target is where a command's cluster is: --server, else --config, else NYALA_SERVER, else NYALA_CONFIG,
// else the default address.
type target struct {
	p              *program
	server, config string
}

// target gives a command the flags that say which cluster it asks.
func (p *program) target(c *cobra.Command) *target {
	t := &target{p: p}
	c.Flags().StringVar(&t.server, "server", "", "`host:port` of a node's http address; NYALA_SERVER (default "+defaultServer+")")
	c.Flags().StringVar(&t.config, "config", "", "the cluster's configuration `file`: the first node that answers is asked; NYALA_CONFIG")
	c.MarkFlagsMutuallyExclusive("server", "config")
	return t
}

// client finds a node to ask.
func (t *target) client(ctx context.Context) (*api.Client, error) {
	h := &http.Client{Transport: &http.Transport{
		DialContext:        (&net.Dialer{Timeout: dialLimit}).DialContext,
		DisableCompression: true, // rows are compact, and a local network is faster than gzip
	}}
	server, config := t.server, t.config
	if server == "" && config == "" {
		server, _ = t.p.env("NYALA_SERVER")
	}
	if server == "" && config == "" {
		config, _ = t.p.env("NYALA_CONFIG")
	}
	switch {
	case server != "":
		if _, _, err := net.SplitHostPort(server); err != nil {
			return nil, wrongUse("server %q: want host:port, as %s", server, defaultServer)
		}
		return &api.Client{Server: server, HTTP: h}, nil
	case config == "":
		return &api.Client{Server: defaultServer, HTTP: h}, nil
	}
	c, err := configs.Load(config)
	if err != nil {
		return nil, err
	}
	return firstAlive(ctx, c, h)
}

func firstAlive(ctx context.Context, c *configs.Config, h *http.Client) (*api.Client, error) {
	errs := []error{fmt.Errorf("no node of cluster %s answers", c.Cluster.Name)}
	for _, n := range c.Cluster.Nodes {
		client := &api.Client{Server: reachable(n), HTTP: h}
		ctx, cancel := context.WithTimeout(ctx, healthLimit)
		res, err := client.Do(ctx, http.MethodGet, "/health", nil, nil)
		if err == nil {
			err = res.Body.Close()
		}
		cancel()
		if err == nil {
			return client, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", n.ID, err))
	}
	return nil, errors.Join(errs...)
}

// reachable is a node's http address as others call it: where it listens on all of its addresses, the
// host is that of its peer address.
func reachable(n configs.ClusterNode) string {
	host, port, err := net.SplitHostPort(n.HTTP)
	if ip := net.ParseIP(host); err != nil || host != "" && (ip == nil || !ip.IsUnspecified()) {
		return n.HTTP
	}
	if peer, _, err := net.SplitHostPort(n.Peer); err == nil {
		host = peer
	}
	return net.JoinHostPort(host, port)
}

// get reads a JSON answer into out and returns it as it came, too: newer fields than this binary knows
// are there.
func get(ctx context.Context, client *api.Client, path string, out any) ([]byte, error) {
	res, err := client.Do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		return nil, fmt.Errorf("answer of %s to %s: %w", client.Server, path, err)
	}
	return text, nil
}

// printJSON prints an answer, indented.
func (p *program) printJSON(text []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(text), "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := p.stdout.Write(out.Bytes())
	return err
}
