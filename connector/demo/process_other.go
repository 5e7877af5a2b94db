//go:build !linux

package demo

import "syscall"

func endsWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// guarded: no kernel but Linux's kills a process when its parent ends, so a guard does.
const guarded = false
