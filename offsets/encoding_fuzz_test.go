package offsets

import (
	"bytes"
	"testing"
)

func FuzzParseTables(f *testing.F) {
	f.Add([]byte{})
	f.Add(sample().AppendTo(nil))
	c := &Checkpoints{}
	c.Raise(Source{"app", TopicID{3}, 1}, 99)
	f.Add(c.AppendTo(nil))
	c.CreateIfAbsent(Source{"app", TopicID{3}, 2}, 7)
	f.Add(c.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		canonical(t, b, ParseLedger)
		canonical(t, b, ParseCheckpoints)
	})
}

func FuzzParseSegment(f *testing.F) {
	f.Add(Segment{Source: Source{"app", TopicID{9}, 4}, Start: 2, Range: Range{3, 5}}.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, rest, err := ParseSegment(b)
		if err != nil {
			return
		}
		if again := append(g.AppendTo(nil), rest...); !bytes.Equal(again, b) {
			t.Errorf("% x\nparsed and written again: % x", b, again)
		}
		if err := new(Ledger).Check(g); err != nil && g.First <= g.Start {
			t.Errorf("%+v: parsed, then refused: %v", g, err)
		}
	})
}
