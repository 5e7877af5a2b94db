package perf

import (
	"bytes"
	"context"
	"runtime/pprof"
	"slices"
	"testing"
	"time"
)

func TestDistribution(t *testing.T) {
	var d distribution
	if d.quantile(0.5) != 0 {
		t.Error("of nothing")
	}
	for _, v := range []float64{5, 1, 3} {
		d.add(v, 1)
	}
	d.add(100, 1)
	d.add(2, 96)
	for q, want := range map[float64]float64{0: 1, 0.5: 2, 0.97: 2, 0.98: 3, 0.99: 5, 1: 100} {
		if got := d.quantile(q); got != want {
			t.Errorf("quantile %g: got %g, want %g", q, got, want)
		}
	}
}

func TestStageOf(t *testing.T) {
	for want, stacks := range map[string][][]string{
		stageKafka:   {{"runtime.memmove", "github.com/pierrec/lz4/v4.x", "github.com/twmb/franz-go/pkg/kgo.y", "runtime.goexit"}},
		stageDecode:  {{"nyala/ingest/decode.(*JSON).Decode", "nyala/ingest.(*worker).row"}},
		stageIngest:  {{"nyala/store/batch.AppendWrite", "nyala/ingest.(*tabletQueue).run"}},
		stageWAL:     {{"syscall.Syscall", "nyala/store/vfs.x", "nyala/raftlog/wal.y", "nyala/raftlog.z"}},
		stageRaft:    {{"github.com/hashicorp/raft.(*Raft).run"}, {"nyala/raftlog.(*peer).write"}},
		stageApply:   {{"nyala/store.(*keyIndex).insert", "nyala/store.(*Tablet).Apply", "nyala/connector.x"}, {"nyala/store/rowset.(*RowSet).LookupAll", "nyala/store.(*Tablet).Apply"}},
		stageFlush:   {{"github.com/klauspost/compress/zstd.x", "nyala/store/rowset.y", "nyala/store.(*Tablet).run"}},
		stageGC:      {{"runtime.scanobject", "runtime.gcBgMarkWorker"}},
		stageRuntime: {{"runtime.findRunnable", "runtime.mcall"}, {}},
		stageOther:   {{"nyala/connector.(*Node).local"}, {"net/http.x", "main.y"}},
	} {
		for _, stack := range stacks {
			if got := stageOf(stack); got != want {
				t.Errorf("%v: got %s, want %s", stack, got, want)
			}
		}
	}
}

// TestProfileIsUnderstood burns some time under the real profiler.
func TestProfileIsUnderstood(t *testing.T) {
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for begin := time.Now(); time.Since(begin) < 300*time.Millisecond; {
		for i := range 1000 {
			sum += i * i
		}
	}
	pprof.StopCPUProfile()
	stages, err := byStage(profile.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, v := range stages {
		total += v
	}
	if total < (20*time.Millisecond).Nanoseconds() || sum == 0 {
		t.Errorf("%d ns in all, by stage %v", total, stages)
	}
	if _, err := byStage([]byte("no profile")); err == nil {
		t.Error("nonsense was taken")
	}
}

func TestPulledPlugEndsConnections(t *testing.T) {
	p := newPlug()
	l, err := p.listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		accepted <- err
	}()
	c, err := p.dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p.pull()
	if <-accepted == nil {
		t.Error("a cut connection gave data")
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("a cut connection took data")
	}
	if _, err := p.dial(context.Background(), l.Addr().String()); err == nil {
		t.Error("dialled without a network")
	}
}

func TestMachine(t *testing.T) {
	m := thisMachine(t.TempDir())
	if m.Cores < 1 || m.GoMaxProcs < 1 || m.Go == "" {
		t.Errorf("got %+v", m)
	}
	if names := stages; len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
		t.Errorf("stages twice: %v", names)
	}
}
