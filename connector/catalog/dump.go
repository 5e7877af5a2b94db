package catalog

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"path"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"nyala/offsets"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// Dump prints the catalog's file in a directory, for people.
func Dump(fsys vfs.FS, dir string, w io.Writer) error {
	file := path.Join(dir, fileName)
	data, err := vfs.ReadFile(fsys, file)
	if err != nil {
		return fmt.Errorf("catalog: file %s: %w", file, err)
	}
	return DumpManifest(data, w)
}

// DumpManifest prints a file's content.
func DumpManifest(manifest []byte, w io.Writer) error {
	m, err := parseImage(manifest)
	if err != nil {
		return fmt.Errorf("catalog: manifest: %w", err)
	}
	p := &printer{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	p.line("catalog at index %d, term %d; members as of %d, %d bytes", m.durable.Index, m.durable.Term, m.durable.MembersIndex, len(m.durable.Members))
	p.snapshot(m.state)
	p.checkpoints(m.checkpoints)
	return p.flush()
}

// Dump prints the view, for people.
func (s *Snapshot) Dump(w io.Writer) error {
	p := &printer{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	p.snapshot(s)
	return p.flush()
}

// DumpCommand prints one command of the log, for people.
func DumpCommand(data []byte, w io.Writer) error {
	now, c, err := Parse(data)
	if err != nil {
		return err
	}
	p := &printer{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	p.line("%s at %s", c.Kind(), now.text())
	switch c := c.(type) {
	case CreateCheckpoints:
		p.list(c.Checkpoints)
	case RaiseCheckpoints:
		p.list(c.Checkpoints)
	default:
		p.line("  %s", data[commandHeader:])
	}
	return p.flush()
}

func (p *printer) list(checkpoints []Checkpoint) {
	for _, c := range checkpoints {
		p.line("  %s\t%d", c.Source, c.Next)
	}
}

// printer keeps the first error of its writer.
type printer struct {
	w   *tabwriter.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if _, err := fmt.Fprintf(p.w, format+"\n", args...); p.err == nil {
		p.err = err
	}
}

func (p *printer) flush() error {
	if err := p.w.Flush(); p.err == nil {
		p.err = err
	}
	return p.err
}

func (m Micros) text() string {
	return time.UnixMicro(int64(m)).UTC().Format("2006-01-02T15:04:05.000000Z")
}

func (p *printer) snapshot(s *Snapshot) {
	p.line("cluster %s, id %s, created %s", s.Cluster.Name, s.Cluster.ID, s.Cluster.Created.text())
	p.line("format %d, generation %d, next table %d, next tablet %d", s.Format, s.Generation, s.NextTable, s.NextTablet)
	p.line("\nnode\tpeer\thttp\track\tstate\tsince\tpast")
	for _, n := range s.Nodes {
		p.line("%s\t%s\t%s\t%s\t%s\t%s\t%s", n.Member(), n.Peer, n.HTTP, cmp.Or(n.Rack, "-"), n.State, n.Since.text(), cmp.Or(strings.Join(n.Past, " "), "-"))
	}
	for _, t := range s.Tables {
		p.table(t)
	}
	p.line("\ntablet\ttable\tbucket\trange\treplicas\tleader\tbootstrap\tmembers")
	for _, t := range s.Tablets {
		name, bounds := "(system)", "-"
		if table, ok := s.TableByID(t.Table); ok {
			name, bounds = table.Name, table.rangeOf(t.Low, t.High)
		}
		p.line("%d\t%s\t%d\t%s\t%s\t%s\t%v\t%d", t.ID, name, t.Bucket, bounds, replicasText(t.Replicas), t.Leader, len(t.Bootstrap) > 0, t.MembersIndex)
	}
	p.line("\nconnector\ttable\tdesired\tsince")
	for _, c := range s.Connectors {
		p.line("%s\t%s\t%s\t%s", c.Name, c.Table, c.Desired, c.Since.text())
	}
	p.line("\nconnector\tdecision\tschema\tsince\tsettings")
	for _, c := range s.Connectors {
		for _, d := range c.Decisions {
			p.line("%s\t%d\t%d\t%s\t%s", c.Name, d.Version, d.Schema, d.Since.text(), d.Settings)
			for _, at := range d.From {
				p.line("\tfrom %d of %s", at.Next, at.source(c.Name))
			}
		}
		if c.Change != nil {
			p.line("%s\t%d is coming\t%d\t%s\t%s", c.Name, c.Change.Version, c.Change.Schema, c.Change.Since.text(), c.Change.Settings)
		}
	}
}

func (p *printer) table(t *Table) {
	p.line("\ntable %d %s: schema version %d, replicas %d, buckets %d over %v, key %v", t.ID, t.Name, t.Schema.Version, t.Replicas,
		t.Schema.Buckets, names(t.Schema, t.Schema.Hash), names(t.Schema, t.Schema.Key))
	p.line("  created %s, history %s, range %s", t.Created.text(), t.History, rangeText(t.Schema))
	if t.Schema.Range != nil {
		floor := "none"
		if t.Floor != math.MinInt64 {
			floor = t.bound(t.Floor)
		}
		p.line("  ahead %d, retain %s, at most %d ranges, floor %s, refused %d", t.Ahead, intervalText(t.Schema, t.Retain), t.RangesMax, floor, len(t.Refused))
	}
	for _, c := range t.Newest().Columns {
		since := ""
		switch {
		case c.Since > t.Schema.Version:
			since = fmt.Sprintf(", coming with schema version %d since %s", c.Since, t.Change.Since.text())
		case c.Since > 0:
			since = fmt.Sprintf(", since schema version %d", c.Since)
		}
		p.line("  column %d %s%s", c.ID, columnText(c), since)
	}
	for _, part := range t.Partitions {
		p.line("  partition %s tablets %v", t.rangeOf(part.Low, part.High), part.Tablets)
	}
}

// rangeOf prints a partition's bounds as values of the range column.
func (t *Table) rangeOf(low, high int64) string {
	if t.Schema.Range == nil {
		return "-"
	}
	return "[" + t.bound(low) + "," + t.bound(high) + ")"
}

// bound prints a value of the range column.
func (t *Table) bound(v int64) string {
	return string(schema.AppendText(nil, t.Schema.Columns[t.Schema.Range.Column].Type, schema.Value{Int: v}))
}

func replicasText(list []Replica) string {
	parts := make([]string, len(list))
	for i, r := range list {
		parts[i] = r.String()
		switch {
		case r.Leaving:
			parts[i] += "(leaving)"
		case !r.Voter:
			parts[i] += "(joining)"
		}
	}
	return strings.Join(parts, " ")
}

func (p *printer) checkpoints(c *offsets.Checkpoints) {
	p.line("\nsource\tbegun\tcheckpoint")
	for s, next := range c.All() {
		begun := "-"
		if first, ok := c.Begun(s); ok {
			begun = strconv.FormatInt(first, 10)
		}
		p.line("%s\t%s\t%d", s, begun, next)
	}
}
