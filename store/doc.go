// Package store is the tablet engine: it keeps one tablet's rows durable, versioned and scannable. It owns every
// file of a node but the write-ahead log, the memory budget, and the work that turns memory into files.
//
// A Manager owns all tablets of a node; a Tablet is one replica's rows. A tablet is a state machine over a log that somebody
// else keeps: Apply carries entries out in memory, deterministically; Durable says how far the files have followed, so
// that the log can be cut; a restart reads the manifest and applies the log above it again; Manifest, Prepare and
// Restore copy a tablet to a replica that the log no longer reaches.
//
// # From memory to files
//
// Freeze and Install are log commands. A Freeze at index F ends the MemRowSet on every replica at the same entry. The leader then
// sorts it and writes files (flush.go), whose bytes would be the same on every replica, and proposes Install with their hashes; where that
// is applied, a replica that has these bytes gives the files their names, and one that has not copies them (share.go, install.go). A
// replica that cannot copy encodes. Only then is the durable index F. In between rows go on dying in the frozen MemRowSet; those deaths move to the DiskRowSet in the very step that swaps it in.
// Installs are carried out in log order, and flushes install in the order of their Freezes.
//
// What must hold, with the mistake that a test makes on purpose for each (mistake.go):
//
//   - A manifest is the tablet as of its durable index: ledger, timestamp, membership, and the deaths of all rowsets
//     up to it. Later ones are made again by the log; in the manifest they would hide rows from the replay.
//   - A file's content follows from the log up to the Freeze, not from when it is written.
//   - A replica that is not what the leader is says so: an Install has sums of the entries, the deaths and the manifest that
//     its files stand on, and each replica encodes one flush in 16 by itself.
//   - A lookup asks MemRowSet, frozen MemRowSets and DiskRowSets, and is as of the entry's own timestamp.
//   - Files are synced before the manifest that names them, that before the swap, and the swap comes before the log is cut.
//
// # An entry
//
// A Write is applied whole or refused whole. Its effective timestamp is its stamp, or one more than the last entry's if that is later. It is
// refused if one of its segments would leave a hole (Hole), if it does not fit the table (Malformed), or if it was made
// under an old decision (Stale). Rows that the ledger has seen are dropped and counted. Rows are carried out one after the other: of
// several upserts of a key the last counts, of several inserts the first. Entries without segments (dead
// letters) pass the ledger by. An entry whose checksum does not hold was damaged here: the tablet stops (Failed), loudly.
//
// # Files
//
// A tablet's directory is named after its id, in decimal. It holds
//
//	manifest                       records of manifests, the last one counts (manifest_file.go)
//	0000000000000123.parquet       DiskRowSet of the Freeze at index 123 (package rowset)
//	0000000000000123.keys
//	0000000000000123.flush.*       written by a flush, and not installed yet
//	*.fetch.*, *.fetch             from another replica, and not installed or restored yet
//
// A file that the manifest does not name is garbage; opening the tablet deletes it. The byte tables of the manifest
// and of the commands are with their types (manifest.go, command.go).
//
// # Goroutines and locks
//
// The Manager has two goroutines, each tablet one (maintain.go); Close and CloseTablet wait for them. Order of locks: Manager.mu or
// Tablet.disk, then Tablet.turn, then Tablet.mu, then Budget.mu or spare.mu. disk and turn are channels; only disk is held across I/O, and turn while evicted keys are read.
// A place in Manager.workers or Manager.copies is taken by the tablet's goroutine, before any lock; nobody has both.
package store
