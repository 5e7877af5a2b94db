package demo_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nyala/connector/command"
)

// TestMain is also the nodes' processes, since this program starts itself again for them.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "run" {
		os.Exit(command.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
	}
	os.Exit(m.Run())
}

// TestDemo runs a whole short show with real processes.
func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	var out, words bytes.Buffer
	status := command.Main([]string{"demo", "--for", "2s", "--rate", "5000", "--dir", dir}, strings.NewReader(""), &out, &words, os.LookupEnv)
	if status != 0 {
		t.Fatalf("exit status %d: %s\n%s", status, words.String(), out.String())
	}
	for _, want := range []string{"healthy after", "produced = readable = exported: each of ", "stopped by themselves", "kept: " + dir} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it did not say %q:\n%s", want, out.String())
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "exports", "events", "_manifest.json")); err != nil {
		t.Error(err)
	}
}
