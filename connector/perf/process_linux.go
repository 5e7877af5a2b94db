package perf

import "syscall"

// endsWithUs makes the kernel end the broker when we end, whatever ends us. Elsewhere it ends because its
// standard input does.
func endsWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
