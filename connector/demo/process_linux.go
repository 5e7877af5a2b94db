package demo

import "syscall"

// endsWithUs makes the kernel kill the process when we end, whatever ends us.
func endsWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// guarded: the kernel does the guard's work.
const guarded = true
