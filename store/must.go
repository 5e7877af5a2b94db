package store

import "fmt"

// must panics for a programmer's error: never for what a log, a file or a user says.
func must(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...))
	}
}
