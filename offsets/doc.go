// Package offsets says which offsets are safe to commit and which records were seen before. It is pure: no I/O, no clock, no
// goroutine, no lock; whoever owns a value guards it.
//
// A Source is a stream of numbered records: a partition of one incarnation of a topic, as one connector reads it, or a direct
// writer with its own sequence. Offsets are always *next* positions: a Range is [First, Next), and a ledger or a checkpoint
// of n says that everything below n is done. Control records, filtered records and compaction holes advance them too.
//
//   - A Ledger lives in each tablet: source -> next offset applied. It refuses a Segment that would leave a hole.
//   - A Tracker lives with the owner of a source: the watermark below which every offset is decided.
//   - Its fences refuse what was decided under older settings of a connector, once these are being replaced.
//   - Checkpoints live in the system group: source -> watermark, where the next owner starts.
//
// Why together they give exactly once: for a source s and a tablet T, every record of s below max(ledger of T, checkpoint) that
// belongs to T is in T once. An owner starts at or below the checkpoint of its time; a segment that would leave a hole is refused,
// so no segment raises a ledger over a hole; rows below the ledger are dropped, so no resend doubles a row; and a watermark
// counts only what a tablet applied. Owners that died, owners that do not know they were replaced, copies, delays and stale
// reads of the checkpoint change nothing. TestExactlyOnce visits every state of a bounded world and, for every rule, shows
// that the world breaks without it.
//
// # Encodings
//
// Integers are little endian and of fixed width. There is no checksum: these bytes travel in containers that have one. A
// value has one encoding only, and a parser refuses what is not it: another version, disorder, doubles, negative numbers,
// lengths that are not there, bytes after the end.
//
//	Source            bytes
//	connector length  2       at most MaxConnector
//	connector         length
//	topic id          16      zero for a direct writer
//	partition         4       int32
//
//	Segment           bytes
//	source            22 + length
//	start             8       int64
//	first             8       int64
//	next              8       int64
//	decision          4       uint32, the version of the settings that it was decided under
//
//	Ledger, Checkpoints
//	version           1       1
//	kind              1       'L', 'C', or 'B' for where sources began: such a table may precede 'C'
//	zero              2
//	count             4       uint32
//	entries           count times, in the order of Source.Compare:
//	  source          22 + length
//	  next            8       int64
//	and in a Ledger
//	count             4       uint32
//	fences            count times, ascending:
//	  connector       2 + length
//	  decision        4       uint32: segments of this connector with a lower one are refused
package offsets
