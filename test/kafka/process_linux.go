package kafka

import "syscall"

// endsWithUs makes the kernel kill the broker when we end, even by SIGKILL or the timeout of a test.
func endsWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
