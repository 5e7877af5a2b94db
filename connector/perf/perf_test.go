package perf

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// TestMain is also the broker's process, since this program starts itself again for it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "perf" {
		root := &cobra.Command{Use: "nyala"}
		root.AddCommand(Command())
		if err := root.Execute(); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestIngest measures a little, on a real disk, and checks what is reported.
func TestIngest(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		t.Run(fmt.Sprintf("replicas=%d", replicas), func(t *testing.T) {
			var out bytes.Buffer
			c := Command()
			c.SetOut(&out)
			c.SetArgs([]string{"ingest", "--events", "20000", "--replicas", fmt.Sprint(replicas), "--tablets", "2", "--partitions", "4",
				"--freshness", "300ms", "--rate", "1000", "--kills", "1", "--warmup", "5000", "--memory", "128MiB", "--dir", t.TempDir(), "--json"})
			if err := c.ExecuteContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			var r map[string]any
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatalf("%v of %s", err, out.String())
			}
			for _, name := range []string{"events_per_second", "committed_per_second", "cpu_us_per_event", "allocated_bytes_per_event", "bytes_per_event"} {
				if v, ok := r[name].(float64); !ok || v <= 0 {
					t.Errorf("%s: got %v, want a number above 0", name, r[name])
				}
			}
			for _, name := range []string{"freshness_ms", "resume_ms"} {
				v, _ := r[name].(map[string]any)
				p50, ok1 := v["p50"].(float64)
				p99, ok2 := v["p99"].(float64)
				if !ok1 || !ok2 || p50 < 0 || p50 > p99 || p99 == 0 {
					t.Errorf("%s: got %v, want p50 up to p99", name, r[name])
				}
			}
			for name, want := range map[string]float64{"events": 20_000, "replicas": float64(replicas), "tablets": 2, "partitions": 4, "warmup": 5000, "rows": 5000 + 20_000 + 1000 + 300} {
				if r[name] != want {
					t.Errorf("%s: got %v, want %v", name, r[name], want)
				}
			}
		})
	}
}

func TestWrongUseIsRefused(t *testing.T) {
	for _, args := range [][]string{{"--replicas", "2"}, {"--events", "0"}, {"--session", "text"}, {"--tablets", "-1"}, {"--rate", "-1"}, {"--memory", "lots"}} {
		c := Command()
		c.SetArgs(append([]string{"ingest", "--events", "1"}, args...))
		c.SilenceUsage, c.SilenceErrors = true, true
		if err := c.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

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
