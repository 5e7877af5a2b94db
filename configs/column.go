package configs

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The kinds of column types.
const (
	kindBoolean   = "bool"
	kindInt8      = "int8"
	kindInt16     = "int16"
	kindInt32     = "int32"
	kindInt64     = "int64"
	kindFloat32   = "float32"
	kindFloat64   = "float64"
	kindDecimal   = "decimal"
	kindString    = "string"
	kindBinary    = "binary"
	kindUUID      = "uuid"
	kindDate      = "date"
	kindTimestamp = "timestamp"
	kindJSON      = "json"
)

// simpleKinds are the types without parameters.
var simpleKinds = []string{
	kindBoolean, kindInt8, kindInt16, kindInt32, kindInt64, kindFloat32, kindFloat64,
	kindString, kindBinary, kindUUID, kindDate, kindTimestamp, kindJSON,
}

var integerBits = map[string]int{kindInt8: 8, kindInt16: 16, kindInt32: 32, kindInt64: 64}

// keyable reports whether a column of the type may be in a primary key. As in Kudu, equality of
// floats and a key of two values are mistakes; JSON text has no one form.
func (t Type) keyable() bool {
	return !slices.Contains([]string{kindBoolean, kindFloat32, kindFloat64, kindJSON}, t.Kind)
}

var decimalType = regexp.MustCompile(`^decimal\s*\(\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*\)$`)

func parseType(v value) (Type, error) {
	if slices.Contains(simpleKinds, v.text) {
		return Type{Kind: v.text}, nil
	}
	if match := decimalType.FindStringSubmatch(v.text); match != nil {
		precision, _ := strconv.Atoi(match[1])
		scale, _ := strconv.Atoi(match[2])
		if precision < 1 || precision > maxPrecision {
			return Type{}, problem{fmt.Sprintf("got a decimal of %s, want 1 to %d", count(precision, "digit"), maxPrecision), ""}
		}
		if scale > precision {
			return Type{}, problem{fmt.Sprintf("got a decimal with %d of %s behind the point", scale, count(precision, "digit")),
				fmt.Sprintf("the scale is at most the precision, %d", precision)}
		}
		return Type{Kind: kindDecimal, Precision: precision, Scale: scale}, nil
	}
	p := problem{message: "unknown type " + quote(v.text)}
	base, parameters, _ := strings.Cut(v.text, "(")
	switch {
	case strings.EqualFold(strings.TrimSpace(base), kindDecimal):
		p.hint = "a decimal has a precision and a scale, such as decimal(18,2)"
	case parameters != "" && slices.Contains(simpleKinds, strings.TrimSpace(base)):
		p.hint = fmt.Sprintf("%s has no parameters", strings.TrimSpace(base))
	default:
		p.hint = suggest(v.text, append([]string{"decimal(18,2)"}, simpleKinds...))
		if p.hint == "" {
			p.hint = suggestOrList(base, "the types", append(slices.Clone(simpleKinds), "decimal(p,s)"))
		}
	}
	return Type{}, p
}

// columnSettings is one column, still with its places. A column whose type could not be read
// has Type.Kind "": nothing that depends on the type is checked then.
type columnSettings struct {
	Column
	nameAt, typeAt, nullableAt place
}

// readColumn reads one element of tables[].columns; ok is false when it has no usable name.
func (r *reader) readColumn(n *node, table string, number int, at place) (c columnSettings, ok bool) {
	label := fmt.Sprintf("%s, column %s", table, peek(n, "name", fmt.Sprintf("number %d", number)))
	s := r.section(n, "tables[].columns[]", label, at)
	name := required(s, "name", "every column has one", parseColumnName)
	kind := required(s, "type", "give one such as int64, string or timestamp", parseType)
	nullable := optional(s, "nullable", false, parseBool)
	c.Column = Column{Name: name.value, Type: kind.value, Nullable: nullable.value}
	c.nameAt, c.typeAt, c.nullableAt = name.at, kind.at, nullable.at
	if d := s.node("default"); d != nil {
		c.Default = s.readDefault(d, c.Column, kind.ok && nullable.ok)
	}
	return c, name.ok
}

// readDefault reads a default. Typed says that the type of the column is known.
func (s *section) readDefault(n *node, c Column, typed bool) any {
	object := s.object("default")
	switch {
	case n.kind == kindNull && (c.Nullable || !typed):
		return nil
	case n.kind == kindNull:
		s.fault(n.at, object, problem{"got null, and the column is not nullable", "add nullable: true, or leave the default out"})
		return nil
	case n.kind > kindBool && c.Type.Kind == kindJSON:
		s.fault(n.at, object, problem{"got a YAML list or mapping, want JSON as text", `put it in quotes, such as '{"a": 1}'`})
		return nil
	}
	want := "a single value"
	if typed {
		want = "a value of type " + c.Type.String()
	}
	v, ok := s.scalar(n, object, want, false)
	if !ok || !typed {
		return nil
	}
	result, ok := judge(s.reader, v, object, func(v value) (any, error) { return parseDefault(v, c.Type) })
	if !ok {
		return nil
	}
	return result
}

// parseDefault returns the default of a column in the Go type that Column.Default promises.
func parseDefault(v value, t Type) (any, error) {
	want := "a value of type " + t.String()
	switch t.Kind {
	case kindBoolean:
		return anyOf(parseBool(v))
	case kindInt8, kindInt16, kindInt32, kindInt64:
		want = "an " + t.Kind + " in plain digits"
		n, err := strconv.ParseInt(v.text, 10, integerBits[t.Kind])
		if err != nil || strings.HasPrefix(v.text, "+") || v.text == "-0" {
			if errorsIsRange(err) {
				bits := uint(integerBits[t.Kind])
				want = fmt.Sprintf("an %s, from %d to %d", t, int64(-1)<<(bits-1), int64(1)<<(bits-1)-1)
			}
			return nil, got(v, want)
		}
		return anyOf(n, unquotedNumber(v, want))
	case kindFloat32, kindFloat64:
		return parseFloatDefault(v, t)
	case kindDecimal:
		n, err := parseDecimal(v, t)
		return anyOf(n, cmp.Or(err, unquotedNumber(v, want)))
	}
	if !v.isText() {
		return nil, problem{got(v, want).message, fmt.Sprintf("put it in quotes: %q", v.text)}
	}
	return parseTextDefault(v, t)
}

func anyOf[T any](v T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

func errorsIsRange(err error) bool {
	return err != nil && strings.HasSuffix(err.Error(), strconv.ErrRange.Error())
}

// unquotedNumber refuses a number in quotes, which is text.
func unquotedNumber(v value, want string) error {
	if v.quoted && v.from == "" {
		return problem{fmt.Sprintf("got the text %s, want %s", quote(v.text), want), "leave the quotes out"}
	}
	return nil
}

var floatPattern = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

func parseFloatDefault(v value, t Type) (any, error) {
	bits := 64
	if t.Kind == kindFloat32 {
		bits = 32
	}
	want := "a value of type " + t.String()
	if strings.Contains(strings.ToLower(v.text), "nan") || strings.Contains(strings.ToLower(v.text), "inf") {
		want = "a finite number"
	}
	if !floatPattern.MatchString(v.text) {
		return nil, got(v, want)
	}
	f, err := strconv.ParseFloat(v.text, bits)
	if err != nil {
		return nil, got(v, fmt.Sprintf("%s: a smaller number", t))
	}
	if f == 0 && math.Signbit(f) {
		return nil, problem{got(v, "a number").message, "a default cannot be -0, write 0"}
	}
	return anyOf(f, unquotedNumber(v, want))
}

var decimalNumber = regexp.MustCompile(`^(-?)([0-9]+)(?:\.([0-9]+))?$`)

// parseDecimal returns the unscaled value of a number in plain digits.
func parseDecimal(v value, t Type) (int64, error) {
	match := decimalNumber.FindStringSubmatch(v.text)
	if match == nil {
		return 0, got(v, "a value of type "+t.String()+" in plain digits")
	}
	whole, fraction := strings.TrimLeft(match[2], "0"), strings.TrimRight(match[3], "0")
	if len(fraction) > t.Scale || len(whole) > t.Precision-t.Scale {
		return 0, got(v, fmt.Sprintf("%s: at most %s before and %d behind the point", t, count(t.Precision-t.Scale, "digit"), t.Scale))
	}
	n, err := strconv.ParseInt(match[1]+"0"+whole+fraction+strings.Repeat("0", t.Scale-len(fraction)), 10, 64)
	must(err == nil, "configs: decimal %q: %v", v.text, err)
	return n, nil
}

var uuidPattern = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

// parseTextDefault reads the defaults that are written as text.
func parseTextDefault(v value, t Type) (any, error) {
	switch t.Kind {
	case kindString:
		if !utf8.ValidString(v.text) {
			return nil, got(v, "text in UTF-8")
		}
		return v.text, nil
	case kindJSON:
		if !json.Valid([]byte(v.text)) || !utf8.ValidString(v.text) {
			return nil, got(v, "valid JSON")
		}
		return v.text, nil
	case kindBinary:
		b, err := base64.StdEncoding.Strict().DecodeString(v.text)
		if err != nil || strings.ContainsAny(v.text, "\r\n") {
			return nil, got(v, "bytes in base64, such as aGVsbG8=")
		}
		return b, nil
	case kindUUID:
		if !uuidPattern.MatchString(v.text) {
			return nil, got(v, "a uuid such as 6f1c2d3e-0000-4000-8000-0123456789ab")
		}
		var u [16]byte
		_, err := hex.Decode(u[:], []byte(strings.ReplaceAll(v.text, "-", "")))
		must(err == nil, "configs: uuid %q: %v", v.text, err)
		return u, nil
	case kindDate:
		d, err := time.Parse(time.DateOnly, v.text)
		if err != nil {
			return nil, got(v, "a date such as 2026-01-31")
		}
		return d.Unix() / secondsPerDay, nil
	case kindTimestamp:
		at, err := parseTime(v, "a time in RFC 3339, such as 2026-01-31T12:00:00Z")
		if err == nil && at.Nanosecond()%1000 != 0 {
			err = got(v, "a time of at most six digits of a second")
		}
		return anyOf(at.UnixMicro(), err)
	}
	must(false, "configs: no default of type %s", t)
	return nil, nil
}

const secondsPerDay = 24 * 60 * 60

// parseTime reads a time in RFC 3339 and returns it in UTC. A year that leaves 0 to 9999 by its
// offset could not be printed again.
func parseTime(v value, want string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339Nano, v.text)
	at = at.UTC()
	if err != nil || at.Year() < 0 || at.Year() > 9999 {
		return time.Time{}, got(v, want)
	}
	return at, nil
}
