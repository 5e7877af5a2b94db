package configs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

const headerPrefix = "headers."

// readConnectors reads the section connectors.
func (r *reader) readConnectors(top *section, known tables) []Connector {
	items, _ := top.elements("connectors")
	if len(items) > 0 && top.node("kafka") == nil {
		top.fault(top.node("connectors").at, "", problem{"kafka is missing, and connectors need it", "add kafka: {brokers: [host:9092]}"})
	}
	var read []Connector
	names, groups := map[string]int{}, map[string]*Connector{}
	for i, n := range items {
		label := "connector " + peek(n, "name", fmt.Sprintf("number %d", i+1))
		c := &connectorSettings{section: r.section(n, "connectors[]", label, top.at)}
		c.read(known)
		read = append(read, c.Connector)
		if !c.name.ok {
			continue
		}
		if line, doubled := names[c.Name]; doubled {
			r.fault(c.name.at, fmt.Sprintf("connector number %d", i+1), problem{
				fmt.Sprintf("name: %q is the name of a connector already, in line %d", c.Name, line), ""})
			continue
		}
		names[c.Name] = c.name.at.line
		if first := groups[c.ConsumerGroup]; first != nil && c.group.ok {
			r.fault(c.group.at, c.object("consumer_group"), problem{
				fmt.Sprintf("%q is the group of connector %s already", c.ConsumerGroup, first.Name), "each connector needs a group of its own"})
			continue
		}
		groups[c.ConsumerGroup] = &c.Connector
	}
	return read
}

// connectorSettings is a connector while it is read.
type connectorSettings struct {
	*section
	Connector
	name, group setting[string]
	table       *tableSettings // nil when it is unknown
}

func (c *connectorSettings) read(known tables) {
	s := c.section
	c.name = required(s, "name", "it is how status and logs name the connector", parseGroupName)
	c.Name = c.name.value
	c.readTopics()
	c.group = optional(s, "consumer_group", defaultGroupPrefix+c.Name, parseGroupName)
	if !c.group.given {
		c.group.ok, c.group.at = c.name.ok, c.name.at
	}
	c.ConsumerGroup = c.group.value
	c.readTableName(known)
	c.Format = optional(s, "format", defaultFormat, choice("connectors[].format", FormatJSON)).value
	c.Write = optional(s, "write", defaultWrite, choice("connectors[].write", WriteUpsert, WriteInsert, WriteChanges)).value
	c.TimestampUnit = optional(s, "timestamp_unit", defaultTimestampUnit,
		choice("connectors[].timestamp_unit", Seconds, Milliseconds, Microseconds, Nanoseconds)).value
	c.StartFrom = optional(s, "start_from", StartFrom{At: defaultStartPosition}, parseStartFrom).value
	c.OnOffsetOutOfRange = optional(s, "on_offset_out_of_range", defaultOnOffsetOutOfRange,
		choice("connectors[].on_offset_out_of_range", OutOfRangeFail, OutOfRangeSkip)).value
	c.OnBadRecord = optional(s, "on_bad_record", defaultOnBadRecord,
		choice("connectors[].on_bad_record", BadRecordDeadLetter, BadRecordFail)).value
	c.OnUnknownField = optional(s, "on_unknown_field", defaultOnUnknownField,
		choice("connectors[].on_unknown_field", UnknownFieldIgnore, UnknownFieldDeadLetter)).value
	c.readDeadLetterTopic()
	c.readFields()
	c.readAdd()
}

func (c *connectorSettings) readTopics() {
	topics, ok := list(c.section, "topics", parseTopic)
	c.Topics = values(topics)
	pattern := optional(c.section, "topics_regex", "", parsePattern)
	c.TopicsRegex = pattern.value
	switch n := c.node("topics"); {
	case n != nil && pattern.given:
		c.fault(pattern.at, c.label, problem{"got both topics and topics_regex, want one of them", ""})
	case n == nil && !pattern.given:
		c.missing("topics", "list the topics to read, or give a topics_regex")
	case ok && len(topics) == 0:
		c.fault(n.at, c.object("topics"), problem{"got no topic, want at least one", ""})
	}
}

func parsePattern(v value) (string, error) {
	text, err := parseText(v)
	if err != nil {
		return "", err
	}
	if _, err := regexp.Compile(text); err != nil {
		return "", problem{got(v, "a regular expression").message, strings.TrimPrefix(err.Error(), "error parsing regexp: ")}
	}
	return text, nil
}

func (c *connectorSettings) readTableName(known tables) {
	found := required(c.section, "table", "name the table to write to", anyText)
	c.Table = found.value
	if !found.ok {
		return
	}
	c.table = known.byName[found.value]
	if c.table == nil && known.whole {
		hint := suggestOrList(found.value, "the tables", known.names)
		if len(known.names) == 0 {
			hint = "the file has no tables"
		}
		c.fault(found.at, c.object("table"), problem{"there is no table " + quote(found.value), hint})
	}
}

func parseStartFrom(v value) (StartFrom, error) {
	if v.text == string(StartEarliest) || v.text == string(StartLatest) {
		return StartFrom{At: StartPosition(v.text)}, nil
	}
	want := "earliest, latest or a time in RFC 3339 such as 2026-01-31T12:00:00Z"
	p := got(v, want)
	if at, err := parseTime(v, want); err == nil {
		return StartFrom{At: StartAtTime, Time: at}, nil
	}
	p.hint = suggest(v.text, []string{string(StartEarliest), string(StartLatest)})
	for layout, fix := range map[string]string{
		time.DateOnly:         "T00:00:00Z",
		"2006-01-02T15:04:05": "Z",
	} {
		if _, err := time.Parse(layout, v.text); err == nil {
			p.hint = didYouMean(v.text + fix)
		}
	}
	return StartFrom{}, p
}

func (c *connectorSettings) readDeadLetterTopic() {
	found := optional(c.section, "dead_letter_topic", "", parseOptionalTopic)
	c.DeadLetterTopic = found.value
	if !found.ok || found.value == "" {
		return
	}
	pattern, err := regexp.Compile(c.TopicsRegex)
	if slices.Contains(c.Topics, found.value) || c.TopicsRegex != "" && err == nil && pattern.MatchString(found.value) {
		c.fault(found.at, c.object("dead_letter_topic"), problem{fmt.Sprintf("the connector reads %q itself", found.value), "dead letters would come back for ever"})
	}
}

func (c *connectorSettings) readFields() {
	for _, p := range c.pairs("fields") {
		path, ok := judge(c.reader, p.value, p.object, parsePath)
		if c.table != nil && c.table.column(p.name, p.at, c.object("fields")) == nil || !ok {
			continue
		}
		c.Fields = append(c.Fields, Field{Column: p.name, Path: path})
	}
}

// parsePath takes names separated by dots; a dot in a name is written \.
func parsePath(v value) (string, error) {
	text := v.text
	unescaped := strings.NewReplacer(`\\`, "x", `\.`, "x").Replace(text)
	if slices.Contains(strings.Split(unescaped, "."), "") {
		return "", problem{got(v, "a path such as user.id").message, `a dot that belongs to a name is written \.`}
	}
	return text, nil
}

// addTypes are the types of columns that each part of a record fits. A key and a header are text,
// which may fit any type.
var addTypes = map[AddFrom][]string{
	AddTopic:     {kindString},
	AddPartition: {kindInt32, kindInt64},
	AddOffset:    {kindInt64},
	AddTimestamp: {kindTimestamp, kindInt64},
}

func (c *connectorSettings) readAdd() {
	for _, p := range c.pairs("add") {
		add, ok := judge(c.reader, p.value, p.object, parseAdd)
		add.Column = p.name
		if c.table != nil {
			column := c.table.column(p.name, p.at, c.object("add"))
			if column == nil || !ok {
				continue
			}
			kinds := addTypes[add.From]
			if len(kinds) > 0 && column.Type.Kind != "" && !slices.Contains(kinds, column.Type.Kind) {
				c.fault(p.at, c.object("add"), problem{fmt.Sprintf("column %s is of type %s, and the %s needs %s",
					p.name, column.Type, add.From, enumerate(kinds, "or")), ""})
			}
		}
		if slices.ContainsFunc(c.Fields, func(f Field) bool { return f.Column == p.name }) {
			c.fault(p.at, c.object("add"), problem{fmt.Sprintf("column %s is in fields already", p.name), "a column is filled from one place"})
		}
		if ok {
			c.Add = append(c.Add, add)
		}
	}
}

func parseAdd(v value) (Add, error) {
	sources := []AddFrom{AddTopic, AddPartition, AddOffset, AddTimestamp, AddKey}
	if slices.Contains(sources, AddFrom(v.text)) {
		return Add{From: AddFrom(v.text)}, nil
	}
	if header, found := strings.CutPrefix(v.text, headerPrefix); found && header != "" {
		return Add{From: AddHeader, Header: header}, nil
	}
	names := []string{"topic", "partition", "offset", "timestamp", "key", headerPrefix + "NAME"}
	return Add{}, problem{got(v, enumerate(names, "or")).message, suggest(v.text, names)}
}
