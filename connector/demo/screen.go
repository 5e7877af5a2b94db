package demo

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
	"golang.org/x/term"
)

// screen is what a person sees: lines that stay, and below them, on a terminal, one that changes. Elsewhere a
// changing line is a line like any other.
type screen struct {
	out      io.Writer
	terminal bool
	colour   bool
	mu       struct {
		sync.Mutex
		status string // the changing line, "" when there is none
	}
}

func newScreen(out io.Writer) *screen {
	s := &screen{out: out}
	if f, ok := out.(*os.File); ok {
		s.terminal = isatty.IsTerminal(f.Fd())
	}
	s.colour = s.terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// The few looks that text may have.
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
)

// in gives text a look, where there are any.
func (s *screen) in(look, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + look + "m" + text + "\x1b[0m"
}

// say writes a line that stays. A screen that is gone is no reason to end: what is written to it is lost.
func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	if s.mu.status == "" {
		_, _ = fmt.Fprintln(s.out, text)
		return
	}
	_, _ = fmt.Fprintf(s.out, "\r\x1b[K%s\n%s", text, s.mu.status)
}

// show changes the changing line.
func (s *screen) show(line string) {
	if !s.terminal {
		s.say("%s", line)
		return
	}
	line = s.fit(line)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.status = line
	_, _ = fmt.Fprintf(s.out, "\r\x1b[K%s", line)
}

// fit cuts a line to the terminal's width: one that is wrapped could not be taken away again.
func (s *screen) fit(line string) string {
	f, ok := s.out.(*os.File)
	if !ok {
		return line
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if runes := []rune(line); err == nil && width > 1 && len(runes) >= width {
		return string(runes[:width-1])
	}
	return line
}

// keep lets the changing line stay as it is.
func (s *screen) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.status != "" {
		s.mu.status = ""
		_, _ = fmt.Fprintln(s.out)
	}
}

// clear takes the changing line away.
func (s *screen) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.status != "" {
		s.mu.status = ""
		_, _ = fmt.Fprint(s.out, "\r\x1b[K")
	}
}

// count writes a number as people do: 1,234,567.
func count(n int64) string {
	if n < 0 {
		return "-" + count(-n)
	}
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// size writes a number of bytes with three digits.
func size(n int64) string {
	v, unit := float64(n), 0
	for v >= 1000 && unit < 4 {
		v, unit = v/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.3g %s", v, []string{"", "KiB", "MiB", "GiB", "TiB"}[unit])
}

// seconds writes a time with a tenth, or in milliseconds when it is short.
func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// clock writes how long something has been going on: 1:02, or 1:02:03.
func clock(d time.Duration) string {
	n := int(d.Seconds())
	if n < 3600 {
		return fmt.Sprintf("%d:%02d", n/60, n%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", n/3600, n/60%60, n%60)
}
