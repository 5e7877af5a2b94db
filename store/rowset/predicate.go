package rowset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"nyala/store/batch"
	"nyala/store/schema"
)

// Op is how a predicate compares.
type Op string

// The operators. A null fulfils IsNull and nothing else.
const (
	Equal        Op = "="
	NotEqual     Op = "!="
	Less         Op = "<"
	LessEqual    Op = "<="
	Greater      Op = ">"
	GreaterEqual Op = ">="
	In           Op = "in"
	IsNull       Op = "is null"
	IsNotNull    Op = "is not null"
)

// Predicate is a condition on one column. Values are of the column's type and not null: any number for In,
// none for IsNull and IsNotNull, else one. Order and equality are those of schema.Compare: NaN is above
// every float and equal to itself, and the two zeros are equal.
type Predicate struct {
	Column schema.ColumnID
	Op     Op
	Values []schema.Value
}

// Filter is a list of predicates, all of which a row must fulfil, bound to columns. It is immutable.
type Filter struct {
	matchers []matcher
	columns  []schema.Column
}

// NewFilter binds predicates to the columns that they name.
func NewFilter(predicates []Predicate, columns []schema.Column) (*Filter, error) {
	f := &Filter{}
	for _, p := range predicates {
		i := slices.IndexFunc(columns, func(c schema.Column) bool { return c.ID == p.Column })
		if i < 0 {
			return nil, fmt.Errorf("rowset: predicate on column id %d, which the table does not have", p.Column)
		}
		m, err := newMatcher(&p, columns[i].Type)
		if err != nil {
			return nil, fmt.Errorf("rowset: predicate on column %s: %w", columns[i].Name, err)
		}
		f.matchers, f.columns = append(f.matchers, m), append(f.columns, columns[i])
	}
	return f, nil
}

// Apply clears the bits of selection, one a row of b, whose rows do not fulfil f. A batch without a column that f
// names is older than the column and has its default in every row.
func (f *Filter) Apply(b *batch.Batch, selection []uint64) {
	for i := range f.matchers {
		c := b.Column(f.columns[i].ID)
		if c == nil {
			filled := constantColumn(&f.columns[i], b.Rows)
			c = &filled
		}
		f.matchers[i].apply(c, 0, b.Rows, selection, 0)
	}
}

// matcher is a predicate in the form in which it is evaluated. Everything of fixed width but a UUID is compared as an
// integer that orders as the type does, by the range [lo, hi]; bytes by bounds; lists by search.
type matcher struct {
	column schema.ColumnID
	typ    schema.Type
	op     Op
	negate bool    // NotEqual
	lo, hi int64   // lo > hi: nothing
	list   []int64 // In, ascending
	values [][]byte
}

func newMatcher(p *Predicate, t schema.Type) (matcher, error) {
	m := matcher{column: p.Column, typ: t, op: p.Op, lo: math.MinInt64, hi: math.MaxInt64}
	want := 1
	switch p.Op {
	case IsNull, IsNotNull:
		want = 0
	case In:
		want = len(p.Values)
	case Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual:
	default:
		return m, fmt.Errorf("operator %q is unknown", p.Op)
	}
	if len(p.Values) != want || slices.ContainsFunc(p.Values, func(v schema.Value) bool { return v.Null }) {
		return m, fmt.Errorf("got %d values behind %s, or a null", len(p.Values), p.Op)
	}
	if isBytes(t) {
		for _, v := range p.Values {
			m.values = append(m.values, v.Bytes)
		}
		slices.SortFunc(m.values, bytes.Compare)
		return m, nil
	}
	for _, v := range p.Values {
		m.list = append(m.list, ordinal(t, v))
	}
	slices.Sort(m.list)
	if want == 1 && p.Op != In {
		m.bound(m.list[0])
	}
	return m, nil
}

func (m *matcher) bound(v int64) {
	switch m.op {
	case Equal:
		m.lo, m.hi = v, v
	case NotEqual:
		m.lo, m.hi, m.negate = v, v, true
	case LessEqual:
		m.hi = v
	case GreaterEqual:
		m.lo = v
	case Less:
		if m.hi = v - 1; v == math.MinInt64 {
			m.lo, m.hi = 1, 0
		}
	case Greater:
		if m.lo = v + 1; v == math.MaxInt64 {
			m.lo, m.hi = 1, 0
		}
	}
}

// isBytes tells the types that are compared as bytes.
func isBytes(t schema.Type) bool {
	return t.Layout() == schema.Bytes || t.Layout() == schema.Fixed16
}

// ordinal maps a value of fixed width to an integer that orders as schema.Compare does.
func ordinal(t schema.Type, v schema.Value) int64 {
	if t.Kind == schema.Float32 || t.Kind == schema.Float64 {
		return floatOrdinal(v.Float)
	}
	return v.Int
}

func floatOrdinal(f float64) int64 {
	if f != f {
		return math.MaxInt64
	}
	return total64(math.Float64bits(f + 0)) // -0 + 0 is +0
}

// apply clears bits [at, at+n) of selection where rows [from, from+n) of c do not match.
func (m *matcher) apply(c *batch.Column, from, n int, selection []uint64, at int) {
	if m.op == IsNull || m.op == IsNotNull {
		keepWhere(n, selection, at, func(i int) bool { return c.IsNull(from+i) == (m.op == IsNull) })
		return
	}
	if c.Nulls > 0 {
		keepWhere(n, selection, at, func(i int) bool { return !c.IsNull(from + i) })
	}
	if isBytes(m.typ) {
		m.applyBytes(c, from, n, selection, at)
		return
	}
	switch c.Type.Layout() {
	case schema.Bits:
		keepWhere(n, selection, at, func(i int) bool { return m.matches(c.Int(from + i)) })
	case schema.Fixed1:
		keepInts(m, c.Int8s()[from:from+n], selection, at)
	case schema.Fixed2:
		keepInts(m, c.Int16s()[from:from+n], selection, at)
	case schema.Fixed4:
		if c.Type.Kind == schema.Float32 {
			v := c.Float32s()[from : from+n]
			keepWhere(n, selection, at, func(i int) bool { return m.matches(floatOrdinal(float64(v[i]))) })
			return
		}
		keepInts(m, c.Int32s()[from:from+n], selection, at)
	case schema.Fixed8:
		if c.Type.Kind == schema.Float64 {
			v := c.Float64s()[from : from+n]
			keepWhere(n, selection, at, func(i int) bool { return m.matches(floatOrdinal(v[i])) })
			return
		}
		keepInts(m, c.Int64s()[from:from+n], selection, at)
	}
}

func (m *matcher) matches(x int64) bool {
	if m.op == In {
		_, ok := slices.BinarySearch(m.list, x)
		return ok
	}
	return (x >= m.lo && x <= m.hi) != m.negate
}

func (m *matcher) applyBytes(c *batch.Column, from, n int, selection []uint64, at int) {
	value := func(i int) []byte { return c.Bytes(from + i) }
	if c.Type.Layout() == schema.Fixed16 {
		value = func(i int) []byte { return c.Values[(from+i)*16 : (from+i)*16+16] }
	}
	keepWhere(n, selection, at, func(i int) bool { return m.matchesBytes(value(i)) })
}

func (m *matcher) matchesBytes(v []byte) bool {
	switch m.op {
	case In:
		_, ok := slices.BinarySearchFunc(m.values, v, bytes.Compare)
		return ok
	case Equal:
		return string(v) == string(m.values[0])
	case NotEqual:
		return string(v) != string(m.values[0])
	}
	return ordered(m.op, bytes.Compare(v, m.values[0]))
}

func ordered(op Op, cmp int) bool {
	switch op {
	case Less:
		return cmp < 0
	case LessEqual:
		return cmp <= 0
	case Greater:
		return cmp > 0
	}
	return cmp >= 0
}

// keepInts is the loop for integers: a word of the selection at a time, without branches.
func keepInts[T int8 | int16 | int32 | int64](m *matcher, values []T, selection []uint64, at int) {
	if m.op == In || m.lo > m.hi {
		keepWhere(len(values), selection, at, func(i int) bool { return m.matches(int64(values[i])) })
		return
	}
	lo, width := m.lo, uint64(m.hi)-uint64(m.lo)
	for len(values) > 0 {
		shift := at & 63
		n := min(64-shift, len(values))
		keep := uint64(0)
		for i, v := range values[:n] {
			in := uint64(0)
			if uint64(int64(v))-uint64(lo) <= width {
				in = 1
			}
			keep |= in << (i & 63)
		}
		if m.negate {
			keep = ^keep
		}
		selection[at>>6] &= keep<<shift | ^(^uint64(0) >> (64 - n) << shift)
		values, at = values[n:], at+n
	}
}

// keepWhere clears the bits [at, at+n) that are set and whose row does not fulfil keep.
func keepWhere(n int, selection []uint64, at int, keep func(i int) bool) {
	for i := range n {
		b := at + i
		if selection[b>>6]>>(b&63)&1 != 0 && !keep(i) {
			selection[b>>6] &^= 1 << (b & 63)
		}
	}
}

// mayMatch tells from a page's bounds (plain values; nil: unknown) and null count whether any of its rows could match.
func (m *matcher) mayMatch(lo, hi []byte, bounded bool, rows, nulls int64) bool {
	switch m.op {
	case IsNull:
		return nulls > 0
	case IsNotNull:
		return nulls < rows
	}
	if nulls == rows {
		return false
	}
	if !bounded {
		return true
	}
	if isBytes(m.typ) {
		return m.mayMatchBytes(lo, hi)
	}
	a, b := plainOrdinal(m.typ, lo), plainOrdinal(m.typ, hi)
	if m.op == In {
		i, _ := slices.BinarySearch(m.list, a)
		return i < len(m.list) && m.list[i] <= b
	}
	if m.negate {
		return a != m.lo || b != m.lo
	}
	return m.lo <= m.hi && a <= m.hi && b >= m.lo
}

func (m *matcher) mayMatchBytes(lo, hi []byte) bool {
	switch m.op {
	case In, Equal:
		i, _ := slices.BinarySearchFunc(m.values, lo, bytes.Compare)
		return i < len(m.values) && bytes.Compare(m.values[i], hi) <= 0
	case NotEqual:
		return !bytes.Equal(lo, hi) || !bytes.Equal(lo, m.values[0])
	case Less, LessEqual:
		return ordered(m.op, bytes.Compare(lo, m.values[0]))
	}
	return ordered(m.op, bytes.Compare(hi, m.values[0]))
}

// plainOrdinal is the ordinal of a bound in Parquet's plain form.
func plainOrdinal(t schema.Type, v []byte) int64 {
	switch physicalOf(t) {
	case physBool:
		return int64(v[0])
	case physInt32:
		return int64(int32(binary.LittleEndian.Uint32(v)))
	case physFloat:
		return floatOrdinal(float64(math.Float32frombits(binary.LittleEndian.Uint32(v))))
	case physDouble:
		return floatOrdinal(math.Float64frombits(binary.LittleEndian.Uint64(v)))
	}
	return int64(binary.LittleEndian.Uint64(v))
}
