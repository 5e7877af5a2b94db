package kafka

import (
	"bytes"
	"os"
	"strings"
	"sync"
)

// startedLine is in what the broker writes when it is ready.
const startedLine = "Kafka Server started"

// tailBytes is what is kept of the output: enough for a Java exception and its causes.
const tailBytes = 16 << 10

// tail keeps the end of what a broker writes to its log, and looks for the line that says that it has started.
type tail struct {
	log     *os.File
	started chan struct{} // closed by that line
	mu      struct {
		sync.Mutex
		text []byte
		seen bool
	}
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.text = append(t.mu.text, b...)
	if !t.mu.seen && bytes.Contains(t.mu.text, []byte(startedLine)) {
		t.mu.seen = true
		close(t.started)
	}
	if len(t.mu.text) > 2*tailBytes {
		t.mu.text = append(t.mu.text[:0], t.mu.text[len(t.mu.text)-tailBytes:]...)
	}
	return t.log.Write(b)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.mu.text))
}
