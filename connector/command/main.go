package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"nyala/configs"
	"nyala/connector/api"
)

// The exit statuses.
const (
	exitDone       = 0
	exitFailed     = 1
	exitWrongUse   = 2
	exitNotHealthy = 3
)

// program is what every command needs of its process.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) (string, bool)
	began          bool // a command's own code was reached: what fails from then on is not wrong use
}

// Main runs one command and returns the process's exit status. env looks up an environment variable, as
// os.LookupEnv does.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) (string, bool)) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, env: env}
	root := newRoot(p)
	root.SetArgs(args)
	c, err := root.ExecuteContextC(context.Background())
	if err == nil {
		return exitDone
	}
	status := p.status(err)
	if text := p.message(err); text != "" {
		fmt.Fprintln(stderr, text)
	}
	if status == exitWrongUse && !errors.As(err, new(configs.Faults)) {
		fmt.Fprintf(stderr, "see: %s --help\n", c.CommandPath())
	}
	return status
}

// exitError is an error with an exit status. Without an error nothing is printed: the command has said
// all there is to say.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// ExitCode is the exit status that the error asks for.
func (e *exitError) ExitCode() int { return e.code }

// wrongUse is an error that the user mends on the command line.
func wrongUse(format string, args ...any) error {
	return &exitError{exitWrongUse, fmt.Errorf(format, args...)}
}

func (p *program) status(err error) int {
	var own interface{ ExitCode() int }
	var remote *api.RemoteError
	switch {
	case errors.As(err, &own):
		return own.ExitCode()
	case !p.began, errors.As(err, new(configs.Faults)):
		return exitWrongUse
	case errors.As(err, &remote) && remote.Status == 400:
		return exitWrongUse
	}
	return exitFailed
}

// message is what a person reads of an error: faults as they are, all else on one line.
func (p *program) message(err error) string {
	var faults configs.Faults
	switch text := err.Error(); {
	case errors.As(err, &faults):
		return faults.Error()
	case text == "":
		return ""
	case errors.Is(err, context.Canceled): // nothing else cancels
		return "nyala: interrupted"
	case errors.As(err, new(*api.UnreachableError)):
		return "nyala: " + oneLine(text) + ": is it running, and is this its http address? (--server host:port, --config FILE, NYALA_SERVER)"
	default:
		return "nyala: " + oneLine(text)
	}
}

func oneLine(text string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "\n", " ; ")), " ")
}

// wrap marks the moment at which the code of a command is reached, in c and all below it.
func (p *program) wrap(c *cobra.Command) {
	c.DisableFlagsInUseLine = !c.HasFlags() // it has --help only
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			p.began = true
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		p.wrap(sub)
	}
}

// untilSignal makes c, and all below it, end at the first SIGINT or SIGTERM: the context is done, and
// the process's default is back, so that another signal kills it.
func untilSignal(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop)
			c.SetContext(ctx)
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		untilSignal(sub)
	}
}
