package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
)

// A table's schema changes in one way: columns are appended, and the version rises by one. So the columns of every
// earlier version are the first ones of the newest, and a row that was written before a column came has its default, or null.

// At is s as it was in one of its earlier versions.
func (s *Schema) At(version uint32) *Schema {
	out := *s
	out.Version = min(version, s.Version)
	for i, c := range s.Columns {
		if c.Since > version {
			out.Columns = s.Columns[:i:i]
			break
		}
	}
	return &out
}

// Equal tells whether two schemas are the same in everything.
func (s *Schema) Equal(o *Schema) bool { return bytes.Equal(s.Text(), o.Text()) }

// Text is the one form of s as text; ParseSchema reads it.
func (s *Schema) Text() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("schema: " + err.Error()) // a default that JSON has no text for: the catalog takes none, nor does Follows
	}
	return b
}

// ParseSchema reads what Text wrote, and nothing that is written otherwise.
func ParseSchema(text []byte) (*Schema, error) {
	s := &Schema{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if !bytes.Equal(s.Text(), text) {
		return nil, fmt.Errorf("schema: %d bytes are not written as a schema is", len(text))
	}
	return s, nil
}

// Follows says why s cannot be the version after old; nil if it can.
func (s *Schema) Follows(old *Schema) error {
	if err := s.Validate(); err != nil {
		return err
	}
	switch {
	case s.Version != old.Version+1:
		return fmt.Errorf("schema: got version %d behind version %d, want %d", s.Version, old.Version, old.Version+1)
	case !s.At(old.Version).Equal(old):
		return fmt.Errorf("schema: version %d changes more than that columns are appended", s.Version)
	case len(s.Columns) == len(old.Columns):
		return fmt.Errorf("schema: version %d has no new column", s.Version)
	}
	var last ColumnID
	for _, c := range s.Columns {
		if c.Since == s.Version && c.ID <= last {
			return fmt.Errorf("schema: column %s: got id %d, want one above %d", c.Name, c.ID, last)
		}
		last = max(last, c.ID)
	}
	return nil
}

// validateAdded returns what is wrong with the columns that came after the first version.
func (s *Schema) validateAdded() error {
	since := uint32(0)
	for i, c := range s.Columns {
		switch {
		case c.Since < since || c.Since > s.Version:
			return fmt.Errorf("schema: column %s is of version %d, behind one of version %d in version %d", c.Name, c.Since, since, s.Version)
		case c.Since == 0:
			continue
		case c.Default != nil && (math.IsNaN(c.Default.Float) || math.IsInf(c.Default.Float, 0)):
			return fmt.Errorf("schema: column %s: got the default %g, want a finite number", c.Name, c.Default.Float)
		case !c.Nullable && c.Default == nil:
			return fmt.Errorf("schema: column %s was added and is neither nullable nor has it a default: older rows have no value", c.Name)
		case c.Default != nil && c.Default.Null && !c.Nullable:
			return fmt.Errorf("schema: column %s was added with the default null and is not nullable", c.Name)
		case c.Default != nil && !c.Default.Null && c.Type.Kind == UUID && len(c.Default.Bytes) != 16:
			return fmt.Errorf("schema: column %s: got a default of %d bytes, want 16", c.Name, len(c.Default.Bytes))
		}
		since = c.Since
		for _, k := range s.Key {
			if k == i {
				return fmt.Errorf("schema: column %s was added and cannot be in the primary key", c.Name)
			}
		}
	}
	return nil
}
