package ingest

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/ingest/decode"
	"nyala/store/batch"
	"nyala/store/schema"
)

// secret is in every value, key and header that must not be shown.
const secret = "S3CR3T"

// wideTable has a column of every type.
func wideTable() *schema.Schema {
	s := &schema.Schema{Version: 1, Key: []int{0}, Hash: []int{0}, Buckets: 2, Columns: []schema.Column{
		{Name: "id", Type: schema.Type{Kind: schema.Int64}},
	}}
	for _, c := range []struct {
		name string
		kind schema.Type
	}{
		{"b", schema.Type{Kind: schema.Bool}}, {"i8", schema.Type{Kind: schema.Int8}}, {"i64", schema.Type{Kind: schema.Int64}},
		{"f32", schema.Type{Kind: schema.Float32}}, {"f64", schema.Type{Kind: schema.Float64}},
		{"dec", schema.Type{Kind: schema.Decimal, Precision: 5, Scale: 2}}, {"s", schema.Type{Kind: schema.String}},
		{"bin", schema.Type{Kind: schema.Binary}}, {"u", schema.Type{Kind: schema.UUID}}, {"d", schema.Type{Kind: schema.Date}},
		{"ts", schema.Type{Kind: schema.Timestamp}}, {"j", schema.Type{Kind: schema.JSON}}, {"h", schema.Type{Kind: schema.String}},
	} {
		s.Columns = append(s.Columns, schema.Column{Name: c.name, Type: c.kind, Nullable: true})
	}
	for i := range s.Columns {
		s.Columns[i].ID = schema.ColumnID(i + 1)
	}
	return s
}

// input is a record, and what must become of it: a row that has a text in it, or a dead letter with a code.
type input struct {
	value   string
	key     []byte
	headers []kgo.RecordHeader
	null    bool   // no value
	row     string // a column's text; "" and no code: a row all the same
	code    decode.Reason
}

// badInputs are all ways in which a record can be wrong, and some in which it only looks so.
func badInputs() []input {
	deep := func(n int) string { return `{"id":1,"j":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	many := make([]kgo.RecordHeader, 10_000)
	for i := range many {
		many[i] = kgo.RecordHeader{Key: fmt.Sprint("x", i), Value: []byte(secret)}
	}
	in := []input{
		{value: "", code: decode.BadSyntax},
		{value: secret, code: decode.BadSyntax},
		{value: `"` + secret + `"`, code: decode.BadSyntax},
		{value: `[{"id":1}]`, code: decode.BadSyntax},
		{value: `{"id":1,"s":"` + secret, code: decode.BadSyntax},
		{value: `{"id":1}` + secret, code: decode.BadSyntax},
		{value: `{"id":1}{"id":2}`, code: decode.BadSyntax},
		{value: `{"id":1,"` + secret + `":tru}`, code: decode.BadSyntax},
		{value: "\x00\x00\x00\x00\x01" + `{"id":1}`, code: decode.BadSyntax}, // a schema registry's magic
		{value: "\xef\xbb\xbf" + `{"id":1}`, code: decode.BadSyntax},         // a byte order mark
		{value: `{"id":1,"s":"` + secret + "\xff" + `"}`, code: decode.BadUTF8},
		{value: `{"id":1,"s":"` + secret + `\ud800"}`, code: decode.BadUTF8},
		{value: `{"id":1,"ignored":"` + "\xc0\xaf" + `"}`, code: decode.BadUTF8},
		{value: `{"id":1,"s":"a` + "\n" + secret + `"}`, code: decode.BadSyntax},
		{value: deep(100_000), code: decode.TooDeep},
		{value: strings.Repeat(`{"a":`, 100_000), code: decode.TooDeep},
		{value: `{"i64":7,"s":"` + secret + `"}`, code: decode.MissingValue},
		{value: `{"id":null}`, code: decode.MissingValue},
		{value: `{"id":"` + secret + `"}`, code: decode.BadType},
		{value: `{"id":{"` + secret + `":1}}`, code: decode.BadType},
		{value: `{"id":true}`, code: decode.BadType},
		{value: `{"id":1,"b":1}`, code: decode.BadType},
		{value: `{"id":1,"s":7}`, code: decode.BadType},
		{value: `{"id":1,"i8":128}`, code: decode.OutOfRange},
		{value: `{"id":9223372036854775808}`, code: decode.OutOfRange},
		{value: `{"id":1e400}`, code: decode.OutOfRange},
		{value: `{"id":1,"f64":1e400}`, code: decode.OutOfRange},
		{value: `{"id":1,"f32":1e39}`, code: decode.OutOfRange},
		{value: `{"id":` + strings.Repeat("9", 100_000) + `}`, code: decode.OutOfRange},
		{value: `{"id":1,"dec":1000}`, code: decode.OutOfRange},
		{value: `{"id":1,"dec":1.001}`, code: decode.Inexact},
		{value: `{"id":1.5}`, code: decode.Inexact},
		{value: `{"id":1,"bin":"` + secret + `!"}`, code: decode.BadType},
		{value: `{"id":1,"u":"` + secret + `"}`, code: decode.BadType},
		{value: `{"id":1,"d":"2026-02-30"}`, code: decode.BadType},
		{value: `{"id":1,"ts":"` + secret + `"}`, code: decode.BadType},
		{value: `{"id":1,"ts":9223372036854775807}`, code: decode.OutOfRange},
		{value: `{"id":1,"ts":1.0000001}`, code: decode.Inexact},
		{null: true, key: []byte(secret), code: decode.NoValue},
		{value: `{"id":1}`, headers: []kgo.RecordHeader{{Key: "h", Value: []byte(secret + "\xff")}}, code: decode.BadUTF8},
		{value: secret, headers: many, code: decode.BadSyntax},
		{value: secret, key: []byte(secret), code: decode.BadSyntax},
	}
	good := []input{
		{value: `{"id":%d}`},
		{value: `{"id":"%d","id":1e3,"id":%[1]d}`}, // the last of doubled keys counts
		{value: `{"id":%d,"f64":-0.0,"f32":3.4e38}`, row: "|3.4e+38|-0|"},
		{value: `{"id":%d,"s":"` + secret + ` \u0000 \ud83d\ude00"}`, row: secret + " \x00 😀"},
		{value: `{"id":%d,"ts":"0001-01-01T00:00:00Z"}`, row: "0001-01-01T00:00:00Z"},
		{value: `{"id":%d,"ts":-1}`, row: "1969-12-31T23:59:59.999Z"},
		{value: `{"id":%d,"j":{"` + secret + `":[1,{}]}}`, row: `{"` + secret + `":[1,{}]}`},
		{value: `{"id":%d,"s":"` + secret + `"}`, headers: many, row: secret},
		{value: `{"id":%d}`, headers: []kgo.RecordHeader{{Key: "h", Value: []byte("first")}, {Key: "h", Value: []byte("second")}}, row: "second"},
		{value: `{"id":%d}`, key: []byte{}, headers: []kgo.RecordHeader{{Key: "h"}}, row: "NULL"},
		{value: ` { "id" : %d } ` + "\r\n\t"},
		{value: `{"id":%d,"` + secret + `":"` + secret + `"}`},
	}
	for i, g := range good {
		g.value = fmt.Sprintf(g.value, 1000+i)
		in = append(in, g)
	}
	return in
}

// logBuffer is what was logged.
type logBuffer struct {
	sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.text.Write(b)
}

// checkSecret fails where a value is in what people and programs see beside tables.
func checkSecret(t *testing.T, where, text string) {
	t.Helper()
	if i := strings.Index(text, secret); i >= 0 {
		t.Errorf("%s shows a value: ...%q", where, text[max(0, i-200):min(len(text), i+50)])
	}
}

// TestBadInput brings every bad record through a connector, each between good ones: dead letters with their reasons, the
// others are rows, and what is logged, at any level, or said of them has nothing of their values.
func TestBadInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1, "letters": 1})
		logged := &logBuffer{}
		w.logger = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug - 8}))
		w.addTable("wide", wideTable(), -everything, everything)
		inputs := badInputs()
		var records []*kgo.Record
		for i, in := range inputs {
			bad := &kgo.Record{Topic: "app", Key: in.key, Value: []byte(in.value), Headers: in.headers}
			if in.null {
				bad.Value = nil
			}
			records = append(records, bad, &kgo.Record{Topic: "app", Value: fmt.Appendf(nil, `{"id":%d,"s":"between"}`, 5000+i)})
		}
		w.produceRecords(records...)
		n := w.connector(func(o *Options) {
			o.Table, o.Add, o.DeadLetterTopic = "wide", map[string]string{"h": "headers.h"}, "letters"
		})
		w.checkpointed(map[int32]int64{0: int64(len(records))})
		w.noProblems()
		rows := strings.Join(w.rows("wide"), "\n")
		if got := strings.Count(rows, "between"); got != len(inputs) {
			t.Errorf("got %d of %d good rows between bad ones", got, len(inputs))
		}
		letters := w.letters()
		for i, in := range inputs {
			got, refused := letters[int64(2*i)]
			switch {
			case refused != (in.code != ""), refused && !strings.HasPrefix(got, string(in.code)+": "):
				t.Errorf("record %d, %.60q: got letter %q, want %q", 2*i, in.value, got, in.code)
			case !refused && !strings.Contains(rows, in.row):
				t.Errorf("record %d, %.60q: no row has %q", 2*i, in.value, in.row)
			}
			checkSecret(t, "a reason", got)
		}
		w.checkSecrets(n, logged)
	})
}

// letters are the reasons in nyala.dead_letters, by offset of partition 0.
func (w *world) letters() map[int64]string {
	s := schema.DeadLetters()
	out := map[int64]string{}
	for _, r := range w.rows(schema.DeadLettersTable) {
		cells := strings.Split(r, "|")
		var at int64
		fmt.Sscan(cells[letterOffset], &at)
		// Values have no bars, as they are base64; headers and reasons might.
		out[at] = strings.Join(cells[len(s.Columns)-2:len(cells)-1], "|")
	}
	return out
}

func (w *world) checkSecrets(n *node, logged *logBuffer) {
	w.t.Helper()
	status := n.Status()
	checkSecret(w.t, "the status", fmt.Sprintf("%+v", status))
	for l := range status.Counters.DeadLetters {
		if len(l.Reason) > 20 || l.Stage != "decode" && l.Stage != "route" {
			w.t.Errorf("label of a metric: %+v, want a short word", l)
		}
	}
	n.stop()
	logged.Lock()
	defer logged.Unlock()
	if logged.text.Len() == 0 {
		w.t.Error("nothing was logged")
	}
	checkSecret(w.t, "the log", logged.text.String())
}

// TestBadInputByWrite has what depends on the policy: tombstones, keys, unknown fields, failing on a bad record.
func TestBadInputByWrite(t *testing.T) {
	tombstone := func(key string) *kgo.Record { return &kgo.Record{Topic: "app", Key: []byte(key)} }
	for _, c := range []struct {
		name   string
		change func(*Options)
		record *kgo.Record
		code   decode.Reason
	}{
		{"insert", func(o *Options) { o.Op = batch.Insert }, tombstone(secret), decode.NoValue},
		{"insert without a key", func(o *Options) { o.Op = batch.Insert }, &kgo.Record{Topic: "app"}, decode.NoValue},
		{"changes, key of another kind", func(o *Options) { o.Changes = true }, tombstone(secret), decode.BadKey},
		{"changes, no key", func(o *Options) { o.Changes = true }, &kgo.Record{Topic: "app"}, decode.BadKey},
		{"changes, broken key", func(o *Options) { o.Changes = true }, tombstone(`{"id":"` + secret), decode.BadKey},
		{"changes, half a key", func(o *Options) { o.Changes = true }, tombstone(`{"` + secret + `":1}`), decode.MissingValue},
		{"changes, invalid UTF-8", func(o *Options) { o.Changes = true }, tombstone("\xff" + secret), decode.BadKey},
		{"unknown field", func(o *Options) { o.RefuseUnknownFields = true }, &kgo.Record{Topic: "app", Value: []byte(`{"id":1,"` + secret + `":1}`)}, decode.UnknownField},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, map[string]int32{"app": 1})
				logged := &logBuffer{}
				w.logger = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
				w.addTable("wide", wideTable(), -everything, everything)
				w.produceRecords(c.record, &kgo.Record{Topic: "app", Value: []byte(`{"id":7}`)})
				wide := func(o *Options) { o.Table, o.Add = "wide", nil }
				n := w.connector(wide, c.change)
				w.checkpointed(map[int32]int64{0: 2})
				if got := w.letters()[0]; !strings.HasPrefix(got, string(c.code)+": ") || len(w.rows("wide")) != 1 {
					t.Errorf("got letter %q and %d rows, want %s and 1", got, len(w.rows("wide")), c.code)
				}
				checkSecret(t, "a reason", w.letters()[0])
				w.checkSecrets(n, logged)
			})
		})
	}
}

// writesOf is how many entries the tablets of a table got.
func (w *world) writesOf(table string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.mu.tablets {
		if t.table == table {
			n += t.writes
		}
	}
	return n
}

// TestPoison counts the work of bad records: those of a chunk are one entry, so every second record may be bad and rows and
// letters take as many entries as rows alone would.
func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 20_000
		w := newWorld(t, map[string]int32{"app": 1})
		var records []*kgo.Record
		for i := range n {
			r := &kgo.Record{Topic: "app", Value: event(0, i)}
			if i%2 == 1 {
				r.Value = []byte("poison")
			}
			records = append(records, r)
		}
		w.produceRecords(records...)
		w.connector()
		w.checkpointed(map[int32]int64{0: n})
		if got := len(w.rows(schema.DeadLettersTable)); got != n/2 {
			t.Errorf("got %d letters, want %d", got, n/2)
		}
		w.noProblems()
		letters, rows := w.writesOf(schema.DeadLettersTable), w.writesOf("events")
		if letters > n/500 || rows > 4*n/500 { // 4 tablets
			t.Errorf("%d records took %d entries of letters and %d of rows", n, letters, rows)
		}
	})
}

// TestLettersStandStill has a tablet of dead letters that takes nothing for a while: rows behind the bad record come in all the same,
// and only the checkpoint waits.
func TestLettersStandStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		var still atomic.Bool
		still.Store(true)
		w.setWrite(func(tablet uint64, _ int) writeFault {
			if still.Load() && w.mu.tablets[tablet].table == schema.DeadLettersTable {
				return writeFails
			}
			return writeWorks
		})
		w.produceRecords(&kgo.Record{Topic: "app", Value: []byte("poison")})
		w.connector()
		w.produce("app", 0, 1, 100)
		w.awaitRows(100)
		if at := w.checkpoint(0); at != 0 {
			t.Errorf("the checkpoint is at %d before the letter is there", at)
		}
		still.Store(false)
		w.checkpointed(map[int32]int64{0: 101})
		if got := len(w.rows(schema.DeadLettersTable)); got != 1 {
			t.Errorf("got %d letters", got)
		}
	})
}
