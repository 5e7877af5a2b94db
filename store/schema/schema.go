package schema

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// ColumnID names a column for ever; ids start at 1 and are never given twice in a table.
type ColumnID uint32

// Column is one column of a table.
type Column struct {
	ID       ColumnID `json:"id"`
	Name     string   `json:"name"`
	Type     Type     `json:"type"`
	Nullable bool     `json:"nullable,omitempty"`
	Default  *Value   `json:"default,omitempty"` // used where a record has no value
	Since    uint32   `json:"since,omitempty"`   // version of the schema that added it; 0: there from the beginning
}

// Range partitions a table by equal intervals of one key column.
type Range struct {
	Column int   `json:"column"` // position in Columns
	Every  int64 `json:"every"`  // in the column's unit: microseconds, days, or the integer itself
}

// Schema is a table's columns, key and partitioning. It is immutable once in use.
type Schema struct {
	Version uint32   `json:"version"`
	Columns []Column `json:"columns"`
	Key     []int    `json:"key"`  // positions of the primary key's columns, most significant first
	Hash    []int    `json:"hash"` // positions of the hashed columns, part of the key
	Buckets int      `json:"buckets"`
	Range   *Range   `json:"range,omitempty"`
}

// Position is the place of the named column, or -1.
func (s *Schema) Position(name string) int {
	return slices.IndexFunc(s.Columns, func(c Column) bool { return c.Name == name })
}

// PositionOf is the place of the column with that id, or -1.
func (s *Schema) PositionOf(id ColumnID) int {
	return slices.IndexFunc(s.Columns, func(c Column) bool { return c.ID == id })
}

// KeyWidth is the length in bytes of every encoded primary key, or 0 when keys differ in length.
func (s *Schema) KeyWidth() int {
	n := 0
	for _, k := range s.Key {
		w := s.Columns[k].Type.Width()
		if w == 0 {
			return 0
		}
		n += w
	}
	return n
}

// Validate returns what is wrong with s, or nil.
func (s *Schema) Validate() error {
	names := map[string]bool{}
	ids := map[ColumnID]bool{}
	for _, c := range s.Columns {
		switch {
		case c.Name == "" || names[c.Name]:
			return fmt.Errorf("schema: column name %q is empty or doubled", c.Name)
		case c.ID == 0 || ids[c.ID]:
			return fmt.Errorf("schema: column %s: id %d is zero or doubled", c.Name, c.ID)
		case !c.Type.Valid():
			return fmt.Errorf("schema: column %s: type %s is not valid", c.Name, c.Type)
		}
		names[c.Name], ids[c.ID] = true, true
	}
	if len(s.Key) == 0 {
		return fmt.Errorf("schema: a primary key is needed")
	}
	for i, k := range s.Key {
		if k < 0 || k >= len(s.Columns) || slices.Contains(s.Key[:i], k) {
			return fmt.Errorf("schema: primary key position %d is out of range or doubled", k)
		}
		if c := s.Columns[k]; c.Nullable || !c.Type.Keyable() {
			return fmt.Errorf("schema: column %s cannot be in the primary key: it is nullable or of type %s", c.Name, c.Type)
		}
	}
	if err := s.validateAdded(); err != nil {
		return err
	}
	return s.validatePartitions()
}

func (s *Schema) validatePartitions() error {
	for _, h := range s.Hash {
		if !slices.Contains(s.Key, h) {
			return fmt.Errorf("schema: hash position %d is not in the primary key", h)
		}
	}
	if s.Buckets < 1 || (len(s.Hash) == 0 && s.Buckets != 1) {
		return fmt.Errorf("schema: got %d buckets over %d hashed columns", s.Buckets, len(s.Hash))
	}
	if r := s.Range; r != nil {
		if !slices.Contains(s.Key, r.Column) || r.Every <= 0 {
			return fmt.Errorf("schema: range column %d is not in the primary key, or its interval %d is not positive", r.Column, r.Every)
		}
		if t := s.Columns[r.Column].Type; !t.Integral() {
			return fmt.Errorf("schema: range column %s is of type %s, want an integer, a date or a timestamp", s.Columns[r.Column].Name, t)
		}
	}
	return nil
}

// RangeOf is the lower bound of the range partition that value v of the range column falls into.
func (r *Range) RangeOf(v int64) int64 {
	m := v % r.Every
	if m < 0 {
		m += r.Every
	}
	return v - m
}

// Key encoding. Encoded keys compare byte by byte as the keys do. Integers are big endian with
// the sign bit flipped; a UUID is its 16 bytes; text and binary escape 0x00 as 0x00 0xff and end
// with 0x00 0x01 (also in the last place, so that a key is never a prefix of another).

// AppendKeyInt appends the key form of an integral value that has width bytes.
func AppendKeyInt(dst []byte, v int64, width int) []byte {
	switch width {
	case 1:
		return append(dst, byte(v)^0x80)
	case 2:
		return binary.BigEndian.AppendUint16(dst, uint16(v)^1<<15)
	case 4:
		return binary.BigEndian.AppendUint32(dst, uint32(v)^1<<31)
	}
	return binary.BigEndian.AppendUint64(dst, uint64(v)^1<<63)
}

// AppendKeyBytes appends the key form of text or binary.
func AppendKeyBytes(dst, v []byte) []byte {
	for _, c := range v {
		dst = append(dst, c)
		if c == 0 {
			dst = append(dst, 0xff)
		}
	}
	return append(dst, 0, 1)
}

// AppendKeyValue appends the key form of any value a key column may have.
func AppendKeyValue(dst []byte, t Type, v Value) []byte {
	switch {
	case t.Integral():
		return AppendKeyInt(dst, v.Int, t.Width())
	case t.Kind == UUID:
		return append(dst, v.Bytes...)
	}
	return AppendKeyBytes(dst, v.Bytes)
}

// Hashing of a row's hash columns, in their order: h starts at 0; h = Mix(h, HashInt or HashBytes of the column).

// HashBytes is the hash of a variable-length or 16-byte value (xxHash64, seed 0).
func HashBytes(b []byte) uint64 { return xxhash.Sum64(b) }

// Mix takes one column's value (an integer's 64 bits, or HashBytes of the others) into the row's
// hash: the finaliser of MurmurHash3 over their xor.
func Mix(h, v uint64) uint64 {
	h ^= v + 0x9e3779b97f4a7c15
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// BucketOf maps a row's hash to one of n buckets.
func BucketOf(h uint64, n int) int {
	hi, _ := bits.Mul64(h, uint64(n))
	return int(hi)
}
