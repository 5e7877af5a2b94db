package connector

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"nyala/configs"
	"nyala/connector/catalog"
	"nyala/ingest"
	"nyala/store/batch"
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

// settings are those of a connector that decide what becomes of a record, as the catalog keeps them. A change of one of them is
// another decision version; a change of, say, the brokers' addresses is not, nor of on_bad_record: to stop decides nothing.
//
// The same settings have the same text for ever. A later release must leave what it adds out of the text where it has its
// default, or it would be a change for every connector.
type settings struct {
	Format         configs.Format         `json:"format"`
	Write          configs.Write          `json:"write"`
	TimestampUnit  configs.TimestampUnit  `json:"timestamp_unit"`
	OnUnknownField configs.OnUnknownField `json:"on_unknown_field"`
	Fields         map[string]string      `json:"fields,omitempty"`
	Add            map[string]string      `json:"add,omitempty"`
}

// connectorSpecs turns the configured connectors into what the catalog keeps.
func connectorSpecs(c *configs.Config) ([]catalog.ConnectorSpec, error) {
	var specs []catalog.ConnectorSpec
	for _, k := range c.Connectors {
		s := settings{k.Format, k.Write, k.TimestampUnit, k.OnUnknownField, map[string]string{}, map[string]string{}}
		for _, f := range k.Fields {
			s.Fields[f.Column] = f.Path
		}
		for _, a := range k.Add {
			s.Add[a.Column] = a.String()
		}
		text, err := json.Marshal(s)
		if err != nil {
			return nil, fmt.Errorf("connector: settings of %s: %w", k.Name, err)
		}
		specs = append(specs, catalog.ConnectorSpec{Name: k.Name, Table: k.Table, Settings: string(text)})
	}
	return specs, nil
}

// parseSettings turns settings as the catalog keeps them into what ingest takes.
func parseSettings(text string) (ingest.Settings, error) {
	var s settings
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields() // of a newer nyala: they would decide otherwise than this one knows
	if err := d.Decode(&s); err != nil {
		return ingest.Settings{}, err
	}
	out := ingest.Settings{
		Fields: s.Fields, Add: s.Add, TimestampUnit: timestampUnits[s.TimestampUnit],
		RefuseUnknownFields: s.OnUnknownField == configs.UnknownFieldDeadLetter, Changes: s.Write == configs.WriteChanges,
	}
	if s.Write == configs.WriteInsert {
		out.Op = batch.Insert
	}
	return out, nil
}

// fingerprint stands for settings between nodes.
func fingerprint(settings string) string {
	sum := sha256.Sum256([]byte(settings))
	return hex.EncodeToString(sum[:8])
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
