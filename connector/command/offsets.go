package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"nyala/connector/api"
)

func (p *program) offsetsCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "offsets",
		Short: "Where every Kafka partition stands",
		Long: `Shows where every source stands. All records below the checkpoint are in their table, in nyala.dead_letters or in
nyala.gaps, and a restart goes on there. The watermark is the same, a moment ahead of being saved; the position is what
was read; the end is what was produced. Lag is from the watermark to the end.`,
		Args: arguments(),
	}
	t := p.target(c)
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := t.client(c.Context())
		if err != nil {
			return err
		}
		var offsets []api.Offset
		raw, err := get(c.Context(), client, "/api/v1/offsets", &offsets)
		if err != nil {
			return err
		}
		if asJSON {
			return p.printJSON(raw)
		}
		return p.printOffsets(offsets)
	}
	return c
}

func (p *program) printOffsets(offsets []api.Offset) error {
	if len(offsets) == 0 {
		fmt.Fprintln(p.stderr, "no source has a checkpoint yet: nyala status says how the connectors are")
		return nil
	}
	g := newGrid("CONNECTOR", "TOPIC", ">PARTITION", ">CHECKPOINT", ">WATERMARK", ">POSITION", ">END", ">LAG", "NODE", "STATE", "")
	for _, o := range offsets {
		topic, position, end, lag := o.Topic, any(o.Position), any(o.End), any(max(0, o.End-o.Watermark))
		if topic == "" {
			topic = o.TopicID
		}
		if o.Node == "" { // nobody reads it: what is not known is not a zero
			position, end, lag = "-", "-", "-"
		}
		g.add(o.Connector, topic, o.Partition, o.Checkpoint, o.Watermark, position, end, lag, dash(o.Node), dash(o.State), o.Reason)
	}
	return g.write(p.stdout)
}
