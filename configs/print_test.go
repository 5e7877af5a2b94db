package configs

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// printed returns what Print writes.
func printed(t testing.TB, c *Config) string {
	t.Helper()
	var b strings.Builder
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// withoutSecrets returns c as it is after its secrets were printed and read again.
func withoutSecrets(c *Config) *Config {
	copied := *c
	if c.Kafka != nil && c.Kafka.SASL != nil && c.Kafka.SASL.PasswordFile == "" {
		kafka, sasl := *c.Kafka, *c.Kafka.SASL
		sasl.Password = hidden
		kafka.SASL = &sasl
		copied.Kafka = &kafka
	}
	return &copied
}

// checkPrintsAgain checks that what c prints is read as c again.
func checkPrintsAgain(t testing.TB, w world, name string, c *Config) {
	t.Helper()
	text := printed(t, c)
	again, faults := w.parse(t, name, text)
	if faults != nil {
		t.Fatalf("the printed configuration is refused: %v\n%s", faults, text)
	}
	if want := withoutSecrets(c); !reflect.DeepEqual(again, want) {
		t.Fatalf("printed and read again: got\n%+v\nwant\n%+v\nprinted\n%s", asJSON(t, again), asJSON(t, want), text)
	}
}

func asJSON(t testing.TB, v any) string {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPrintReadsAgain prints random configurations and reads them again.
func TestPrintReadsAgain(t *testing.T) {
	certificate, key := certificateAndKey(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := world{files: map[string]string{
			"etc/ca.pem": certificate, "etc/a folder/client.pem": certificate, "etc/client.key": key, "etc/secret": "hunter2\r\n",
		}}
		c := drawConfig(rt, certificate, key)
		text := &strings.Builder{}
		if err := c.Print(text); err != nil {
			rt.Fatal(err)
		}
		again, err := Parse("etc/nyala.yaml", []byte(text.String()), w.lookup, w.read)
		if err != nil {
			rt.Fatalf("%v\n%s", err, text)
		}
		if want := withoutSecrets(c); !reflect.DeepEqual(again, want) {
			rt.Fatalf("got %+v\nwant %+v\nprinted\n%s", again, want, text)
		}
	})
}

var (
	names    = rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_]{0,12}`)
	oneLine  = rapid.StringOfN(rapid.RuneFrom([]rune("ab0-: #,'\"\\{}[]&*!|>%@`$~?=.é日\U0001F600\u00a0\u202e\ufeff\u2028")), 1, 12, -1)
	freeText = rapid.StringOfN(rapid.OneOf(rapid.RuneFrom([]rune("ab0-: #,'\"\\{}[]\n\r\t\x00\x1b\u0085${env:file}é日")), rapid.Rune()), 0, 16, -1)
)

func drawConfig(t *rapid.T, certificate, key string) *Config {
	c := &Config{
		Cluster: Cluster{Name: names.Draw(t, "cluster")},
		Node: Node{
			MemoryBytes: rapid.Int64Range(minMemoryBytes, maxMemoryBytes).Draw(t, "memory"),
			Durability:  rapid.SampledFrom([]Durability{Fsync, PageCache}).Draw(t, "durability"),
		},
	}
	nodes := rapid.IntRange(1, 5).Draw(t, "nodes")
	for i := range nodes {
		n := ClusterNode{
			ID: fmt.Sprintf("%s%d", names.Draw(t, "id"), i), Peer: fmt.Sprintf("10.0.0.%d:7401", i), HTTP: fmt.Sprintf("[::1]:%d", 7481+i),
			Data: oneLine.Filter(printableOnly).Draw(t, "data"),
		}
		if rapid.Bool().Draw(t, "has rack") {
			n.Rack = oneLine.Filter(printableOnly).Draw(t, "rack")
		}
		c.Cluster.Nodes = append(c.Cluster.Nodes, n)
	}
	c.Cluster.Replicas = rapid.IntRange(0, (nodes-1)/2).Draw(t, "replicas")*2 + 1
	for i := range rapid.IntRange(0, 3).Draw(t, "tables") {
		c.Tables = append(c.Tables, drawTable(t, i))
	}
	if len(c.Tables) > 0 {
		c.Kafka = drawKafka(t, certificate, key)
		for i := range rapid.IntRange(0, 3).Draw(t, "connectors") {
			c.Connectors = append(c.Connectors, drawConnector(t, i, c.Tables))
		}
	}
	return c
}

// printableOnly keeps texts that a single-line key may hold: no line ends and the like.
func printableOnly(s string) bool { return !strings.ContainsAny(s, "\u0085\u2028") }

func drawKafka(t *rapid.T, certificate, key string) *Kafka {
	k := &Kafka{Brokers: []string{"kafka-1:9092", "10.0.0.9:9093", "[fe80::1]:9092"}[:rapid.IntRange(1, 3).Draw(t, "brokers")]}
	if rapid.Bool().Draw(t, "tls") {
		k.TLS = &TLS{}
		if rapid.Bool().Draw(t, "ca") {
			k.TLS.CAFile, k.TLS.CA = "ca.pem", certificate
		}
		if rapid.Bool().Draw(t, "client") {
			k.TLS.CertFile, k.TLS.Cert, k.TLS.KeyFile, k.TLS.Key = "a folder/client.pem", certificate, "client.key", Secret(key)
		}
	}
	if rapid.Bool().Draw(t, "sasl") {
		k.SASL = &SASL{Mechanism: "PLAIN", Username: oneLine.Filter(printableOnly).Draw(t, "user"), Password: "hunter2"}
		if rapid.Bool().Draw(t, "password file") {
			k.SASL.PasswordFile = "secret"
		}
	}
	return k
}

func drawTable(t *rapid.T, number int) Table {
	table := Table{
		Name:    fmt.Sprintf("%s_%d", names.Draw(t, "table"), number),
		History: time.Duration(rapid.Int64Range(minHistory.Microseconds(), 1<<50).Draw(t, "history")) * time.Microsecond,
	}
	for i := range rapid.IntRange(1, 8).Draw(t, "columns") {
		kind := Type{Kind: rapid.SampledFrom(append([]string{kindDecimal}, simpleKinds...)).Draw(t, "kind")}
		if kind.Kind == kindDecimal {
			kind.Precision = rapid.IntRange(1, maxPrecision).Draw(t, "precision")
			kind.Scale = rapid.IntRange(0, kind.Precision).Draw(t, "scale")
		}
		c := Column{Name: fmt.Sprintf("%s_%d", names.Draw(t, "column"), i), Type: kind}
		if kind.keyable() && rapid.Bool().Draw(t, "key") {
			table.PrimaryKey = append(table.PrimaryKey, c.Name)
			if table.Range == nil && rapid.Bool().Draw(t, "range") {
				table.Range = drawRange(t, c)
			}
		} else {
			c.Nullable = rapid.Bool().Draw(t, "nullable")
		}
		if rapid.Bool().Draw(t, "has default") {
			c.Default = drawDefault(t, kind)
		}
		table.Columns = append(table.Columns, c)
	}
	if len(table.PrimaryKey) == 0 {
		table.Columns = append(table.Columns, Column{Name: "the_key", Type: Type{Kind: kindUUID}})
		table.PrimaryKey = []string{"the_key"}
	}
	table.Hash = Hash{Columns: table.PrimaryKey[:rapid.IntRange(1, len(table.PrimaryKey)).Draw(t, "hash")], Buckets: rapid.IntRange(1, maxBuckets).Draw(t, "buckets")}
	return table
}

func drawRange(t *rapid.T, c Column) *Range {
	r := &Range{Column: c.Name, Ahead: rapid.IntRange(0, maxAhead).Draw(t, "ahead")}
	switch c.Type.Kind {
	case kindTimestamp:
		r.Every = rapid.Int64Range(minEvery.Microseconds(), 1<<50).Draw(t, "every")
	case kindDate:
		r.Every = rapid.Int64Range(1, 100_000).Draw(t, "every")
	case kindInt8, kindInt16, kindInt32, kindInt64:
		r.Every = rapid.Int64Range(1, int64(1)<<(integerBits[c.Type.Kind]-1)-1).Draw(t, "every")
	default:
		return nil
	}
	return r
}

func drawDefault(t *rapid.T, kind Type) any {
	switch kind.Kind {
	case kindBoolean:
		return rapid.Bool().Draw(t, "bool")
	case kindInt8, kindInt16, kindInt32, kindInt64:
		most := int64(1)<<(integerBits[kind.Kind]-1) - 1
		return rapid.Int64Range(-most-1, most).Draw(t, "integer")
	case kindFloat32:
		return float64(rapid.Float32().Draw(t, "float32")) + 0 // -0 becomes 0
	case kindFloat64:
		return rapid.Float64().Draw(t, "float64") + 0
	case kindDecimal:
		most := int64(1)
		for range kind.Precision {
			most *= 10
		}
		return rapid.Int64Range(1-most, most-1).Draw(t, "decimal")
	case kindString:
		return freeText.Draw(t, "string")
	case kindJSON:
		b, err := json.Marshal(freeText.Draw(t, "json"))
		must(err == nil, "configs: %v", err)
		return string(b)
	case kindBinary:
		return rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "binary")
	case kindUUID:
		return [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid"))
	case kindDate:
		return rapid.Int64Range(-719528, 2932896).Draw(t, "date") // the years 0 to 9999
	}
	return rapid.Int64Range(-719528*secondsPerDay*1_000_000, 2932897*secondsPerDay*1_000_000-1).Draw(t, "timestamp")
}

func drawConnector(t *rapid.T, number int, known []Table) Connector {
	table := rapid.SampledFrom(known).Draw(t, "table")
	c := Connector{
		Name: fmt.Sprintf("%s-%d", names.Draw(t, "connector"), number), Table: table.Name, Format: FormatJSON,
		Write:              rapid.SampledFrom([]Write{WriteUpsert, WriteInsert, WriteChanges}).Draw(t, "write"),
		TimestampUnit:      rapid.SampledFrom([]TimestampUnit{Seconds, Milliseconds, Microseconds, Nanoseconds}).Draw(t, "unit"),
		StartFrom:          StartFrom{At: rapid.SampledFrom([]StartPosition{StartEarliest, StartLatest, StartAtTime}).Draw(t, "start")},
		OnOffsetOutOfRange: rapid.SampledFrom([]OnOffsetOutOfRange{OutOfRangeFail, OutOfRangeSkip}).Draw(t, "out of range"),
		OnBadRecord:        rapid.SampledFrom([]OnBadRecord{BadRecordDeadLetter, BadRecordFail}).Draw(t, "bad record"),
		OnUnknownField:     rapid.SampledFrom([]OnUnknownField{UnknownFieldIgnore, UnknownFieldDeadLetter}).Draw(t, "unknown field"),
	}
	c.ConsumerGroup = fmt.Sprintf("%s-%d", names.Draw(t, "group"), number)
	if c.StartFrom.At == StartAtTime {
		c.StartFrom.Time = time.Unix(rapid.Int64Range(0, 1<<36).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
	}
	if rapid.Bool().Draw(t, "regex") {
		c.TopicsRegex = rapid.SampledFrom([]string{`app\..*`, `^(a|b)[0-9]{2,3}$`, `[^"']+`, `\$\{x\}`}).Draw(t, "pattern")
	} else {
		c.Topics = rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Za-z0-9_-]{1,20}`), 1, 3, rapid.ID[string]).Draw(t, "topics")
	}
	if rapid.Bool().Draw(t, "dead letters") {
		c.DeadLetterTopic = "dead.letters"
		if c.TopicsRegex != "" {
			c.DeadLetterTopic = ""
		}
	}
	for _, column := range table.Columns {
		switch rapid.IntRange(0, 2).Draw(t, "source") {
		case 0:
			path := strings.NewReplacer(`\`, `\\`, ".", `\.`).Replace(oneLine.Draw(t, "path"))
			c.Fields = append(c.Fields, Field{Column: column.Name, Path: path + "." + path})
		case 1:
			add := Add{Column: column.Name, From: AddKey}
			switch column.Type.Kind {
			case kindString:
				add.From = AddTopic
			case kindInt64:
				add.From = AddOffset
			case kindTimestamp:
				add.From = AddTimestamp
			case kindBinary:
				add.From, add.Header = AddHeader, oneLine.Draw(t, "header")
			}
			c.Add = append(c.Add, add)
		}
	}
	return c
}

// TestExamples reads the shipped examples, and prints them.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("got examples %v, error %v", files, err)
	}
	t.Setenv("NYALA_KAFKA_PASSWORD", "hunter2")
	for _, file := range files {
		c, err := Load(file)
		if err != nil {
			t.Errorf("%s:\n%v", file, err)
			continue
		}
		text := printed(t, c)
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s: the password is printed:\n%s", file, text)
		}
		checkPrintsAgain(t, world{}, file, c)
	}
}
