// Package catalog is the replicated state machine of the system group (Raft group 1): the cluster's
// nodes, tables, range partitions, tablets and where their replicas are, what connectors should do,
// and the checkpoints of sources. It decides, from that state alone, where new replicas go, what a
// configuration file still lacks, and which leaders should move.
//
// The owner proposes encoded commands (Encode) through raftlog and gets a Result back; the group calls
// Apply with what was committed. Apply touches memory only and is deterministic: times come in the
// commands, nothing iterates over a map, and two replicas fed the same log hold the same bytes, also
// when one of them went through a file in the middle.
//
// # Reading
//
// Snapshot returns an immutable view without a lock. A view is replaced at the end of an Apply that
// changed something else than checkpoints; Superseded tells when. Checkpoints move every second and
// are read from the Catalog under its lock, so that routers are not woken by them.
//
// A view may be old: a node that restarts sees the catalog as of its file until the log is replayed.
// Starting what is listed is always safe; deleting is not. Whether a replica may be deleted is asked
// through the log (the command AskFates), never read from a view.
//
// # Commands
//
// A command is refused, with a code and a reason, by every replica alike; a refused command changes
// nothing, but for a range that is refused for ever, which is remembered. Commands of another version than
// the state's Format, 1, are refused as well. A later Nyala has to raise the format by a command of the
// old one when every node knows the new one, so that no node of an older release skips what the others
// apply. Everything that Apply calls belongs to the version: Place, Validate, the bounds in spec.go.
//
//	offset size  a command
//	0      2     "NC"
//	2      1     version, 1
//	3      1     kind
//	4      8     time of the proposer, microseconds since 1970 UTC
//	12     4     CRC-32C of all other bytes
//	16           body: JSON; of CreateCheckpoints and RaiseCheckpoints
//	             uint32 count, count times (source as offsets.Source.AppendTo, int64 next)
//
// Integers are little endian. A Result is a version byte, a code byte, and varints; see result.go.
//
// # File
//
// One file, DIR/catalog, holds a whole state; it is also the manifest that a Raft install carries. It
// is written as DIR/catalog.tmp, synced, renamed, and the directory synced: only then is its index the
// durable one.
//
//	offset size  the file
//	0      8     "NYALACAT"
//	8      4     version, 1
//	12     4     CRC-32C of everything from 16 on
//	16     8     durable index: the last entry it includes
//	24     8     durable term: that entry's
//	32     8     members index: the newest membership entry it includes
//	40     4     m, length of the members
//	44     4     s, length of the state
//	48     4     c, length of the checkpoints
//	52     4     zero
//	56     m     members: that membership entry's data
//	56+m   s     state: JSON of Snapshot
//	56+m+s c     checkpoints: as offsets.Checkpoints.AppendTo
//
// # Locks and goroutines
//
// Catalog.mu guards the state; it is never held across I/O. Catalog.saving is a semaphore (a channel,
// since I/O happens under it) that lets one Save or Restore write at a time. The owner runs Run, and
// waits for it, after it stopped the group. Run has another goroutine while it writes the file, which it leaves
// behind if the disk hangs.
package catalog
