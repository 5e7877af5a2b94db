package schema

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Value is one value outside the hot path: a default, a predicate's constant, a cell to print.
// Integral types and bool (0, 1) use Int, floats Float, the rest Bytes (a UUID has 16 of them).
type Value struct {
	Null  bool    `json:"null,omitempty"`
	Int   int64   `json:"int,omitempty"`
	Float float64 `json:"float,omitempty"`
	Bytes []byte  `json:"bytes,omitempty"`
}

// Null is the absent value.
var Null = Value{Null: true}

// Compare orders two values of type t: null first, NaN after every other float, bytes by their order.
func Compare(t Type, a, b Value) int {
	switch {
	case a.Null || b.Null:
		return -cmp.Compare(boolInt(a.Null), boolInt(b.Null))
	case t.Integral():
		return cmp.Compare(a.Int, b.Int)
	case t.Kind == Float32 || t.Kind == Float64:
		if na, nb := math.IsNaN(a.Float), math.IsNaN(b.Float); na || nb {
			return cmp.Compare(boolInt(na), boolInt(nb))
		}
		return cmp.Compare(a.Float, b.Float)
	}
	return bytes.Compare(a.Bytes, b.Bytes)
}

func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

var intBits = map[Kind]int{Int8: 8, Int16: 16, Int32: 32, Int64: 64}

// ParseValue reads text as a value of type t, as a default or a predicate writes it: numbers in
// decimal, a timestamp in RFC 3339 or as microseconds, a date as 2006-01-02, a UUID in hex with or
// without dashes, binary in base64.
func ParseValue(t Type, text string) (Value, error) {
	v, err := parseValue(t, text)
	if err != nil {
		return Value{}, fmt.Errorf("schema: %q is no %s: %w", text, t, err)
	}
	return v, nil
}

func parseValue(t Type, text string) (v Value, err error) {
	switch t.Kind {
	case Bool:
		b, err := strconv.ParseBool(text)
		return Value{Int: boolInt(b)}, err
	case Int8, Int16, Int32, Int64:
		v.Int, err = strconv.ParseInt(text, 10, intBits[t.Kind])
		return v, err
	case Float32:
		v.Float, err = strconv.ParseFloat(text, 32)
		return v, err
	case Float64:
		v.Float, err = strconv.ParseFloat(text, 64)
		return v, err
	case Decimal:
		v.Int, err = ParseDecimal([]byte(text), t.Precision, t.Scale)
		return v, err
	case Date:
		d, err := time.Parse("2006-01-02", text)
		return Value{Int: d.Unix() / 86400}, err
	case Timestamp:
		return parseTimestamp(text)
	case UUID:
		b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
		if err == nil && len(b) != 16 {
			err = fmt.Errorf("got %d bytes, want 16", len(b))
		}
		return Value{Bytes: b}, err
	case Binary:
		b, err := base64.StdEncoding.DecodeString(text)
		return Value{Bytes: b}, err
	case JSON:
		if !json.Valid([]byte(text)) {
			err = fmt.Errorf("not valid JSON")
		}
	}
	if !utf8.ValidString(text) {
		err = fmt.Errorf("not valid UTF-8")
	}
	return Value{Bytes: []byte(text)}, err
}

func parseTimestamp(text string) (Value, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return Value{Int: n}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02"} {
		if ts, err := time.Parse(layout, text); err == nil {
			return Value{Int: ts.UnixMicro()}, nil
		}
	}
	return Value{}, fmt.Errorf("want RFC 3339, a date, or microseconds since 1970")
}

// ParseDecimal reads a plain or exponential decimal number exactly as an unscaled int64: "-1.50"
// with scale 2 is -150. A number with more digits than the type has is an error, never rounded.
func ParseDecimal(text []byte, precision, scale uint8) (int64, error) {
	s := text
	neg := len(s) > 0 && s[0] == '-'
	if neg {
		s = s[1:]
	}
	exp := 0
	if i := bytes.IndexAny(s, "eE"); i >= 0 {
		e, err := strconv.Atoi(string(s[i+1:]))
		if err != nil || e < -1000 || e > 1000 {
			return 0, fmt.Errorf("bad exponent")
		}
		exp, s = e, s[:i]
	}
	var digits []byte
	point := -1
	for _, c := range s {
		switch {
		case c >= '0' && c <= '9':
			digits = append(digits, c)
		case c == '.' && point < 0 && len(digits) > 0:
			point = len(digits)
		default:
			return 0, fmt.Errorf("bad character %q", c)
		}
	}
	if len(digits) == 0 || point == len(digits) {
		return 0, fmt.Errorf("want digits")
	}
	if point < 0 {
		point = len(digits)
	}
	return scaleDigits(digits, point+exp+int(scale), int(precision), neg)
}

// scaleDigits takes the first n digits as the unscaled number; all behind them must be zero.
func scaleDigits(digits []byte, n, precision int, neg bool) (int64, error) {
	lead := 0
	for lead < len(digits) && digits[lead] == '0' {
		lead++
	}
	if lead == len(digits) {
		return 0, nil
	}
	if n-lead > precision {
		return 0, fmt.Errorf("more than %d digits", precision)
	}
	var v int64
	for i := range max(n, len(digits)) {
		d := byte('0')
		if i < len(digits) {
			d = digits[i]
		}
		if i < n {
			v = v*10 + int64(d-'0')
		} else if d != '0' {
			return 0, fmt.Errorf("more decimal places than the type has")
		}
	}
	if neg {
		v = -v
	}
	return v, nil
}

// AppendText appends v as a person reads it; ParseValue accepts it again.
func AppendText(dst []byte, t Type, v Value) []byte {
	if v.Null {
		return append(dst, "NULL"...)
	}
	switch t.Kind {
	case Bool:
		return strconv.AppendBool(dst, v.Int != 0)
	case Int8, Int16, Int32, Int64:
		return strconv.AppendInt(dst, v.Int, 10)
	case Float32:
		return strconv.AppendFloat(dst, v.Float, 'g', -1, 32)
	case Float64:
		return strconv.AppendFloat(dst, v.Float, 'g', -1, 64)
	case Decimal:
		return appendDecimal(dst, v.Int, int(t.Scale))
	case Date:
		return time.Unix(v.Int*86400, 0).UTC().AppendFormat(dst, "2006-01-02")
	case Timestamp:
		return time.UnixMicro(v.Int).UTC().AppendFormat(dst, "2006-01-02T15:04:05.999999Z")
	case UUID:
		h := hex.EncodeToString(v.Bytes)
		return append(dst, h[:8]+"-"+h[8:12]+"-"+h[12:16]+"-"+h[16:20]+"-"+h[20:]...)
	case Binary:
		return base64.StdEncoding.AppendEncode(dst, v.Bytes)
	}
	return append(dst, v.Bytes...)
}

func appendDecimal(dst []byte, n int64, scale int) []byte {
	u := uint64(n)
	if n < 0 {
		dst, u = append(dst, '-'), -u
	}
	s := strconv.FormatUint(u, 10)
	if scale == 0 {
		return append(dst, s...)
	}
	if pad := scale + 1 - len(s); pad > 0 {
		s = strings.Repeat("0", pad) + s
	}
	return append(dst, s[:len(s)-scale]+"."+s[len(s)-scale:]...)
}
