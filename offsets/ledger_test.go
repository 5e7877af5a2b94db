package offsets

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// sources is a small world of them, so that operations meet.
var sources = rapid.Custom(func(t *rapid.T) Source {
	return Source{
		Connector: rapid.SampledFrom([]string{"", "a", "ab", "b", "writer:w"}).Draw(t, "connector"),
		Topic:     TopicID{15: rapid.ByteRange(0, 1).Draw(t, "topic")},
		Partition: rapid.Int32Range(0, 2).Draw(t, "partition"),
	}
})

var segments = rapid.Custom(func(t *rapid.T) Segment {
	start := rapid.Int64Range(-1, 30).Draw(t, "start")
	first := start + rapid.Int64Range(-1, 20).Draw(t, "first")
	return Segment{Source: sources.Draw(t, "source"), Start: start, Decision: rapid.Uint32Range(0, 3).Draw(t, "decision"), Range: Range{first, first + rapid.Int64Range(-1, 10).Draw(t, "length")}}
})

// entries is the sorted listing of a table, to compare it with.
func entries(m map[Source]int64) (list []string) {
	keys := make([]Source, 0, len(m))
	for s := range m {
		keys = append(keys, s)
	}
	slices.SortFunc(keys, Source.Compare)
	for _, s := range keys {
		list = append(list, fmt.Sprintf("%v %d", s, m[s]))
	}
	return list
}

func TestLedgerAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l Ledger
		model, fences := map[Source]int64{}, map[string]uint32{}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			if rapid.IntRange(0, 7).Draw(t, "fence") == 0 {
				f := Fence{sources.Draw(t, "source").Connector, rapid.Uint32Range(0, 3).Draw(t, "decision")}
				l.Fence(f)
				fences[f.Connector] = max(fences[f.Connector], f.Decision)
			}
			g := segments.Draw(t, "segment")
			next := model[g.Source]
			malformed := g.Start < 0 || g.First < g.Start || g.Next < g.First
			err := l.Check(g)
			var hole *HoleError
			var stale *StaleError
			switch {
			case malformed:
				if !errors.Is(err, ErrMalformed) {
					t.Fatalf("%+v: %v, want malformed", g, err)
				}
			case g.Decision < fences[g.Source.Connector]:
				if !errors.As(err, &stale) || stale.Want != fences[g.Source.Connector] || stale.Segment != g {
					t.Fatalf("%+v with fences %v: %v, want a stale decision", g, fences, err)
				}
			case g.First > next && g.First > g.Start:
				if !errors.As(err, &hole) || hole.Ledger != next || hole.Segment != g {
					t.Fatalf("%+v with ledger %d: %v, want a hole", g, next, err)
				}
			default:
				if err != nil {
					t.Fatal(err)
				}
				l.Advance(g)
				model[g.Source] = max(next, g.Next)
			}
			if got := l.Next(g.Source); got != model[g.Source] {
				t.Fatalf("%+v: next %d, want %d", g, got, model[g.Source])
			}
		}
		var got []string
		for s, next := range l.All() {
			got = append(got, fmt.Sprintf("%v %d", s, next))
		}
		if want := entries(model); !slices.Equal(got, want) || l.Len() != len(want) {
			t.Fatalf("all %q (len %d), want %q", got, l.Len(), want)
		}
		roundTrip(t, &l, ParseLedger)
		clone := l.Clone()
		before := l.AppendTo(nil)
		clone.Fence(Fence{"new", 9})
		clone.Advance(Segment{Source: Source{Connector: "new"}, Decision: 9, Range: Range{0, 1}})
		if !bytes.Equal(l.AppendTo(nil), before) || clone.Len() != l.Len()+1 {
			t.Fatal("a clone is not independent")
		}
	})
}

type table interface{ AppendTo([]byte) []byte }

// roundTrip also says that equal content has equal bytes: what was parsed was built in another order.
func roundTrip[T table](t *rapid.T, v T, parse func([]byte) (T, error)) {
	b := v.AppendTo([]byte("prefix"))[len("prefix"):]
	w, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if again := w.AppendTo(nil); !bytes.Equal(again, b) {
		t.Fatalf("% x\nparsed and written again: % x", b, again)
	}
	if _, err := parse(append(slices.Clone(b), 0)); !errors.Is(err, ErrMalformed) {
		t.Fatalf("a byte after the end: %v", err)
	}
	if _, err := parse(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); !errors.Is(err, ErrMalformed) {
		t.Fatalf("cut short: %v", err)
	}
}

func TestCheckpointsAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Checkpoints
		model, begun := map[Source]int64{}, map[Source]int64{}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			s, next := sources.Draw(t, "source"), rapid.Int64Range(0, 30).Draw(t, "next")
			old, had := model[s]
			if rapid.Bool().Draw(t, "create") {
				if !had {
					model[s], begun[s] = next, next
				}
				if v, created := c.CreateIfAbsent(s, next); v != model[s] || created == had {
					t.Fatalf("create %s %d: %d %v, had %d %v", s, next, v, created, old, had)
				}
			} else {
				model[s] = max(old, next)
				if v := c.Raise(s, next); v != model[s] {
					t.Fatalf("raise %s %d: %d, had %d %v", s, next, v, old, had)
				}
			}
		}
		var got []string
		for s, next := range c.All() {
			got = append(got, fmt.Sprintf("%v %d", s, next))
			if v, ok := c.Get(s); !ok || v != next {
				t.Fatalf("get %s: %d %v, want %d", s, v, ok, next)
			}
			want, known := begun[s]
			if v, ok := c.Begun(s); v != want || ok != known {
				t.Fatalf("%s began at %d %v, want %d %v", s, v, ok, want, known)
			}
		}
		if want := entries(model); !slices.Equal(got, want) || c.Len() != len(want) {
			t.Fatalf("all %q (len %d), want %q", got, c.Len(), want)
		}
		if _, ok := c.Get(Source{Connector: "none"}); ok {
			t.Fatal("a checkpoint that was never made")
		}
		roundTrip(t, &c, ParseCheckpoints)
		clone := c.Clone()
		clone.Raise(Source{Connector: "new"}, 1)
		if clone.Len() != c.Len()+1 {
			t.Fatal("a clone is not independent")
		}
	})
}

func TestNamesForPeople(t *testing.T) {
	s := Source{"app", TopicID{0: 0xfb, 15: 1}, 3}
	for got, want := range map[string]string{
		s.String():                             "app/-wAAAAAAAAAAAAAAAAAAAQ/3",
		Source{Connector: "writer:w"}.String(): "writer:w/0",
		(&HoleError{Segment{Source: s, Start: 2, Range: Range{9, 12}}, 5}).Error(): "offsets: source app/-wAAAAAAAAAAAAAAAAAAAQ/3: segment [9,12) with start 2 " +
			"leaves a hole: want first at or below 5 (ledger 5)",
		(&StaleError{Segment{Source: s, Decision: 2, Range: Range{9, 12}}, 3}).Error(): "offsets: source app/-wAAAAAAAAAAAAAAAAAAAQ/3: segment [9,12) of " +
			"decision version 2, want at least 3",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
