package ingest

import "fmt"

// must panics when a programmer's assumption does not hold.
func must(ok bool, format string, args ...any) {
	if !ok {
		panic("ingest: " + fmt.Sprintf(format, args...))
	}
}
