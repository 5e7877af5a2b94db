// Package configs turns one YAML file into a valid Config, or into the list of
// every fault in it. The file is the same on every node of a cluster.
//
// Load reads a file from disk; Parse is the same without touching the disk or
// the environment by itself. Both either return a Config in which everything
// has been checked, or an error of type Faults: each fault names the file, the
// line and the column, shows the line with a caret, says what was got and what
// was wanted, and suggests the nearest right name. A Config is never half valid.
//
// # What is strict
//
// An unknown key, a key given twice, a value of the wrong type and a reference
// to something that does not exist are faults. So is a key that Nyala knows but
// whose feature is not built yet: unbuilt.go has the one table of these. YAML's
// anchors, aliases, merge keys, tags and second documents are refused, because a
// fault inside a value that is written once and used five times has no one
// position.
//
// # References in values
//
//	${env:NAME}             the environment variable; a fault when it is not set
//	${env:NAME:-default}    the default when it is not set, or empty
//	${file:PATH}            the file's content without its last line end
//	$${                     a plain ${
//
// They work in any value, also unquoted inside { } and [ ], and may be a part of
// one. A value that holds a reference takes the type that its key wants, quoted
// or not. The elements of kafka.brokers may hold several addresses separated by
// commas, so that one variable can carry the whole list. What comes out of a
// reference is not searched for references again.
//
// # Units
//
// Sizes are whole numbers of B, KiB, MiB, GiB or TiB. Durations are whole
// numbers of us, ms, s, m (minutes), h or d (24 hours), which may be combined:
// 1d12h. Neither is ever a bare number. The range of a table is as wide as
// range.every says: a duration over a timestamp, whole days over a date, a bare
// number over an integer.
//
// # Paths
//
// A file that is read because of the configuration (ca_file, cert_file,
// key_file, password_file, ${file:PATH}) is found relative to the folder of the
// configuration file. A node's data directory is used as it is written: relative
// to the folder in which the node was started.
//
// # Defaults
//
// Every default is a constant in defaults.go, is filled in by Parse, and is printed
// by Config.Print, whose output Parse accepts again. Passwords and private keys
// are of type Secret and print as ***, also in the excerpts of faults.
//
// # timestamp_unit
//
// A number in a timestamp column is read in the unit timestamp_unit of the
// connector, not of the column: the unit belongs to the producer that writes the
// topic, while the column always holds microseconds.
//
// The package has no goroutines, no locks and no files of its own. It alone
// imports the YAML library, and only in syntax.go.
package configs
