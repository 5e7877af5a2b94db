package command

import (
	"strings"

	"github.com/spf13/cobra"

	"nyala/connector/query"
	"nyala/store/batch"
	"nyala/store/schema"
)

// gapColumns are the columns of nyala.gaps in the order in which a person asks: when, where, what, why.
var gapColumns = []string{"time", "connector", "topic", "partition", "first", "next", "reason"}

func (p *program) gapsCommand() *cobra.Command {
	o := scanOptions{Request: query.Request{Order: query.OrderKey}}
	var asJSON bool
	c := &cobra.Command{
		Use:   "gaps",
		Short: "Offsets that were lost before they were read, and why",
		Long: `Prints the offsets that were gone from Kafka before they were read: from FIRST on, up to but not including NEXT. There
are some only with on_offset_out_of_range: skip; with fail, the default, the partition stops instead, and nyala status
says so. LOST counts offsets, of which aborted and control records are some. They are rows of the table nyala.gaps; nyala
scan nyala.gaps takes conditions.`,
		Args: arguments(),
	}
	t := p.target(c)
	c.Flags().Int64Var(&o.Limit, "limit", 100, "`rows` at most; 0 means all")
	c.Flags().StringVar(&o.format, "format", "table", strings.Join(scanFormats, ", "))
	c.Flags().BoolVar(&asJSON, "json", false, "the same as --format ndjson")
	c.MarkFlagsMutuallyExclusive("format", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if asJSON {
			o.format = "ndjson"
		}
		if o.format != "table" {
			o.Columns = gapColumns
			return p.scan(c.Context(), t, schema.GapsTable, o)
		}
		if err := o.check(); err != nil {
			return err
		}
		return p.listSystem(c.Context(), t, systemList{
			table: schema.GapsTable, columns: gapColumns, limit: o.Limit, none: "no gaps: nothing was lost before it was read", cells: gapCells,
			heads: []string{"TIME", "CONNECTOR", "TOPIC", ">PARTITION", ">FIRST", ">NEXT", ">LOST", "REASON"},
		})
	}
	return c
}

func gapCells(b *batch.Batch, row int) []any {
	var cells []any
	for i := range b.Columns {
		if i == 6 {
			cells = append(cells, count(b.Columns[5].Int(row)-b.Columns[4].Int(row)))
		}
		cells = append(cells, systemCell(&b.Columns[i], row))
	}
	return cells
}
