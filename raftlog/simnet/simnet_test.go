package simnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// pair connects a to b.
func pair(t *testing.T, n *Network) (near, far net.Conn) {
	t.Helper()
	ln := n.Host("b").Listen()
	near, err := n.Host("a").Dial(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func TestLatencyAndBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		n.SetLatency(10*time.Millisecond, 10*time.Millisecond)
		n.SetBandwidth(1 << 20)
		near, far := pair(t, n)
		data := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
		begin := time.Now()
		go func() {
			near.Write(data)
			near.Close()
		}()
		got, err := io.ReadAll(far)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if took := time.Since(begin); took < time.Second || took > 1200*time.Millisecond {
			t.Errorf("1 MiB at 1 MiB/s took %v", took)
		}
	})
}

func TestPartitionHoldsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		near, far := pair(t, n)
		n.Block("a", "b")
		if _, err := near.Write([]byte("held")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 10)
		far.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := far.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read over a partition: %v", err)
		}
		if _, err := far.Write([]byte("other way")); err != nil {
			t.Fatal(err)
		}
		if k, err := near.Read(b); err != nil || string(b[:k]) != "other way" {
			t.Errorf("the direction that is open: %q, %v", b[:k], err)
		}
		near.Close() // the end of the stream is held, too
		n.Unblock("a", "b")
		far.SetReadDeadline(time.Time{})
		if got, err := io.ReadAll(far); err != nil || string(got) != "held" {
			t.Errorf("after the partition: %q, %v", got, err)
		}
	})
}

func TestDialWaitsForPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		ln := n.Host("b").Listen()
		defer ln.Close()
		n.Isolate("b")
		n.Partition("a", "b")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.Host("a").Dial(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial over a partition: %v", err)
		}
		go func() {
			time.Sleep(time.Second)
			n.Rejoin("b")
		}()
		begin := time.Now()
		if _, err := n.Host("a").Dial(t.Context(), "b"); err != nil || time.Since(begin) != time.Second {
			t.Errorf("dial: %v after %v", err, time.Since(begin))
		}
	})
}

func TestResetAndCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		near, far := pair(t, n)
		go func() {
			time.Sleep(time.Second)
			n.Reset("b", "a")
		}()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, errReset) {
			t.Errorf("read: %v", err)
		}
		if _, err := far.Write([]byte("x")); !errors.Is(err, errReset) {
			t.Errorf("write: %v", err)
		}
		n.Host("b").Crash()
		if _, err := n.Host("a").Dial(t.Context(), "b"); err == nil {
			t.Error("a crashed host takes connections")
		}
		near, _ = pair(t, n) // it listens again
		if _, err := near.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		n.SetLoss(1)
		if _, err := near.Write([]byte("x")); err == nil {
			t.Error("a write that is lost succeeds")
		}
		n.Host("b").Crash()
	})
}

func TestWriterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		near, far := pair(t, n)
		near.SetWriteDeadline(time.Now().Add(time.Second))
		k, err := near.Write(make([]byte, 4*windowBytes))
		if !errors.Is(err, os.ErrDeadlineExceeded) || k != windowBytes {
			t.Errorf("%d bytes, %v, want %d", k, err, windowBytes)
		}
		far.Close()
		if _, err := near.Write(make([]byte, 1)); err == nil {
			t.Error("write to a closed connection")
		}
	})
}

func TestLoseOneAndDistance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		near, far := pair(t, n)
		n.SetDistance("a", "b", 3*time.Second)
		begin := time.Now()
		if _, err := near.Write([]byte("far")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 3)
		if _, err := io.ReadFull(far, b); err != nil || time.Since(begin) != 3*time.Second {
			t.Errorf("read: %v after %v", err, time.Since(begin))
		}
		n.SetDistance("a", "b", 0)
		n.LoseOne("a", "b", 1)
		if _, err := near.Write([]byte("one")); err != nil {
			t.Errorf("the write before: %v", err)
		}
		if _, err := near.Write([]byte("two")); !errors.Is(err, errReset) {
			t.Errorf("the write that is lost: %v", err)
		}
		if _, err := far.Read(b); !errors.Is(err, errReset) {
			t.Errorf("read behind it: %v", err)
		}
		near = again(t, n)
		if _, err := near.Write([]byte("three")); err != nil {
			t.Errorf("a write after it: %v", err)
		}
		n.Host("b").Crash()
	})
}

// again connects a to b, which listens already.
func again(t *testing.T, n *Network) net.Conn {
	t.Helper()
	near, err := n.Host("a").Dial(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	return near
}
