// Package raftlog makes entries durable and agreed: many groups, one write-ahead log, one port.
//
// A Log is a node's part. It owns the WAL (package wal), the listener, one connection to each other node, and
// the groups. A Group is one replica of a replicated state machine (StateMachine: a tablet, the catalog).
// Consensus is hashicorp/raft's, which shows nowhere in what is exported here; transport, log store and the
// meaning of a snapshot are ours.
//
// # Snapshots are manifests
//
// raft never takes a snapshot. The state machine makes itself durable up to an index F whenever it likes
// (StateMachine.Durable), and the log below F may go (Group.Cut). Raft's only snapshot is the manifest as of F:
// a follower that needs entries which are gone gets the manifest, fetches the files that it lacks, and goes on
// with the entry behind F. hashicorp/raft was not made for this; the rules that keep it safe are named where
// they are kept, and each has its test, TestRule01 to TestRule13:
//
//	 1  the entry at F is always there, at least as (F, its term); an install drops all at or below it  logStore
//	 2  an append that begins below F is made to begin at F                                          shiftAppend
//	 3  a manifest at or below what is applied is answered with success and goes no further              settled
//	 4  the commit index of an append is lowered to its last entry                                   shiftAppend
//	 5  the log is not cut while a manifest is being sent, and a little longer                               pin
//	 6  a missing entry is raft.ErrLogNotFound itself                                                   logStore
//	 7  the manifest alone says where raft starts; the log may have a gap behind F and nowhere else     logStore
//	 8  F is an entry that the state machine saw, with the members as of it                              machine
//	 9  a received manifest is staged, and becomes the state when raft restores it                          sink
//	10  leadership goes to, and a vote is given to, members that keep up only                            members
//	11  a node that lost its disk is another server; a removed one must be told                       Incarnation
//	12  pipelines neither block nor lose an error; raft.Restore is never called                         pipeline
//	13  raft's memory of a last entry that an install replaced at F is not compared with             shiftAppend
//
// # Goroutines
//
// Log.Close waits for all of them.
//
//	Log.accept      one             accepts connections
//	Log.keep        one             cuts logs, watches over followers
//	Log.giveAll     one             gives leadership away while the disk is slow
//	Log.serve       one, and a writer, for each inbound connection; it decodes and hands on, never waiting
//	                for what serves the request
//	Log.orphaned    one for each leader's end that is noticed, until those have stood for election who should
//	Log.call        one for each call that another node makes, at most 256
//	peer.run        one for each other node: dials, writes; with a reader and a pinger while connected
//	transport.pump  one for each group: gives requests of other nodes to raft, one at a time
//	Group.propose   one for each group: stamps, and proposes in that order
//	Group.complete  one for each group: waits for what was proposed
//	Group.catchUp   one for each group that starts with a long log, until that is applied
//	Group.first     one for each group that has just started, until it has a leader; and one for each voter that it asks
//	prepare         two while a group fetches the files of a manifest
//	Group.change    one for each change of members under way
//
// raft itself has three for each group, and on the leader two or three for each follower. wal has two.
//
// # Locks
//
// None is held across I/O, a channel that may block, a callback, or a call into raft. Group.mu comes before none
// but the non-blocking send to its queue. Log.mu, peer.mu, transport.mu, snapshotStore.mu, logStore.mu and
// appendCall.mu are never held together, except that an answer handed out under no lock may take any of them.
//
// # The wire
//
// Every connection begins with a block from each side: the dialler says what it wants and who it is, the other
// side answers. A node of another cluster, or with another name than the dialler expects, refuses with a reason.
// Integers are little endian; a string is its length in 4 bytes and its bytes.
//
//	offset size  block
//	0      4     magic "NYLA" (4e 59 4c 41)
//	4      2     protocol version, 1
//	6      2     length of the payload
//	8      4     CRC-32C of the payload
//	12           payload of the dialler: purpose (1: messages, 2: one file), strings cluster, node, incarnation, node wanted
//	             payload of the answer:  1 if welcome else 0, strings incarnation, reason
//
// Then come frames, in both directions. A message is a first frame, and data frames that carry its parts. First
// frames of messages without parts may lie between data frames: so heartbeats, votes and answers overtake entries.
//
//	offset size  frame
//	0      4     length of the payload
//	4      1     kind
//	5      1     0
//	6      2     number of parts (first frames)
//	8      8     id: number of the request, which its answer repeats
//	16     4     CRC-32C of the payload
//	20     4     CRC-32C of bytes 0 to 19
//	24           payload. First frame: the length of each part in 4 bytes, then the fields of its kind.
//	             Data frame (kind 0): the next bytes of the parts, at most 256 KiB
//
//	kind  fields                                                                                parts
//	 1    heartbeats: count u32, each: id u64, group u64, term u64                              -
//	 2    vote: group, term, last index, last term u64, transfer u8                             -
//	 3    pre-vote: group, term, last index, last term u64                                      -
//	 4    stand for election now: group u64                                                     -
//	 5    append: group, term, previous index, previous term, commit u64, count u32,
//	      each: index u64, term u64, type u8, appended at i64 ns, extensions string             the entries' data
//	 6    install: group, term, index, term u64, members string, members' index u64             the manifest stream
//	 7    propose: group u64                                                                    the entry
//	 8    call: method u8, time limit u64 ns                                                    the body
//	 9    ping; its answer is the same, with a byte 1 while the disk of the node is slow        -
//	10    fetch (file connections): group u64, offset u64, name string                          -
//	11    end of the file; a payload is the text of an error                                    -
//	16    answer: status u8 (0 fine, 1 error, 2 nothing was done, 3 unknown), a text unless 0,
//	      else the fields of the answer                                                         the answer to a call
//	17    answers to heartbeats: count u32, each: id u64, length u16, the answer                -
//
// The manifest stream is version u32 (1), index, term, members' index u64, members string, then the manifest.
package raftlog
