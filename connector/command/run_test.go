package command

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"nyala/connector"
)

// freeAddresses are ports that nobody listens on.
func freeAddresses(t *testing.T, n int) (out []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out
}

// A node from its start over SIGTERM to the check of what it left, by the commands that a user types.
func TestRunUntilSIGTERM(t *testing.T) {
	procs, limit := runtime.GOMAXPROCS(0), debug.SetMemoryLimit(-1)
	t.Cleanup(func() { runtime.GOMAXPROCS(procs); debug.SetMemoryLimit(limit) })
	addresses := freeAddresses(t, 2)
	data := filepath.Join(t.TempDir(), "n1")
	config := writeConfig(t, fmt.Sprintf(`cluster:
  name: tracking
  nodes:
    - {id: n1, peer: %q, http: %q, data: %q}
tables:
  - name: events
    columns:
      - {name: id, type: int64}
      - {name: text, type: string, nullable: true}
    primary_key: [id]
`, addresses[0], addresses[1], data))

	lines, log := io.Pipe()
	done := make(chan int, 1)
	go func() {
		env := func(name string) (string, bool) {
			v, ok := map[string]string{"NYALA_CONFIG": config, "NYALA_NODE": "n1"}[name]
			return v, ok
		}
		done <- Main([]string{"run", "--memory", "256MiB"}, strings.NewReader(""), io.Discard, log, env)
		log.Close()
	}()
	in := bufio.NewScanner(lines)
	ready := false
	for !ready && in.Scan() {
		ready = strings.Contains(in.Text(), `msg="node ready" node=n1`)
	}
	if !ready {
		t.Fatalf("not ready, status %d", <-done)
	}
	rest := make(chan string, 1)
	go func() {
		var text bytes.Buffer
		for in.Scan() {
			text.WriteString(in.Text() + "\n")
		}
		rest <- text.String()
	}()

	nyala(nil, "status", "--config", config).want(t, exitDone, "Cluster tracking is healthy.", "")
	nyala(nil, "scan", "events", "--count", "--server", addresses[1]).want(t, exitDone, "0\n", "")
	nyala(nil, "scan", "nosuch", "--server", addresses[1]).want(t, exitFailed, "", `nyala: there is no table "nosuch"`)
	nyala(nil, "export", "events", "--to", t.TempDir(), "--server", addresses[1]).want(t, exitDone, "rows   0", "")
	nyala(nil, "dead-letters", "list", "--server", addresses[1]).want(t, exitDone, "", "no dead letters")
	nyala(nil, "offsets", "--server", addresses[1]).want(t, exitDone, "", "no source has a checkpoint yet")
	nyala(nil, "check", data).want(t, exitFailed, "", "in use by a running node")
	nyala(nil, "run", "--config", config, "--node", "n1").want(t, exitFailed, "", "in use by another process")
	if got := debug.SetMemoryLimit(-1); got != connector.MemoryLimit(256<<20) && got != connector.MemoryLimit(1<<30) { // of the second run
		t.Errorf("memory limit %d", got)
	}

	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	text := <-rest
	if status := <-done; status != exitDone || !strings.Contains(text, `msg="node stopped"`) {
		t.Fatalf("status %d, log\n%s", status, text)
	}
	nyala(nil, "check", data).want(t, exitDone, "is whole: node n1 of cluster tracking", "")
	nyala(nil, "dump", "wal", data).want(t, exitDone, "segment 1", "")
	nyala(nil, "dump", "manifest", data).want(t, exitDone, "tablet 2 schema 1", "")
	damage(t, data)
}

// damage does to a log what a disk may do.
func damage(t *testing.T, data string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, "wal", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if i := bytes.Index(b, []byte("LastVoteTerm")); i >= 0 {
			b[i] ^= 1
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			nyala(nil, "check", data).want(t, exitFailed, filepath.Base(name)+" at ", "is damaged, 1 problem")
			if err := os.RemoveAll(filepath.Join(data, "wal")); err != nil {
				t.Fatal(err)
			}
			nyala(nil, "check", data).want(t, exitFailed, "the log is gone", "is damaged, 1 problem")
			return
		}
	}
	t.Fatal("no vote in the log")
}

func TestCheckRefusesOtherDirectories(t *testing.T) {
	dir := t.TempDir()
	nyala(nil, "check", dir).want(t, exitFailed, "", "is not a node's data directory: it has no node.json")
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("check left %v, %v", files, err)
	}
}

func TestDumpFails(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.parquet")
	nyala(nil, "dump", "rowset", name).want(t, exitFailed, "", "no such file")
	if err := os.WriteFile(name, []byte("not a file of ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	nyala(nil, "dump", "rowset", name).want(t, exitFailed, "", "nyala: ")
	nyala(nil, "dump", "entry", name).want(t, exitFailed, "", "neither an entry of a tablet nor one of the catalog")
	nyala(nil, "dump", "manifest", name).want(t, exitFailed, "", "nyala: ")
}

func TestTuning(t *testing.T) {
	for cores, want := range map[int]int{1: 4, 2: 4, 4: 8, 8: 16, 9: 9, 64: 64} {
		if got := procsFor(cores); got != want {
			t.Errorf("%d cores: got %d, want %d", cores, got, want)
		}
	}
	if got := connector.MemoryLimit(4000); got != 3600 {
		t.Errorf("got %d", got)
	}
	procs, limit := runtime.GOMAXPROCS(0), debug.SetMemoryLimit(-1)
	tuneRuntime(1<<30, func(string) (string, bool) { return "given", true })
	if runtime.GOMAXPROCS(0) != procs || debug.SetMemoryLimit(-1) != limit {
		t.Error("the environment's choice was changed")
	}
}
