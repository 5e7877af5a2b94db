package query

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"nyala/store/batch"
	"nyala/store/rowset"
	"nyala/store/schema"
)

// Stream gives batches until io.EOF. Close may be called at any time, once.
type Stream interface {
	Next() (*batch.Batch, error)
	Close() error
}

// OrderKey asks for rows in the order of their primary key.
const OrderKey = "key"

// Request is a read as a person asks for it.
type Request struct {
	Columns []string // empty: all
	Where   []string // conditions, all of which must hold
	At      int64    // microseconds since 1970; 0: now
	Limit   int64    // rows; 0: all
	Order   string   // "" or OrderKey
	Tablet  uint64   // 0: the whole table
	Count   bool     // only the number of rows
}

// Plan is a request bound to a table's schema.
type Plan struct {
	Schema  *schema.Schema
	Columns []schema.Column // to give out, in the order asked
	Fetch   []schema.Column // to read: Columns, and the key's if rows are to be merged
	Where   []rowset.Predicate
	// Conditions are Where as it was written, for another node to bind.
	Conditions []string
}

// ParseTime reads a point in time: RFC 3339, or microseconds since 1970.
func ParseTime(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	v, err := schema.ParseValue(schema.Type{Kind: schema.Timestamp}, text)
	if err != nil || v.Int <= 0 {
		return 0, fmt.Errorf("query: time %q: want RFC 3339, as %s, or microseconds since 1970", text, time.Unix(1_795_000_000, 0).UTC().Format(time.RFC3339))
	}
	return v.Int, nil
}

// Values is the request as a URL carries it.
func (r Request) Values() url.Values {
	v := url.Values{}
	set := func(key, value string) {
		if value != "" && value != "0" {
			v.Set(key, value)
		}
	}
	set("columns", strings.Join(r.Columns, ","))
	for _, w := range r.Where {
		v.Add("where", w)
	}
	set("at", strconv.FormatInt(r.At, 10))
	set("limit", strconv.FormatInt(r.Limit, 10))
	set("order", r.Order)
	set("tablet", strconv.FormatUint(r.Tablet, 10))
	if r.Count {
		v.Set("count", "true")
	}
	return v
}

// ParseRequest reads what Values made, or what a person typed into a URL.
func ParseRequest(v url.Values) (r Request, err error) {
	for _, list := range v["columns"] {
		for _, c := range strings.Split(list, ",") {
			if c = strings.TrimSpace(c); c != "" {
				r.Columns = append(r.Columns, c)
			}
		}
	}
	r.Where = v["where"]
	if r.At, err = ParseTime(v.Get("at")); err != nil {
		return r, err
	}
	if text := v.Get("limit"); text != "" {
		if r.Limit, err = strconv.ParseInt(text, 10, 64); err != nil || r.Limit < 0 {
			return r, fmt.Errorf("query: limit %q: want a number of rows", text)
		}
	}
	if r.Order = v.Get("order"); r.Order != "" && r.Order != OrderKey {
		return r, fmt.Errorf("query: order %q: want %q", r.Order, OrderKey)
	}
	if text := v.Get("tablet"); text != "" {
		if r.Tablet, err = strconv.ParseUint(text, 10, 64); err != nil {
			return r, fmt.Errorf("query: tablet %q: want a number", text)
		}
	}
	if text := v.Get("count"); text != "" {
		if r.Count, err = strconv.ParseBool(text); err != nil {
			return r, fmt.Errorf("query: count %q: want true or false", text)
		}
	}
	return r, nil
}

// Bind finds the columns and conditions of r in a table; every name that is wrong is named.
func Bind(table string, s *schema.Schema, r Request) (*Plan, error) {
	p := &Plan{Schema: s, Conditions: r.Where}
	for _, name := range r.Columns {
		i := s.Position(name)
		if i < 0 {
			return nil, unknownColumn(table, name, s)
		}
		p.Columns = append(p.Columns, s.Columns[i])
	}
	switch {
	case r.Count:
		p.Columns = nil
	case len(r.Columns) == 0:
		p.Columns = s.Columns
	}
	p.Fetch = slices.Clone(p.Columns)
	if r.Order == OrderKey && !r.Count {
		for _, k := range s.Key {
			if !slices.ContainsFunc(p.Fetch, func(c schema.Column) bool { return c.ID == s.Columns[k].ID }) {
				p.Fetch = append(p.Fetch, s.Columns[k])
			}
		}
	}
	for _, text := range r.Where {
		c, err := ParseCondition(text)
		if err != nil {
			return nil, err
		}
		pred, err := c.bind(table, s)
		if err != nil {
			return nil, err
		}
		p.Where = append(p.Where, pred)
	}
	return p, nil
}

func (c Condition) bind(table string, s *schema.Schema) (rowset.Predicate, error) {
	i := s.Position(c.Column)
	if i < 0 {
		return rowset.Predicate{}, unknownColumn(table, c.Column, s)
	}
	p := rowset.Predicate{Column: s.Columns[i].ID, Op: rowset.Op(c.Op)}
	for _, text := range c.Values {
		v, err := schema.ParseValue(s.Columns[i].Type, text)
		if err != nil {
			return rowset.Predicate{}, fmt.Errorf("query: condition on column %s: %w", c.Column, err)
		}
		p.Values = append(p.Values, v)
	}
	return p, nil
}

func unknownColumn(table, name string, s *schema.Schema) error {
	var names []string
	for _, c := range s.Columns {
		names = append(names, c.Name)
	}
	return fmt.Errorf("query: table %s has no column %q, want one of %s", table, name, strings.Join(names, ", "))
}

// RangeBounds is what the conditions leave of the range column: only tablets whose range meets
// [low, high] can have rows. ok is false when no value is left.
func (p *Plan) RangeBounds() (low, high int64, ok bool) {
	low, high = -1<<63, 1<<63-1
	if p.Schema.Range == nil {
		return low, high, true
	}
	id := p.Schema.Columns[p.Schema.Range.Column].ID
	for _, w := range p.Where {
		if w.Column != id {
			continue
		}
		switch w.Op {
		case rowset.Equal:
			low, high = max(low, w.Values[0].Int), min(high, w.Values[0].Int)
		case rowset.Less, rowset.LessEqual:
			high = min(high, w.Values[0].Int)
		case rowset.Greater, rowset.GreaterEqual:
			low = max(low, w.Values[0].Int)
		case rowset.In:
			first, last := w.Values[0].Int, w.Values[0].Int
			for _, v := range w.Values {
				first, last = min(first, v.Int), max(last, v.Int)
			}
			low, high = max(low, first), min(high, last)
		case rowset.IsNull:
			return 0, 0, false // the range column is part of the key and has no nulls
		}
	}
	return low, high, low <= high
}
