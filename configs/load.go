package configs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Option changes how a configuration is read.
type Option func(*reader)

// Override sets a key of the section node, such as "node.memory", to a value that did not come
// from the file: a flag of `run`. It is judged as the file's own values are, and it wins over
// them. A fault in it names the flag, such as --memory.
func Override(key, text string) Option {
	return func(r *reader) {
		for _, flag := range NodeFlags() {
			if key == "node."+flag.Name {
				r.overrides[key] = value{text: text, from: "--" + flag.Name, at: place{file: "--" + flag.Name}}
				return
			}
		}
		var names []string
		for _, flag := range NodeFlags() {
			names = append(names, "node."+flag.Name)
		}
		r.fault(place{file: key}, "", problem{"this key cannot be overridden", suggestOrList(key, "the keys", names)})
	}
}

// Load reads a configuration file from disk, with the process's environment. Its error is of
// type Faults; a file that cannot be read is one, too.
func Load(path string, options ...Option) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, Faults{{File: path, Message: fmt.Sprintf("the configuration cannot be read: %v", err)}}
	}
	return Parse(path, data, os.LookupEnv, readFile, options...)
}

// readFile reads a file up to a byte more than is allowed, so that a device that never ends
// cannot fill the memory.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, max(maxFileBytes, maxReferencedBytes)+1))
	return data, errors.Join(err, f.Close())
}

// Parse reads a configuration. Name is the file's path: faults begin with it, and the other files
// that the configuration names are relative to its folder; readFile gets their whole path. Without
// env no variable is set, and without readFile there is no file. The
// error is of type Faults and holds every fault.
func Parse(name string, data []byte, env func(string) (string, bool), readFile func(string) ([]byte, error), options ...Option) (*Config, error) {
	src, text, faults := newSource(name, data)
	r := newReader(src, env, readFile)
	for _, option := range options {
		option(r)
	}
	report := func(at place, p problem) { r.fault(at, "", p) }
	for _, f := range faults {
		report(f.at, f.value)
	}
	if len(faults) > 0 {
		return nil, r.faults.sorted() // the YAML parser would only add what follows from these
	}
	c := &Config{}
	if root := parseYAML(src, text, report); root != nil {
		r.readConfig(root, c)
	}
	if len(r.faults) > 0 {
		return nil, r.faults.sorted()
	}
	return c, nil
}

// readConfig reads the whole file. Sections come in the order in which they refer to each other.
func (r *reader) readConfig(root *node, c *Config) {
	if root.kind == kindNull {
		r.fault(root.at, "", problem{"the file is empty, want at least the section cluster", ""})
		return
	}
	top := r.section(root, "", "", root.at)
	if !top.given {
		return
	}
	c.Cluster = r.readCluster(top)
	c.Node = r.readNode(top)
	c.Kafka = r.readKafka(top)
	var known tables
	c.Tables, known = r.readTables(top)
	c.Connectors = r.readConnectors(top, known)
}
