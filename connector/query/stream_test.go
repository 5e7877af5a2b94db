package query

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestStreamRoundTrip(t *testing.T) {
	_, b := sample()
	var wire bytes.Buffer
	w := NewStreamWriter(&wire)
	for range 2 {
		if err := w.Write(&b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	whole := wire.Bytes()
	r := NewStreamReader(bytes.NewReader(whole))
	for range 2 {
		if got, err := r.Next(); err != nil || got.Rows != b.Rows {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatalf("got %v, want EOF", err)
	}
	// Cut anywhere, it never looks whole.
	for cut := range whole {
		r := NewStreamReader(bytes.NewReader(whole[:cut]))
		var err error
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, ErrCut) {
			t.Fatalf("cut at %d: got %v, want ErrCut", cut, err)
		}
	}
}

func TestStreamError(t *testing.T) {
	var wire bytes.Buffer
	if err := NewStreamWriter(&wire).Fail(errors.New("disk on fire")); err != nil {
		t.Fatal(err)
	}
	if _, err := NewStreamReader(&wire).Next(); err == nil || err.Error() != "disk on fire" {
		t.Fatalf("got %v", err)
	}
}
