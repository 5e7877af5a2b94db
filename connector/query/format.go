package query

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"

	"nyala/store/batch"
	"nyala/store/schema"
)

// RowWriter writes batches of the same columns in one format. Close completes the output; it does
// not close what it writes to.
type RowWriter interface {
	Write(b *batch.Batch) error
	Close() error
}

// Formats are the names NewRowWriter knows.
var Formats = []string{"table", "csv", "ndjson"}

// TableRows is how many rows the table format shows: it must hold them all to align its columns.
const TableRows = 10_000

// NewRowWriter makes a writer of the named format for rows of the given columns.
func NewRowWriter(format string, columns []schema.Column, w io.Writer) (RowWriter, error) {
	out := bufio.NewWriterSize(w, 64<<10)
	switch format {
	case "table":
		return newTableWriter(columns, out), nil
	case "csv":
		return newCSVWriter(columns, out)
	case "ndjson":
		return newNDJSONWriter(columns, out), nil
	}
	return nil, fmt.Errorf("query: format %q is unknown, want one of %v", format, Formats)
}

// csvWriter follows RFC 4180. A null is an empty field, an empty string is quoted, so the two differ.
type csvWriter struct {
	columns []schema.Column
	out     *bufio.Writer
	line    []byte
	cell    []byte
}

func newCSVWriter(columns []schema.Column, out *bufio.Writer) (*csvWriter, error) {
	w := &csvWriter{columns: columns, out: out}
	for i, c := range columns {
		w.field(i, []byte(c.Name))
	}
	return w, w.endLine()
}

func (w *csvWriter) field(i int, text []byte) {
	if i > 0 {
		w.line = append(w.line, ',')
	}
	plain := len(text) > 0
	for _, c := range text {
		if c == '"' || c == ',' || c == '\n' || c == '\r' {
			plain = false
		}
	}
	if plain {
		w.line = append(w.line, text...)
		return
	}
	w.line = append(w.line, '"')
	for _, c := range text {
		if c == '"' {
			w.line = append(w.line, '"')
		}
		w.line = append(w.line, c)
	}
	w.line = append(w.line, '"')
}

func (w *csvWriter) endLine() error {
	w.line = append(w.line, '\n')
	_, err := w.out.Write(w.line)
	w.line = w.line[:0]
	return err
}

func (w *csvWriter) Write(b *batch.Batch) error {
	for r := range b.Rows {
		for i := range b.Columns {
			if c := &b.Columns[i]; !c.IsNull(r) {
				w.cell = schema.AppendText(w.cell[:0], c.Type, c.Value(r))
				w.field(i, w.cell)
			} else if i > 0 {
				w.line = append(w.line, ',')
			}
		}
		if err := w.endLine(); err != nil {
			return err
		}
	}
	return nil
}

func (w *csvWriter) Close() error { return w.out.Flush() }

// ndjsonWriter writes an object a line. Floats that JSON lacks are the strings "NaN", "Infinity" and
// "-Infinity"; decimals are numbers with all their digits; binary is base64; json is embedded as it is.
type ndjsonWriter struct {
	names [][]byte // `"name":`
	out   *bufio.Writer
	line  []byte
	cell  []byte
}

func newNDJSONWriter(columns []schema.Column, out *bufio.Writer) *ndjsonWriter {
	w := &ndjsonWriter{out: out}
	for _, c := range columns {
		w.names = append(w.names, append(appendJSONString(nil, []byte(c.Name)), ':'))
	}
	return w
}

// appendJSONString quotes text as encoding/json does, without escaping HTML's characters.
func appendJSONString(dst, text []byte) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

func (w *ndjsonWriter) Write(b *batch.Batch) error {
	for r := range b.Rows {
		w.line = append(w.line, '{')
		for i := range b.Columns {
			if i > 0 {
				w.line = append(w.line, ',')
			}
			w.line = append(w.line, w.names[i]...)
			w.value(&b.Columns[i], r)
		}
		w.line = append(w.line, '}', '\n')
		if _, err := w.out.Write(w.line); err != nil {
			return err
		}
		w.line = w.line[:0]
	}
	return nil
}

func (w *ndjsonWriter) value(c *batch.Column, r int) {
	v := c.Value(r)
	switch k := c.Type.Kind; {
	case v.Null:
		w.line = append(w.line, "null"...)
	case k == schema.JSON:
		w.line = append(w.line, compactJSON(v.Bytes)...)
	case k == schema.Float32 || k == schema.Float64:
		w.line = appendJSONFloat(w.line, c.Type, v.Float)
	case k == schema.Date || k == schema.Timestamp || k >= schema.String:
		w.cell = schema.AppendText(w.cell[:0], c.Type, v)
		w.line = appendJSONString(w.line, w.cell)
	default:
		w.line = schema.AppendText(w.line, c.Type, v)
	}
}

func appendJSONFloat(dst []byte, t schema.Type, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	case t.Kind == schema.Float32:
		return strconv.AppendFloat(dst, f, 'g', -1, 32)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

// compactJSON keeps a document on one line: raw line breaks may stand between tokens only.
func compactJSON(text []byte) []byte {
	if !slices.Contains(text, '\n') && !slices.Contains(text, '\r') {
		return text
	}
	out := make([]byte, 0, len(text))
	for _, c := range text {
		if c != '\n' && c != '\r' {
			out = append(out, c)
		}
	}
	return out
}

func (w *ndjsonWriter) Close() error { return w.out.Flush() }

// tableWriter aligns columns for a terminal; it shows the first TableRows rows.
type tableWriter struct {
	columns []schema.Column
	out     *bufio.Writer
	table   table.Writer
	rows    int
	cell    []byte
}

func newTableWriter(columns []schema.Column, out *bufio.Writer) *tableWriter {
	w := &tableWriter{columns: columns, out: out, table: table.NewWriter()}
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = 0
	w.table.SetStyle(style)
	head := make(table.Row, len(columns))
	for i, c := range columns {
		head[i] = c.Name
	}
	w.table.AppendHeader(head)
	return w
}

func (w *tableWriter) Write(b *batch.Batch) error {
	for r := 0; r < b.Rows && w.rows < TableRows; r, w.rows = r+1, w.rows+1 {
		row := make(table.Row, len(b.Columns))
		for i := range b.Columns {
			w.cell = schema.AppendText(w.cell[:0], b.Columns[i].Type, b.Columns[i].Value(r))
			row[i] = printable(w.cell)
		}
		w.table.AppendRow(row)
	}
	return nil
}

// printable keeps control characters of the data from driving the terminal.
func printable(text []byte) string {
	for _, c := range text {
		if c < 0x20 || c == 0x7f {
			q, _ := json.Marshal(string(text))
			return string(q)
		}
	}
	return string(text)
}

func (w *tableWriter) Close() error {
	fmt.Fprintln(w.out, w.table.Render())
	if w.rows == TableRows {
		fmt.Fprintf(w.out, "(the first %d rows; --limit, --where or --format csv for others)\n", TableRows)
	}
	return w.out.Flush()
}
