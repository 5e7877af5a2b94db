package rowset

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"nyala/store/batch"
	"nyala/store/schema"
)

// eventSchema is the app event of docs/performance.md: 11 columns, key (tenant, event_time, event_id).
func eventSchema() *schema.Schema {
	s := &schema.Schema{Version: 1, Buckets: 4, Key: []int{0, 1, 2}, Hash: []int{2}}
	for i, c := range []struct {
		name string
		kind schema.Kind
	}{{"tenant", schema.Int32}, {"event_time", schema.Timestamp}, {"event_id", schema.Int64}, {"user_id", schema.String}, {"session", schema.UUID},
		{"event_name", schema.String}, {"url", schema.String}, {"country", schema.String}, {"duration_ms", schema.Int64}, {"value", schema.Float64}, {"ok", schema.Bool}} {
		s.Columns = append(s.Columns, schema.Column{ID: schema.ColumnID(i + 1), Name: c.name, Type: schema.Type{Kind: c.kind}})
	}
	return s
}

var eventCountries = []string{"CN", "IN", "ID", "US", "DE", "FR", "ES", "BR", "RU", "VN", "TH", "PH", "MX", "GB", "IT", "PL", "JP", "KR", "TR", "EG"}

// eventRows makes n events of one tablet out of four in key-sorted batches of size rows, and their order. Every batch is born 8 ms
// behind the one before.
func eventRows(t testing.TB, n, size int) *Rows {
	r := rand.New(rand.NewPCG(1, 7))
	s := eventSchema()
	rows := &Rows{}
	now, id := int64(1_795_000_000_000_000), int64(0)
	var sorter batch.Sorter
	for done := 0; done < n; done += size {
		b := batch.NewBuilder(s.Columns, size)
		for range min(size, n-done) {
			now += int64(r.IntN(160))
			id += 4
			appendEvent(b, r, now, id)
		}
		view := b.View()
		keys := batch.NewKeys(s)
		keys.Append(&view, 0, view.Rows)
		rows.Batches = append(rows.Batches, gathered(t, s, &view, sorter.Sort(keys, nil)))
		rows.Births = append(rows.Births, []int64{now})
	}
	rows.Refs = sortRefs(s, rows.Batches)
	return rows
}

func appendEvent(b *batch.Builder, r *rand.Rand, now, id int64) {
	c := b.Columns
	u := r.Uint64N(1_000_000) * 0x9E3779B97F4A7C15
	var session [16]byte
	binary.BigEndian.PutUint64(session[:], u^0xdeadbeef)
	binary.BigEndian.PutUint64(session[8:], r.Uint64N(20)+u)
	name := int(math.Abs(r.NormFloat64())*12) % 50
	c[0].AppendInt(int64(r.IntN(64)))
	c[1].AppendInt(now - int64(r.ExpFloat64()*200_000))
	c[2].AppendInt(id)
	c[3].AppendBytes(fmt.Appendf(nil, "%016x", u))
	c[4].AppendFixed16(session)
	c[5].AppendBytes(fmt.Appendf(nil, "%s_%s_%02d", []string{"page", "click", "cart", "login", "video"}[name%5], []string{"view", "open", "done"}[name%3], name))
	c[6].AppendBytes([]byte("https://app.example.com/p/" + strconv.Itoa(r.IntN(20000)+10000) + "?ref=home" + strconv.Itoa(r.IntN(10))))
	c[7].AppendBytes([]byte(eventCountries[int(math.Abs(r.NormFloat64())*6)%20]))
	c[8].AppendInt(int64(r.ExpFloat64() * 800))
	c[9].AppendFloat(math.Round(r.Float64()*10000) / 100)
	c[10].AppendBool(r.IntN(100) > 3)
}

// gathered is the rows of b in the given order, in a log entry's form.
func gathered(t testing.TB, s *schema.Schema, b *batch.Batch, order []uint32) *batch.Batch {
	out := batch.NewBuilder(s.Columns, b.Rows)
	for _, i := range order {
		for c := range b.Columns {
			out.Columns[c].AppendValue(b.Columns[c].Value(int(i)))
		}
	}
	v := out.View()
	return &v
}

// sortRefs orders the rows of batches by key, and equal keys by batch and row.
func sortRefs(s *schema.Schema, batches []*batch.Batch) []Ref {
	keys := batch.NewKeys(s)
	var all []Ref
	for i, b := range batches {
		keys.Append(b, 0, b.Rows)
		for r := range b.Rows {
			all = append(all, Ref{Batch: uint32(i), Row: uint32(r)})
		}
	}
	var sorter batch.Sorter
	refs := make([]Ref, len(all))
	for i, k := range sorter.Sort(keys, nil) {
		refs[i] = all[k]
	}
	return refs
}
