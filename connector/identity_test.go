package connector

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"nyala/store/vfs"
)

func TestIdentityIsKept(t *testing.T) {
	files := vfs.NewMem()
	first, lock, err := openIdentity(files, "data/n1", "c", "n1", bytes.NewReader([]byte{1, 2, 3, 4}))
	if err != nil || first.Incarnation != "01020304" {
		t.Fatalf("got %+v, %v", first, err)
	}
	if _, _, err := openIdentity(files, "data/n1", "c", "n1", nil); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("second open: got %v, want ErrLocked", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	again, lock, err := openIdentity(files.Crash(rand.New(rand.NewPCG(1, 1)), 0), "data/n1", "c", "n1", nil)
	if err != nil || again != first {
		t.Fatalf("after a power cut: got %+v, %v, want %+v", again, err, first)
	}
	lock.Close()
}

func TestIdentityOfAnotherIsRefused(t *testing.T) {
	for _, c := range []struct{ cluster, node string }{{"other", "n1"}, {"c", "n2"}} {
		files := vfs.NewMem()
		_, lock, err := openIdentity(files, "d", "c", "n1", bytes.NewReader([]byte{1, 2, 3, 4}))
		if err != nil {
			t.Fatal(err)
		}
		lock.Close()
		_, _, err = openIdentity(files, "d", c.cluster, c.node, nil)
		if !errors.Is(err, ErrWrongData) || !strings.Contains(err.Error(), "node n1 of cluster c") {
			t.Fatalf("%+v: got %v", c, err)
		}
	}
}
