package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is one life of a node.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended; err is set then
	err  error
}

// startProcess runs a command whose words go to a file. The command has a process group of its own, so that
// Ctrl-C reaches it through us. Its goroutine stays on one thread, since Linux kills the process when the
// thread that started it ends.
func startProcess(name string, args []string, log string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("demo: log: %w", err)
	}
	defer out.Close() // the process has its own
	p := &process{cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
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
		return nil, fmt.Errorf("demo: starting a node: %w", err)
	}
	return p, nil
}

// kill ends the process at once, as a power cut of its machine would, and waits for its end.
func (p *process) kill() {
	// An error means that it has ended already.
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// stop asks the process to end, and kills it after limit.
func (p *process) stop(limit time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		p.kill()
		return fmt.Errorf("demo: a node did not end within %s and was killed", limit)
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

const (
	tailLines = 12
	tailBytes = 8 << 10
)

// tail is the end of a log, a few whole lines, indented.
func tail(log string) string {
	f, err := os.Open(log)
	if err != nil {
		return "    " + err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > tailBytes {
		_, _ = f.Seek(-tailBytes, io.SeekEnd) // a seek that fails shows the beginning
	}
	text, err := io.ReadAll(io.LimitReader(f, tailBytes))
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return "    (it said nothing)" + strings.TrimPrefix(fmt.Sprint(": ", err), ": <nil>")
	}
	lines := strings.Split(string(text), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	return "    " + strings.Join(lines, "\n    ")
}

// cause says how a process ended, in words.
func cause(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return "killed by " + status.Signal().String()
		}
		return exit.String()
	}
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}
