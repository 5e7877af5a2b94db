package configs

import "slices"

// keys names every key of every section of the file. A section is named by the path that
// leads to it, where [] is any element of a list.
//
// The table stands apart from the code that reads the sections so that an unknown key can be
// told from one that was put into the wrong section.
var keys = map[string][]string{
	"":                   {"cluster", "node", "kafka", "tables", "connectors", "exports"},
	"cluster":            {"name", "replicas", "nodes"},
	"cluster.nodes[]":    {"id", "peer", "http", "data", "rack"},
	"node":               {"memory", "durability"},
	"kafka":              {"brokers", "tls", "sasl"},
	"kafka.tls":          {"ca_file", "cert_file", "key_file", "server_name"},
	"kafka.sasl":         {"mechanism", "username", "password", "password_file"},
	"tables[]":           {"name", "columns", "primary_key", "hash", "range", "history"},
	"tables[].columns[]": {"name", "type", "nullable", "default"},
	"tables[].hash":      {"columns", "buckets"},
	"tables[].range":     {"column", "every", "ahead", "retain"},
	"connectors[]": {
		"name", "topics", "topics_regex", "consumer_group", "table", "format", "write", "timestamp_unit", "start_from",
		"on_offset_out_of_range", "on_bad_record", "on_unknown_field", "dead_letter_topic", "fields", "add",
	},
}

// sectionNames is how messages call a section that a misplaced key belongs to.
// A key that is in several sections is attributed to none.
var sectionNames = map[string]string{
	"":                   "the top level",
	"cluster":            "cluster",
	"cluster.nodes[]":    "an element of cluster.nodes",
	"node":               "node",
	"kafka":              "kafka",
	"kafka.tls":          "kafka.tls",
	"kafka.sasl":         "kafka.sasl",
	"tables[]":           "a table",
	"tables[].columns[]": "a column",
	"tables[].hash":      "a table's hash",
	"tables[].range":     "a table's range",
	"connectors[]":       "a connector",
}

// secretKeys are the keys whose value must not be shown, whole path each.
var secretKeys = map[string]bool{"kafka.sasl.password": true}

// Flag is a key of the node section that `run` also takes as a flag, --Name.
type Flag struct {
	Name    string // without dashes; Override takes it together with "node."
	Default string // as it is written in the file
	Usage   string
}

// NodeFlags returns every key of the node section, in the order of the file.
func NodeFlags() []Flag {
	return []Flag{
		{Name: "memory", Default: formatSize(defaultMemoryBytes), Usage: "memory that the process may take, such as 4GiB"},
		{Name: "durability", Default: string(defaultDurability), Usage: "fsync, or page_cache: acknowledged is then not safe from a power cut"},
	}
}

// join returns the path of a key in a section.
func join(section, key string) string {
	if section == "" {
		return key
	}
	return section + "." + key
}

// owner returns the name of the one section that has the key, or "".
func owner(key string) string {
	name := ""
	for section, known := range keys {
		if !slices.Contains(known, key) {
			continue
		}
		if name != "" {
			return ""
		}
		name = sectionNames[section]
	}
	return name
}
