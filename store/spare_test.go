package store

import "testing"

// TestSpare: what was given comes back, of its own size only, and no more is kept than allowed.
func TestSpare(t *testing.T) {
	s := &spare{limit: 3 * 8 << 10}
	a, fresh := s.take(1000)
	if len(a) != 1024 || !fresh {
		t.Fatalf("%d words, fresh %v", len(a), fresh)
	}
	b, _ := s.take(1024)
	c, _ := s.take(1025)
	if len(c) != 2048 {
		t.Fatalf("%d words", len(c))
	}
	s.give(a)
	s.give(c)
	s.give(b) // too much
	if s.mu.bytes != 3*8<<10 {
		t.Fatalf("%d bytes are kept", s.mu.bytes)
	}
	if d, fresh := s.take(1024); fresh || &d[0] != &a[0] {
		t.Fatal("another piece came back")
	}
	if _, fresh := s.take(1024); !fresh {
		t.Fatal("a piece came back twice")
	}
	if _, fresh := s.take(2000); fresh || s.mu.bytes != 0 {
		t.Fatalf("fresh %v, %d bytes are kept", fresh, s.mu.bytes)
	}
	s.give(make([]uint64, 8)) // not worth it
	if s.mu.bytes != 0 {
		t.Fatalf("%d bytes are kept", s.mu.bytes)
	}
}
