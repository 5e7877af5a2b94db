package catalog

import "fmt"

// must panics with a programmer's error. Bytes from outside give errors instead.
func must(ok bool, format string, args ...any) {
	if !ok {
		panic("catalog: " + fmt.Sprintf(format, args...))
	}
}
