package perf

import (
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
)

// progress shows how far a measurement is, where a person looks on.
type progress struct {
	out io.Writer // nil: nobody does
	bar *progressbar.ProgressBar
}

func newProgress(out io.Writer) *progress {
	if f, ok := out.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		return &progress{out: out}
	}
	return &progress{}
}

// begin starts a step of so many events; 0 means that nobody knows.
func (p *progress) begin(what string, events int64) {
	p.end()
	if p.out == nil {
		return
	}
	if events == 0 {
		events = -1
	}
	p.bar = progressbar.NewOptions64(events, progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("events"),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
}

// at says how many events are done. A bar that cannot be drawn is no reason to stop measuring.
func (p *progress) at(events int64) {
	if p.bar != nil {
		_ = p.bar.Set64(events)
	}
}

// end takes the bar away.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}
