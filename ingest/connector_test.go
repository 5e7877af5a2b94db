package ingest

import (
	"testing"
	"testing/synctest"
)

func TestConsume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 2})
		w.produce("app", 0, 0, 1000)
		n := w.connector()
		w.produce("app", 1, 0, 500)
		w.awaitRows(1500)
		w.checkpointed(map[int32]int64{0: 1000, 1: 500})
		w.exactlyOnce(map[int32][]int{0: ids(1000), 1: ids(500)})
		st := n.Status()
		if st.State != Running || st.LagRecords != 0 || len(st.Partitions) != 2 || st.Counters.Rows != 1500 {
			t.Errorf("status: %+v", st)
		}
		n.stop()
		if w.mu.held != 0 {
			t.Errorf("%d bytes are still acquired", w.mu.held)
		}
	})
}
