package perf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// perf runs a command on a real disk, and returns what it prints. Nothing else may be left in its folder.
func perf(t *testing.T, args ...string) map[string]any {
	t.Helper()
	var out bytes.Buffer
	c := Command()
	c.SetOut(&out)
	dir := filepath.Join(t.TempDir(), "new")
	c.SetArgs(append(args, "--memory", "128MiB", "--dir", dir, "--json"))
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", dir, err)
	}
	var r map[string]any
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v of %s", err, out.String())
	}
	return r
}

// at finds a value of nested objects.
func at(t *testing.T, r map[string]any, path string) any {
	t.Helper()
	var v any = r
	for _, name := range strings.Split(path, ".") {
		o, ok := v.(map[string]any)
		if v = o[name]; !ok || v == nil {
			t.Errorf("%s: is not in %v", path, r)
			return nil
		}
	}
	return v
}

func above0(t *testing.T, r map[string]any, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if v, ok := at(t, r, p).(float64); !ok || v <= 0 {
			t.Errorf("%s: got %v, want a number above 0", p, v)
		}
	}
}

func equal(t *testing.T, r map[string]any, want map[string]float64) {
	t.Helper()
	for p, v := range want {
		if got := at(t, r, p); got != v {
			t.Errorf("%s: got %v, want %v", p, got, v)
		}
	}
}

func ordered(t *testing.T, r map[string]any, path string) {
	t.Helper()
	above0(t, r, path+".p50", path+".p99")
	if p50, p99 := at(t, r, path+".p50").(float64), at(t, r, path+".p99").(float64); p50 > p99 {
		t.Errorf("%s: p50 %g is above p99 %g", path, p50, p99)
	}
}

// TestIngest measures a little and checks what is reported.
func TestIngest(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		t.Run(fmt.Sprintf("replicas=%d", replicas), func(t *testing.T) {
			samples := filepath.Join(t.TempDir(), "samples")
			r := perf(t, "ingest", "--events", "20k", "--replicas", fmt.Sprint(replicas), "--tablets", "2", "--partitions", "4",
				"--freshness", "2300ms", "--rate", "1000", "--kills", "1", "--stored", "5000", "--upserts", "3k", "--samples", samples)
			above0(t, r, "events_per_second", "committed_per_second", "seconds", "cpu_us_per_event", "allocated_bytes_per_event", "bytes_per_event", "machine.cores", "upserts.events_per_second", "upserts.to_inserts")
			ordered(t, r, "freshness_ms")
			ordered(t, r, "resume_ms")
			equal(t, r, map[string]float64{"events": 20_000, "replicas": float64(replicas), "tablets": 2, "partitions": 4, "stored": 5000,
				"rows": 5000 + 20_000 + 1000 + 2300, "upserts.events": 3000, "resume_ms.kills": 1})
			seen, err := readSamples(samples)
			if err != nil {
				t.Fatal(err)
			}
			if last := seen[len(seen)-1]; last.Phase != phaseFreshness || last.Events <= 0 || last.Files < 1 || last.WALBytes <= 0 {
				t.Errorf("got the sample %+v", last)
			}
		})
	}
}

// TestIngestSeries measures for a time, and two sizes of a table.
func TestIngestSeries(t *testing.T) {
	r := perf(t, "ingest", "--events", "5k", "--replicas", "1", "--tablets", "1,2", "--for", "200ms", "--freshness", "0", "--kills", "0")
	all, _ := r["series"].([]any)
	if len(all) != 2 {
		t.Fatalf("got %v", r)
	}
	for i, one := range all {
		o, _ := one.(map[string]any)
		equal(t, o, map[string]float64{"tablets": float64(i + 1), "events_before": 5000})
		above0(t, o, "events_per_second", "events")
	}
}

func TestScan(t *testing.T) {
	r := perf(t, "scan", "--events", "20k", "--replicas", "1", "--tablets", "2", "--for", "50ms")
	equal(t, r, map[string]float64{"rows": 20_000, "reads.count.rows": 20_000, "reads.columns.rows": 20_000, "reads.count_where.rows": at(t, r, "reads.columns_where.rows").(float64)})
	for _, k := range readings {
		above0(t, r, "reads."+k.name+".rows_per_second", "reads."+k.name+".rows_per_second_per_core", "reads."+k.name+".p99_ms")
	}
	above0(t, r, "points.reads", "points.p50_ms", "points.p99_ms", "points.cpu_us_per_read")
}

// TestRecover kills real processes.
func TestRecover(t *testing.T) {
	r := perf(t, "recover", "--tablets", "4", "--kills", "1", "--rate", "2k", "--unflushed", "20k", "--restarts", "1")
	ordered(t, r, "resume_ms")
	ordered(t, r, "restart_ms")
	above0(t, r, "resume_ms.rows", "restart_ms.wal_bytes")
	equal(t, r, map[string]float64{"replicas": 3, "tablets": 4, "resume_ms.kills": 1, "resume_ms.rate": 2000, "restart_ms.restarts": 1, "restart_ms.unflushed_rows": 20_000})
}

// TestWrongUseIsRefused says each fault, and that it is one of use.
func TestWrongUseIsRefused(t *testing.T) {
	for args, want := range map[string]string{
		"ingest --replicas 2":                      "--replicas 2: want an odd number",
		"ingest --events 0":                        "--events 0: want at least 1",
		"ingest --events 2m":                       "want a number, as 500000, 500k or 2M",
		"ingest --events 1,2":                      "want one number",
		"ingest --session text":                    `--session "text": want uuid or string`,
		"ingest --tablets 0":                       "--tablets 0: want 1 to 1024",
		"ingest --tablets 4,2000":                  "--tablets 2000: want 1 to 1024",
		"ingest --tablets 4,8 --samples f":         "--cpuprofile, --allocprofile and --samples: want one measurement",
		"ingest --rate -1":                         "want a number, as",
		"ingest --memory lots":                     `--memory "lots": want a size`,
		"ingest --share 2":                         "--share 2: want a part of 1",
		"ingest --upserts 5":                       "--upserts 5: want at most --stored, which is 0",
		"ingest more":                              `takes no argument, got "more"`,
		"scan --for 0s":                            "--for 0s: want more than 0",
		"recover --unflushed 4M --tablets 4":       "a tablet flushes at",
		"recover --unflushed 4M --memory 1GiB":     "a node flushes at",
		"recover --restarts 0":                     "--restarts 0: want at least 1",
		"recovery":                                 `nothing called "recovery"`,
		"plot":                                     "want one: a file",
		"plot /nowhere/samples":                    "no such file",
		"ingest --events 1 --dir /dev/null/x":      "--dir",
		"ingest --events 1 --samples /nowhere/x":   "--samples",
		"ingest --events 900G --dir .":             "give another --dir, or fewer events or replicas",
		"recover --kills 0 --restarts 1 --tablets": "needs an argument",
	} {
		c := Command()
		c.SetArgs(strings.Fields(args))
		c.SilenceUsage, c.SilenceErrors = true, true
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
}

func TestPlot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "samples")
	var text strings.Builder
	for i := range 5 {
		fmt.Fprintf(&text, `{"phase":"ingest","second":%d,"events_per_second":%d,"fresh_p99_ms":77000,"rss_bytes":1048576}`+"\n", i+1, 1000*i)
	}
	text.WriteString(`{"phase":"freshness","second":1,"fresh_p99_ms":123}` + "\n")
	if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	samples, err := readSamples(file)
	if err != nil {
		t.Fatal(err)
	}
	times, marks := timeline(samples)
	if fmt.Sprint(times) != "[1 2 3 4 5 6]" || len(marks) != 1 || marks[0] != (mark{"freshness", 5}) {
		t.Errorf("got %v and %v", times, marks)
	}
	picture := plot(samples)
	if strings.Contains(picture, "NaN") || strings.Count(picture, "<polyline") != len(panels) || strings.Count(picture, "freshness from here") != len(panels) {
		t.Errorf("got %s", picture)
	}
	if strings.Contains(picture, ">10000<") || strings.Contains(picture, ">50000<") || !strings.Contains(picture, ">150<") {
		t.Errorf("how long events waited in the topic is taken for freshness: %s", picture)
	}
	if early := plot(samples[3:]); !strings.Contains(early, `text-anchor="end" fill="#c33"`) || !strings.Contains(plot(append(samples[4:], second{Phase: phaseFreshness, Second: 9})), `text-anchor="start" fill="#c33"`) {
		t.Error("a mark's label is not on the side with more room")
	}
	for _, bad := range []string{"", "{", `{"tablets":4}`} {
		if err := os.WriteFile(file, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readSamples(file); err == nil {
			t.Errorf("%q was taken for samples", bad)
		}
	}
}

func TestNiceStep(t *testing.T) {
	for v, want := range map[float64]float64{0.7: 1, 1: 1, 1.1: 2, 3: 5, 6: 10, 120: 200, 0.03: 0.05} {
		if got := niceStep(v); got < want*0.999 || got > want*1.001 {
			t.Errorf("%g: got %g, want %g", v, got, want)
		}
	}
}

func TestCounts(t *testing.T) {
	for text, want := range map[string]int64{"5": 5, "500k": 500_000, "2M": 2_000_000, "0.5M": 500_000, "1G": 1e9, "0": 0} {
		if got, err := parseCount(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "M", "-1", "1.5", "1e30", "two", "NaN", "Inf"} {
		if got, err := parseCount(text); err == nil {
			t.Errorf("%q: got %d", text, got)
		}
	}
	for n, want := range map[int64]string{5: "5", 1500: "1500", 2000: "2k", 3_000_000: "3M", 0: "0"} {
		if got := countText(n); got != want {
			t.Errorf("%d: got %s", n, got)
		}
	}
}

func TestKeySample(t *testing.T) {
	const want, of = 100, 10_000
	s := newKeySample(want, of)
	for i := range int64(of + 500) { // those behind do not count
		s.add(eventKey{id: i})
	}
	late := 0
	for _, k := range s.keys {
		if k.id >= of {
			t.Errorf("key %d was not to be seen", k.id)
		}
		if k.id >= of/2 {
			late++
		}
	}
	if len(s.keys) != want || late < want/4 || late > want*3/4 {
		t.Errorf("%d keys, %d of the second half", len(s.keys), late)
	}
	if s.shuffle(want+1) == nil {
		t.Error("more keys than are known were promised")
	}
}
