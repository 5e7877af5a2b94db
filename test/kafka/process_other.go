//go:build !linux

package kafka

import "syscall"

// endsWithUs: only Linux can tie a process to its parent; elsewhere a test that is killed leaves its broker behind.
func endsWithUs() *syscall.SysProcAttr { return nil }
