package kafka

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
)

// startedLine is in what the broker writes when it is ready.
const startedLine = "Kafka Server started"

// process is one life of the broker's process.
type process struct {
	cmd     *exec.Cmd
	tail    tail
	started chan struct{} // closed when it wrote startedLine
	done    chan struct{} // closed when it has ended; err is set then
	err     error
}

// startProcess runs a command whose output is kept in part. Its goroutine stays on one thread, since Linux kills the process when
// the thread that started it ends.
func startProcess(name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), started: make(chan struct{}), done: make(chan struct{})}
	p.tail.started = p.started
	p.cmd.Stdout, p.cmd.Stderr = &p.tail, &p.tail
	p.cmd.SysProcAttr = endsWithUs()
	running := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := p.cmd.Start()
		running <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-running; err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return p, nil
}

// signal is for a process that may have ended already.
func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// tailBytes is what is kept of the output: enough for a Java exception and its causes.
const tailBytes = 16 << 10

// tail keeps the end of what a process writes, and looks for the line that says that it has started.
type tail struct {
	started chan struct{}
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
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.mu.text))
}
