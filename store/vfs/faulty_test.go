package vfs

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestFaultyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		fsys := NewFaulty(NewMem(),
			Rule{Op: OpSync, Count: 1, Delay: 3 * time.Second},
			Rule{Op: OpWrite, Hang: release})
		f, err := fsys.Create("a")
		check(t, err)
		start := time.Now()
		check(t, f.Sync())
		if took := time.Since(start); took != 3*time.Second {
			t.Fatalf("sync took %v", took)
		}
		done := false
		go func() {
			if _, err := f.Write([]byte("x")); err != nil {
				t.Error(err)
			}
			done = true
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		if done {
			t.Fatal("the write did not hang")
		}
		close(release)
		synctest.Wait()
		if !done {
			t.Fatal("the write still hangs")
		}
	})
}
