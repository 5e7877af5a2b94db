package child

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

// Process is one life of a child. All methods are safe for concurrent use.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended; err is set then
	err  error
}

// Start starts a command, whose SysProcAttr it sets.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	cmd.SysProcAttr = endsWithUs()
	running := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		running <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-running; err != nil {
		return nil, err
	}
	return p, nil
}

// StartLogged starts a command whose words are appended to a file.
func StartLogged(log, name string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	defer out.Close() // the process has its own
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	return Start(cmd)
}

// PID is its process id, which is also that of its group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end and says how it was.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Ended tells whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the process and its children. One that has ended gets none.
func (p *Process) Signal(s syscall.Signal) {
	if !p.Ended() {
		_ = syscall.Kill(-p.PID(), s) // an error means that it has ended just now
	}
}

// Kill ends the process at once, as a power cut of its machine would, and waits for its end.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the process to end by SIGTERM and says how it ended; it is killed after limit.
func (p *Process) Stop(limit time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // to it alone; an error means that it has ended
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		p.Kill()
		return fmt.Errorf("it did not end within %s and was killed", limit)
	}
}

// tailBytes bounds what Tail reads.
const tailBytes = 64 << 10

// Tail is the end of a log: so many whole lines, indented.
func Tail(log string, lines int) string {
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
	all := strings.Split(string(text), "\n")
	return "    " + strings.Join(all[max(0, len(all)-lines):], "\n    ")
}

// Cause says how a process ended, in words.
func Cause(err error) string {
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
