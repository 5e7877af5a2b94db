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
	out  io.Writer // nil: nobody does
	bar  *progressbar.ProgressBar
	name string // before each step
	from int64  // added to what at is told
}

func newProgress(out io.Writer) *progress {
	if f, ok := out.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		return &progress{out: out}
	}
	return &progress{}
}

// begin starts a step of so many things; 0 means that nobody knows.
func (p *progress) begin(what string, things int64, unit string) {
	p.end()
	if p.out == nil {
		return
	}
	o := []progressbar.Option{progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(p.name + what),
		progressbar.OptionThrottle(100 * time.Millisecond), progressbar.OptionClearOnFinish()}
	if things == 0 {
		// A spinner that turns by itself is drawn by a goroutine that outlives the bar: another one's line would be its, too.
		things, o = -1, append(o, progressbar.OptionSetSpinnerChangeInterval(0))
	} else {
		o = append(o, progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString(unit))
	}
	p.bar = progressbar.NewOptions64(things, o...)
	_ = p.bar.RenderBlank() // a bar that cannot be drawn is no reason to stop measuring
}

// at says how many are done.
func (p *progress) at(done int64) {
	if p.bar != nil {
		_ = p.bar.Set64(p.from + done)
	}
}

// end takes the bar away.
func (p *progress) end() {
	p.from = 0
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}
