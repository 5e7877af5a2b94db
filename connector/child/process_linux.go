package child

import "syscall"

// Guarded: the kernel kills children when we end.
const Guarded = true

func endsWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
