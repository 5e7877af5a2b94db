package child

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestProcessIsKilled starts a shell with a child, and kills both.
func TestProcessIsKilled(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := StartLogged(log, "/bin/sh", "-c", "sleep 1000 & echo $!; wait")
	if err != nil {
		t.Fatal(err)
	}
	child := 0
	for begin := time.Now(); child == 0; {
		child, _ = strconv.Atoi(strings.TrimSpace(Tail(log, 12)))
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("log: %s", Tail(log, 12))
		}
	}
	p.Kill()
	if !p.Ended() || Cause(p.Wait()) != "killed by killed" {
		t.Errorf("ended %v: %s", p.Ended(), Cause(p.Wait()))
	}
	// The child ends by itself, for the same signal, and may stay as a zombie that nobody waits for.
	for begin := time.Now(); ; {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if err != nil || bytes.Contains(state, []byte(") Z ")) {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("its child lives: %s", state)
		}
	}
}
