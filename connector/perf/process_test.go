package perf_test

import (
	"os"
	"testing"

	"nyala/connector/command"
)

// TestMain is also the processes of the broker and of nodes, since this program starts itself again for them.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "perf" || os.Args[1] == "run") {
		os.Exit(command.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
	}
	os.Exit(m.Run())
}
