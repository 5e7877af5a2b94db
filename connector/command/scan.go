package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nyala/connector/query"
	"nyala/store/schema"
)

const formatParquet = "parquet"

// scanFormats are the formats of scan: those of package query, and Parquet.
var scanFormats = append(slices.Clone(query.Formats), formatParquet)

type scanOptions struct {
	query.Request
	at     string
	format string
}

func (p *program) scanCommand() *cobra.Command {
	var o scanOptions
	c := &cobra.Command{
		Use:   "scan TABLE",
		Short: "Print rows of a table",
		Long: `Prints the rows of a table as of one instant, the same on all tablets: now, so that all that was acknowledged
before is there, or --at, as far back as the table's history goes. --where may be given several times; all conditions must
hold: = != < <= > >= in (..), is null, is not null.`,
		Example: `  nyala scan events --where 'tenant = 7' --where "url in ('/', '/a')" --limit 20
  nyala scan events --columns tenant,event_id --order key --format csv > events.csv
  nyala scan events --at 2026-11-20T10:00:00Z --count`,
		Args: arguments("TABLE"),
	}
	t := p.target(c)
	f := c.Flags()
	f.StringSliceVar(&o.Columns, "columns", nil, "`names` of columns, separated by commas (default: all)")
	f.StringArrayVar(&o.Where, "where", nil, "a `condition` that rows must fulfil")
	f.StringVar(&o.at, "at", "", "the `time` to read at: RFC 3339, or microseconds since 1970 (default: now)")
	f.Int64Var(&o.Limit, "limit", 0, "`rows` at most; 0 means all")
	f.StringVar(&o.Order, "order", "", "`key`: rows in the order of the primary key")
	f.StringVar(&o.format, "format", "table", strings.Join(scanFormats, ", "))
	f.BoolVar(&o.Count, "count", false, "print the number of rows only")
	for _, other := range []string{"columns", "limit", "order", "format"} {
		c.MarkFlagsMutuallyExclusive("count", other)
	}
	c.RunE = func(c *cobra.Command, args []string) error { return p.scan(c.Context(), t, args[0], o) }
	return c
}

// check finds what is wrong with the flags before anybody is asked.
func (o *scanOptions) check() (err error) {
	if o.At, err = query.ParseTime(o.at); err != nil {
		return wrongUse("--at %q: want RFC 3339, as 2026-11-20T10:00:00Z, or microseconds since 1970", o.at)
	}
	switch {
	case !slices.Contains(scanFormats, o.format):
		return wrongUse("--format %q: want one of %s", o.format, strings.Join(scanFormats, ", "))
	case o.Limit < 0:
		return wrongUse("--limit %d: want a number of rows", o.Limit)
	case o.Order != "" && o.Order != query.OrderKey:
		return wrongUse("--order %q: want %s", o.Order, query.OrderKey)
	}
	for _, w := range o.Where {
		if _, err := query.ParseCondition(w); err != nil {
			return &exitError{exitWrongUse, errors.New(strings.TrimPrefix(err.Error(), "query: "))}
		}
	}
	return nil
}

func (p *program) scan(ctx context.Context, t *target, name string, o scanOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.format == formatParquet && isTerminal(p.stdout) {
		return wrongUse("Parquet is not for a terminal: redirect it into a file, as: nyala scan %s --format parquet > %s.parquet", name, name)
	}
	client, err := t.client(ctx)
	if err != nil {
		return err
	}
	table, err := openTable(ctx, client, name)
	if err != nil {
		return err
	}
	if o.Count {
		number, err := table.count(ctx, o.Request)
		if err == nil {
			_, err = fmt.Fprintln(p.stdout, number)
		}
		return err
	}
	if o.format == "table" && (o.Limit == 0 || o.Limit > query.TableRows) {
		o.Limit = query.TableRows // more would be read to be thrown away
	}
	in, err := table.read(ctx, o.Request)
	if err != nil {
		return err
	}
	return errors.Join(p.printRows(table, in, in.columns, in.timestamp, o), in.Close())
}

// printRows prints a stream of rows of a table that was read at a timestamp.
func (p *program) printRows(table *remoteTable, in query.Stream, columns []schema.Column, timestamp int64, o scanOptions) error {
	var out query.RowWriter
	var err error
	if o.format == formatParquet {
		out, err = newParquetWriter(table.schema, columns, o.Order == query.OrderKey, p.stdout)
	} else {
		out, err = query.NewRowWriter(o.format, columns, p.stdout)
	}
	if err != nil {
		return err
	}
	rows, err := pour(in, out.Write)
	if err != nil {
		if a, ok := out.(interface{ Abort() error }); ok {
			err = errors.Join(err, a.Abort())
		}
		return fmt.Errorf("table %s: %w (after %s, which are not all)", table.name, err, plural(int(rows), "row"))
	}
	if err := out.Close(); err != nil {
		return err
	}
	if o.format == "table" {
		fmt.Fprintf(p.stderr, "%s at %s\n", plural(int(rows), "row"), instant(timestamp))
	}
	return nil
}
