package connector

import (
	"context"
	"fmt"

	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/store/schema"
)

// A change of a table's columns is one of its connectors' decisions as well, and goes the same way: decisions.go.

// definitionOf is the fingerprint of a table's definition, as a file has it: without versions.
func definitionOf(s *schema.Schema) string {
	d := *s
	d.Version = 1
	d.Columns = nil
	for _, c := range s.Columns {
		c.Since = 0
		d.Columns = append(d.Columns, c)
	}
	return fingerprint(string(d.Text()))
}

// agreedColumns tells whether all nodes that are up have the table's definition in their files that this one has, and the same
// settings of its connectors, and a majority is up.
func (n *Node) agreedColumns(ctx context.Context, change catalog.ChangeTable) bool {
	wanted, up := definitionOf(change.Schema), 0
	own := n.local()
	for _, l := range n.locals(ctx) {
		if l.Node.State == api.StateDown {
			continue
		}
		if up++; l.Tables[change.Table] != wanted {
			return false
		}
		for _, k := range change.Connectors {
			if l.Settings[k.Connector] != own.Settings[k.Connector] {
				return false
			}
		}
	}
	return up > len(n.options.Config.Cluster.Nodes)/2
}

// columnsStatus says, in a sentence, what is going on with a table's columns; "" when all nodes have those in force in their files.
// What is refused is a fault of the configuration, and not told here.
func (n *Node) columnsStatus(t *catalog.Table, locals map[string]api.Local) string {
	if t.Change != nil {
		return fmt.Sprintf("its columns change to schema version %d: tablets are being given them", t.Change.Schema.Version)
	}
	force, before := definitionOf(t.Schema), map[string]bool{}
	for v := uint32(1); v < t.Schema.Version; v++ {
		before[definitionOf(t.Schema.At(v))] = true
	}
	for _, spec := range n.wanted.Tables {
		if spec.Name != t.Name || before[definitionOf(spec.Schema)] {
			continue
		}
		if _, err := catalog.Grown(spec, t); err != nil {
			return ""
		}
	}
	return n.filesStatus("columns", locals, func(l *api.Local) string { return l.Tables[t.Name] }, func(print string) fileAge {
		switch {
		case print == force:
			return presentFile
		case before[print]:
			return oldFile
		}
		return newFile
	})
}
