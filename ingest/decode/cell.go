package decode

import (
	"encoding/base64"
	"math"
	"slices"
	"unicode/utf8"

	"nyala/store/batch"
	"nyala/store/schema"
)

// cell appends the value at i, which is not null, to one column.
func (d *JSON) cell(s []byte, i, column, depth int) (next int, reason Reason) {
	k := &d.rows.Columns[column]
	switch k.Type.Kind {
	case schema.Int64:
		if v, next, ok := fastInt(s, i); ok {
			k.AppendInt(v)
			d.filled++
			return next, ""
		}
	case schema.Int8, schema.Int16, schema.Int32:
		if v, next, ok := fastInt(s, i); ok && fits(k.Type.Kind, v) {
			k.AppendInt(v)
			d.filled++
			return next, ""
		}
	case schema.Timestamp:
		if v, next, ok := fastInt(s, i); ok {
			if v, ok = d.micros(v); ok {
				k.AppendInt(v)
				d.filled++
				return next, ""
			}
		}
	case schema.Float64:
		if v, next, ok := fastFloat(s, i); ok {
			k.AppendFloat(v)
			d.filled++
			return next, ""
		}
	case schema.String:
		if i < len(s) && s[i] == '"' {
			if end, high := scanString(s, i+1); end > 0 && s[end] == '"' && (!high || utf8.Valid(s[i+1:end])) {
				k.AppendBytes(s[i+1 : end])
				d.filled++
				return end + 1, ""
			}
		}
	}
	return d.slowCell(s, i, column, depth)
}

// micros converts a whole number of the configured unit to microseconds where that is exact and easy.
func (d *JSON) micros(v int64) (int64, bool) {
	switch d.options.TimestampUnit {
	case Milliseconds:
		return v * 1000, v > -(1<<53) && v < 1<<53
	case Seconds:
		return v * 1e6, v > -(1<<43) && v < 1<<43
	case Microseconds:
		return v, true
	}
	return v / 1000, v%1000 == 0
}

// slowCell takes every value that a column takes, and finds the reason for those that it does not.
func (d *JSON) slowCell(s []byte, i, column, depth int) (next int, reason Reason) {
	k := &d.rows.Columns[column]
	if k.Type.Kind == schema.JSON {
		next, reason = skipValue(s, i, depth)
		if reason != "" {
			return 0, d.stop(reason, column, i, "")
		}
		k.AppendBytes(s[i:next])
		d.filled++
		return next, ""
	}
	switch {
	case i >= len(s):
		return 0, d.stop(BadSyntax, column, i, "a value")
	case s[i] == '"':
		text, next, reason := d.stringText(s, i)
		if reason == "" {
			reason = d.text(k, text)
		}
		if reason != "" {
			return 0, d.stop(reason, column, i, "")
		}
		d.filled++
		return next, ""
	case s[i] == '-' || s[i] >= '0' && s[i] <= '9':
		if next, reason = skipNumber(s, i); reason == "" {
			reason = d.number(k, s[i:next])
		}
	case k.Type.Kind == schema.Bool && (s[i] == 't' || s[i] == 'f') && literalLength(s, i) > 0:
		k.AppendBool(s[i] == 't')
		next = i + literalLength(s, i)
	default:
		if _, reason = skipValue(s, i, depth); reason == "" {
			reason = BadType
		}
	}
	if reason != "" {
		return 0, d.stop(reason, column, i, "")
	}
	d.filled++
	return next, ""
}

// stringText is the content of the string at i, escapes resolved; it is valid until the next call.
func (d *JSON) stringText(s []byte, i int) (text []byte, next int, reason Reason) {
	raw, escaped, next, reason := rawString(s, i)
	if reason != "" || !escaped {
		return raw, next, reason
	}
	var ok bool
	if d.scratch, ok = appendUnescaped(d.scratch[:0], raw); !ok {
		return nil, 0, BadUTF8
	}
	return d.scratch, next, ""
}

// number appends the number text, which is one by JSON's grammar.
func (d *JSON) number(k *batch.ColumnBuilder, text []byte) Reason {
	switch kind := k.Type.Kind; kind {
	case schema.Int8, schema.Int16, schema.Int32, schema.Int64:
		v, reason := exact(text, 0)
		if reason == "" && !fits(kind, v) {
			reason = OutOfRange
		}
		return appendInt(k, v, reason)
	case schema.Decimal:
		v, reason := exact(text, int(k.Type.Scale))
		if limit := powersInt[k.Type.Precision]; reason == "" && (v >= limit || v <= -limit) {
			reason = OutOfRange
		}
		return appendInt(k, v, reason)
	case schema.Timestamp:
		v, reason := exact(text, microScale[d.options.TimestampUnit])
		return appendInt(k, v, reason)
	case schema.Float32, schema.Float64:
		size := 64
		if kind == schema.Float32 {
			size = 32
		}
		v, reason := parseFloat(text, size)
		if reason == "" {
			k.AppendFloat(v)
		}
		return reason
	}
	return BadType
}

func appendInt(k *batch.ColumnBuilder, v int64, reason Reason) Reason {
	if reason == "" {
		k.AppendInt(v)
	}
	return reason
}

// text appends the content of a string.
func (d *JSON) text(k *batch.ColumnBuilder, text []byte) Reason {
	switch kind := k.Type.Kind; kind {
	case schema.String:
		k.AppendBytes(text)
		return ""
	case schema.Binary:
		return appendBase64(k, text)
	case schema.UUID:
		var u [16]byte
		if !parseUUID(&u, text) {
			return BadType
		}
		k.AppendFixed16(u)
		return ""
	case schema.Date:
		v, reason := parseDate(text)
		return appendInt(k, v, reason)
	case schema.Timestamp:
		if !isNumber(text) {
			v, reason := parseTimestamp(text)
			return appendInt(k, v, reason)
		}
	case schema.Float32, schema.Float64:
		if v, ok := namedFloat(text); ok {
			k.AppendFloat(v)
			return ""
		}
	case schema.Bool:
		return BadType
	}
	if !isNumber(text) {
		return BadType
	}
	return d.number(k, text)
}

func appendBase64(k *batch.ColumnBuilder, text []byte) Reason {
	// The package's decoder skips line breaks; the grammar here has none.
	if slices.ContainsFunc(text, func(c byte) bool { return c == '\n' || c == '\r' }) {
		return BadType
	}
	grown := k.Scratch()
	start := len(grown)
	grown = slices.Grow(grown, strictBase64.DecodedLen(len(text)))
	n, err := strictBase64.Decode(grown[start:cap(grown)], text)
	if err != nil {
		return BadType
	}
	k.AppendScratch(grown[:start+n])
	return ""
}

var strictBase64 = base64.StdEncoding.Strict()

// fits tells whether v is in the range of an integer kind.
func fits(kind schema.Kind, v int64) bool {
	switch kind {
	case schema.Int8:
		return v == int64(int8(v))
	case schema.Int16:
		return v == int64(int16(v))
	case schema.Int32:
		return v >= math.MinInt32 && v <= math.MaxInt32
	}
	return true
}

var powersInt = func() (p [schema.DecimalDigitsMax + 1]int64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()
