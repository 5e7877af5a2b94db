//go:build !linux

package perf

import "syscall"

// endsWithUs: the broker ends because its standard input does when we end.
func endsWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
