package schema

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is the logical type of a column. The numbers are in files: never renumber.
type Kind uint8

// The kinds a column can have.
const (
	Bool      Kind = 1
	Int8      Kind = 2
	Int16     Kind = 3
	Int32     Kind = 4
	Int64     Kind = 5
	Float32   Kind = 6
	Float64   Kind = 7
	Decimal   Kind = 8 // up to 18 digits, an unscaled int64
	String    Kind = 9 // valid UTF-8
	Binary    Kind = 10
	UUID      Kind = 11
	Date      Kind = 12 // int32 days since 1970-01-01
	Timestamp Kind = 13 // int64 microseconds since 1970-01-01T00:00:00Z
	JSON      Kind = 14 // checked JSON text
)

var kindNames = [...]string{
	Bool: "bool", Int8: "int8", Int16: "int16", Int32: "int32", Int64: "int64", Float32: "float32",
	Float64: "float64", Decimal: "decimal", String: "string", Binary: "binary", UUID: "uuid",
	Date: "date", Timestamp: "timestamp", JSON: "json",
}

// Layout is how the values of a column lie in memory; the same as Arrow's.
type Layout uint8

// The layouts: bits are packed least significant first; Bytes has int32 offsets before the values.
const (
	Bits Layout = iota + 1
	Fixed1
	Fixed2
	Fixed4
	Fixed8
	Fixed16
	Bytes
)

var kindLayouts = [...]Layout{
	Bool: Bits, Int8: Fixed1, Int16: Fixed2, Int32: Fixed4, Int64: Fixed8, Float32: Fixed4,
	Float64: Fixed8, Decimal: Fixed8, String: Bytes, Binary: Bytes, UUID: Fixed16, Date: Fixed4,
	Timestamp: Fixed8, JSON: Bytes,
}

var layoutWidths = [...]int{Bits: 0, Fixed1: 1, Fixed2: 2, Fixed4: 4, Fixed8: 8, Fixed16: 16, Bytes: 0}

// DecimalDigitsMax is the most digits a decimal column holds: what an int64 always can.
const DecimalDigitsMax = 18

// Type is a column's type; Precision and Scale are those of a decimal and zero otherwise.
type Type struct {
	Kind      Kind  `json:"kind"`
	Precision uint8 `json:"precision,omitempty"`
	Scale     uint8 `json:"scale,omitempty"`
}

// Layout says how values of t lie in memory.
func (t Type) Layout() Layout { return kindLayouts[t.Kind] }

// Width is the number of bytes of one value, 0 for Bits and Bytes.
func (t Type) Width() int { return layoutWidths[kindLayouts[t.Kind]] }

// Valid tells whether t is one of the types above with sane precision and scale.
func (t Type) Valid() bool {
	if t.Kind < Bool || t.Kind > JSON {
		return false
	}
	if t.Kind == Decimal {
		return t.Precision >= 1 && t.Precision <= DecimalDigitsMax && t.Scale <= t.Precision
	}
	return t.Precision == 0 && t.Scale == 0
}

// Keyable tells whether a column of type t may be in a primary key: as in Kudu, floats and bools may not.
func (t Type) Keyable() bool {
	switch t.Kind {
	case Bool, Float32, Float64, JSON:
		return false
	}
	return true
}

// Integral tells whether values of t are held as integers (Value.Int).
func (t Type) Integral() bool {
	switch t.Kind {
	case Bool, Int8, Int16, Int32, Int64, Decimal, Date, Timestamp:
		return true
	}
	return false
}

func (k Kind) String() string {
	if int(k) < len(kindNames) && k != 0 {
		return kindNames[k]
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

func (t Type) String() string {
	if t.Kind == Decimal {
		return fmt.Sprintf("decimal(%d,%d)", t.Precision, t.Scale)
	}
	return t.Kind.String()
}

// KindNames lists the names a type may have, as they are written in a configuration.
func KindNames() []string { return kindNames[1:] }

// ParseType reads a type as String writes it: "int32", "decimal(10,2)".
func ParseType(s string) (Type, error) {
	name, args, hasArgs := strings.Cut(strings.TrimSpace(s), "(")
	for k := Bool; k <= JSON; k++ {
		if kindNames[k] != strings.TrimSpace(name) {
			continue
		}
		t := Type{Kind: k}
		if k != Decimal {
			if hasArgs {
				return Type{}, fmt.Errorf("schema: type %q: %s takes no arguments", s, name)
			}
			return t, nil
		}
		if err := t.parseDecimal(args); err != nil {
			return Type{}, fmt.Errorf("schema: type %q: %w", s, err)
		}
		return t, nil
	}
	return Type{}, fmt.Errorf("schema: type %q is unknown, want one of %s", s, strings.Join(KindNames(), ", "))
}

func (t *Type) parseDecimal(args string) error {
	inner, ok := strings.CutSuffix(args, ")")
	p, s, both := strings.Cut(inner, ",")
	precision, err1 := strconv.Atoi(strings.TrimSpace(p))
	scale, err2 := strconv.Atoi(strings.TrimSpace(s))
	if !ok || !both || err1 != nil || err2 != nil {
		return fmt.Errorf("want decimal(precision,scale)")
	}
	if precision < 1 || precision > DecimalDigitsMax || scale < 0 || scale > precision {
		return fmt.Errorf("want a precision of 1 to %d and a scale of 0 to the precision", DecimalDigitsMax)
	}
	t.Precision, t.Scale = uint8(precision), uint8(scale)
	return nil
}
