package query

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"

	"nyala/store/batch"
	"nyala/store/schema"
)

func sample() ([]schema.Column, batch.Batch) {
	columns := []schema.Column{
		{ID: 1, Name: "id", Type: schema.Type{Kind: schema.Int64}},
		{ID: 2, Name: "at", Type: schema.Type{Kind: schema.Timestamp}},
		{ID: 3, Name: "text", Type: schema.Type{Kind: schema.String}, Nullable: true},
		{ID: 4, Name: "value", Type: schema.Type{Kind: schema.Float64}},
		{ID: 5, Name: "price", Type: schema.Type{Kind: schema.Decimal, Precision: 9, Scale: 2}},
		{ID: 6, Name: "doc", Type: schema.Type{Kind: schema.JSON}, Nullable: true},
	}
	b := batch.NewBuilder(columns, 3)
	add := func(id, at int64, text schema.Value, f float64, price int64, doc schema.Value) {
		for i, v := range []schema.Value{{Int: id}, {Int: at}, text, {Float: f}, {Int: price}, doc} {
			b.Columns[i].AppendValue(v)
		}
	}
	add(math.MinInt64, 0, schema.Null, math.NaN(), -5, schema.Null)
	add(2, -1, schema.Value{Bytes: []byte{}}, math.Copysign(0, -1), 1234, schema.Value{Bytes: []byte("{\n\"a\": 1}")})
	add(3, 1_795_000_000_123_456, schema.Value{Bytes: []byte("a,\"b\"\n\x01é")}, 1e300, 0, schema.Value{Bytes: []byte(`[1]`)})
	return columns, b.View()
}

func render(t *testing.T, format string) string {
	t.Helper()
	columns, b := sample()
	var out bytes.Buffer
	w, err := NewRowWriter(format, columns, &out)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestCSV(t *testing.T) {
	want := "id,at,text,value,price,doc\n" +
		"-9223372036854775808,1970-01-01T00:00:00Z,,NaN,-0.05,\n" +
		"2,1969-12-31T23:59:59.999999Z,\"\",-0,12.34,\"{\n\"\"a\"\": 1}\"\n" +
		"3,2026-11-18T11:06:40.123456Z,\"a,\"\"b\"\"\n\x01é\",1e+300,0.00,[1]\n"
	if got := render(t, "csv"); got != want {
		t.Fatalf("got\n%q, want\n%q", got, want)
	}
}

func TestNDJSON(t *testing.T) {
	lines := bytes.Split(bytes.TrimSpace([]byte(render(t, "ndjson"))), []byte("\n"))
	if len(lines) != 3 {
		t.Fatalf("got %d lines, want 3", len(lines))
	}
	var last struct {
		ID   int64
		Text string
		Doc  []int
	}
	if err := json.Unmarshal(lines[2], &last); err != nil || last.ID != 3 || last.Text != "a,\"b\"\n\x01é" || len(last.Doc) != 1 {
		t.Fatalf("got %+v, %v from %s", last, err, lines[2])
	}
	if want := `{"id":-9223372036854775808,"at":"1970-01-01T00:00:00Z","text":null,"value":"NaN","price":-0.05,"doc":null}`; string(lines[0]) != want {
		t.Fatalf("got %s, want %s", lines[0], want)
	}
}

func TestTableEscapesControlCharacters(t *testing.T) {
	if got := render(t, "table"); bytes.ContainsRune([]byte(got), 1) {
		t.Fatalf("got a raw control character in %q", got)
	}
}

func TestUnknownFormat(t *testing.T) {
	if _, err := NewRowWriter("xml", nil, nil); err == nil {
		t.Fatal("got no error")
	}
}
