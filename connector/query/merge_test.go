package query

import (
	"io"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"nyala/store/batch"
	"nyala/store/schema"
)

// fixed is a stream of batches in memory.
type fixed []batch.Batch

func (f *fixed) Next() (*batch.Batch, error) {
	if len(*f) == 0 {
		return nil, io.EOF
	}
	b := (*f)[0]
	*f = (*f)[1:]
	return &b, nil
}
func (f *fixed) Close() error { return nil }

func TestMerge(t *testing.T) {
	s := &schema.Schema{Columns: []schema.Column{
		{ID: 1, Name: "v", Type: schema.Type{Kind: schema.String}},
		{ID: 2, Name: "k", Type: schema.Type{Kind: schema.Int64}},
	}, Key: []int{1}}
	rapid.Check(t, func(t *rapid.T) {
		var streams []Stream
		var all []int64
		for range rapid.IntRange(0, 4).Draw(t, "streams") {
			keys := rapid.SliceOfN(rapid.Int64Range(-50, 50), 0, 30).Draw(t, "keys")
			slices.Sort(keys)
			all = append(all, keys...)
			f := fixed{}
			for len(keys) > 0 {
				n := rapid.IntRange(1, len(keys)).Draw(t, "batch")
				b := batch.NewBuilder(s.Columns, n)
				for _, k := range keys[:n] {
					b.Columns[0].AppendBytes([]byte{byte(k)})
					b.Columns[1].AppendInt(k)
				}
				keys = keys[n:]
				f = append(f, b.View())
			}
			streams = append(streams, &f)
		}
		m, err := NewMerge(s, s.Columns, s.Columns[:1], streams)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for {
			b, err := m.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := range b.Rows {
				got = append(got, b.Columns[0].Bytes(i)...)
			}
		}
		slices.Sort(all)
		for i, k := range all {
			if i >= len(got) || got[i] != byte(k) {
				t.Fatalf("got %v, want the order of %v", got, all)
			}
		}
		if len(got) != len(all) {
			t.Fatalf("got %d rows, want %d", len(got), len(all))
		}
	})
}

func TestBind(t *testing.T) {
	s := &schema.Schema{Columns: []schema.Column{
		{ID: 1, Name: "tenant", Type: schema.Type{Kind: schema.Int32}},
		{ID: 2, Name: "at", Type: schema.Type{Kind: schema.Timestamp}},
		{ID: 3, Name: "v", Type: schema.Type{Kind: schema.String}, Nullable: true},
	}, Key: []int{0, 1}, Range: &schema.Range{Column: 1, Every: 10}}
	p, err := Bind("t", s, Request{Columns: []string{"v"}, Where: []string{"at >= 20", "at < 40", "tenant = 3"}, Order: OrderKey})
	if err != nil {
		t.Fatal(err)
	}
	if low, high, ok := p.RangeBounds(); low != 20 || high != 40 || !ok || len(p.Columns) != 1 || len(p.Fetch) != 3 {
		t.Fatalf("got [%d,%d] %v, %d columns of %d", low, high, ok, len(p.Columns), len(p.Fetch))
	}
	for _, bad := range []Request{{Columns: []string{"x"}}, {Where: []string{"x = 1"}}, {Where: []string{"tenant = a"}}, {Where: []string{"tenant"}}} {
		if _, err := Bind("t", s, bad); err == nil {
			t.Fatalf("%+v: got no error", bad)
		}
	}
	r := Request{Columns: []string{"v", "at"}, Where: []string{"a = 1", "b in (1,2)"}, At: 5, Limit: 7, Order: OrderKey, Tablet: 9, Count: true}
	again, err := ParseRequest(r.Values())
	if err != nil || again.Values().Encode() != r.Values().Encode() {
		t.Fatalf("got %+v, %v", again, err)
	}
}
