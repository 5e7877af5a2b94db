//go:build linux && overload

package overload

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// roleVariable makes a process of this binary a part of a test instead of the tests.
const roleVariable = "NYALA_OVERLOAD_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "broker":
		err = serveBroker(os.Stdin, os.Stdout)
	case "node":
		err = serveNode(os.Args[1:])
	default:
		err = fmt.Errorf("role %q is unknown", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "overload:", err)
		os.Exit(1)
	}
}

// again is a command that runs this binary in a role. It ends with this process.
func again(role string, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), roleVariable+"="+role)
	c.Stderr = os.Stderr
	c.SysProcAttr = endsWithUs()
	return c, nil
}
