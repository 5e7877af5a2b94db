package raftlog

import (
	"bytes"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/hashicorp/raft"
)

// wireOf returns the bytes of messages, with those that are urgent between the chunks of the first.
func wireOf(m *message, urgent ...*message) []byte {
	var out []byte
	add := func(m *message) *chunker {
		out = append(out, m.startFrame()...)
		return &chunker{m: m}
	}
	c := add(m)
	for m.partBytes() > 0 && !c.done() {
		bufs, _ := c.next(nil)
		for _, b := range bufs {
			out = append(out, b...)
		}
		if len(urgent) > 0 {
			add(urgent[0])
			urgent = urgent[1:]
		}
	}
	return out
}

func TestFrames(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	sizes := []int{0, 0, 1, 7, 8, 100, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3*chunkBytes + 5}
	for range 300 {
		m := &message{kind: kindAppend, id: rng.Uint64(), meta: make([]byte, rng.IntN(50))}
		for range rng.IntN(6) {
			p := make([]byte, sizes[rng.IntN(len(sizes))])
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			m.parts = append(m.parts, p)
		}
		ping := &message{kind: kindPing, id: 4}
		wire := wireOf(m, ping)
		f := &frameReader{r: bytes.NewReader(wire)}
		got, err := f.next()
		if err == nil && got.kind == kindPing {
			got, err = f.next()
		}
		if err != nil {
			t.Fatal(err)
		}
		if got.kind != m.kind || got.id != m.id || !bytes.Equal(got.meta, m.meta) || len(got.parts) != len(m.parts) {
			t.Fatalf("got %d, %d, %x with %d parts", got.kind, got.id, got.meta, len(got.parts))
		}
		for i, p := range got.parts {
			if !bytes.Equal(p, m.parts[i]) {
				t.Fatalf("part %d differs", i)
			}
			if len(p) > 0 && uintptr(unsafe.Pointer(unsafe.SliceData(p)))%8 != 0 {
				t.Fatalf("part %d of %d bytes is not aligned", i, len(p))
			}
		}
		// A changed bit anywhere is an error.
		wire[rng.IntN(len(wire))] ^= 1 << rng.IntN(8)
		f = &frameReader{r: bytes.NewReader(wire)}
		for err = nil; err == nil; {
			_, err = f.next()
		}
		if err == io.EOF {
			t.Fatal("a changed bit goes unnoticed")
		}
	}
}

// TestWire pins the bytes of the protocol: whoever changes them changes the version, too.
func TestWire(t *testing.T) {
	q := &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 10, PrevLogTerm: 2, LeaderCommitIndex: 9, Entries: []*raft.Log{
		{Index: 11, Term: 3, Type: raft.LogCommand, Data: []byte("abcdefgh"), AppendedAt: time.Unix(1, 2)}}}
	m := encodeAppend(7, q)
	m.id = 5
	pinned(t, "append", m.startFrame(), strings.Join([]string{
		"4d000000 05 00 0100 0500000000000000 e9a7e6a3 9c5a3a28", // length, kind, 0, parts, id, checksums
		"08000000", // length of the part
		"0700000000000000 0300000000000000 0a00000000000000 0200000000000000 0900000000000000 01000000", // group to count
		"0b00000000000000 0300000000000000 00 02ca9a3b00000000 00000000",                                // the entry
	}, ""))
	d := &decoder{b: m.meta}
	if d.u64() != 7 {
		t.Error("the group does not come first")
	}
	back, err := decodeRequest(m, d)
	if err != nil {
		t.Fatal(err)
	}
	e := back.(*raft.AppendEntriesRequest)
	if e.Term != 3 || e.PrevLogEntry != 10 || e.Entries[0].Index != 11 || string(e.Entries[0].Data) != "abcdefgh" || !e.Entries[0].AppendedAt.Equal(time.Unix(1, 2)) {
		t.Errorf("decoded %+v", e)
	}
	var block bytes.Buffer
	if err := writeBlock(&block, []byte("xyz")); err != nil {
		t.Fatal(err)
	}
	pinned(t, "handshake", block.Bytes(), "4e594c41 0100 0300 85682325 78797a")
}

func pinned(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if g, w := hex.EncodeToString(got), strings.ReplaceAll(want, " ", ""); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// FuzzFrames: no bytes make the reader panic or take more memory than they announce honestly.
func FuzzFrames(f *testing.F) {
	f.Add(wireOf(&message{kind: kindAppend, id: 1, meta: []byte("meta"), parts: [][]byte{[]byte("abc"), nil, []byte("d")}}))
	f.Add(wireOf(&message{kind: kindPing}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &frameReader{r: bytes.NewReader(b)}
		for {
			m, err := r.next()
			if err != nil {
				return
			}
			d := &decoder{b: m.meta}
			d.u64()
			decodeRequest(m, d)
			decodeStatus(m.meta)
		}
	})
}
