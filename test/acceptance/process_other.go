//go:build !linux

package acceptance

import "syscall"

func endsWithUs() *syscall.SysProcAttr { return nil }
