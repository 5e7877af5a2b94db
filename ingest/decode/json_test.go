package decode

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"nyala/store/batch"
	"nyala/store/schema"
)

// oneColumn decodes {"c":<json>} into a column of the given type and prints the cell, or the reason.
func oneColumn(t *testing.T, typ string, json string, change ...func(*Options)) string {
	t.Helper()
	ct, err := schema.ParseType(typ)
	if err != nil {
		t.Fatal(err)
	}
	s := &schema.Schema{Version: 1, Key: []int{0}, Buckets: 1, Columns: []schema.Column{
		{ID: 1, Name: "id", Type: schema.Type{Kind: schema.Int64}, Default: &schema.Value{Int: 7}},
		{ID: 2, Name: "c", Type: ct, Nullable: true},
	}}
	o := Options{Schema: s}
	for _, c := range change {
		c(&o)
	}
	d, err := NewJSON(o)
	if err != nil {
		t.Fatal(err)
	}
	rows := batch.NewBuilder(s.Columns, 4)
	if _, err = d.Decode(&Record{Value: []byte(`{"c":` + json + `}`)}, rows); err != nil {
		var bad *BadRecord
		if !errors.As(err, &bad) || rows.Rows() != 0 || rows.Columns[1].Rows() != 0 {
			t.Fatalf("%s: error %v, rows %d and %d", json, err, rows.Rows(), rows.Columns[1].Rows())
		}
		return "! " + string(bad.Reason)
	}
	if rows.Columns[0].Rows() != 1 || rows.Columns[1].Rows() != 1 {
		t.Fatalf("%s: columns have %d and %d rows", json, rows.Columns[0].Rows(), rows.Columns[1].Rows())
	}
	c := rows.Columns[1].View()
	return string(schema.AppendText(nil, ct, c.Value(0)))
}

func TestTypes(t *testing.T) {
	long := strings.Repeat("ü0123456789", 300)
	for _, c := range []struct{ typ, json, want string }{
		{"bool", `true`, "true"}, {"bool", `false`, "false"}, {"bool", `null`, "NULL"}, {"bool", `1`, "! bad_type"},
		{"bool", `"true"`, "! bad_type"}, {"bool", `tru`, "! bad_syntax"}, {"bool", `truex`, "! bad_syntax"},
		{"int8", `-128`, "-128"}, {"int8", `127`, "127"}, {"int8", `128`, "! out_of_range"}, {"int8", `-129`, "! out_of_range"},
		{"int16", `-32768`, "-32768"}, {"int16", `32768`, "! out_of_range"},
		{"int32", `2147483647`, "2147483647"}, {"int32", `2147483648`, "! out_of_range"}, {"int32", `-2147483648`, "-2147483648"},
		{"int64", `9223372036854775807`, "9223372036854775807"}, {"int64", `-9223372036854775808`, "-9223372036854775808"},
		{"int64", `9223372036854775808`, "! out_of_range"}, {"int64", `-9223372036854775809`, "! out_of_range"},
		{"int64", `18446744073709551616`, "! out_of_range"}, {"int64", `184467440737095516160`, "! out_of_range"},
		{"int64", `1.0`, "1"}, {"int64", `1e3`, "1000"}, {"int64", `70e-1`, "7"}, {"int64", `1.5e1`, "15"}, {"int64", `1.5`, "! inexact"},
		{"int64", `-0`, "0"}, {"int64", `0e999999999999999999999`, "0"}, {"int64", `1e999999999999999999999`, "! out_of_range"},
		{"int64", `1e-999999999999999999999`, "! inexact"}, {"int64", `0.000`, "0"}, {"int64", `10000000000000000000e-1`, "1000000000000000000"},
		{"int64", `"12"`, "12"}, {"int64", `"-1.0e1"`, "-10"}, {"int64", `"\u0031"`, "1"}, {"int64", `""`, "! bad_type"}, {"int64", `" 1"`, "! bad_type"},
		{"int64", `"+1"`, "! bad_type"}, {"int64", `+1`, "! bad_syntax"}, {"int64", `01`, "! bad_syntax"}, {"int64", `1.`, "! bad_syntax"},
		{"int64", `.5`, "! bad_syntax"}, {"int64", `1e`, "! bad_syntax"}, {"int64", `--1`, "! bad_syntax"}, {"int64", `-`, "! bad_syntax"},
		{"int64", `{}`, "! bad_type"}, {"int64", `[1]`, "! bad_type"}, {"int64", `[1`, "! bad_syntax"}, {"int64", `true`, "! bad_type"},
		{"int64", `"9223372036854775808"`, "! out_of_range"}, {"int64", `0x10`, "! bad_syntax"}, {"int64", `NaN`, "! bad_syntax"},
		{"float64", `-0.0`, "-0"}, {"float64", `-0`, "-0"}, {"float64", `1.7976931348623157e308`, "1.7976931348623157e+308"},
		{"float64", `4.9e-324`, "5e-324"}, {"float64", `1e309`, "! out_of_range"}, {"float64", `1e-400`, "0"}, {"float64", `0.1`, "0.1"},
		{"float64", `"2.5"`, "2.5"}, {"float64", `"NaN"`, "NaN"}, {"float64", `"-Infinity"`, "-Inf"}, {"float64", `"nan"`, "! bad_type"},
		{"float64", `123456789012345678901234567890`, "1.2345678901234568e+29"}, {"float64", `00`, "! bad_syntax"},
		{"float32", `3.4028235e38`, "3.4028235e+38"}, {"float32", `3.5e38`, "! out_of_range"}, {"float32", `16777217`, "1.6777216e+07"}, {"float32", `-0.0`, "-0"},
		{"decimal(10,2)", `12.34`, "12.34"}, {"decimal(10,2)", `12.340`, "12.34"}, {"decimal(10,2)", `12.345`, "! inexact"},
		{"decimal(10,2)", `99999999.99`, "99999999.99"}, {"decimal(10,2)", `100000000`, "! out_of_range"}, {"decimal(10,2)", `"-0.05"`, "-0.05"},
		{"decimal(18,18)", `0.123456789012345678`, "0.123456789012345678"}, {"decimal(18,0)", `-999999999999999999`, "-999999999999999999"},
		{"decimal(4,2)", `1e-2`, "0.01"}, {"decimal(4,2)", `12e1`, "! out_of_range"},
		{"string", `"a\u0000b"`, "a\x00b"}, {"string", `"\ud83d\ude00"`, "😀"}, {"string", `"\ud83d"`, "! bad_utf8"}, {"string", `"\ude00\ud83d"`, "! bad_utf8"},
		{"string", `"\ud83dx"`, "! bad_utf8"}, {"string", `"\ud83d\u0041"`, "! bad_utf8"}, {"string", `"\"\\\/\b\f\n\r\t"`, "\"\\/\b\f\n\r\t"},
		{"string", `"\x"`, "! bad_syntax"}, {"string", `"\u12g4"`, "! bad_syntax"}, {"string", "\"a\nb\"", "! bad_syntax"}, {"string", `"`, "! bad_syntax"},
		{"string", "\"\xff\"", "! bad_utf8"}, {"string", "\"\xc0\x80\"", "! bad_utf8"}, {"string", "\"\xed\xa0\x80\"", "! bad_utf8"}, {"string", "\"\x7f\"", "\x7f"},
		{"string", `"` + long + `"`, long}, {"string", `1`, "! bad_type"}, {"string", `{}`, "! bad_type"}, {"string", `""`, ""},
		{"uuid", `"00112233-4455-6677-8899-AABBCCDDEEFF"`, "00112233-4455-6677-8899-aabbccddeeff"},
		{"uuid", `"00112233445566778899aabbccddeeff"`, "00112233-4455-6677-8899-aabbccddeeff"}, {"uuid", `"0011223-34455-6677-8899-aabbccddeeff"`, "! bad_type"},
		{"uuid", `"g0112233445566778899aabbccddeeff"`, "! bad_type"}, {"uuid", `""`, "! bad_type"},
		{"binary", `"AAEC/w=="`, "AAEC/w=="}, {"binary", `""`, ""}, {"binary", `"AAEC/w"`, "! bad_type"}, {"binary", `"AAEC\n/w=="`, "! bad_type"}, {"binary", `"AB=="`, "! bad_type"},
		{"date", `"2024-02-29"`, "2024-02-29"}, {"date", `"2023-02-29"`, "! bad_type"}, {"date", `"1900-02-29"`, "! bad_type"}, {"date", `"2000-02-29"`, "2000-02-29"},
		{"date", `"1969-12-31"`, "1969-12-31"}, {"date", `"0000-01-01"`, "0000-01-01"}, {"date", `"9999-12-31"`, "9999-12-31"}, {"date", `20240229`, "! bad_type"},
		{"date", `"2024-13-01"`, "! bad_type"}, {"date", `"2024-04-31"`, "! bad_type"}, {"date", `"2024-4-3"`, "! bad_type"}, {"date", `"2024-00-10"`, "! bad_type"},
		{"timestamp", `"2026-11-20T12:34:56.123456Z"`, "2026-11-20T12:34:56.123456Z"}, {"timestamp", `"2026-11-20t12:34:56z"`, "2026-11-20T12:34:56Z"},
		{"timestamp", `"2026-11-20T12:34:56.1234560000+02:30"`, "2026-11-20T10:04:56.123456Z"}, {"timestamp", `"2026-11-20T12:34:56.1234567Z"`, "! inexact"},
		{"timestamp", `"1960-01-01T00:00:00-00:00"`, "1960-01-01T00:00:00Z"}, {"timestamp", `"2026-11-20T12:34:56"`, "! bad_type"}, {"timestamp", `"2026-11-20T24:00:00Z"`, "! bad_type"},
		{"timestamp", `"2026-11-20T12:34:60Z"`, "! bad_type"}, {"timestamp", `"2026-11-20T12:34:56.Z"`, "! bad_type"}, {"timestamp", `"2026-11-20"`, "! bad_type"},
		{"timestamp", `1795000000123`, "2026-11-18T11:06:40.123Z"}, {"timestamp", `1795000000123.4565`, "! inexact"}, {"timestamp", `1795000000123.456`, "2026-11-18T11:06:40.123456Z"},
		{"timestamp", `"1795000000123"`, "2026-11-18T11:06:40.123Z"}, {"timestamp", `-1`, "1969-12-31T23:59:59.999Z"}, {"timestamp", `1e30`, "! out_of_range"},
		{"json", `{"a": [1, 2.50, "x"]}`, `{"a": [1, 2.50, "x"]}`}, {"json", `"s"`, `"s"`}, {"json", `1e5`, `1e5`}, {"json", `null`, "NULL"},
		{"json", `[1,]`, "! bad_syntax"}, {"json", `{"a":1,}`, "! bad_syntax"}, {"json", `{a:1}`, "! bad_syntax"}, {"json", `["\ud800"]`, "! bad_utf8"}, {"json", `[]`, "[]"},
		{"json", strings.Repeat("[", 511) + strings.Repeat("]", 511), strings.Repeat("[", 511) + strings.Repeat("]", 511)},
		{"json", strings.Repeat("[", 512) + strings.Repeat("]", 512), "! too_deep"}, {"json", strings.Repeat("[", 1_000_000), "! too_deep"},
	} {
		name := c.json[:min(len(c.json), 40)]
		if got := oneColumn(t, c.typ, c.json); got != c.want {
			t.Errorf("%s from %s: got %.80s, want %.80s", c.typ, name, got, c.want)
		}
	}
}

func TestTimestampUnits(t *testing.T) {
	for _, c := range []struct{ unit, json, want string }{
		{"s", `1`, "1970-01-01T00:00:01Z"}, {"s", `0.000001`, "1970-01-01T00:00:00.000001Z"}, {"s", `9223372036854`, "294247-01-10T04:00:54Z"},
		{"s", `9223372036855`, "! out_of_range"}, {"ms", `9223372036854775`, "294247-01-10T04:00:54.775Z"}, {"ms", `9223372036854776`, "! out_of_range"},
		{"us", `1`, "1970-01-01T00:00:00.000001Z"}, {"us", `0.5`, "! inexact"}, {"ns", `1000`, "1970-01-01T00:00:00.000001Z"}, {"ns", `1001`, "! inexact"},
		{"ns", `-1000`, "1969-12-31T23:59:59.999999Z"}, {"ns", `1795000000000000000`, "2026-11-18T11:06:40Z"},
	} {
		unit, err := ParseUnit(c.unit)
		if err != nil {
			t.Fatal(err)
		}
		if got := oneColumn(t, "timestamp", c.json, func(o *Options) { o.TimestampUnit = unit }); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.json, c.unit, got, c.want)
		}
	}
	if _, err := ParseUnit("min"); err == nil {
		t.Error("unit min was accepted")
	}
}

// shape is a schema with nested paths, defaults and a two-column key.
func shape() *schema.Schema {
	return &schema.Schema{Version: 1, Key: []int{0, 1}, Hash: []int{0}, Buckets: 4, Columns: []schema.Column{
		{ID: 1, Name: "id", Type: schema.Type{Kind: schema.Int64}},
		{ID: 2, Name: "kind", Type: schema.Type{Kind: schema.String}, Default: &schema.Value{Bytes: []byte("none")}},
		{ID: 3, Name: "user", Type: schema.Type{Kind: schema.JSON}, Nullable: true},
		{ID: 4, Name: "user_id", Type: schema.Type{Kind: schema.Int32}, Nullable: true},
		{ID: 5, Name: "a.b", Type: schema.Type{Kind: schema.Bool}, Nullable: true},
		{ID: 6, Name: "score", Type: schema.Type{Kind: schema.Float64}, Nullable: true, Default: &schema.Value{Float: 0.5}},
	}}
}

func decodeAll(t *testing.T, o Options, r *Record) string {
	t.Helper()
	d, err := NewJSON(o)
	if err != nil {
		t.Fatal(err)
	}
	rows := batch.NewBuilder(o.Schema.Columns, 4)
	op, err := d.Decode(r, rows)
	if err != nil {
		if rows.Rows() != 0 {
			t.Fatalf("%d rows after %v", rows.Rows(), err)
		}
		return err.Error()
	}
	out := fmt.Sprint(op)
	for i := range rows.Columns {
		c := rows.Columns[i].View()
		if c.Rows != 1 {
			t.Fatalf("column %d has %d rows", i, c.Rows)
		}
		out += "|" + string(schema.AppendText(nil, c.Type, c.Value(0)))
	}
	return out
}

func TestShapes(t *testing.T) {
	fields := map[string]string{"user_id": "user.id"}
	for _, c := range []struct{ json, want string }{
		{`{"id":1,"kind":"k","user":{"id":5,"x":[]},"a.b":true,"score":2}`, `0|1|k|{"id":5,"x":[]}|5|true|2`},
		{" \t\r\n{ \"score\" : 2 , \"id\" : 1 } \n", `0|1|none|NULL|NULL|NULL|2`},
		{`{"id":1,"score":null,"kind":null}`, `0|1|none|NULL|NULL|NULL|0.5`},
		{`{"id":1,"id":2,"id":3}`, `0|3|none|NULL|NULL|NULL|0.5`},
		{`{"id":1,"score":3,"score":null}`, `0|1|none|NULL|NULL|NULL|0.5`},
		{`{"id":1,"user":{"id":5,"id":6},"user":{"other":1}}`, `0|1|none|{"other":1}|NULL|NULL|0.5`},
		{`{"id":1,"user":{"id":5},"user":null}`, `0|1|none|NULL|NULL|NULL|0.5`},
		{`{"\u0069d":1,"k\u0069nd":"z"}`, `0|1|z|NULL|NULL|NULL|0.5`},
		{`{"id":1,"extra":{"deep":[{"id":2},"]}"]},"ID":4}`, `0|1|none|NULL|NULL|NULL|0.5`},
		{`{"id":1,"user":{}}`, `0|1|none|{}|NULL|NULL|0.5`},
		{`{}`, `decode: missing_value: column id: got no value at byte 0, want int64`},
		{`{"id":null}`, `decode: missing_value: column id: got no value at byte 0, want int64`},
		{`{"id":1,"user":5}`, `decode: bad_type: column user_id: got a number of 1 characters at byte 15, want an object on the way to it`},
		{`{"id":"secret"}`, `decode: bad_type: column id: got a string of 6 bytes at byte 6, want int64`},
		{`{"id":1,}`, `decode: bad_syntax: got no value at byte 8, want a field name`},
		{`{"id":1 "kind":"x"}`, `decode: bad_syntax: got a string of 4 bytes at byte 8, want , or }`},
		{`{"id":1}x`, `decode: bad_syntax: got no value at byte 8, want nothing behind the object`},
		{`{"id":1}{}`, `decode: bad_syntax: got an object at byte 8, want nothing behind the object`},
		{`{"id":1`, `decode: bad_syntax: got the end at byte 7, want , or }`},
		{`{"id"`, `decode: bad_syntax: got the end at byte 5, want : behind a field name`},
		{`{"id":`, `decode: bad_syntax: column id: got the end at byte 6, want a value`},
		{`{"id":1,"z":bad}`, `decode: bad_syntax: got no value at byte 12, want valid JSON`},
		{`[1]`, `decode: bad_syntax: got an array at byte 0, want a JSON object`},
		{``, `decode: bad_syntax: got the end at byte 0, want a JSON object`},
		{`null`, `decode: bad_syntax: got null at byte 0, want a JSON object`},
		{"\xef\xbb\xbf{\"id\":1}", `decode: bad_syntax: got no value at byte 0, want a JSON object`},
		{"{\"id\":1,\"z\":\"\xff\"}", `decode: bad_utf8: got a broken string at byte 12, want valid UTF-8`},
		{`{"id":1,"z":"\udc00"}`, `decode: bad_utf8: got a string of 6 bytes at byte 12, want valid UTF-8`},
	} {
		o := Options{Schema: shape(), Fields: fields}
		if got := decodeAll(t, o, &Record{Value: []byte(c.json)}); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.json, got, c.want)
		}
	}
	o := Options{Schema: shape(), Fields: fields, RefuseUnknownFields: true}
	for json, want := range map[string]string{
		`{"id":1,"user":{"id":2}}`: `0|1|none|{"id":2}|2|NULL|0.5`,
		`{"id":1,"other":2}`:       `decode: unknown_field: got an unknown field with a name of 5 bytes at byte 8, want only fields that a column takes`,
	} {
		if got := decodeAll(t, o, &Record{Value: []byte(json)}); got != want {
			t.Errorf("%s:\n got %s\nwant %s", json, got, want)
		}
	}
	if got := decodeAll(t, Options{Schema: shape()}, &Record{}); !strings.Contains(got, "no_value") {
		t.Errorf("a record without a value: %s", got)
	}
}

func TestPaths(t *testing.T) {
	o := Options{Schema: shape(), Fields: map[string]string{"id": `m.n.o`, "kind": `x\.y`, "score": "m.n.p", "user_id": "m.n.o"}}
	if got, want := decodeAll(t, o, &Record{Value: []byte(`{"m":{"q":1,"n":{"p":9,"o":4}},"x.y":"dot"}`)}), "0|4|dot|NULL|4|NULL|9"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, bad := range []Options{
		{Schema: shape(), Fields: map[string]string{"nope": "x"}},
		{Schema: shape(), Fields: map[string]string{"id": "a..b"}},
		{Schema: shape(), Fields: map[string]string{"id": "a"}, Add: map[string]string{"id": "offset"}},
		{Schema: shape(), Add: map[string]string{"id": "nothing"}},
		{Schema: shape(), Add: map[string]string{"kind": "offset"}},
		{Schema: shape(), Add: map[string]string{"zzz": "offset"}},
	} {
		if _, err := NewJSON(bad); err == nil {
			t.Errorf("accepted: fields %v, add %v", bad.Fields, bad.Add)
		}
	}
}

func TestAdded(t *testing.T) {
	s := &schema.Schema{Version: 1, Key: []int{0, 1}, Buckets: 1, Columns: []schema.Column{
		{ID: 1, Name: "p", Type: schema.Type{Kind: schema.Int32}},
		{ID: 2, Name: "o", Type: schema.Type{Kind: schema.Int64}},
		{ID: 3, Name: "t", Type: schema.Type{Kind: schema.String}},
		{ID: 4, Name: "ts", Type: schema.Type{Kind: schema.Timestamp}},
		{ID: 5, Name: "k", Type: schema.Type{Kind: schema.Binary}, Nullable: true},
		{ID: 6, Name: "h", Type: schema.Type{Kind: schema.Int16}, Nullable: true},
		{ID: 7, Name: "v", Type: schema.Type{Kind: schema.String}, Nullable: true},
	}}
	o := Options{Schema: s, Add: map[string]string{"p": "partition", "o": "offset", "t": "topic", "ts": "timestamp", "k": "key", "h": "headers.n"}}
	r := Record{Topic: "top", Partition: 3, Offset: 99, Timestamp: 1500, Key: []byte{0, 255}, Value: []byte(`{"v":"x","o":"ignored","p":{}}`),
		Headers: []Header{{"n", []byte("1")}, {"m", []byte("z")}, {"n", []byte("-2")}}}
	if got, want := decodeAll(t, o, &r), "0|3|99|top|1970-01-01T00:00:01.5Z|AP8=|-2|x"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	r.Headers, r.Key = nil, nil
	if got, want := decodeAll(t, o, &r), "0|3|99|top|1970-01-01T00:00:01.5Z|NULL|NULL|x"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	r.Headers = []Header{{"n", []byte("many")}}
	if got, want := decodeAll(t, o, &r), "decode: bad_type: column h: got a header of 4 bytes at byte 0, want int16"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestChanges(t *testing.T) {
	two := Options{Schema: shape(), Changes: true, Fields: map[string]string{"user_id": "user.id", "id": "nested.id"}}
	one := Options{Changes: true, Schema: &schema.Schema{Version: 1, Key: []int{0}, Buckets: 1, Columns: []schema.Column{
		{ID: 1, Name: "name", Type: schema.Type{Kind: schema.String}}, {ID: 2, Name: "u", Type: schema.Type{Kind: schema.UUID}}}}}
	number := Options{Changes: true, Schema: &schema.Schema{Version: 1, Key: []int{0}, Buckets: 1, Columns: []schema.Column{
		{ID: 1, Name: "n", Type: schema.Type{Kind: schema.Int32}}}}}
	for _, c := range []struct {
		o         Options
		key, want string
	}{
		{two, `{"id":4,"kind":"k"}`, "2|4|k|NULL|NULL|NULL|NULL"}, {two, `{"nested":{"id":4},"kind":"k"}`, "2|4|k|NULL|NULL|NULL|NULL"},
		{two, `{"nested":{"id":4},"kind":"k","id":5,"more":1}`, "2|5|k|NULL|NULL|NULL|NULL"},
		{two, `{"kind":"k"}`, "decode: missing_value: column id: got no value at byte 0, want int64"},
		{two, `4`, "decode: bad_key: got a key of 1 bytes that is no object at byte 0, want an object with the primary key's columns"},
		{two, `{"id":"x"}`, "decode: bad_key: column id: got a string of 1 bytes at byte 6, want int64"},
		{one, `abc`, "2|abc|00000000-0000-0000-0000-000000000000"}, {one, `"abc"`, "2|abc|00000000-0000-0000-0000-000000000000"},
		{one, `"ab`, `2|"ab|00000000-0000-0000-0000-000000000000`}, {one, `{"name":"n"}`, "2|n|00000000-0000-0000-0000-000000000000"},
		{one, "\xff", "decode: bad_key: column name: got a key of 1 bytes at byte 0, want string"}, {one, ``, "2||00000000-0000-0000-0000-000000000000"},
		{number, `42`, "2|42"}, {number, `"42"`, "2|42"}, {number, `4.5`, "decode: bad_key: column n: got a key of 3 bytes at byte 0, want int32"},
	} {
		if got := decodeAll(t, c.o, &Record{Key: []byte(c.key)}); got != c.want {
			t.Errorf("key %s:\n got %s\nwant %s", c.key, got, c.want)
		}
	}
	if got := decodeAll(t, one, &Record{}); !strings.Contains(got, "bad_key") {
		t.Errorf("no key and no value: %s", got)
	}
	if got := decodeAll(t, number, &Record{Value: []byte(`{"n":1}`)}); got != "0|1" {
		t.Errorf("a value: %s", got)
	}
}

// TestRollBack mixes good and bad records: a bad one leaves no trace in any column.
func TestRollBack(t *testing.T) {
	s := eventSchema(schema.UUID)
	d, err := NewJSON(Options{Schema: s, TimestampUnit: Microseconds})
	if err != nil {
		t.Fatal(err)
	}
	events := eventRecords(300)
	clean, mixed := batch.NewBuilder(s.Columns, 8), batch.NewBuilder(s.Columns, 8)
	for i, e := range events {
		if _, err := d.Decode(&Record{Value: e}, clean); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Decode(&Record{Value: e[:len(e)-1-i%(len(e)-1)]}, mixed); err == nil {
			t.Fatalf("a cut record was accepted: %s", e[:len(e)-1-i%(len(e)-1)])
		}
		if _, err := d.Decode(&Record{Value: e}, mixed); err != nil {
			t.Fatal(err)
		}
	}
	for i := range s.Columns {
		a, b := clean.Columns[i].View(), mixed.Columns[i].View()
		for r := range events {
			if schema.Compare(a.Type, a.Value(r), b.Value(r)) != 0 {
				t.Fatalf("column %d row %d: %v and %v", i, r, a.Value(r), b.Value(r))
			}
		}
	}
}

func TestNoAllocation(t *testing.T) {
	s := eventSchema(schema.UUID)
	d, err := NewJSON(Options{Schema: s, TimestampUnit: Microseconds})
	if err != nil {
		t.Fatal(err)
	}
	events := eventRecords(64)
	events = append(events, []byte(`{"ok":true,"tenant":"5","event_time":"2026-11-20T12:00:00Z","x":{"y":[1,null]},"event_id":1e3,"user_id":"a\u00e4\n",`+
		`"session":"00112233445566778899aabbccddeeff","event_name":"n","url":"ü","country":"","duration_ms":1.0,"value":1e22, "value" : 2}`))
	rows := batch.NewBuilder(s.Columns, 100)
	r := Record{}
	run := func() {
		rows.Reset()
		for _, e := range events {
			r.Value = e
			if _, err := d.Decode(&r, rows); err != nil {
				t.Fatal(err)
			}
		}
	}
	run()
	if n := testing.AllocsPerRun(10, run); n != 0 {
		t.Errorf("%v allocations for %d records, want 0", n, len(events))
	}
}

func TestFastFloatAgrees(t *testing.T) {
	for _, text := range []string{"0", "-0", "0.5", "123456789012345", "1.23456789012345", "0.000000000000001", "99999.9999999999", "5e3", "7.25"} {
		fast, next, ok := fastFloat([]byte(text), 0)
		slow, reason := parseFloat([]byte(text), 64)
		if reason != "" || ok && (next != len(text) || math.Float64bits(fast) != math.Float64bits(slow)) {
			t.Errorf("%s: fast %v %d %v, slow %v %s", text, fast, next, ok, slow, reason)
		}
	}
}
