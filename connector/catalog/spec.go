package catalog

import (
	"fmt"
	"math"

	"nyala/store/schema"
)

// Bounds of what a table may be. Apply refuses beyond them, so they belong to command version 1.
const (
	nameMax       = 255
	replicasMax   = 15
	bucketsMax    = 4096
	aheadMax      = 1000
	rangesMaxMost = 100_000
	// refusedMax bounds Table.Refused, which every state file carries: 32 KiB a table.
	refusedMax = 4096
	// tabletsOfRanges is how many tablets a table with ranges may have before WithDefaults stops it: each
	// costs every node that holds it memory and heartbeats, and wrong times in records can ask for any number.
	tabletsOfRanges = 1024
)

const microsPerDay = 24 * 60 * 60 * 1_000_000

// WithDefaults fills what a definition leaves open. The proposer does it, never Apply: a later release
// may choose otherwise.
func (s TableSpec) WithDefaults() TableSpec {
	if s.RangesMax == 0 && s.Schema != nil && s.Schema.Range != nil {
		s.RangesMax = max(tabletsOfRanges/max(s.Schema.Buckets, 1), 16)
		if every := s.Schema.Range.Every; s.Retain > 0 && every > 0 {
			kept := min(s.Retain/every, rangesMaxMost/2) + int64(s.Ahead)
			s.RangesMax = max(s.RangesMax, int(kept+kept/4)+2) // a quarter more for late data
		}
		s.RangesMax = min(s.RangesMax, rangesMaxMost)
	}
	return s
}

// Validate returns what is wrong with s, or nil. RangesMax must have been set.
func (s TableSpec) Validate() error {
	switch {
	case s.Name == "" || len(s.Name) > nameMax:
		return fmt.Errorf("catalog: table %q: the name has %d bytes, want 1 to %d", s.Name, len(s.Name), nameMax)
	case s.Schema == nil:
		return fmt.Errorf("catalog: table %s: a schema is needed", s.Name)
	case s.Replicas < 1 || s.Replicas > replicasMax || s.Replicas%2 == 0:
		return fmt.Errorf("catalog: table %s: got %d replicas, want an odd number of 1 to %d", s.Name, s.Replicas, replicasMax)
	case s.Schema.Buckets > bucketsMax:
		return fmt.Errorf("catalog: table %s: got %d buckets, want at most %d", s.Name, s.Schema.Buckets, bucketsMax)
	case s.History < 0 || s.Retain < 0 || s.Ahead < 0 || s.Ahead > aheadMax:
		return fmt.Errorf("catalog: table %s: history %s, retain %d or ahead %d (at most %d) is out of bounds", s.Name, s.History, s.Retain, s.Ahead, aheadMax)
	}
	if err := s.Schema.Validate(); err != nil {
		return fmt.Errorf("catalog: table %s: %w", s.Name, err)
	}
	if hasRange := s.Schema.Range != nil; !hasRange && (s.Ahead != 0 || s.Retain != 0 || s.RangesMax != 0) {
		return fmt.Errorf("catalog: table %s: ahead, retain and a limit of ranges need a range", s.Name)
	} else if hasRange && (s.RangesMax < 1 || s.RangesMax > rangesMaxMost) {
		return fmt.Errorf("catalog: table %s: got a limit of %d ranges, want 1 to %d", s.Name, s.RangesMax, rangesMaxMost)
	}
	for _, c := range s.Schema.Columns {
		if err := validateDefault(c); err != nil {
			return fmt.Errorf("catalog: table %s: %w", s.Name, err)
		}
	}
	return nil
}

// validateDefault refuses what would not come back out of the state's JSON as it went in, or could not be printed.
func validateDefault(c schema.Column) error {
	if c.Default == nil {
		return nil
	}
	if n := len(c.Default.Bytes); c.Type.Kind == schema.UUID && !c.Default.Null && n != 16 {
		return fmt.Errorf("column %s: default of %d bytes, want the 16 of a uuid", c.Name, n)
	}
	f := c.Default.Float
	if math.IsNaN(f) || math.IsInf(f, 0) || (f == 0 && math.Signbit(f)) {
		return fmt.Errorf("column %s: default %v cannot be kept, want a finite number that is not -0", c.Name, f)
	}
	return nil
}

// timeOf is the value that time t has in the range column, if the table is partitioned by time.
func (s TableSpec) timeOf(t Micros) (int64, bool) {
	if s.Schema.Range == nil {
		return 0, false
	}
	switch s.Schema.Columns[s.Schema.Range.Column].Type.Kind {
	case schema.Timestamp:
		return int64(t), true
	case schema.Date:
		day := schema.Range{Every: microsPerDay}
		return day.RangeOf(int64(t)) / microsPerDay, true
	}
	return 0, false
}
