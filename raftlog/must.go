package raftlog

import "fmt"

// must panics if a programmer's assumption does not hold. It is not for errors of disks or networks.
func must(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...))
	}
}
