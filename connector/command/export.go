package command

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"nyala/connector/api"
	"nyala/connector/export"
	"nyala/connector/query"
	"nyala/store/vfs"
)

func (p *program) exportCommand() *cobra.Command {
	var to, at string
	c := &cobra.Command{
		Use:   "export TABLE --to DIR",
		Short: "Write a consistent snapshot of a table as Parquet files",
		Long: `Writes a table as of one instant into DIR/TABLE: Parquet files that any reader takes, sorted by primary key, one
directory for each range, and a manifest that names the instant, every file and how much of each Kafka partition is in. The
manifest comes last: a directory without _manifest.json holds no export.`,
		Example: `  nyala export events --to exports/2026-11-20
  nyala export events --to exports/ten --at 2026-11-20T10:00:00Z`,
		Args: arguments("TABLE"),
	}
	t := p.target(c)
	c.Flags().StringVar(&to, "to", "", "`directory` to write to, on this machine")
	c.Flags().StringVar(&at, "at", "", "the `time` to read at: RFC 3339, or microseconds since 1970 (default: now)")
	c.RunE = func(c *cobra.Command, args []string) error {
		if to == "" {
			return wrongUse("where to? give --to DIR")
		}
		micros, err := query.ParseTime(at)
		if err != nil {
			return wrongUse("--at %q: want RFC 3339, as 2026-11-20T10:00:00Z, or microseconds since 1970", at)
		}
		client, err := t.client(c.Context())
		if err != nil {
			return err
		}
		return p.export(c.Context(), client, args[0], to, micros)
	}
	return c
}

func (p *program) export(ctx context.Context, client *api.Client, table, to string, at int64) error {
	began := time.Now()
	var s export.Snapshot
	if err := client.Get(ctx, "/api/v1/tables/"+table+"/snapshot", query.Request{At: at}.Values(), &s); err != nil {
		return err
	}
	if s.Schema == nil {
		return fmt.Errorf("answer of %s: a snapshot without a schema", client.Server)
	}
	dir := filepath.ToSlash(to)
	progress, finish := p.progress(ctx, client, table)
	m, err := export.Run(ctx, &s, export.Options{
		FS: vfs.OS(), Dir: dir, Progress: progress,
		Open: func(ctx context.Context, tablet uint64) (query.Stream, error) {
			r := query.Request{Tablet: tablet, Order: query.OrderKey, At: s.Timestamp}
			for _, c := range s.Schema.Columns {
				r.Columns = append(r.Columns, c.Name)
			}
			return openRows(ctx, client, table, r, s.Schema.Columns)
		},
	})
	finish()
	if err != nil {
		return err
	}
	return p.printExport(m, path.Join(dir, table), time.Since(began))
}

// progress shows a bar where a person looks on: of the rows that the table has by its status, as far as
// that is known.
func (p *program) progress(ctx context.Context, client *api.Client, table string) (add func(int64), finish func()) {
	if !isTerminal(p.stderr) {
		return nil, func() {}
	}
	total := int64(-1)
	var tables []api.Table
	if client.Get(ctx, "/api/v1/tables", nil, &tables) == nil {
		for _, t := range tables {
			if t.Name == table {
				total = t.Rows
			}
		}
	}
	bar := progressbar.NewOptions64(total, progressbar.OptionSetWriter(p.stderr), progressbar.OptionSetDescription(table),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	return func(rows int64) {
		if total >= 0 && rows > total {
			bar.ChangeMax64(rows) // rows came in since the status was made
		}
		bar.Set64(rows)
	}, func() { bar.Finish() }
}

func (p *program) printExport(m *api.ExportManifest, where string, took time.Duration) error {
	bytes := int64(0)
	for _, f := range m.Files {
		bytes += f.Bytes
	}
	fmt.Fprintf(p.stdout, "Exported %s of cluster %s as of %s\n", m.Table, m.Cluster, instant(m.Timestamp))
	fmt.Fprintf(p.stdout, "  to     %s\n", where)
	fmt.Fprintf(p.stdout, "  rows   %s\n", count(m.Rows))
	fmt.Fprintf(p.stdout, "  files  %s, %s, in %s\n", count(int64(len(m.Files))), size(bytes), took.Round(time.Millisecond))
	if len(m.Sources) == 0 {
		return nil
	}
	fmt.Fprintln(p.stdout, "\nOf each Kafka partition, all below the first offset is in, and nothing from the second on")
	g := newGrid("CONNECTOR", "TOPIC", ">PARTITION", ">COMPLETE BELOW", ">NOTHING FROM")
	for _, s := range m.Sources {
		topic := s.Topic
		if topic == "" {
			topic = s.TopicID
		}
		g.add(s.Connector, topic, s.Partition, s.CompleteBelow, s.NothingFrom)
	}
	return g.write(p.stdout)
}
