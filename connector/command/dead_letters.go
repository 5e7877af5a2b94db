package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"nyala/connector/query"
	"nyala/store/batch"
	"nyala/store/schema"
)

// letterColumns are the columns of nyala.dead_letters in the order in which a person asks: when, where,
// why, what.
var letterColumns = []string{"time", "connector", "topic", "partition", "offset", "stage", "reason", "key", "value", "headers", "timestamp"}

// letterTable are those that fit on a screen, and letterText how much of a key and a value does.
var letterTable = letterColumns[:9]

const letterText = 60

func (p *program) deadLettersCommand() *cobra.Command {
	o := scanOptions{Request: query.Request{Order: query.OrderKey}}
	list := &cobra.Command{
		Use:   "list",
		Short: "Print records that did not fit their table, and why",
		Long: `Prints the records that could not become rows: where each came from, the stage that refused it, and why. They are
rows of the table nyala.dead_letters; nyala scan nyala.dead_letters takes conditions.`,
		Args: arguments(),
	}
	t := p.target(list)
	list.Flags().Int64Var(&o.Limit, "limit", 100, "`rows` at most; 0 means all")
	list.Flags().StringVar(&o.format, "format", "table", strings.Join(scanFormats, ", "))
	list.RunE = func(c *cobra.Command, _ []string) error {
		if o.format == "table" {
			return p.listLetters(c.Context(), t, o)
		}
		o.Columns = letterColumns
		return p.scan(c.Context(), t, schema.DeadLettersTable, o)
	}
	return onlyCommands(&cobra.Command{Use: "dead-letters", Short: "Records that did not fit their table"}, list)
}

// listLetters prints them readably: keys and values as text where they are text.
func (p *program) listLetters(ctx context.Context, t *target, o scanOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	var names []string
	for _, c := range letterTable {
		names = append(names, strings.ToUpper(c))
	}
	return p.listSystem(ctx, t, systemList{
		table: schema.DeadLettersTable, columns: letterTable, heads: names, limit: o.Limit, none: "no dead letters", cells: letterCells,
	})
}

// systemList says how rows of a system table are printed for a person.
type systemList struct {
	table   string
	columns []string // to read
	heads   []string // to print, as newGrid takes them
	limit   int64    // 0 means as many as fit
	none    string   // what to say when there is no row
	cells   func(b *batch.Batch, row int) []any
}

// listSystem prints rows of a system table in the order of its key.
func (p *program) listSystem(ctx context.Context, t *target, l systemList) error {
	if l.limit == 0 || l.limit > query.TableRows {
		l.limit = query.TableRows
	}
	client, err := t.client(ctx)
	if err != nil {
		return err
	}
	table, err := openTable(ctx, client, l.table)
	if err != nil {
		return err
	}
	in, err := table.read(ctx, query.Request{Columns: l.columns, Order: query.OrderKey, Limit: l.limit + 1}) // one more tells whether there are more
	if err != nil {
		return err
	}
	g, shown := newGrid(l.heads...), int64(0)
	rows, err := pour(in, func(b *batch.Batch) error {
		for r := 0; r < b.Rows && shown < l.limit; r, shown = r+1, shown+1 {
			g.add(l.cells(b, r)...)
		}
		return nil
	})
	if err := errors.Join(err, in.Close()); err != nil {
		return fmt.Errorf("table %s: %w", l.table, err)
	}
	if rows == 0 {
		fmt.Fprintln(p.stderr, l.none)
		return nil
	}
	if err := g.write(p.stdout); err != nil {
		return err
	}
	if rows > shown {
		fmt.Fprintf(p.stderr, "the first %s: there are more (--limit, or nyala scan %s)\n", count(shown), l.table)
	}
	return nil
}

func letterCells(b *batch.Batch, row int) []any {
	cells := make([]any, len(b.Columns))
	for i := range b.Columns {
		c := &b.Columns[i]
		switch v := c.Value(row); {
		case v.Null:
			cells[i] = "-"
		case c.Type.Kind == schema.Binary || c.Type.Kind == schema.String:
			cells[i] = shortText(v.Bytes)
		default:
			cells[i] = string(schema.AppendText(nil, c.Type, v))
		}
	}
	return cells
}

// shortText shows bytes on one line: text as it is, what could drive a terminal escaped, anything else in
// hex; cut to what fits.
func shortText(b []byte) string {
	if !utf8.Valid(b) {
		if len(b) > letterText/2 {
			return fmt.Sprintf("0x%x… (%d bytes)", b[:letterText/2], len(b))
		}
		return fmt.Sprintf("0x%x", b)
	}
	var out strings.Builder
	runes := 0
	for _, r := range string(b) {
		if runes++; runes > letterText {
			out.WriteString("…")
			break
		}
		if unicode.IsPrint(r) {
			out.WriteRune(r)
		} else {
			fmt.Fprintf(&out, "\\u%04x", r)
		}
	}
	return out.String()
}
