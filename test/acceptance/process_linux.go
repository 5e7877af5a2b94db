package acceptance

import "syscall"

// endsWithUs has the kernel kill a node when the test dies.
func endsWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
