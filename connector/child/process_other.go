//go:build !linux

package child

import "syscall"

// Guarded: no kernel but Linux's kills a process when its parent ends. Children that must not stay need a guard of their own.
const Guarded = false

func endsWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
