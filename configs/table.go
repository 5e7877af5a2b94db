package configs

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tables is what later sections need to know of the section tables.
type tables struct {
	byName map[string]*tableSettings
	names  []string
	whole  bool // every table's name could be read; else an unknown name is no surprise
}

// tableSettings is a table while it is read.
type tableSettings struct {
	*section
	Table
	columns map[string]*columnSettings
	names   []string // of the columns
	whole   bool     // every column's name could be read
}

// readTables reads the section tables.
func (r *reader) readTables(top *section) ([]Table, tables) {
	known := tables{byName: map[string]*tableSettings{}, whole: true}
	items, ok := top.elements("tables")
	known.whole = ok || top.node("tables") == nil
	var read []Table
	lines := map[string]int{}
	for i, n := range items {
		t, ok := r.readTable(n, i+1, top.at)
		if !ok {
			known.whole = false
			continue
		}
		read = append(read, t.Table)
		folded := strings.ToLower(t.Name)
		if line, doubled := lines[folded]; doubled {
			p := problem{fmt.Sprintf("name: %q is the name of a table already, in line %d", t.Name, line), ""}
			if known.byName[t.Name] == nil {
				p = problem{fmt.Sprintf("name: %q differs from the name of the table in line %d only in case", t.Name, line),
					"upper and lower case are the same in SQL"}
			}
			r.fault(t.nameAt(n), fmt.Sprintf("table number %d", i+1), p)
			continue
		}
		lines[folded] = t.nameAt(n).line
		known.byName[t.Name] = t
		known.names = append(known.names, t.Name)
	}
	return read, known
}

func (t *tableSettings) nameAt(n *node) place {
	if name := t.values["name"]; name != nil {
		return name.at
	}
	return n.at
}

// readTable reads one table; ok is false when it has no usable name.
func (r *reader) readTable(n *node, number int, at place) (t *tableSettings, ok bool) {
	label := "table " + peek(n, "name", fmt.Sprintf("number %d", number))
	t = &tableSettings{section: r.section(n, "tables[]", label, at), columns: map[string]*columnSettings{}}
	name := required(t.section, "name", "every table has one", parseTableName)
	t.Name = name.value
	t.readColumns()
	t.readPrimaryKey()
	t.readHash()
	t.readRange()
	t.History = optional(t.section, "history", defaultHistory, parseHistory).value
	return t, name.ok
}

func parseHistory(v value) (time.Duration, error) {
	d, err := parseDuration(v)
	if err == nil && d < minHistory {
		err = got(v, "at least "+formatDuration(minHistory))
	}
	return d, err
}

func (t *tableSettings) readColumns() {
	items, ok := t.elements("columns")
	t.whole = ok
	switch n := t.node("columns"); {
	case n == nil:
		t.missing("columns", "list them, such as {name: event_id, type: int64}")
	case ok && len(items) == 0:
		t.fault(n.at, t.object("columns"), problem{"got no column, want at least one", ""})
		t.whole = false
	case len(items) > maxColumns:
		t.fault(n.at, t.object("columns"), problem{fmt.Sprintf("got %d columns, want at most %d", len(items), maxColumns), ""})
		t.whole = false
		return
	}
	lines := map[string]*columnSettings{}
	for i, n := range items {
		c, ok := t.readColumn(n, t.label, i+1, t.at)
		if !ok {
			t.whole = false
			continue
		}
		folded := strings.ToLower(c.Name)
		if first := lines[folded]; first != nil {
			p := problem{fmt.Sprintf("column %q is given twice%s", c.Name, firstIn(first.nameAt.line, c.nameAt)), ""}
			if first.Name != c.Name {
				p = problem{fmt.Sprintf("column %q differs from %q in line %d only in case", c.Name, first.Name, first.nameAt.line),
					"upper and lower case are the same in SQL"}
			}
			t.fault(c.nameAt, t.label, p)
			continue
		}
		lines[folded] = &c
		t.columns[c.Name] = &c
		t.names = append(t.names, c.Name)
		t.Columns = append(t.Columns, c.Column)
	}
}

// column returns the column that a value names. It reports one that does not exist, unless a
// column's name could not be read: that is the fault then.
func (t *tableSettings) column(name string, at place, object string) *columnSettings {
	c := t.columns[name]
	if c == nil && t.whole {
		message := fmt.Sprintf("there is no column %s", quote(name))
		if !strings.HasPrefix(object, t.label) {
			message = fmt.Sprintf("table %s has no column %s", t.Name, quote(name))
		}
		t.fault(at, object, problem{message, suggestOrList(name, "the columns", t.names)})
	}
	return c
}

// anyText takes text that is judged by what it refers to.
func anyText(v value) (string, error) {
	if v.text == "" {
		return "", got(v, "a name")
	}
	return v.text, nil
}

func (t *tableSettings) readPrimaryKey() {
	found, ok := list(t.section, "primary_key", anyText)
	object := t.object("primary_key")
	switch n := t.node("primary_key"); {
	case n == nil:
		t.missing("primary_key", "list the columns that together make a row unique")
	case ok && len(found) == 0:
		t.fault(n.at, object, problem{"got no column, want the columns that together make a row unique", ""})
	}
	for _, key := range found {
		c := t.column(key.value, key.at, object)
		switch {
		case c == nil:
		case c.Nullable:
			t.fault(key.at, object, problem{fmt.Sprintf("column %s is nullable, as line %d says", c.Name, c.nullableAt.line), "a key column always has a value"})
		case c.Type.Kind != "" && !c.Type.keyable():
			t.fault(key.at, object, problem{fmt.Sprintf("column %s is of type %s, which cannot be a key", c.Name, c.Type),
				"bool, float32, float64 and json cannot be in a primary key"})
		}
	}
	t.PrimaryKey = values(found)
}

// inKey reports a column that exists, and is not in the primary key.
func (t *tableSettings) inKey(c *columnSettings, at place, object, why string) bool {
	if c == nil || t.node("primary_key") == nil || slices.Contains(t.PrimaryKey, c.Name) {
		return c != nil
	}
	hint := ""
	if len(t.PrimaryKey) > 0 {
		hint = "the primary key is [" + strings.Join(t.PrimaryKey, ", ") + "]"
	}
	t.fault(at, object, problem{fmt.Sprintf("column %s is not in the primary key, and %s", c.Name, why), hint})
	return false
}

// readHash reads how rows are spread over buckets. Without it there is one bucket.
func (t *tableSettings) readHash() {
	s := t.section.section(t.node("hash"), "tables[].hash", t.object("hash"), t.at)
	t.Hash = Hash{Columns: slices.Clone(t.PrimaryKey), Buckets: defaultBuckets}
	if n := s.node("columns"); n != nil {
		found, ok := list(s, "columns", anyText)
		object := s.object("columns")
		for _, l := range found {
			t.inKey(t.column(l.value, l.at, object), l.at, object, "rows are spread by key columns only")
		}
		if ok && len(found) == 0 {
			s.fault(n.at, object, problem{"got no column, want some of the primary key's", "leave it out to hash the whole primary key"})
		}
		t.Hash.Columns = values(found)
	}
	if s.given && s.node("buckets") == nil {
		s.missing("buckets", "say over how many tablets the rows are spread, such as buckets: 4")
	}
	t.Hash.Buckets = optional(s, "buckets", defaultBuckets, parseWhole(1, maxBuckets, "a number of buckets")).value
}

// readRange reads how the table is cut by a column. Without it there is one tablet per bucket.
func (t *tableSettings) readRange() {
	n := t.node("range")
	if n == nil {
		return
	}
	s := t.section.section(n, "tables[].range", t.object("range"), t.at)
	name := required(s, "column", "name the column to cut the table by, such as column: event_time", anyText)
	kind := ""
	if name.ok {
		object := s.object("column")
		if c := t.column(name.value, name.at, object); t.inKey(c, name.at, object, "a table is cut by a key column only") {
			kind = c.Type.Kind
		}
		if !slices.Contains([]string{"", kindTimestamp, kindDate, kindInt8, kindInt16, kindInt32, kindInt64}, kind) {
			s.fault(name.at, object, problem{fmt.Sprintf("column %s is of type %s, want a timestamp, a date or an integer", name.value, t.columns[name.value].Type), ""})
			kind = ""
		}
	}
	every := required(s, "every", "say how wide a range is, such as every: 1d", func(v value) (int64, error) { return parseEvery(v, kind) })
	ahead := optional(s, "ahead", defaultAhead, parseWhole(0, maxAhead, "a number of ranges"))
	t.Range = &Range{Column: name.value, Every: every.value, Ahead: ahead.value}
}

// parseEvery reads the width of a range in the unit of its column; "" is a column of unknown type.
func parseEvery(v value, kind string) (int64, error) {
	switch kind {
	case "":
		return 0, nil
	case kindTimestamp:
		d, err := parseDuration(v)
		if err == nil && d < minEvery {
			err = got(v, "at least "+formatDuration(minEvery))
		}
		if err == nil && d%time.Microsecond != 0 {
			err = got(v, "whole microseconds")
		}
		return d.Microseconds(), err
	case kindDate:
		d, err := parseDuration(v)
		if err == nil && (d < 24*time.Hour || d%(24*time.Hour) != 0) {
			err = problem{got(v, "whole days").message, "the range column is a date"}
		}
		if p, isProblem := err.(problem); isProblem && p.hint == "" {
			err = problem{got(v, "whole days such as 1d or 30d").message, "the range column is a date"}
		}
		return int64(d / (24 * time.Hour)), err
	}
	most := int64(math.MaxInt64) >> (64 - integerBits[kind])
	n, err := strconv.ParseInt(v.text, 10, 64)
	if err != nil || n < 1 || n > most || v.quoted && v.from == "" || v.text != strconv.FormatInt(n, 10) {
		return 0, problem{got(v, fmt.Sprintf("a whole number from 1 to %d", most)).message, "the range column is of type " + kind}
	}
	return n, nil
}

// formatEvery is the inverse of parseEvery.
func formatEvery(every int64, kind string) string {
	switch kind {
	case kindTimestamp:
		return formatDuration(time.Duration(every) * time.Microsecond)
	case kindDate:
		return strconv.FormatInt(every, 10) + "d"
	}
	return strconv.FormatInt(every, 10)
}
