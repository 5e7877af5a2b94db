package offsets

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
)

func sample() *Ledger {
	l := &Ledger{}
	l.Advance(Segment{Source: Source{"b", TopicID{1}, 2}, Start: 0, Range: Range{0, 7}})
	l.Advance(Segment{Source: Source{"a", TopicID{}, 0}, Start: 0, Range: Range{0, 1 << 40}})
	l.Fence(Fence{"b", 3})
	return l
}

// The bytes are a file format: they stand here in full.
func TestLedgerBytes(t *testing.T) {
	want := strings.ReplaceAll("01 4c 0000 02000000"+
		" 0100 61 00000000000000000000000000000000 00000000 0000000000010000"+
		" 0100 62 01000000000000000000000000000000 02000000 0700000000000000"+
		" 01000000 0100 62 03000000", " ", "")
	if got := hex.EncodeToString(sample().AppendTo(nil)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestMalformedTables(t *testing.T) {
	good := sample().AppendTo(nil)
	const first, second = positionsHeader, positionsHeader + entryBytes + 1 // where the two entries begin
	const fences = 4 + fenceBytes + 1                                       // so long are they, at the end
	for name, change := range map[string]func(b []byte) []byte{
		"empty":              func(b []byte) []byte { return nil },
		"another version":    func(b []byte) []byte { b[0] = 2; return b },
		"another kind":       func(b []byte) []byte { b[1] = 'C'; return b },
		"reserved":           func(b []byte) []byte { b[3] = 1; return b },
		"count too high":     func(b []byte) []byte { b[4] = 3; return b },
		"count absurd":       func(b []byte) []byte { b[7] = 0xff; return b },
		"count too low":      func(b []byte) []byte { b[4] = 1; return b },
		"trailing byte":      func(b []byte) []byte { return append(b, 0) },
		"fence of version 0": func(b []byte) []byte { b[len(b)-4] = 0; return b },
		"fence cut":          func(b []byte) []byte { return b[:len(b)-1] },
		"no fences":          func(b []byte) []byte { return b[:len(b)-fences] },
		"fences absurd":      func(b []byte) []byte { b[len(b)-fences+3] = 0xff; return b },
		"fence name long":    func(b []byte) []byte { b[len(b)-fences+5] = 0xff; return b },
		"name over the end":  func(b []byte) []byte { b[second] = 200; return b },
		"name too long":      func(b []byte) []byte { b[first+1] = 0xff; return b },
		"descending":         func(b []byte) []byte { b[first+2] = 'c'; return b },
		"negative next":      func(b []byte) []byte { b[len(b)-fences-1] = 0x80; return b },
		"negative partition": func(b []byte) []byte { b[len(b)-fences-9] = 0x80; return b },
		"doubled": func(b []byte) []byte {
			copy(b[second:], b[first:second])
			return b
		},
	} {
		if l, err := ParseLedger(change(slices.Clone(good))); !errors.Is(err, ErrMalformed) || l != nil {
			t.Errorf("%s: %v, want malformed", name, err)
		}
	}
	if _, err := ParseLedger(good); err != nil {
		t.Error(err)
	}
	if _, err := ParseCheckpoints(good); !errors.Is(err, ErrMalformed) {
		t.Errorf("a ledger read as checkpoints: %v, want malformed", err)
	}
}

func TestSegmentBytes(t *testing.T) {
	g := Segment{Source: Source{"app", TopicID{9}, 4}, Start: 2, Decision: 6, Range: Range{3, 5}}
	b := append(g.AppendTo(nil), "rest"...)
	got, rest, err := ParseSegment(b)
	if err != nil || got != g || string(rest) != "rest" {
		t.Fatalf("%+v %q %v, want %+v", got, rest, err, g)
	}
	for n := range len(b) - len("rest") {
		if _, _, err := ParseSegment(b[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%d bytes: %v, want malformed", n, err)
		}
	}
	for _, wrong := range []Segment{
		{Source: g.Source, Start: 4, Range: g.Range}, {Source: g.Source, Start: -1, Range: g.Range}, {Source: g.Source, Start: 2, Range: Range{3, 2}},
	} {
		if _, _, err := ParseSegment(wrong.AppendTo(nil)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%+v: %v, want malformed", wrong, err)
		}
	}
}

func TestNameTooLongPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a connector name without an encoding was encoded")
		}
	}()
	Source{Connector: strings.Repeat("x", MaxConnector+1)}.AppendTo(nil)
}

// canonical: what a parser takes, it writes back byte for byte.
func canonical[T table](t *testing.T, b []byte, parse func([]byte) (T, error)) {
	v, err := parse(b)
	if err != nil {
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%v, want malformed", err)
		}
		return
	}
	if again := v.AppendTo(nil); !bytes.Equal(again, b) {
		t.Errorf("% x\nparsed and written again: % x", b, again)
	}
}
