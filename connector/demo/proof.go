package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	pretty "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"nyala/connector/api"
	"nyala/connector/export"
	"nyala/connector/query"
	"nyala/store/rowset"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// unequal is the error of a proof that does not hold.
type unequal struct{ text string }

func (e unequal) Error() string { return "demo: " + e.text }

// ExitCode is the exit status of what is not equal.
func (unequal) ExitCode() int { return 3 }

// evidence is one line of the proof.
type evidence struct {
	what string
	rows int64
	held *comparison // nil: only counted
}

// prove exports the table and compares it and its export with what was produced.
func (d *demo) prove(ctx context.Context) error {
	produced, err := d.tally.records()
	if err != nil {
		return err
	}
	lines := []evidence{{what: "produced: acknowledged by Kafka", rows: produced}}
	for _, step := range []struct {
		doing string
		look  func(context.Context, *api.Client) (evidence, error)
	}{
		{"exporting", d.export},
		{"counting the rows", d.counted},
		{"reading every row", d.scanned},
		{"reading the exported files", d.exported},
	} {
		line, err := d.try(ctx, step.doing, step.look)
		if err != nil {
			return err
		}
		if line.what != "" {
			lines = append(lines, line)
		}
	}
	d.print(lines)
	if err := d.verdict(lines); err != nil {
		d.explain(ctx, lines)
		return err
	}
	return nil
}

// attempts is how often a step of the proof is tried: the node that is asked may end in the middle of it.
const attempts = 3

func (d *demo) try(ctx context.Context, doing string, look func(context.Context, *api.Client) (evidence, error)) (line evidence, err error) {
	for i := range attempts {
		if i > 0 {
			d.screen.say("%s: %v; again, when the cluster is healthy", doing, err)
			if err := d.watch.await(ctx, func(v view) bool { return v.status.Healthy }); err != nil {
				return evidence{}, err
			}
		}
		d.screen.show(doing)
		client := &api.Client{Server: d.watch.server(), HTTP: &http.Client{Transport: &http.Transport{}}}
		line, err = look(ctx, client)
		client.HTTP.CloseIdleConnections()
		d.screen.clear()
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return line, err
}

// counted is what `nyala scan events --count` prints.
func (d *demo) counted(ctx context.Context, client *api.Client) (evidence, error) {
	rows, err := countRows(ctx, client, table)
	return evidence{what: "readable: counted by the cluster", rows: rows}, err
}

func countRows(ctx context.Context, client *api.Client, table string) (int64, error) {
	res, err := client.Do(ctx, http.MethodGet, "/api/v1/tables/"+table+"/rows", query.Request{Count: true}.Values(), nil)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64))
	if err != nil {
		return 0, fmt.Errorf("demo: counting rows: %w", err)
	}
	rows, err := strconv.ParseInt(strings.TrimSpace(string(body)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("demo: counting rows: got %q, want a number", body)
	}
	return rows, nil
}

// scanned reads every row over HTTP, as it comes.
func (d *demo) scanned(ctx context.Context, client *api.Client) (evidence, error) {
	in, err := openRows(ctx, client, query.Request{Columns: columnNames()})
	if err != nil {
		return evidence{}, err
	}
	c := d.tally.compare()
	err = errors.Join(pour(in, c), in.Close())
	return evidence{what: "readable: every row, read from the tablets", rows: c.rows, held: c}, err
}

// rows is a stream of rows from a node.
type rows struct {
	*query.StreamReader
	io.Closer
}

func openRows(ctx context.Context, client *api.Client, r query.Request) (query.Stream, error) {
	values := r.Values()
	values.Set("format", "batches")
	res, err := client.Do(ctx, http.MethodGet, "/api/v1/tables/"+table+"/rows", values, nil)
	if err != nil {
		return nil, err
	}
	return rows{query.NewStreamReader(res.Body), res.Body}, nil
}

func pour(in query.Stream, c *comparison) error {
	for {
		b, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = c.add(b)
		}
		if err != nil {
			return err
		}
	}
}

// export writes the table under the demo's directory, as `nyala export` does. It is no evidence by itself.
func (d *demo) export(ctx context.Context, client *api.Client) (evidence, error) {
	began := time.Now()
	dir := filepath.Join(d.cluster.dir, "exports")
	if err := os.RemoveAll(dir); err != nil { // of an attempt before
		return evidence{}, fmt.Errorf("demo: %w", err)
	}
	var s export.Snapshot
	if err := client.Get(ctx, "/api/v1/tables/"+table+"/snapshot", nil, &s); err != nil {
		return evidence{}, err
	}
	var names []string
	for _, c := range s.Schema.Columns {
		names = append(names, c.Name)
	}
	m, err := export.Run(ctx, &s, export.Options{
		FS: vfs.OS(), Dir: filepath.ToSlash(dir),
		Progress: func(rows int64) {
			if d.screen.terminal {
				d.screen.show("exporting: " + count(rows) + " rows")
			}
		},
		Open: func(ctx context.Context, tablet uint64) (query.Stream, error) {
			return openRows(ctx, client, query.Request{Columns: names, At: s.Timestamp, Tablet: tablet, Order: query.OrderKey})
		},
	})
	if err != nil {
		return evidence{}, err
	}
	bytes := int64(0)
	for _, f := range m.Files {
		bytes += f.Bytes
	}
	d.screen.clear()
	d.screen.say("exported in %s: %d Parquet files, %s, %.1f bytes a row", seconds(time.Since(began)), len(m.Files), size(bytes), float64(bytes)/float64(max(m.Rows, 1)))
	return evidence{}, nil
}

// exported reads the files of an export back, from the manifest that is on disk.
func (d *demo) exported(context.Context, *api.Client) (evidence, error) {
	root := filepath.ToSlash(filepath.Join(d.cluster.dir, "exports", table))
	body, err := os.ReadFile(path.Join(root, "_manifest.json"))
	if err != nil {
		return evidence{}, fmt.Errorf("demo: %w", err)
	}
	var m api.ExportManifest
	if err := json.Unmarshal(body, &m); err != nil {
		return evidence{}, fmt.Errorf("demo: %s: %w", root, err)
	}
	c := d.tally.compare()
	for _, f := range m.Files {
		before := c.rows
		if err := readFile(path.Join(root, f.Path), c); err != nil {
			return evidence{}, err
		}
		if got := c.rows - before; got != f.Rows {
			return evidence{}, fmt.Errorf("demo: %s: %d rows, the manifest says %d", f.Path, got, f.Rows)
		}
	}
	return evidence{what: fmt.Sprintf("exported: every row, read from %d Parquet files", len(m.Files)), rows: c.rows, held: c}, nil
}

// readFile adds the rows of a Parquet file to a comparison.
func readFile(name string, c *comparison) error {
	f, err := rowset.OpenFile(vfs.OS(), name)
	if err != nil {
		return err
	}
	defer f.Close()
	var wanted []schema.Column
	for _, name := range columnNames() {
		i := f.Schema().Position(name)
		if i < 0 {
			return fmt.Errorf("demo: exported file has no column %s", name)
		}
		wanted = append(wanted, f.Schema().Columns[i])
	}
	scan, err := f.Scan(rowset.ScanOptions{Columns: wanted})
	if err != nil {
		return err
	}
	defer scan.Close()
	for {
		chunk, err := scan.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = c.add(&chunk.Batch)
		}
		if err != nil {
			return fmt.Errorf("demo: %s: %w", name, err)
		}
	}
}

// print shows the evidence.
func (d *demo) print(lines []evidence) {
	t := pretty.NewWriter()
	style := pretty.StyleRounded
	style.Format = pretty.FormatOptions{}
	style.Options.SeparateRows = false
	t.SetStyle(style)
	t.AppendHeader(pretty.Row{"", "records", "missing", "twice", "altered", "unknown", ""})
	for _, l := range lines {
		row := pretty.Row{l.what, count(l.rows), "", "", "", "", ""}
		if c := l.held; c != nil {
			mark := "exact"
			if !c.exact() {
				mark = "NOT EXACT"
			}
			row = pretty.Row{l.what, count(l.rows), count(c.missing()), count(c.twice), count(c.wrong), count(c.unknown), mark}
		}
		t.AppendRow(row)
	}
	right := func(n int) pretty.ColumnConfig {
		return pretty.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight}
	}
	t.SetColumnConfigs([]pretty.ColumnConfig{right(2), right(3), right(4), right(5), right(6)})
	d.screen.say("\n%s", t.Render())
}

// explain says where to look when the proof does not hold. What cannot be found out is left out.
func (d *demo) explain(ctx context.Context, lines []evidence) {
	for _, l := range lines {
		if l.held == nil {
			continue
		}
		var texts []string
		for _, m := range l.held.missed(5) {
			texts = append(texts, fmt.Sprintf("%d:%d", m.partition, m.offset))
		}
		if len(texts) > 0 {
			d.screen.say("missing, by partition:offset: %s", strings.Join(texts, " "))
			break
		}
	}
	client := &api.Client{Server: d.watch.server(), HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	if letters, err := countRows(ctx, client, schema.DeadLettersTable); err == nil && letters > 0 {
		d.screen.say("%s records are in %s", count(letters), schema.DeadLettersTable)
	}
}

// verdict is nil only if everything is equal.
func (d *demo) verdict(lines []evidence) error {
	equal := true
	for _, l := range lines {
		equal = equal && l.rows == lines[0].rows && (l.held == nil || l.held.exact())
	}
	d.mu.Lock()
	kills, slowest, deaths := d.mu.kills, d.mu.slowest, d.mu.deaths
	d.mu.Unlock()
	story := ""
	if d.options.chaos {
		story = fmt.Sprintf(", through %d kills", kills)
		if kills == 1 {
			story = ", through a kill"
		}
		if slowest > 0 {
			story += fmt.Sprintf(" (all well again after %s at most)", seconds(slowest))
		}
	}
	if deaths > 0 {
		story += fmt.Sprintf("; nodes ended by themselves %d times", deaths)
	}
	if !equal {
		d.screen.say("%s", d.screen.in(red, "produced, readable and exported are NOT equal"+story))
		return unequal{"produced, readable and exported are not equal"}
	}
	d.screen.say("%s%s", d.screen.in(green, "produced = readable = exported: each of "+count(lines[0].rows)+" records once, as it was produced"), story)
	return nil
}
