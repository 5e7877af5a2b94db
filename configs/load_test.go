package configs

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// whole uses every key that is built.
const whole = `
cluster:
  name: tracking
  replicas: 3
  nodes:
    - {id: n1, peer: 127.0.0.1:7401, http: 127.0.0.1:7481, data: data/n1, rack: a}
    - {id: n2, peer: 127.0.0.1:7402, http: 127.0.0.1:7482, data: data/n2, rack: b}
    - {id: n3, peer: 127.0.0.1:7403, http: ":7483", data: data/n3, rack: c}
node:
  memory: 4GiB
  durability: page_cache
kafka:
  brokers: [127.0.0.1:9092]
  tls: {ca_file: ca.pem, cert_file: client.pem, key_file: client.key, server_name: kafka}
  sasl: {mechanism: SCRAM-SHA-512, username: u, password_file: secret}
tables:
  - name: events
    columns:
      - {name: tenant, type: int32}
      - {name: event_time, type: timestamp, default: 2026-01-31T13:00:00+01:00}
      - {name: event_id, type: int64}
      - {name: user_id, type: int64, default: -7}
      - {name: session, type: uuid, default: 6F1C2D3E-0000-4000-8000-0123456789ab}
      - {name: url, type: string, nullable: true, default: null}
      - {name: value, type: float64, nullable: true, default: 0}
      - {name: ratio, type: float32, default: 0.1}
      - {name: price, type: decimal(10,2), default: -12.5}
      - {name: day, type: date, default: 1969-12-31}
      - {name: raw, type: binary, default: AP8=}
      - {name: extra, type: json, default: '{"a": 1}'}
      - {name: seen, type: bool, default: true}
      - {name: kafka_offset, type: int64}
      - {name: kafka_partition, type: int32}
      - {name: trace, type: string, nullable: true}
    primary_key: [tenant, event_time, event_id]
    hash: {columns: [event_id], buckets: 4}
    range: {column: event_time, every: 1d12h, ahead: 0}
    history: 90m
connectors:
  - name: app-events
    topics: [app-events]
    consumer_group: mine
    table: events
    format: json
    write: changes
    timestamp_unit: us
    start_from: 2026-01-31T13:00:00.5+01:00
    on_offset_out_of_range: skip
    on_bad_record: fail
    on_unknown_field: dead_letter
    dead_letter_topic: dead
    fields: {event_time: ts, "user_id": user.id, url: a\.b}
    add: {kafka_offset: offset, kafka_partition: partition, trace: headers.trace-id}
  - {name: all, topics_regex: "app-.*", table: events}
`

// worldOf has the files that the configuration above names.
func worldOf(t testing.TB) world {
	certificate, key := certificateAndKey(t)
	return world{
		env:   map[string]string{"EMPTY": "", "MEMORY": "2GiB", "BROKERS": "a:1, b:2", "PASSWORD": "hunter2", "BUCKETS": "8"},
		files: map[string]string{"etc/ca.pem": certificate, "etc/client.pem": certificate, "etc/client.key": key, "etc/secret": "hunter2\n", "/run/user": "nyala\r\n"},
	}
}

func TestWholeFile(t *testing.T) {
	w := worldOf(t)
	c, faults := w.parse(t, "etc/nyala.yaml", whole)
	if faults != nil {
		t.Fatal(faults)
	}
	if c.Kafka.SASL.Password.Reveal() != "hunter2" || c.Kafka.TLS.CA != w.files["etc/ca.pem"] || c.Kafka.TLS.Key.Reveal() != w.files["etc/client.key"] {
		t.Errorf("got secrets %q and %q", c.Kafka.SASL.Password.Reveal(), c.Kafka.TLS.CA)
	}
	defaults := map[string]any{}
	for _, column := range c.Tables[0].Columns {
		defaults[column.Name] = column.Default
	}
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	want := map[string]any{
		"tenant": nil, "event_time": noon.UnixMicro(), "event_id": nil, "user_id": int64(-7), "url": nil, "value": 0.0,
		"session": [16]byte{0x6f, 0x1c, 0x2d, 0x3e, 0, 0, 0x40, 0, 0x80, 0, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab},
		"ratio":   float64(float32(0.1)), "price": int64(-1250), "day": int64(-1), "raw": []byte{0, 0xff}, "extra": `{"a": 1}`, "seen": true,
		"kafka_offset": nil, "kafka_partition": nil, "trace": nil,
	}
	if !reflect.DeepEqual(defaults, want) {
		t.Errorf("got defaults %v, want %v", defaults, want)
	}
	if r := c.Tables[0].Range; *r != (Range{Column: "event_time", Every: (36 * time.Hour).Microseconds(), Ahead: 0}) {
		t.Errorf("got range %+v", r)
	}
	wantConnector := Connector{
		Name: "app-events", Topics: []string{"app-events"}, ConsumerGroup: "mine", Table: "events", Format: FormatJSON, Write: WriteChanges,
		TimestampUnit: Microseconds, StartFrom: StartFrom{At: StartAtTime, Time: noon.Add(500 * time.Millisecond)},
		OnOffsetOutOfRange: OutOfRangeSkip, OnBadRecord: BadRecordFail, OnUnknownField: UnknownFieldDeadLetter, DeadLetterTopic: "dead",
		Fields: []Field{{"event_time", "ts"}, {"user_id", "user.id"}, {"url", `a\.b`}},
		Add:    []Add{{"kafka_offset", AddOffset, ""}, {"kafka_partition", AddPartition, ""}, {"trace", AddHeader, "trace-id"}},
	}
	if !reflect.DeepEqual(c.Connectors[0], wantConnector) {
		t.Errorf("got connector %+v, want %+v", c.Connectors[0], wantConnector)
	}
	checkPrintsAgain(t, w, "etc/nyala.yaml", c)
}

// TestWholeFileUsesEveryKey keeps the file above, and the table of keys, complete.
func TestWholeFileUsesEveryKey(t *testing.T) {
	for section, known := range keys {
		for _, key := range known {
			if _, refused := isUnbuilt(join(section, key), ""); !refused && key != "password" && !strings.Contains(whole, key+":") {
				t.Errorf("the file does not use %s", join(section, key))
			}
		}
		if sectionNames[section] == "" {
			t.Errorf("section %q has no name for messages", section)
		}
	}
	var flags []string
	for _, f := range NodeFlags() {
		flags = append(flags, f.Name)
	}
	if !slices.Equal(flags, keys["node"]) {
		t.Errorf("got flags %v, want one for each of %v", flags, keys["node"])
	}
	for key := range secretKeys {
		if section, name, _ := strings.Cut(key, ".password"); name != "" || !slices.Contains(keys[section], "password") {
			t.Errorf("secret key %s is not in the table of keys", key)
		}
	}
}

const smallest = `cluster: {name: c, nodes: [{id: n1, peer: localhost:1, http: localhost:2, data: d}]}`

func TestDefaults(t *testing.T) {
	c, faults := world{}.parse(t, "nyala.yaml", smallest+`
kafka: {brokers: [b:1]}
tables: [{name: t, columns: [{name: a, type: int8}, {name: d, type: date}], primary_key: [d, a], range: {column: d, every: 30d}}]
connectors: [{name: k, topics: [x], table: t}]
`)
	if faults != nil {
		t.Fatal(faults)
	}
	want := &Config{
		Cluster: Cluster{Name: "c", Replicas: 1, Nodes: []ClusterNode{{ID: "n1", Peer: "localhost:1", HTTP: "localhost:2", Data: "d"}}},
		Node:    Node{MemoryBytes: 1 << 30, Durability: Fsync},
		Kafka:   &Kafka{Brokers: []string{"b:1"}},
		Tables: []Table{{
			Name: "t", Columns: []Column{{Name: "a", Type: Type{Kind: "int8"}}, {Name: "d", Type: Type{Kind: "date"}}}, PrimaryKey: []string{"d", "a"},
			Hash: Hash{Columns: []string{"d", "a"}, Buckets: 1}, Range: &Range{Column: "d", Every: 30, Ahead: 2}, History: time.Hour,
		}},
		Connectors: []Connector{{
			Name: "k", Topics: []string{"x"}, ConsumerGroup: "nyala-k", Table: "t", Format: FormatJSON, Write: WriteUpsert, TimestampUnit: Milliseconds,
			StartFrom: StartFrom{At: StartEarliest}, OnOffsetOutOfRange: OutOfRangeFail, OnBadRecord: BadRecordDeadLetter, OnUnknownField: UnknownFieldIgnore,
		}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%s\nwant\n%s", asJSON(t, c), asJSON(t, want))
	}
	three := strings.Replace(smallest, "]}", ", {id: n2, peer: b:1, http: b:2, data: d}, {id: n3, peer: c:1, http: c:2, data: d}]}", 1)
	if c, faults = (world{}).parse(t, "nyala.yaml", three); faults != nil || c.Cluster.Replicas != 3 {
		t.Errorf("three nodes: got %+v, faults %v, want 3 replicas", c, faults)
	}
}

func TestReferences(t *testing.T) {
	w := worldOf(t)
	text := strings.NewReplacer(
		"4GiB", "${env:MEMORY}", "[127.0.0.1:9092]", `["${env:BROKERS}", c:3]`, "username: u", "username: x-${file:/run/user}-${env:EMPTY:-y}",
		"password_file: secret", "password: ${file:secret}", "buckets: 4", "buckets: ${env:BUCKETS}", "seen, type: bool, default: true", "seen, type: bool, default: '${env:NO:-false}'",
		"server_name: kafka", "server_name: '$${x}$'",
	).Replace(whole)
	c, faults := w.parse(t, "etc/nyala.yaml", text)
	if faults != nil {
		t.Fatal(faults)
	}
	got := fmt.Sprintf("%s|%s|%s|%s|%s|%d|%v", formatSize(c.Node.MemoryBytes), c.Kafka.Brokers, c.Kafka.SASL.Username, c.Kafka.SASL.Password.Reveal(),
		c.Kafka.TLS.ServerName, c.Tables[0].Hash.Buckets, c.Tables[0].Columns[12].Default)
	if want := "2GiB|[a:1 b:2 c:3]|x-nyala-y|hunter2|${x}$|8|false"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if text := printed(t, c); strings.Contains(text, "hunter2") || !strings.Contains(text, `password: "***"`) {
		t.Errorf("the password is not hidden:\n%s", text)
	}
	checkPrintsAgain(t, w, "etc/nyala.yaml", c)
}

// TestReferenceIsNotYAML makes sure that what a reference holds cannot change the file's structure.
func TestReferenceIsNotYAML(t *testing.T) {
	w := world{env: map[string]string{"RACK": `a, id: n9}, {x: ${env:RACK} "# '`}}
	c, faults := w.parse(t, "nyala.yaml", strings.Replace(smallest, "data: d", "data: d, rack: ${env:RACK}", 1))
	if faults != nil || c.Cluster.Nodes[0].Rack != w.env["RACK"] {
		t.Fatalf("got %+v, faults %v", c, faults)
	}
	checkPrintsAgain(t, w, "nyala.yaml", c)
}

func TestOverride(t *testing.T) {
	c, faults := world{}.parse(t, "nyala.yaml", smallest+"\nnode: {memory: 2GiB}", Override("node.memory", "3GiB"), Override("node.durability", "page_cache"))
	if faults != nil || c.Node != (Node{MemoryBytes: 3 << 30, Durability: PageCache}) {
		t.Errorf("got %+v, faults %v", c, faults)
	}
	for _, text := range []string{smallest, smallest + "\nnode: {memory: 1}"} {
		_, faults = world{}.parse(t, "nyala.yaml", text, Override("node.memory", "3GB"), Override("node.durability", "never"), Override("node.memry", "1GiB"))
		got := faults.Error()
		for _, want := range []string{
			`--memory: node: memory: got "3GB", want a size such as 256MiB or 4GiB; did you mean "3GiB"?`,
			`--durability: node: durability: got "never", want fsync or page_cache`,
			`node.memry: this key cannot be overridden; did you mean "node.memory"?`,
		} {
			if !strings.Contains(got, want) {
				t.Errorf("got\n%s\nwant in it\n%s", got, want)
			}
		}
		if strings.Contains(text, "memory") && !strings.Contains(got, "nyala.yaml:2:16: node: memory: got the number 1") {
			t.Errorf("an override hides the fault in the file:\n%s", got)
		}
	}
}

// TestUnbuiltIsRefused checks every entry of the table of unbuilt features.
func TestUnbuiltIsRefused(t *testing.T) {
	w := worldOf(t)
	for _, u := range unbuilt {
		text, name := "", u.key[strings.LastIndexAny(u.key, ".")+1:]
		value := u.value
		if value == "" {
			value = "1"
		}
		line := name + ": " + value
		switch section := strings.TrimSuffix(strings.TrimSuffix(u.key, name), "."); section {
		case "":
			text = whole + line + "\n"
		case "tables[].range":
			text = strings.Replace(whole, "every: 1d12h", "every: 1d, "+line, 1)
		case "connectors[]":
			text = whole + "  - {name: new, topics: [new], table: events, " + line + "}\n"
		default:
			t.Fatalf("the test does not know the section %q", section)
		}
		_, faults := w.parse(t, "etc/nyala.yaml", text)
		if len(faults) != 1 || !strings.Contains(faults[0].Message, "is not built yet") || faults[0].Hint != u.instead {
			t.Errorf("%s: got %v, want one fault that says that it is not built yet", line, faults)
		}
	}
}

func TestParseWithoutAWorld(t *testing.T) {
	if _, err := Parse("nyala.yaml", []byte(smallest), nil, nil); err != nil {
		t.Error(err)
	}
	_, err := Parse("nyala.yaml", []byte(strings.Replace(smallest, "data: d", "data: ${env:X}, rack: ${file:y}", 1)), nil, nil)
	if faults := (Faults{}); !errors.As(err, &faults) || len(faults) != 2 {
		t.Errorf("got %v, want a fault for each reference", err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "nyala.yaml"))
	faults := Faults{}
	if !errors.As(err, &faults) || len(faults) != 1 || !strings.HasSuffix(err.Error(), "nyala.yaml: the configuration cannot be read: no such file or directory") {
		t.Errorf("got %v", err)
	}
	if _, err := Load(dir); !errors.As(err, &faults) || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory: got %v", err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("name", "from-a-file\n")
	write("nyala.yaml", strings.Replace(smallest, "name: c", "name: ${file:name}", 1))
	if c, err := Load(filepath.Join(dir, "nyala.yaml")); err != nil || c.Cluster.Name != "from-a-file" {
		t.Errorf("got %+v, %v", c, err)
	}
	write("nyala.yaml", smallest+"\n"+strings.Repeat("# a comment\n", maxFileBytes/12+1))
	if _, err := Load(filepath.Join(dir, "nyala.yaml")); err == nil || !strings.Contains(err.Error(), "want at most 1MiB") {
		t.Errorf("a large file: got %v", err)
	}
}

// TestFaultsOfFiles checks what is reported over files that the configuration refers to.
func TestFaultsOfFiles(t *testing.T) {
	w := worldOf(t)
	w.files["etc/secret"] = "\n"
	w.files["etc/ca.pem"] = "\xff"
	w.files["etc/client.pem"], w.files["etc/client.key"] = w.files["etc/client.key"], w.files["etc/client.pem"]
	w.files["/run/user"] = strings.Repeat("x", maxReferencedBytes+1)
	w.env["MEMORY"] = "a\x00b"
	text := strings.NewReplacer("username: u", "username: ${file:/run/user}", "4GiB", "${env:MEMORY}").Replace(whole)
	_, faults := w.parse(t, "etc/nyala.yaml", text)
	want := []string{
		"the environment variable MEMORY holds the character U+0000", `the file "ca.pem" is not text in UTF-8`,
		`the files "client.pem" and "client.key" are no certificate and key`, `the file "/run/user" is larger than 1MiB`, `the file "secret" holds no password`,
	}
	if len(faults) != len(want) {
		t.Fatalf("got %v", faults)
	}
	for i, f := range faults {
		if !strings.Contains(f.Message, want[i]) {
			t.Errorf("got %q, want %q", f.Message, want[i])
		}
	}
}

func TestSecret(t *testing.T) {
	c := struct {
		A Secret
		B *Secret
	}{A: "hunter2"}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", c.A, "all", c)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s %q", c, c, c, c.A, c.A), string(b), log.String()} {
		if strings.Contains(text, "hunter2") || !strings.Contains(text, "***") {
			t.Errorf("got %s", text)
		}
	}
	if Secret("").String() != "" {
		t.Error("an absent secret does not look absent")
	}
}
