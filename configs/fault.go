package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong in a configuration.
type Fault struct {
	File    string // or the flag that set the value, such as "--memory"
	Line    int    // from 1; 0 when the fault has no position, as for a missing file or a flag
	Column  int    // from 1, in characters; 0 with Line
	Message string // where, what was got, what was wanted
	Hint    string // what may help, such as `did you mean "events"?`; "" when nothing is near
	Excerpt string // the line of the file and a line with the caret; "" without a position
}

// Error returns the fault over one or three lines, without a line end.
func (f Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	b.WriteString(": " + f.Message)
	if f.Hint != "" {
		b.WriteString("; " + f.Hint)
	}
	if f.Excerpt != "" {
		b.WriteString("\n" + f.Excerpt)
	}
	return b.String()
}

// Faults are all faults of a configuration, in the order of their positions. It is the error
// that Load and Parse return.
type Faults []Fault

// Error returns every fault, and after several their number.
func (f Faults) Error() string {
	var b strings.Builder
	for i, fault := range f {
		if i > 0 {
			b.WriteString("\n\n")
		}
		b.WriteString(fault.Error())
	}
	if len(f) > 1 {
		fmt.Fprintf(&b, "\n\n%d faults", len(f))
	}
	return b.String()
}

// sorted returns the faults in the order of the file, each once; those without a position come first.
func (f Faults) sorted() Faults {
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(f)
}

// problem is what is wrong with a value, before it has a position. Functions that judge a
// value return it as their error.
type problem struct{ message, hint string }

// Error returns the message and the hint.
func (p problem) Error() string {
	if p.hint == "" {
		return p.message
	}
	return p.message + "; " + p.hint
}

// got is the problem of a value that is not what was wanted.
func got(v value, want string) problem {
	return problem{message: fmt.Sprintf("got %s, want %s", v, want)}
}

// must panics over a programmer's error.
func must(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...))
	}
}
