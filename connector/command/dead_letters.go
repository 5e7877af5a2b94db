package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"nyala/connector/query"
	"nyala/store/batch"
	"nyala/store/schema"
)

// letterRecord are the columns of nyala.dead_letters in the order in which a person asks: when, where, why, what.
var letterRecord = []string{"time", "connector", "topic", "partition", "offset", "stage", "reason", "key", "value", "headers", "timestamp"}

// letterOnScreen are those that fit there, of letterRecord and the state behind it, and letterText how much of a key and a
// value does.
var letterOnScreen = []int{0, 1, 2, 3, 4, 11, 5, 6, 7, 8}

const letterText = 60

func (p *program) deadLettersCommand() *cobra.Command {
	o := scanOptions{Request: query.Request{Order: query.OrderKey}}
	var state string
	list := &cobra.Command{
		Use:   "list",
		Short: "Print records that did not fit their table, and why",
		Long: `Prints the records that could not become rows: where each came from, the stage that refused it, and why; and what has
become of it since: new, replayed, replaying (a replay was interrupted: the next one finishes it), dropped (it was replayed
into a range that is no longer kept). They are rows of the tables nyala.dead_letters and nyala.replays; nyala scan takes
conditions on those.`,
		Args: arguments(),
	}
	t := p.target(list)
	list.Flags().Int64Var(&o.Limit, "limit", 100, "`rows` at most; 0 means all")
	list.Flags().StringVar(&state, "state", "", "only letters of this `state`: "+strings.Join(letterStates, ", "))
	list.Flags().StringVar(&o.format, "format", "table", strings.Join(scanFormats, ", "))
	list.RunE = func(c *cobra.Command, _ []string) error {
		if state != "" && !slices.Contains(letterStates, state) {
			return wrongUse("--state %q: want one of %s", state, strings.Join(letterStates, ", "))
		}
		if err := o.check(); err != nil {
			return err
		}
		if o.format == formatParquet && isTerminal(p.stdout) {
			return wrongUse("Parquet is not for a terminal: redirect it into a file")
		}
		return p.listLetters(c.Context(), t, state, o)
	}
	return onlyCommands(&cobra.Command{Use: "dead-letters", Short: "Records that did not fit their table"}, list, p.replayCommand())
}

// listLetters prints letters: on a screen readably, keys and values as text where they are text.
func (p *program) listLetters(ctx context.Context, t *target, state string, o scanOptions) error {
	client, err := t.client(ctx)
	if err != nil {
		return err
	}
	l := systemList{
		table: schema.DeadLettersTable, limit: o.Limit, none: "no dead letters", cells: letterCells,
		heads: []string{"TIME", "CONNECTOR", "TOPIC", "PARTITION", "OFFSET", "STATE", "STAGE", "REASON", "KEY", "VALUE"},
	}
	limit := o.Limit
	if o.format == "table" {
		limit = l.most() + 1 // one more tells whether there are more
	}
	in, at, err := openLetters(ctx, client, state, limit)
	if err != nil {
		return err
	}
	if o.format == "table" {
		return p.printSystem(in, l)
	}
	table := &remoteTable{name: schema.DeadLettersTable, schema: schema.DeadLetters()}
	return errors.Join(p.printRows(table, in, in.columns, at, o), in.Close())
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

func (l *systemList) most() int64 {
	if l.limit == 0 || l.limit > query.TableRows {
		return query.TableRows
	}
	return l.limit
}

// listSystem prints rows of a system table in the order of its key.
func (p *program) listSystem(ctx context.Context, t *target, l systemList) error {
	client, err := t.client(ctx)
	if err != nil {
		return err
	}
	table, err := openTable(ctx, client, l.table)
	if err != nil {
		return err
	}
	in, err := table.read(ctx, query.Request{Columns: l.columns, Order: query.OrderKey, Limit: l.most() + 1}) // one more tells whether there are more
	if err != nil {
		return err
	}
	return p.printSystem(in, l)
}

// printSystem prints a stream that has one row more than what is printed if there are more, and closes it.
func (p *program) printSystem(in query.Stream, l systemList) error {
	g, shown := newGrid(l.heads...), int64(0)
	rows, err := pour(in, func(b *batch.Batch) error {
		for r := 0; r < b.Rows && shown < l.most(); r, shown = r+1, shown+1 {
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

// letterCells are a letter's.
func letterCells(b *batch.Batch, row int) []any {
	cells := make([]any, len(letterOnScreen))
	for i, column := range letterOnScreen {
		cells[i] = systemCell(&b.Columns[column], row)
	}
	return cells
}

// systemCell is a value of a system table for a person.
func systemCell(c *batch.Column, row int) any {
	switch v := c.Value(row); {
	case v.Null:
		return "-"
	case c.Type.Kind == schema.Binary || c.Type.Kind == schema.String:
		return shortText(v.Bytes)
	default:
		return string(schema.AppendText(nil, c.Type, v))
	}
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
