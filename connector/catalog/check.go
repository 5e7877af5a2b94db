package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"nyala/store/vfs"
)

// File is the name of the catalog's file in its directory.
const File = fileName

// Check reads the catalog's file in a directory and returns what is wrong with it. No file is no fault:
// the node may not have saved yet.
func Check(fsys vfs.FS, dir string) []error {
	file := path.Join(dir, fileName)
	data, err := vfs.ReadFile(fsys, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = parseImage(data)
	}
	if err != nil {
		return []error{fmt.Errorf("catalog: file %s: %w", file, err)}
	}
	return nil
}

// ReadDurable reads up to where the catalog's file in a directory has the state: index 0 if there is no file.
func ReadDurable(fsys vfs.FS, dir string) (Durable, error) {
	data, err := vfs.ReadFile(fsys, path.Join(dir, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return Durable{}, nil
	}
	if err != nil {
		return Durable{}, fmt.Errorf("catalog: %w", err)
	}
	m, err := parseImage(data)
	return m.durable, err
}

// Check returns every invariant of the state that does not hold.
func (s *Snapshot) Check() []error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("catalog: "+format, args...))
	}
	if s.Format != 1 {
		fault("format %d, want 1", s.Format)
	}
	if !ascending(s.Nodes, func(n *Node) string { return n.Name }) ||
		!ascending(s.Connectors, func(c *Connector) string { return c.Name }) ||
		!ascending(s.Tables, tableID) || !ascending(s.Tablets, tabletID) {
		fault("a list is not sorted, or has an element twice or nil")
		return faults // all lookups below rely on it
	}
	names := map[string]bool{}
	owned := map[TabletID]*Table{}
	for _, t := range s.Tables {
		if t.ID == 0 || t.ID >= s.NextTable || names[t.Name] {
			fault("table %d %s: the id is not below %d, or the name is doubled", t.ID, t.Name, s.NextTable)
		}
		names[t.Name] = true
		if err := t.Validate(); err != nil {
			faults = append(faults, err)
			continue
		}
		s.checkPartitions(t, owned, fault)
		s.checkChange(t, fault)
	}
	for _, t := range s.Tablets {
		if t.ID == 0 || t.ID >= s.NextTablet {
			fault("tablet %d: the id is not below %d", t.ID, s.NextTablet)
		}
		if (t.ID == SystemTablet) != (t.Table == 0) || (t.ID != SystemTablet && owned[t.ID] == nil) {
			fault("tablet %d: no partition of table %d has it", t.ID, t.Table)
		}
		s.checkReplicas(t, fault)
	}
	for _, c := range s.Connectors {
		c.check(fault)
	}
	return faults
}

func ascending[T any, K interface{ ~string | ~uint64 }](list []*T, of func(*T) K) bool {
	for i, e := range list {
		if e == nil || (i > 0 && of(list[i-1]) >= of(e)) {
			return false
		}
	}
	return true
}

func (s *Snapshot) checkPartitions(t *Table, owned map[TabletID]*Table, fault func(string, ...any)) {
	r := t.Schema.Range
	if r == nil && len(t.Partitions) != 1 {
		fault("table %s: %d partitions without a range, want 1", t.Name, len(t.Partitions))
	}
	if !slices.IsSorted(t.Refused) {
		fault("table %s: its refused ranges are not sorted", t.Name)
	}
	for i, p := range t.Partitions {
		switch {
		case r == nil && (p.Low != 0 || p.High != 0):
			fault("table %s: partition [%d,%d) without a range", t.Name, p.Low, p.High)
		case r != nil && (r.RangeOf(p.Low) != p.Low || p.High-p.Low != r.Every || p.High < p.Low || p.Low < t.Floor):
			fault("table %s: partition [%d,%d) is not aligned to %d, or below the floor %d", t.Name, p.Low, p.High, r.Every, t.Floor)
		case i > 0 && t.Partitions[i-1].High > p.Low:
			fault("table %s: partition [%d,%d) overlaps the one before", t.Name, p.Low, p.High)
		}
		if _, refused := slices.BinarySearch(t.Refused, p.Low); refused {
			fault("table %s: partition [%d,%d) was refused and exists", t.Name, p.Low, p.High)
		}
		if len(p.Tablets) != t.Schema.Buckets {
			fault("table %s: partition [%d,%d) has %d tablets, want %d", t.Name, p.Low, p.High, len(p.Tablets), t.Schema.Buckets)
		}
		for bucket, id := range p.Tablets {
			tablet, ok := s.Tablet(id)
			if !ok || owned[id] != nil || tablet.Table != t.ID || tablet.Bucket != bucket || tablet.Low != p.Low || tablet.High != p.High {
				fault("table %s: partition [%d,%d) bucket %d: tablet %d is absent, doubled or another's", t.Name, p.Low, p.High, bucket, id)
			}
			if ok && tablet.Schema > t.Newest().Version {
				fault("tablet %d: made with schema version %d, table %s has %d", id, tablet.Schema, t.Name, t.Newest().Version)
			}
			owned[id] = t
		}
	}
}

func (s *Snapshot) checkReplicas(t *Tablet, fault func(string, ...any)) {
	leader := false
	for i, r := range t.Replicas {
		if i > 0 && compareReplicas(t.Replicas[i-1], r) >= 0 {
			fault("tablet %d: its replicas are not sorted, or %s is there twice", t.ID, r.Member)
		}
		if t.ID != SystemTablet && r.Voter && !r.Leaving && len(t.Bootstrap) > 0 {
			if _, ok := s.Node(r.Node); !ok {
				fault("tablet %d: there is no node %s", t.ID, r.Node)
			}
		}
		leader = leader || r.Node == t.Leader
	}
	if !leader {
		fault("tablet %d: node %s should lead and has no replica", t.ID, t.Leader)
	}
	for _, m := range t.Bootstrap {
		if _, ok := t.Replica(m); !ok {
			fault("tablet %d: %s creates the group and has no replica", t.ID, m)
		}
	}
}
