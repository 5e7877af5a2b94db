package demo

import (
	"bytes"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nyala/configs"
	"nyala/ingest/broker"
	"nyala/store/batch"
	"nyala/store/schema"
)

// builder makes rows as a scan answers with.
func builder() *batch.Builder {
	var c []schema.Column
	for i, column := range columns {
		c = append(c, schema.Column{ID: schema.ColumnID(i + 1), Name: column.name, Type: schema.Type{Kind: column.kind}})
	}
	return batch.NewBuilder(c, 16)
}

func appendTo(b *batch.Builder, e *broker.Event, partition int32, offset int64) {
	session, _ := schema.ParseValue(schema.Type{Kind: schema.UUID}, e.Session)
	text := func(s string) schema.Value { return schema.Value{Bytes: []byte(s)} }
	ok := schema.Value{}
	if e.OK {
		ok.Int = 1
	}
	for i, v := range []schema.Value{
		{Int: int64(e.Tenant)}, {Int: e.EventTime}, {Int: e.EventID}, text(e.UserID), session, text(e.EventName), text(e.URL),
		text(e.Country), {Int: e.DurationMs}, {Float: e.Value}, ok, {Int: int64(partition)}, {Int: offset},
	} {
		b.Columns[i].AppendValue(v)
	}
}

func TestComparison(t *testing.T) {
	produce := func() (*tally, []broker.Event) {
		tally, g := newTally(2), broker.NewGenerator(1, 1e15, 20, 0)
		events := make([]broker.Event, 200)
		for i := range events {
			g.Next(&events[i])
			tally.add(int32(i%2), int64(i/2), &events[i])
		}
		return tally, events
	}
	for name, c := range map[string]struct {
		change                         func(i int, e *broker.Event, b *batch.Builder) (keep bool)
		missing, twice, wrong, unknown int64
	}{
		"exact":   {change: func(int, *broker.Event, *batch.Builder) bool { return true }},
		"missing": {change: func(i int, _ *broker.Event, _ *batch.Builder) bool { return i != 7 && i != 199 }, missing: 2},
		"twice": {change: func(i int, e *broker.Event, b *batch.Builder) bool {
			if i == 3 {
				appendTo(b, e, 1, 1)
			}
			return true
		}, twice: 1},
		"wrong": {change: func(i int, e *broker.Event, _ *batch.Builder) bool {
			if i == 0 {
				e.OK = !e.OK
			}
			if i == 1 {
				e.URL += "x"
			}
			return true
		}, wrong: 2},
		"unknown": {change: func(i int, e *broker.Event, b *batch.Builder) bool {
			if i == 0 {
				appendTo(b, e, 1, 100)
				appendTo(b, e, 2, 0)
				appendTo(b, e, 0, -1)
			}
			return true
		}, unknown: 3},
	} {
		tally, events := produce()
		b, held := builder(), tally.compare()
		for i, e := range events {
			if c.change(i, &e, b) {
				appendTo(b, &e, int32(i%2), int64(i/2))
			}
		}
		view := b.View()
		if err := held.add(&view); err != nil {
			t.Fatal(err)
		}
		got := []int64{held.missing(), held.twice, held.wrong, held.unknown}
		if want := []int64{c.missing, c.twice, c.wrong, c.unknown}; !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
		if held.exact() != (name == "exact") {
			t.Errorf("%s: exact is %v", name, held.exact())
		}
		if name == "missing" {
			if got := held.missed(5); !slices.Equal(got, []place{{1, 3}, {1, 99}}) {
				t.Errorf("missed: got %v", got)
			}
		}
	}
}

func TestRowsOfOtherColumnsAreRefused(t *testing.T) {
	b := builder()
	view := b.View()
	view.Columns[2], view.Columns[3] = view.Columns[3], view.Columns[2]
	if err := newTally(1).compare().add(&view); err == nil {
		t.Error("columns in another order were taken")
	}
}

func TestOffsetsMustFollowEachOther(t *testing.T) {
	tally := newTally(1)
	tally.add(0, 0, &broker.Event{})
	tally.add(0, 2, &broker.Event{})
	if _, err := tally.records(); err == nil {
		t.Error("a hole in the acknowledgements was taken")
	}
}

func TestConfigurationIsOne(t *testing.T) {
	b, err := broker.Start(broker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c := &cluster{kafka: b, dir: `/tmp/it's "here"`}
	for i := range nodes {
		c.nodes = append(c.nodes, &node{id: "n" + strconv.Itoa(i), peer: "127.0.0.1:" + strconv.Itoa(7000+i), http: "127.0.0.1:" + strconv.Itoa(8000+i)})
	}
	config, err := configs.Parse("nyala.yaml", []byte(c.text()), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Cluster.Nodes[1].Data; got != `/tmp/it's "here"/n1` {
		t.Errorf("data in %s", got)
	}
	for i, column := range config.Tables[0].Columns {
		if want := (schema.Type{Kind: columns[i].kind}).String(); column.Name != columns[i].name || column.Type.String() != want {
			t.Errorf("column %d: got %s %s, want %s %s", i, column.Name, column.Type, columns[i].name, want)
		}
	}
}

func TestBusyPortsAreNotTaken(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, text, _ := net.SplitHostPort(busy.Addr().String())
	port, _ := strconv.Atoi(text)
	var r reserved
	defer r.release()
	address, err := r.take(port)
	if err != nil || address == busy.Addr().String() {
		t.Errorf("took %s: %v", address, err)
	}
}

func TestDirectoryMustBeEmpty(t *testing.T) {
	dir := t.TempDir()
	if got, temporary, err := directory(dir); err != nil || temporary || got != dir {
		t.Errorf("got %s, %v, %v", got, temporary, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := directory(dir); err == nil || !strings.Contains(err.Error(), "it has x") {
		t.Errorf("a directory with a file: %v", err)
	}
}

func TestGuardRemembersWhoRuns(t *testing.T) {
	got := outlived(strings.NewReader("12\n13\n-12\n14\n\n0\n1\n-1\nx\n-99\n"))
	if want := []int{13, 14}; !slices.Equal(slices.Sorted(maps.Keys(got)), want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestQuantile(t *testing.T) {
	h, err := parseHistogram(strings.NewReader(`# HELP x
nyala_ingest_freshness_seconds_bucket{connector="a",le="0.001"} 0
nyala_ingest_freshness_seconds_bucket{connector="a",le="0.01"} 50
nyala_ingest_freshness_seconds_bucket{connector="b",le="0.01"} 40
nyala_ingest_freshness_seconds_bucket{connector="a",le="+Inf"} 60
nyala_ingest_freshness_seconds_bucket{connector="b",le="+Inf"} 40
nyala_ingest_freshness_seconds_sum{connector="a"} 9
`))
	if err != nil {
		t.Fatal(err)
	}
	if got := quantile(h, 0.5); math.Abs(got-0.006) > 1e-9 {
		t.Errorf("p50 %g, want 0.006", got)
	}
	if got := quantile(h, 0.99); got != 0.01 {
		t.Errorf("p99 %g, want the last bound, 0.01", got)
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("of nothing: %g", got)
	}
	if _, err := parseHistogram(strings.NewReader(freshnessName + `le="x"} y`)); err == nil {
		t.Error("nonsense was taken")
	}
}

func TestScreen(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out)
	s.say("a %d", 1)
	s.show("b")
	s.clear()
	s.keep()
	if out.String() != "a 1\nb\n" {
		t.Errorf("not on a terminal: %q", out.String())
	}
	out.Reset()
	s.terminal = true
	s.show("b")
	s.say("c")
	s.clear()
	if got, want := out.String(), "\r\x1b[Kb\r\x1b[Kc\nb\r\x1b[K"; got != want {
		t.Errorf("on a terminal: got %q, want %q", got, want)
	}
}

func TestWords(t *testing.T) {
	for got, want := range map[string]string{
		count(0): "0", count(999): "999", count(1234567): "1,234,567", count(-1234): "-1,234",
		size(12): "12 B", size(1 << 20): "1 MiB", size(123456789): "118 MiB",
		seconds(20 * time.Millisecond): "20 ms", seconds(1500 * time.Millisecond): "1.5 s",
		clock(62 * time.Second): "1:02", clock(3723 * time.Second): "1:02:03",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestRefusedStartShowsTheLog lets a shell take the place of a node: it finds no script named run.
func TestRefusedStartShowsTheLog(t *testing.T) {
	c, err := prepare(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	c.program = "/bin/sh"
	var out bytes.Buffer
	d := &demo{options: options{rate: 1}, screen: newScreen(&out), cluster: c, watch: newWatch(c), tally: newTally(partitions)}
	err = d.show(t.Context(), nil, false)
	if err == nil || !strings.Contains(err.Error(), "ended by itself: exit status") {
		t.Errorf("got %v", err)
	}
	if text := out.String(); !strings.Contains(text, "the end of ") || !strings.Contains(text, "run") {
		t.Errorf("its log is not shown: %s", text)
	}
}
