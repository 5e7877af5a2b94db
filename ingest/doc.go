// Package ingest brings each record of a Kafka topic to its tablet once.
//
// A Connector consumes topics as a member of a Kafka consumer group. For every partition that the group assigns
// to it, it makes an owner: a source, the offset where the ownership began, one worker goroutine, a Tracker.
//
//	kgo client -> poll loop -> owner's queue -> worker: decode into a chunk, route its rows
//	    -> Sender: one queue a tablet, one entry in flight, sorted by primary key, with segments
//	    -> Write (the tablet's Raft group) -> chunk decided -> Tracker -> checkpoint -> Kafka commit
//
// A Sender is shared by all connectors of a node, so that each tablet gets one stream of entries from it.
//
// # What holds
//
//   - An owner begins at the checkpoint that CreateCheckpoint returned, and sends nothing before.
//   - The segments that an owner sends to a tablet are contiguous; an entry of unknown fate is sent again as it
//     was, until it is answered.
//   - A chunk of offsets is decided when all its rows were applied, and its dead letters too. The watermark moves
//     over contiguously decided chunks only; control records and holes belong to the chunk around them.
//   - The watermark is checkpointed first and committed to Kafka then, and not at all once the partition is revoked.
//   - An owner decides by the versions of the settings that it began with, each from its offset on. When there is a newer
//     one it begins again at the checkpoint; while one is on its way it waits.
//   - A refused segment kills its owner; another one begins at the checkpoint. Rows are never taken out of an
//     owner's stream in any other way.
//
// # Goroutines
//
// A Connector has its supervisor, which makes a client and a session; a session has a poll loop, a checkpointer,
// a worker an owner, and short-lived ones that look offsets up. Close waits for all. A Sender has a goroutine per
// tablet that has something to send; its Close waits for them.
//
// Lock order: session.mu, owner.mu, tabletQueue.mu. None is held across I/O, a channel or a callback. Rebalance
// callbacks never run while the poll loop works on what it has polled (BlockRebalanceOnPoll), so the two need no
// lock between them beyond session.mu. What must exclude commits from revocation is a channel used as a lock, because
// it is held across requests.
package ingest
