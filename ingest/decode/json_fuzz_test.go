package decode

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"nyala/store/batch"
	"nyala/store/schema"
)

// fuzzSchema has a nullable column of every type and one nested path.
func fuzzSchema() *schema.Schema {
	s := &schema.Schema{Version: 1, Key: []int{0}, Buckets: 1}
	for i, typ := range []string{"int64", "bool", "int8", "int16", "int32", "float32", "float64", "decimal(9,3)", "string", "binary", "uuid", "date", "timestamp", "json", "int64"} {
		t, err := schema.ParseType(typ)
		if err != nil {
			panic(err)
		}
		s.Columns = append(s.Columns, schema.Column{ID: schema.ColumnID(i + 1), Name: string(rune('a' + i)), Type: t, Nullable: i > 0})
	}
	s.Columns[0].Default = &schema.Value{Int: 1}
	return s
}

// FuzzJSON compares with encoding/json and math/big: the same records are accepted, with the same values.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":1,"b":true,"c":-128,"d":1e2,"e":"7","f":1.5,"g":-0.0,"h":12.345,"i":"x\u00e4\ud83d\ude00","j":"AAE=","k":"00112233445566778899aabbccddeeff","l":"2024-02-29","m":"2026-11-20T12:00:00.123456+01:00","n":{"o":[1,2,{}]}}`,
		`{"a":9223372036854775807,"m":1795000000123.456,"n":{"o":3},"n":{"p":1}}`, `{"z":[[[]],{"q":null}],"g":1e309}`, `{"i":"\ud800"}`, `{"a":1,"a":null,"c":300}`,
		` { "h" : 0.0010 , "g" : "NaN" } `, `{"f":3.4028236e38,"e":2147483648}`, "{\"i\":\"\xff\"}", `{"n":5}`, `{}`, `[]`, `{"a":1}x`, `{"\u0061":5,"m":"1"}`,
	} {
		f.Add([]byte(seed))
	}
	s := fuzzSchema()
	d, err := NewJSON(Options{Schema: s, Fields: map[string]string{"o": "n.o"}})
	if err != nil {
		f.Fatal(err)
	}
	careful, err := NewJSON(d.options)
	if err != nil {
		f.Fatal(err)
	}
	careful.careful = true
	rows, other := batch.NewBuilder(s.Columns, 4), batch.NewBuilder(s.Columns, 4)
	f.Fuzz(func(t *testing.T, record []byte) {
		rows.Reset()
		other.Reset()
		_, err := d.Decode(&Record{Value: append(make([]byte, 0, len(record)+1), record...)}, rows)
		if _, errCareful := careful.Decode(&Record{Value: record}, other); fmt.Sprint(err) != fmt.Sprint(errCareful) {
			t.Fatalf("%q: got %v, with care %v", record, err, errCareful)
		}
		want, ok := oracle(s, record)
		if (err == nil) != ok {
			t.Fatalf("%q: got %v, want accepted %v", record, err, ok)
		}
		for i := range rows.Columns {
			c := rows.Columns[i].View()
			if !ok {
				if c.Rows != 0 {
					t.Fatalf("%q: column %d keeps %d rows of a bad record", record, i, c.Rows)
				}
				continue
			}
			if c.Rows != 1 {
				t.Fatalf("%q: column %d has %d rows", record, i, c.Rows)
			}
			got := c.Value(0)
			same := got.Null == want[i].Null && got.Int == want[i].Int && bytes.Equal(got.Bytes, want[i].Bytes) &&
				(math.Float64bits(got.Float) == math.Float64bits(want[i].Float) || got.Float != got.Float && want[i].Float != want[i].Float)
			if !same {
				t.Fatalf("%q: column %s: got %+v, want %+v", record, s.Columns[i].Name, got, want[i])
			}
		}
	})
}

// oracle decodes with the standard library, slowly and by other means.
func oracle(s *schema.Schema, record []byte) ([]schema.Value, bool) {
	if !utf8.Valid(record) || !json.Valid(record) || loneSurrogate(record) || depth(record) > depthMax {
		return nil, false
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(record, &object) != nil || object == nil {
		return nil, false
	}
	out := make([]schema.Value, len(s.Columns))
	for i, c := range s.Columns {
		raw := object[c.Name]
		if c.Name == "o" {
			var inner map[string]json.RawMessage
			if outer := object["n"]; outer != nil && json.Unmarshal(outer, &inner) != nil {
				return nil, false
			}
			raw = inner["o"]
		}
		if raw == nil || string(raw) == "null" {
			out[i] = schema.Null
			if c.Default != nil {
				out[i] = *c.Default
			}
			continue
		}
		var ok bool
		if out[i], ok = oracleCell(c.Type, raw); !ok {
			return nil, false
		}
	}
	// A value that is overwritten by a later one of its key must be acceptable too: it was there.
	return out, !badDuplicate(s, record)
}

// badDuplicate tells whether some value of a doubled key is one its column would refuse.
func badDuplicate(s *schema.Schema, record []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(record))
	if _, err := dec.Token(); err != nil {
		return true
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return true
		}
		var raw json.RawMessage
		if dec.Decode(&raw) != nil {
			return true
		}
		name, _ := key.(string)
		if p := s.Position(name); p >= 0 && name != "o" && string(raw) != "null" {
			if _, ok := oracleCell(s.Columns[p].Type, raw); !ok {
				return true
			}
			if name == "n" && badNested(s, raw) {
				return true
			}
		}
	}
	return false
}

func badNested(s *schema.Schema, raw []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return true
	}
	for dec.More() {
		key, err := dec.Token()
		var value json.RawMessage
		if err != nil || dec.Decode(&value) != nil {
			return true
		}
		if key == "o" && string(value) != "null" {
			if _, ok := oracleCell(s.Columns[s.Position("o")].Type, value); !ok {
				return true
			}
		}
	}
	return false
}

func oracleCell(t schema.Type, raw []byte) (schema.Value, bool) {
	if t.Kind == schema.JSON {
		return schema.Value{Bytes: raw}, true
	}
	var any any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if dec.Decode(&any) != nil {
		return schema.Value{}, false
	}
	switch v := any.(type) {
	case bool:
		if v {
			return schema.Value{Int: 1}, t.Kind == schema.Bool
		}
		return schema.Value{}, t.Kind == schema.Bool
	case json.Number:
		return oracleNumber(t, string(v))
	case string:
		return oracleText(t, v)
	}
	return schema.Value{}, false
}

func oracleText(t schema.Type, v string) (schema.Value, bool) {
	switch t.Kind {
	case schema.String:
		return schema.Value{Bytes: []byte(v)}, true
	case schema.Binary:
		b, err := base64.StdEncoding.Strict().DecodeString(v)
		return schema.Value{Bytes: b}, err == nil && !strings.ContainsAny(v, "\r\n")
	case schema.UUID:
		plain := v
		if len(v) == 36 && v[8] == '-' && v[13] == '-' && v[18] == '-' && v[23] == '-' {
			plain = v[:8] + v[9:13] + v[14:18] + v[19:23] + v[24:]
		}
		b, err := hex.DecodeString(plain)
		return schema.Value{Bytes: b}, err == nil && len(b) == 16
	case schema.Date:
		d, err := time.Parse("2006-01-02", v)
		return schema.Value{Int: d.Unix() / 86400}, err == nil
	case schema.Float32, schema.Float64:
		if special, ok := map[string]float64{"NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1)}[v]; ok {
			return schema.Value{Float: special}, true
		}
	case schema.Timestamp:
		if v, ok := oracleTime(v); ok {
			return v, true
		}
	case schema.Bool:
		return schema.Value{}, false
	}
	var n json.Number
	dec := json.NewDecoder(strings.NewReader(v))
	if v == "" || strings.TrimSpace(v) != v || v[0] == '"' || dec.Decode(&n) != nil || n.String() != v {
		return schema.Value{}, false
	}
	if _, err := dec.Token(); err != io.EOF {
		return schema.Value{}, false
	}
	return oracleNumber(t, v)
}

func oracleTime(v string) (schema.Value, bool) {
	if len(v) < 20 {
		return schema.Value{}, false
	}
	b := []byte(v)
	if b[10] == 't' || b[10] == ' ' {
		b[10] = 'T'
	}
	if b[len(b)-1] == 'z' {
		b[len(b)-1] = 'Z'
	}
	// The standard parser takes a comma before the fraction and drops digits beyond nanoseconds.
	if strings.Contains(v, ",") {
		return schema.Value{}, false
	}
	if i := bytes.IndexByte(b, '.'); i == 19 {
		j := i + 1
		for j < len(b) && b[j] >= '0' && b[j] <= '9' {
			j++
		}
		if j > i+7 && strings.Trim(string(b[i+7:j]), "0") != "" {
			return schema.Value{}, false
		}
		b = append(b[:min(j, i+7):min(j, i+7)], b[j:]...)
	}
	ts, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil || len(v) < 20 || v[13] != ':' {
		return schema.Value{}, false
	}
	return schema.Value{Int: ts.UnixMicro()}, true
}

func oracleNumber(t schema.Type, text string) (schema.Value, bool) {
	switch t.Kind {
	case schema.Float32:
		v, err := strconv.ParseFloat(text, 32)
		return schema.Value{Float: v}, err == nil
	case schema.Float64:
		v, err := strconv.ParseFloat(text, 64)
		return schema.Value{Float: v}, err == nil
	}
	scale, bits := 0, 0
	switch t.Kind {
	case schema.Int8, schema.Int16, schema.Int32, schema.Int64:
		bits = t.Width()*8 - 1
	case schema.Decimal:
		scale, bits = int(t.Scale), 63
	case schema.Timestamp:
		scale, bits = 3, 63
	default:
		return schema.Value{}, false
	}
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa := strings.Trim(text[:i], "-0.")
		if e, err := strconv.Atoi(text[i+1:]); err != nil || e > 10000 || e < -10000 {
			return schema.Value{}, mantissa == ""
		}
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return schema.Value{}, false
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
	if !r.IsInt() {
		return schema.Value{}, false
	}
	low := new(big.Int).Neg(new(big.Int).Lsh(big.NewInt(1), uint(bits)))
	high := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(bits)), big.NewInt(1))
	if t.Kind == schema.Decimal {
		high = big.NewInt(powersInt[t.Precision] - 1)
		low = new(big.Int).Neg(high)
	}
	return schema.Value{Int: r.Num().Int64()}, r.Num().Cmp(low) >= 0 && r.Num().Cmp(high) <= 0
}

// loneSurrogate looks through valid JSON, where a backslash can only be in a string.
func loneSurrogate(s []byte) bool {
	at := func(i int) rune {
		if i+6 > len(s) || s[i] != '\\' || s[i+1] != 'u' {
			return 0
		}
		v, err := strconv.ParseUint(string(s[i+2:i+6]), 16, 16)
		if err != nil {
			return 0
		}
		return rune(v)
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		switch r := at(i); {
		case r >= 0xDC00 && r <= 0xDFFF:
			return true
		case r >= 0xD800 && r <= 0xDBFF:
			if low := at(i + 6); low < 0xDC00 || low > 0xDFFF {
				return true
			}
			i += 11
		default:
			i++
		}
	}
	return false
}

// depth is how deep valid JSON nests.
func depth(s []byte) int {
	deepest, now, quoted := 0, 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}
