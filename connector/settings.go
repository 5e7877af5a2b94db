package connector

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"nyala/configs"
	"nyala/connector/catalog"
	"nyala/store/schema"
)

// systemNodesMax is how many nodes vote on the catalog; the others follow it.
const systemNodesMax = 3

// tableSpecs turns the configured tables into what the catalog keeps.
func tableSpecs(c *configs.Config) ([]catalog.TableSpec, error) {
	specs := catalog.SystemTables(c.Cluster.Replicas)
	for _, t := range c.Tables {
		s, err := tableSchema(t)
		if err != nil {
			return nil, err
		}
		spec := catalog.TableSpec{Name: t.Name, Schema: s, Replicas: c.Cluster.Replicas, History: t.History}
		if t.Range != nil {
			spec.Ahead = t.Range.Ahead
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

func tableSchema(t configs.Table) (*schema.Schema, error) {
	s := &schema.Schema{Version: 1, Buckets: t.Hash.Buckets}
	for i, c := range t.Columns {
		kind, err := schema.ParseType(c.Type.String())
		if err != nil {
			return nil, fmt.Errorf("connector: table %s: column %s: %w", t.Name, c.Name, err)
		}
		s.Columns = append(s.Columns, schema.Column{
			ID: schema.ColumnID(i + 1), Name: c.Name, Type: kind, Nullable: c.Nullable, Default: defaultValue(c.Default),
		})
	}
	for _, k := range t.PrimaryKey {
		s.Key = append(s.Key, s.Position(k))
	}
	for _, h := range t.Hash.Columns {
		s.Hash = append(s.Hash, s.Position(h))
	}
	if t.Range != nil {
		s.Range = &schema.Range{Column: s.Position(t.Range.Column), Every: t.Range.Every}
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("connector: table %s: %w", t.Name, err)
	}
	return s, nil
}

// defaultValue takes over a default, whose Go type the configuration has already fitted to the column.
func defaultValue(v any) *schema.Value {
	switch v := v.(type) {
	case bool:
		if v {
			return &schema.Value{Int: 1}
		}
		return &schema.Value{}
	case int64:
		return &schema.Value{Int: v}
	case float64:
		return &schema.Value{Float: v}
	case string:
		return &schema.Value{Bytes: []byte(v)}
	case []byte:
		return &schema.Value{Bytes: v}
	case [16]byte:
		return &schema.Value{Bytes: v[:]}
	}
	return nil
}

// connectorSpecs fingerprints the settings that decide what becomes of a record. A change of one of
// them is another decision version; a change of, say, the brokers' addresses is not.
func connectorSpecs(c *configs.Config) ([]catalog.ConnectorSpec, error) {
	var specs []catalog.ConnectorSpec
	for _, k := range c.Connectors {
		text, err := json.Marshal(struct {
			Table  string
			Format configs.Format
			Write  configs.Write
			Unit   configs.TimestampUnit
			Bad    configs.OnUnknownField
			Fields []configs.Field
			Add    []configs.Add
		}{k.Table, k.Format, k.Write, k.TimestampUnit, k.OnUnknownField, k.Fields, k.Add})
		if err != nil {
			return nil, fmt.Errorf("connector: settings of %s: %w", k.Name, err)
		}
		sum := sha256.Sum256(text)
		specs = append(specs, catalog.ConnectorSpec{Name: k.Name, Table: k.Table, Settings: hex.EncodeToString(sum[:16])})
	}
	return specs, nil
}

// systemNodes are the nodes that vote in the system group: the first ones of the file, an odd number of them.
func systemNodes(c *configs.Config) []configs.ClusterNode {
	n := min(systemNodesMax, len(c.Cluster.Nodes))
	if n == 2 {
		n = 1
	}
	return c.Cluster.Nodes[:n]
}

func nodeConfig(c *configs.Config, name string) (configs.ClusterNode, error) {
	i := slices.IndexFunc(c.Cluster.Nodes, func(n configs.ClusterNode) bool { return n.ID == name })
	if i < 0 {
		var names []string
		for _, n := range c.Cluster.Nodes {
			names = append(names, n.ID)
		}
		return configs.ClusterNode{}, fmt.Errorf("connector: node %q is not in the configuration, want one of %v: check --node, or NYALA_NODE", name, names)
	}
	return c.Cluster.Nodes[i], nil
}
