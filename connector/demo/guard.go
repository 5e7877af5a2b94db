package demo

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
)

// A guard is a process that outlives us, if only just: it reads which processes run from its standard input,
// a line each, and when that ends, which it does however we end, it kills those that are left.
type guard struct {
	cmd *exec.Cmd
	mu  struct {
		sync.Mutex
		to io.WriteCloser
	}
}

// startGuard starts this program again as a guard.
func startGuard(program string) (*guard, error) {
	g := &guard{cmd: exec.Command(program, "demo", "guard")}
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	to, err := g.cmd.StdinPipe()
	if err == nil {
		err = g.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("demo: starting the guard of the nodes: %w", err)
	}
	g.mu.to = to
	return g, nil
}

// watch tells the guard that a process runs, or runs no more.
func (g *guard) watch(pid int, runs bool) error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !runs {
		pid = -pid
	}
	if _, err := fmt.Fprintln(g.mu.to, pid); err != nil {
		return fmt.Errorf("demo: the guard of the nodes is gone: %w", err)
	}
	return nil
}

// close ends the guard, and with it what it still watches.
func (g *guard) close() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.mu.to.Close(); err != nil {
		return fmt.Errorf("demo: guard: %w", err)
	}
	return g.cmd.Wait()
}

func guardCommand() *cobra.Command {
	return &cobra.Command{
		Use: "guard", Hidden: true, Args: cobra.NoArgs,
		Short: "Kill the processes named on the standard input when it ends",
		RunE: func(c *cobra.Command, _ []string) error {
			for pid := range outlived(c.InOrStdin()) {
				_ = syscall.Kill(-pid, syscall.SIGKILL) // its group; an error means that it is gone
			}
			return nil
		},
	}
}

// outlived reads to the end which processes run, and returns those that were not said to have ended.
func outlived(in io.Reader) map[int]bool {
	running := map[int]bool{}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		switch pid, err := strconv.Atoi(lines.Text()); {
		case err != nil: // a line cut short by our end
		case pid > 1:
			running[pid] = true
		case pid < -1:
			delete(running, -pid)
		}
	}
	return running
}
