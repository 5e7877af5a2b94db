package raftlog

import (
	"io"

	"nyala/raftlog/wal"
	"nyala/store/vfs"
)

// Problem is what Check found wrong with a log: the file without its directory, where, and what.
type Problem = wal.Problem

// Check reads every record of the log in the Dir of a Log that is not open, and returns what is wrong with it:
// nothing if Open would take it. It changes nothing.
func Check(fsys vfs.FS, dir string) ([]Problem, error) { return wal.Check(fsys, dir) }

// Dump prints the log in the Dir of a Log, record by record. It changes nothing; of a log that is open it
// shows some state between two writes.
func Dump(fsys vfs.FS, dir string, out io.Writer) error { return wal.Dump(fsys, dir, out) }
