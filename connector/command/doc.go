// Package command is the command line: `nyala run`, the commands that ask a cluster over HTTP, and those
// that read a stopped node's files.
//
// Main is the whole program but for the process: it takes the arguments, the streams and the
// environment, and returns the exit status, so that a test runs what a user runs.
//
//	0  done
//	1  failed
//	2  wrong use or configuration
//	3  not healthy, or not equal
//
// Data go to stdout and words to stderr; a command's answer to a person (a status page, what an export
// holds) counts as data. An error is one line that begins with "nyala: " and says what to do; the
// faults of a configuration come as they are, a paragraph each.
//
// A command of another package joins by its cobra constructor in newRoot. Its errors may have a method
// ExitCode() int, it reads and writes the streams of its cobra.Command, and it sees to signals itself.
//
// The package has no goroutines that outlive a command.
package command
