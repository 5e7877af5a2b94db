// Package wal is the write-ahead log of a node: one log for the raft logs and the stable values of
// all its groups, so that one fdatasync makes durable what all of them wait for. Only raftlog uses
// it; it knows nothing of raft.
//
// # Goroutines
//
// The writer takes what waits, writes and syncs it, and answers. The tidier prepares files ahead of
// their use and removes those that are too many. Close waits for both. A timer armed for each write
// poisons the log when the disk hangs; it runs in a goroutine of the runtime. Callers compute the
// checksums of what they append, so that the writer does little but wait for the disk.
//
// # Locks
//
// WAL.mu guards all that is shared, and is never held across I/O. Reading an entry takes it to find
// the place, reads without it, and looks again if the bytes are not those that it expected: then the
// entry was cut, and its file used again, in between.
//
// # Files
//
// A directory holds slots, files named by a running number: 00000001.wal. A slot holds the life of
// one segment after another; the number of the segment is in its header, and has nothing to do with
// the slot's. A segment that no group needs any more is free for use again at its full size, which
// makes writing to it faster than to a file that grows. What is synced is written past the page
// cache (vfs.DirectFS), where there is a way; what is read, through it. The bytes are the same. All integers are little endian, all
// checksums are CRC-32C.
//
// A segment begins with its header, filled with zeros to a multiple of 4096:
//
//	off size
//	  0    8  "NYALAWAL"
//	  8    4  version, 1
//	 12    4  checksum of the whole header without this field
//	 16    8  number of the segment; 0: the slot was prepared and never used
//	 24    8  salt, random in each life
//	 32    8  sequence of its first drain
//	 40    8  durable: every drain up to this sequence had been synced when this was written
//	 48    8  created, microseconds since 1970
//	 56    4  n, number of older segments that are needed
//	 60    4  zero
//	 64  24n  of each: number (8), offset where it ends (8), sequence of its last drain (8)
//
// Behind it come drains. A drain is what one write and one sync carry; its sequence is one more than
// that of the drain before it, also across segments. It begins at a multiple of 4096, so that no
// page that was synced is written again:
//
//	off size
//	  0    4  checksum of the rest of this header, seeded
//	  4    4  0x6e417264
//	  8    8  number of the segment
//	 16    8  salt of the segment
//	 24    8  sequence
//	 32    8  durable, as above
//	 40    4  length of header and records, without the zeros up to the next multiple of 4096
//	 44    4  number of records
//	 48    4  checksum of the checksums of all records
//	 52    4  flags; 1: the log was closed with this drain
//	 56    8  written, microseconds since 1970
//	 64       records, each at a multiple of 8
//
// A record:
//
//	off size
//	  0    4  checksum of the rest of this header, seeded
//	  4    4  checksum of data and extensions, not seeded
//	  8    8  group
//	 16    8  index of the entry; of a state: the group's first index
//	 24    8  term; of a state: the index that the next entry must have
//	 32    8  when it was appended, by the caller's clock
//	 40    4  length of data
//	 44    4  length of extensions
//	 48    1  type: 1 entry, 2 state of a group, 3 the same of a group that was dropped
//	 49    1  kind, the caller's
//	 50    6  zero
//	 56       data, filled with zeros to a multiple of 8, then extensions, filled likewise
//
// The seed of a checksum is the checksum of the segment's number and salt (16 bytes). So nothing
// that an earlier life left in a slot, and nothing that was moved, passes for valid.
//
// The data of a state are the group's stable values: their number (4), then of each, in the order of
// their keys, length (4) and key, length (4) and value. A state replaces all that was said of the
// group before: entries below its first index are cut, those at and above its next index truncated.
// Set, TruncateAfter, Reset, Drop and CutBelow all write one. A state that is alone needed in its
// segment is written again at the head of the log, and the segment goes.
//
// # What is read at the start
//
// The newest segment is the one with the highest number in a valid header. Its header lists the
// older ones that are needed, with their ends; they are read and verified to exactly there. The
// newest is read up to the first drain that is not valid. The log ends there, unless any valid
// header says that a drain at or behind that place had been synced: then something durable is lost,
// and Open fails with the place. Because each drain is written only after the one before it was
// synced, that tells every damage from a torn write but one: damage in the very last drain of a log
// that was not closed. Close writes one more drain, without entries, and so proves the last one.
//
// With PageCache no drain is synced. A killed process loses nothing; after a power cut the log ends
// at the first drain that did not reach the disk. Full segments are synced in the background, and
// all at Close. Whatever the mode, Open syncs what it read before it shows it, and writes the last
// drain again first: a sync of the former process may have failed.
package wal
