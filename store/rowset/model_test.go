package rowset

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"nyala/store/batch"
	"nyala/store/schema"
)

// edges are values at which encodings and bounds go wrong first.
func edges(t schema.Type) []schema.Value {
	ints := func(v ...int64) (out []schema.Value) {
		for _, x := range v {
			out = append(out, schema.Value{Int: x})
		}
		return out
	}
	floats := func(v ...float64) (out []schema.Value) {
		for _, x := range v {
			out = append(out, schema.Value{Float: x})
		}
		return out
	}
	texts := func(v ...string) (out []schema.Value) {
		for _, x := range v {
			out = append(out, schema.Value{Bytes: []byte(x)})
		}
		return out
	}
	negativeZero := math.Copysign(0, -1)
	switch t.Kind {
	case schema.Bool:
		return ints(0, 1)
	case schema.Int8:
		return ints(math.MinInt8, -1, 0, 1, math.MaxInt8)
	case schema.Int16:
		return ints(math.MinInt16, -1, 0, 1, math.MaxInt16)
	case schema.Int32:
		return ints(math.MinInt32, -1, 0, 1, math.MaxInt32)
	case schema.Date:
		return ints(-719162, -1, 0, 1, 2932896) // years 1 to 9999
	case schema.Int64:
		return ints(math.MinInt64, -1, 0, 1, math.MaxInt64)
	case schema.Timestamp:
		return ints(-62135596800000000, -1, 0, 1, 253402300799999999)
	case schema.Decimal:
		most := int64(math.Pow10(int(t.Precision))) - 1
		return ints(-most, -1, 0, 1, most)
	case schema.Float32:
		return floats(0, negativeZero, 1.5, math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, math.Inf(1), math.Inf(-1), math.NaN())
	case schema.Float64:
		return floats(0, negativeZero, 1.5, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), math.NaN())
	case schema.UUID:
		return texts(strings.Repeat("\x00", 16), strings.Repeat("\xff", 16), "0123456789abcdef", strings.Repeat("\x00", 15)+"\x01")
	case schema.Binary:
		return texts("", "\x00", "\xff", strings.Repeat("\xff", 100), "a\x00b", strings.Repeat("z", 60))
	case schema.JSON:
		return texts(`null`, `{}`, `{"a":[1,2,"`+strings.Repeat("x", 60)+`"]}`, `"ü"`)
	}
	return texts("", "\x00", "a\x00b", "ü", strings.Repeat("\U0010ffff", 20), strings.Repeat("~", 31)+"\u07ff\u07ff", strings.Repeat("a", 31)+"\ud7ffx", strings.Repeat("long ", 100))
}

// randomValue is a value of t; few tells how many distinct ones there should be, 0 for any.
func randomValue(r *rand.Rand, t schema.Type, few int) schema.Value {
	e := edges(t)
	if r.IntN(50) == 0 && few == 0 {
		return e[r.IntN(len(e))]
	}
	x := r.Uint64()
	if few > 0 {
		x %= uint64(few)
	}
	switch t.Kind {
	case schema.Bool:
		return schema.Value{Int: int64(x & 1)}
	case schema.Int8:
		return schema.Value{Int: int64(int8(x))}
	case schema.Int16:
		return schema.Value{Int: int64(int16(x))}
	case schema.Int32:
		return schema.Value{Int: int64(int32(x))}
	case schema.Date:
		return schema.Value{Int: int64(x%1_000_000) - 500_000}
	case schema.Decimal:
		return schema.Value{Int: int64(x) % int64(math.Pow10(int(t.Precision)))}
	case schema.Timestamp:
		return schema.Value{Int: int64(x % 250_000_000_000_000_000)}
	case schema.Float32:
		return schema.Value{Float: float64(float32(int64(x>>30)) / 4)}
	case schema.Float64:
		return schema.Value{Float: float64(int64(x>>30)) / 4}
	case schema.UUID:
		return schema.Value{Bytes: fmt.Appendf(nil, "%016x", x)}
	case schema.JSON:
		return schema.Value{Bytes: fmt.Appendf(nil, `{"n":%d}`, x)}
	case schema.String, schema.Binary:
		return schema.Value{Bytes: fmt.Appendf(nil, "%s-%x", "a name that is longer than bounds are, or is not"[:x%48], x>>r.IntN(60))}
	}
	return schema.Value{Int: int64(x)}
}

// everyType has each type four times: required or nullable, with any or few values. The key is over four types.
func everyType() *schema.Schema {
	s := &schema.Schema{Version: 3, Buckets: 1}
	add := func(name string, t schema.Type, nullable bool) {
		s.Columns = append(s.Columns, schema.Column{ID: schema.ColumnID(len(s.Columns) + 1), Name: name, Type: t, Nullable: nullable})
	}
	for _, k := range []schema.Kind{schema.Int16, schema.String, schema.UUID, schema.Timestamp} {
		s.Key = append(s.Key, len(s.Columns))
		add("key_"+k.String(), schema.Type{Kind: k}, false)
	}
	for k := schema.Bool; k <= schema.JSON; k++ {
		t := schema.Type{Kind: k}
		if k == schema.Decimal {
			t.Precision, t.Scale = 18, 3
		}
		for i, suffix := range []string{"", "_null", "_few", "_null_few"} {
			add(k.String()+suffix, t, i&1 != 0)
		}
	}
	return s
}

// modelRows makes n rows of random values, with stretches of nulls, edge values first, in batches of random sizes. Keys repeat: then
// later batches have later versions.
func modelRows(t testing.TB, r *rand.Rand, s *schema.Schema, n int) *Rows {
	rows := &Rows{}
	birth := int64(1_700_000_000_000_000)
	for done := 0; done < n; {
		k := min(1+r.IntN(2000), n-done)
		b := batch.NewBuilder(s.Columns, k)
		mode := make([]int, len(s.Columns))
		for i := range mode {
			mode[i] = r.IntN(4)
		}
		for i := range k {
			for c := range s.Columns {
				b.Columns[c].AppendValue(modelValue(r, &s.Columns[c], done+i, mode[c]))
			}
		}
		v := b.View()
		birth += int64(r.IntN(3))
		births := []int64{birth}
		if r.IntN(3) == 0 {
			for range k - 1 {
				births = append(births, birth)
			}
		}
		rows.Batches, rows.Births = append(rows.Batches, &v), append(rows.Births, births)
		done += k
	}
	rows.Refs = sortRefs(s, rows.Batches)
	return rows
}

func modelValue(r *rand.Rand, c *schema.Column, row, mode int) schema.Value {
	few := 0
	if strings.HasSuffix(c.Name, "_few") || strings.HasPrefix(c.Name, "key_") {
		few = 40
	}
	if e := edges(c.Type); row < len(e) && few == 0 {
		return e[row]
	}
	if c.Nullable && (mode == 1 || mode == 2 && row/200%2 == 0 || mode == 3 && r.IntN(3) == 0) {
		return schema.Null
	}
	return randomValue(r, c.Type, few)
}

// cut is the same rows in the same order, in other batches: of size rows each, already in order.
func cut(t testing.TB, s *schema.Schema, rows *Rows, size int) *Rows {
	out := &Rows{}
	for at := 0; at < len(rows.Refs); at += size {
		b := batch.NewBuilder(s.Columns, size)
		var births []int64
		for _, r := range rows.Refs[at:min(at+size, len(rows.Refs))] {
			for c := range s.Columns {
				b.Columns[c].AppendValue(rows.Batches[r.Batch].Columns[c].Value(int(r.Row)))
			}
			births = append(births, rows.birth(r))
			out.Refs = append(out.Refs, Ref{Batch: uint32(len(out.Batches)), Row: uint32(len(births) - 1)})
		}
		v := b.View()
		out.Batches, out.Births = append(out.Batches, &v), append(out.Births, births)
	}
	return out
}

func (r *Rows) birth(ref Ref) int64 {
	b := r.Births[ref.Batch]
	if len(b) == 1 {
		return b[0]
	}
	return b[ref.Row]
}
