package connector

import (
	"fmt"
	"slices"
	"time"

	"nyala/configs"
	"nyala/connector/catalog"
	"nyala/store/batch"
)

// appendedColumns come to every table, in this order: one that odd records have a field for, one with a default, and one that is
// filled by a setting of the connector that comes with it.
var appendedColumns = []configs.Column{
	{Name: "more", Type: configs.Type{Kind: "int64"}, Nullable: true},
	{Name: "most", Type: configs.Type{Kind: "int64"}, Default: int64(7)},
	{Name: "came", Type: configs.Type{Kind: "int64"}, Nullable: true},
}

// widened is a configuration with the first n of them.
func widened(c *configs.Config, n int) *configs.Config {
	out := *c
	out.Tables, out.Connectors = slices.Clone(c.Tables), slices.Clone(c.Connectors)
	for i := range out.Tables {
		out.Tables[i].Columns = append(slices.Clip(out.Tables[i].Columns), appendedColumns[:n]...)
	}
	for i := range out.Connectors {
		if n == len(appendedColumns) {
			out.Connectors[i].Add = append(slices.Clip(out.Connectors[i].Add), configs.Add{Column: "came", From: configs.AddOffset})
		}
	}
	return &out
}

// columnsOf is how many of the columns a decision knows.
func columnsOf(t *catalog.Table, d catalog.Decision) int {
	return len(t.SchemaAt(d.Schema).Columns) - len(rowColumns) - 1
}

// checkColumns reads the columns that came, at a time or now, and wants in each row what the decision on its record made of it:
// nothing in those that the decision does not know, though they came before the row was read.
func (s *simulation) checkColumns(id, table string, at int64, limit time.Duration) error {
	view := s.nodes[id].catalog.Snapshot()
	t, ok := view.Table(table)
	if !ok {
		return fmt.Errorf("%s is not there", table)
	}
	came := len(t.Schema.Columns) - len(rowColumns) - 1
	if came == 0 {
		return nil
	}
	columns := []string{"id", "kafka_partition", "kafka_offset"}
	for _, c := range appendedColumns[:came] {
		columns = append(columns, c.Name)
	}
	stream, _, err := s.readAt(id, table, at, columns, limit)
	if err != nil {
		return err
	}
	defer stream.Close()
	if view, err = s.newestView(id); err != nil {
		return err
	}
	return pour(stream, func(b *batch.Batch) error {
		for i := range b.Rows {
			if err := s.checkAppended(view, table, b, i); err != nil {
				return err
			}
		}
		return nil
	})
}

// newestView is the catalog of a node, if no other node knows of a newer decision: rows may have been made under one that is still
// on its way to this node, which reads them where they are.
func (s *simulation) newestView(id string) (*catalog.Snapshot, error) {
	view := s.nodes[id].catalog.Snapshot()
	for _, st := range s.streams {
		c, _ := view.Connector(st.connector)
		for other, n := range s.nodes {
			if k, ok := n.catalog.Snapshot().Connector(st.connector); ok && (c == nil || k.Decision().Version > c.Decision().Version) {
				return nil, fmt.Errorf("%s: the catalog of %s is behind that of %s", st.connector, id, other)
			}
		}
	}
	return view, nil
}

func (s *simulation) checkAppended(view *catalog.Snapshot, table string, b *batch.Batch, row int) error {
	key, at := b.Columns[0].Int(row), place{int32(b.Columns[1].Int(row)), b.Columns[2].Int(row)}
	i := slices.IndexFunc(s.streams, func(st *stream) bool { return st.table == table && st.owns(key) })
	if i < 0 {
		return &wrongRows{fmt.Sprintf("%s: key %d is of no stream", table, key)}
	}
	st := s.streams[i]
	t, _ := view.Table(table)
	c, ok := view.Connector(st.connector)
	if !ok {
		return fmt.Errorf("connector %s is not there", st.connector)
	}
	d := decisionAt(c, s.source(st, at.partition), at.offset)
	if st.isOdd(key) { // it may have been replayed
		for _, later := range retaken(c, t, d, key) {
			if appendedAs(b, row, key, at, columnsOf(t, later)) == "" {
				return nil
			}
		}
	}
	if wrong := appendedAs(b, row, key, at, columnsOf(t, d)); wrong != "" {
		return &wrongRows{fmt.Sprintf("%s: key %d from %v: %s, under decision %d of %+v", table, key, at, wrong, d.Version, c.Decisions)}
	}
	return nil
}

// appendedAs says what is wrong if a row was made by a decision that knows so many of the columns.
func appendedAs(b *batch.Batch, row int, key int64, at place, known int) string {
	odd := key&oddKeys != 0
	for n := range b.Columns[3:] {
		col := &b.Columns[3+n]
		want := "null"
		switch {
		case n == 0 && known > 0 && odd:
			want = fmt.Sprint(key)
		case n == 1 && known > 1 && odd:
			want = fmt.Sprint(-key)
		case n == 1:
			want = "7"
		case n == 2 && known > 2:
			want = fmt.Sprint(at.offset)
		}
		got := "null"
		if !col.IsNull(row) {
			got = fmt.Sprint(col.Int(row))
		}
		if got != want {
			return fmt.Sprintf("column %s is %s, want %s", appendedColumns[n].Name, got, want)
		}
	}
	return ""
}
