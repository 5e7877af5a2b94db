package configs

import (
	"encoding/base64"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Print writes the effective settings as YAML: every key with its value, the defaults too.
// Secrets are written as ***; but for them, Parse makes the same Config of the output, given the
// same files for TLS and password_file and a name in the same folder.
func (c *Config) Print(w io.Writer) error {
	p := &printer{}
	p.cluster(c.Cluster)
	p.line(0, "node:")
	p.line(1, "memory: "+formatSize(c.Node.MemoryBytes))
	p.line(1, "durability: "+string(c.Node.Durability))
	if c.Kafka != nil {
		p.kafka(c.Kafka)
	}
	if len(c.Tables) > 0 {
		p.line(0, "tables:")
	}
	for _, t := range c.Tables {
		p.table(t)
	}
	if len(c.Connectors) > 0 {
		p.line(0, "connectors:")
	}
	for _, k := range c.Connectors {
		p.connector(k)
	}
	_, err := io.WriteString(w, p.String())
	return err
}

// printer lays the settings out as the examples do: a line per key, and one per node and column.
type printer struct{ strings.Builder }

func (p *printer) line(indent int, text string) {
	p.WriteString(strings.Repeat("  ", indent) + text + "\n")
}

func (p *printer) cluster(c Cluster) {
	p.line(0, "cluster:")
	p.line(1, "name: "+scalarText(c.Name))
	p.line(1, "replicas: "+strconv.Itoa(c.Replicas))
	p.line(1, "nodes:")
	for _, n := range c.Nodes {
		pairs := []string{"id", scalarText(n.ID), "peer", scalarText(n.Peer), "http", scalarText(n.HTTP), "data", scalarText(n.Data)}
		if n.Rack != "" {
			pairs = append(pairs, "rack", scalarText(n.Rack))
		}
		p.line(2, "- "+flowMapping(pairs...))
	}
}

func (p *printer) kafka(k *Kafka) {
	p.line(0, "kafka:")
	p.line(1, "brokers: "+flowList(k.Brokers))
	if t := k.TLS; t != nil {
		var pairs []string
		for _, pair := range [][2]string{{"ca_file", t.CAFile}, {"cert_file", t.CertFile}, {"key_file", t.KeyFile}, {"server_name", t.ServerName}} {
			if pair[1] != "" {
				pairs = append(pairs, pair[0], scalarText(pair[1]))
			}
		}
		p.line(1, "tls: "+flowMapping(pairs...))
	}
	if s := k.SASL; s != nil {
		pairs := []string{"mechanism", scalarText(s.Mechanism), "username", scalarText(s.Username)}
		if s.PasswordFile != "" {
			pairs = append(pairs, "password_file", scalarText(s.PasswordFile))
		} else {
			pairs = append(pairs, "password", scalarText(s.Password.String()))
		}
		p.line(1, "sasl: "+flowMapping(pairs...))
	}
}

func (p *printer) table(t Table) {
	p.line(1, "- name: "+scalarText(t.Name))
	p.line(2, "columns:")
	kinds := map[string]string{}
	for _, c := range t.Columns {
		kinds[c.Name] = c.Type.Kind
		pairs := []string{"name", scalarText(c.Name), "type", c.Type.String()}
		if c.Nullable {
			pairs = append(pairs, "nullable", "true")
		}
		if c.Default != nil {
			pairs = append(pairs, "default", formatDefault(c.Default, c.Type))
		}
		p.line(3, "- "+flowMapping(pairs...))
	}
	p.line(2, "primary_key: "+flowList(t.PrimaryKey))
	p.line(2, "hash: "+flowMapping("columns", flowList(t.Hash.Columns), "buckets", strconv.Itoa(t.Hash.Buckets)))
	if r := t.Range; r != nil {
		p.line(2, "range: "+flowMapping("column", scalarText(r.Column), "every", formatEvery(r.Every, kinds[r.Column]), "ahead", strconv.Itoa(r.Ahead)))
	}
	p.line(2, "history: "+formatDuration(t.History))
}

func (p *printer) connector(k Connector) {
	p.line(1, "- name: "+scalarText(k.Name))
	if k.TopicsRegex != "" {
		p.line(2, "topics_regex: "+scalarText(k.TopicsRegex))
	} else {
		p.line(2, "topics: "+flowList(k.Topics))
	}
	for _, pair := range [][2]string{
		{"consumer_group", k.ConsumerGroup}, {"table", k.Table}, {"format", string(k.Format)}, {"write", string(k.Write)},
		{"timestamp_unit", string(k.TimestampUnit)}, {"start_from", k.StartFrom.String()},
		{"on_offset_out_of_range", string(k.OnOffsetOutOfRange)}, {"on_bad_record", string(k.OnBadRecord)},
		{"on_unknown_field", string(k.OnUnknownField)}, {"dead_letter_topic", k.DeadLetterTopic},
	} {
		p.line(2, pair[0]+": "+scalarText(pair[1]))
	}
	var fields, add []string
	for _, f := range k.Fields {
		fields = append(fields, scalarText(f.Column), scalarText(f.Path))
	}
	for _, a := range k.Add {
		add = append(add, scalarText(a.Column), scalarText(a.String()))
	}
	p.line(2, "fields: "+flowMapping(fields...))
	p.line(2, "add: "+flowMapping(add...))
}

// flowMapping prints keys and values, which alternate and are YAML already.
func flowMapping(pairs ...string) string {
	must(len(pairs)%2 == 0, "configs: a key without a value in %q", pairs)
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(pairs[i] + ": " + pairs[i+1])
	}
	return "{" + b.String() + "}"
}

func flowList(texts []string) string {
	var scalars []string
	for _, text := range texts {
		scalars = append(scalars, scalarText(text))
	}
	return "[" + strings.Join(scalars, ", ") + "]"
}

// plainText needs no quotes anywhere in YAML; what else does not is quoted all the same. A colon
// must have something behind it.
var plainText = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_./-]*(:[A-Za-z0-9_./-]+)*$`)

// addressText is plain, although it begins with a digit: the dots or the colon keep it from being a number.
var addressText = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+:[0-9]+$`)

// timeText is plain as well: a time in UTC, and a date.
var timeText = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]+Z)?$`)

// scalarText prints a text so that Parse reads the same text back, also inside { } and [ ].
func scalarText(text string) string {
	if addressText.MatchString(text) || timeText.MatchString(text) || plainText.MatchString(text) && !isYAMLWord(text) {
		return text
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ReplaceAll(text, "${", "$${") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r <= 0xff && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		case r > 0xffff && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\U%08x`, r)
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// isYAMLWord reports whether some version of YAML reads the plain text as something else.
func isYAMLWord(text string) bool {
	switch strings.ToLower(text) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf":
		return true
	}
	return false
}

// formatDefault prints a column's default; it is the inverse of parseDefault.
func formatDefault(v any, t Type) string {
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return formatIntegral(v, t)
	case float64:
		bits := 64
		if t.Kind == kindFloat32 {
			bits = 32
		}
		return strconv.FormatFloat(v, 'g', -1, bits)
	case string:
		return scalarText(v)
	case []byte:
		return `"` + base64.StdEncoding.EncodeToString(v) + `"`
	case [16]byte:
		return fmt.Sprintf(`"%x-%x-%x-%x-%x"`, v[:4], v[4:6], v[6:8], v[8:10], v[10:])
	}
	must(false, "configs: default of type %T", v)
	return ""
}

// formatIntegral prints the default of a type whose values are integers inside.
func formatIntegral(v int64, t Type) string {
	switch t.Kind {
	case kindDate:
		return time.Unix(v*secondsPerDay, 0).UTC().Format(time.DateOnly)
	case kindTimestamp:
		return time.UnixMicro(v).UTC().Format(time.RFC3339Nano)
	case kindDecimal:
		sign := ""
		if v < 0 {
			sign, v = "-", -v
		}
		digits := fmt.Sprintf("%0*d", t.Scale+1, v)
		if t.Scale == 0 {
			return sign + digits
		}
		return sign + digits[:len(digits)-t.Scale] + "." + digits[len(digits)-t.Scale:]
	}
	return strconv.FormatInt(v, 10)
}
