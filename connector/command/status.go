package command

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"nyala/connector/api"
)

// linesMax is how many lines of a kind the status page has; --json has all.
const linesMax = 20

func (p *program) statusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Health of nodes, tables, tablets and connectors",
		Long: `Shows the health of the cluster: its nodes, how far the connectors are behind, what the tables hold, which
tablets lack replicas, and what is wrong in a sentence each. Exit status 0 if it is healthy, 3 if not, 1 if no node answers.`,
		Args: arguments(),
	}
	t := p.target(c)
	c.Flags().BoolVar(&asJSON, "json", false, "all of it as JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := t.client(c.Context())
		if err != nil {
			return err
		}
		var s api.Status
		raw, err := get(c.Context(), client, "/api/v1/status", &s)
		if err != nil {
			return err
		}
		if asJSON {
			err = p.printJSON(raw)
		} else {
			err = writeStatus(p.stdout, &s, isTerminal(p.stdout))
		}
		if err == nil && !s.Healthy {
			err = &exitError{code: exitNotHealthy}
		}
		return err
	}
	return c
}

// page is the status page; colour marks what a person looks for.
type page struct {
	out    strings.Builder
	colour bool
}

func writeStatus(w io.Writer, s *api.Status, colour bool) error {
	p := &page{colour: colour}
	p.verdict(s)
	p.warnings(s.Warnings)
	p.nodes(s.Nodes)
	p.connectors(s.Connectors)
	p.tables(s.Tables)
	p.tablets(s.Tablets)
	_, err := io.WriteString(w, p.out.String())
	return err
}

func (p *page) paint(good bool, words string) string {
	switch {
	case !p.colour:
		return words
	case good:
		return text.FgGreen.EscapeSeq() + words + text.Reset.EscapeSeq()
	}
	return text.FgRed.EscapeSeq() + words + text.Reset.EscapeSeq()
}

func (p *page) verdict(s *api.Status) {
	state := p.paint(true, "healthy")
	if !s.Healthy {
		state = p.paint(false, "not healthy")
	}
	fmt.Fprintf(&p.out, "Cluster %s is %s. Durability %s, nyala %s.\n", s.Cluster, state, s.Durability, s.Version)
	for i, r := range s.Reasons {
		if i == linesMax {
			fmt.Fprintf(&p.out, "  and %d more: nyala status --json\n", len(s.Reasons)-i)
			break
		}
		fmt.Fprintf(&p.out, "  - %s\n", r)
	}
}

// warnings are no fault: the cluster is as healthy as without them.
func (p *page) warnings(list []string) {
	for i, w := range list {
		if i == linesMax {
			fmt.Fprintf(&p.out, "  and %d more: nyala status --json\n", len(list)-i)
			break
		}
		fmt.Fprintf(&p.out, "  - note: %s\n", w)
	}
}

func (p *page) section(title string, g grid) {
	if g.Length() == 0 {
		return
	}
	p.out.WriteString("\n" + title + "\n")
	g.write(&p.out)
}

func (p *page) nodes(nodes []api.Node) {
	g := newGrid("NODE", "STATE", "RACK", "HTTP", ">LEADERS", ">REPLICAS", ">MEMORY")
	for _, n := range nodes {
		up := n.State == api.StateUp
		leaders, replicas, memory := count(int64(n.Leaders)), count(int64(n.Replicas)), size(n.MemoryUsed)+" of "+size(n.MemoryLimit)
		if n.State == api.StateDown {
			leaders, replicas, memory = "-", "-", "-"
		}
		g.add(n.ID, p.paint(up, n.State), dash(n.Rack), n.HTTP, leaders, replicas, memory)
	}
	p.section("Nodes", g)
}

func (p *page) connectors(connectors []api.Connector) {
	g := newGrid("CONNECTOR", "TABLE", "STATE", ">LAG", ">BEHIND", ">PARTITIONS", "")
	for _, c := range connectors {
		good, reason := c.State == api.ConnectorRunning || c.State == api.ConnectorPaused, c.Reason
		if !good {
			reason = "" // it is one of those above
		}
		g.add(c.Name, c.Table, p.paint(good, c.State), count(c.LagRecords)+" records", seconds(c.LagSeconds), len(c.Partitions), reason)
	}
	p.section("Connectors", g)
	p.stuck(connectors)
}

// stuck lists partitions that do not run.
func (p *page) stuck(connectors []api.Connector) {
	g := newGrid("PARTITION", "NODE", "STATE", ">POSITION", "REASON")
	lines := 0
	for _, c := range connectors {
		for _, k := range c.Partitions {
			if k.Reason == "" || strings.HasPrefix(k.Reason, api.PausedMemory) { // the connector's line says that
				continue
			}
			if lines++; lines <= linesMax {
				g.add(k.Topic+"/"+strconv.Itoa(int(k.Partition)), dash(k.Node), p.paint(false, k.State), count(k.Position), k.Reason)
			}
		}
	}
	p.section("Partitions that need a look"+firstOf(lines), g)
}

func (p *page) tables(tables []api.Table) {
	g := newGrid("TABLE", ">ROWS", ">SIZE", ">TABLETS")
	for _, t := range tables {
		g.add(t.Name, count(t.Rows), size(t.Bytes), count(int64(t.Tablets)))
	}
	p.section("Tables", g)
}

// tablets lists those that lack a leader or a replica.
func (p *page) tablets(tablets []api.Tablet) {
	g := newGrid("TABLET", "TABLE", ">BUCKET", "RANGE", "LEADER", "REPLICAS")
	lines := 0
	for _, t := range tablets {
		whole := t.Leader != ""
		var replicas []string
		for _, r := range t.Replicas {
			good := r.State == api.ReplicaRunning
			whole = whole && good
			state := r.State
			if state == api.ReplicaDamaged { // "rebuilding from n2" of "rebuilding from n2: file ..."
				what, _, _ := strings.Cut(r.Reason, ": ")
				state += ": " + what
			}
			replicas = append(replicas, r.Node+" "+p.paint(good, state))
		}
		if whole {
			continue
		}
		if lines++; lines <= linesMax {
			g.add(t.ID, t.Table, t.Bucket, dash(t.Range), dash(t.Leader), strings.Join(replicas, ", "))
		}
	}
	p.section("Tablets that lack a replica or a leader"+firstOf(lines), g)
}

func firstOf(lines int) string {
	if lines <= linesMax {
		return ""
	}
	return fmt.Sprintf(" (the first %d of %d)", linesMax, lines)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 1, 64) + " s" }
