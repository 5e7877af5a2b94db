package command

import (
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/mattn/go-isatty"
)

// isTerminal tells whether a person reads w as it is written.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}

// count writes a number with a comma every three digits.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size writes a number of bytes with three digits or so, in the unit that suits it.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, u := float64(n), 0
	for v >= 1000 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	decimals := 0
	if u > 0 && v < 100 {
		decimals = 1
	}
	return strconv.FormatFloat(v, 'f', decimals, 64) + " " + units[u]
}

// instant writes microseconds since 1970 as --at takes them.
func instant(micros int64) string {
	return time.UnixMicro(micros).UTC().Format("2006-01-02T15:04:05.000000Z")
}

// plural puts a number before its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(int64(n)) + " " + noun + "s"
}

// grid is a table of text: names on top, columns two blanks apart, indented by two. Columns whose name
// begins with > are aligned to the right.
type grid struct{ table.Writer }

func newGrid(names ...string) grid {
	g := grid{table.NewWriter()}
	style := table.StyleDefault
	style.Box = table.BoxStyle{PaddingLeft: "", PaddingRight: "  ", MiddleVertical: ""}
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format = table.FormatOptions{Header: text.FormatDefault, Row: text.FormatDefault, Footer: text.FormatDefault}
	g.SetStyle(style)
	head := table.Row{""}
	var right []table.ColumnConfig
	for i, name := range names {
		plain, found := strings.CutPrefix(name, ">")
		if found {
			right = append(right, table.ColumnConfig{Number: i + 2, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
		head = append(head, plain)
	}
	g.SetColumnConfigs(right)
	g.AppendHeader(head)
	return g
}

func (g grid) add(cells ...any) { g.AppendRow(append(table.Row{""}, cells...)) }

// write prints the table without blanks at the ends of its lines.
func (g grid) write(w io.Writer) error {
	var out strings.Builder
	for line := range strings.Lines(g.Render() + "\n") {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	_, err := io.WriteString(w, out.String())
	return err
}
