// Package perf measures this machine: `nyala perf ingest`, `scan` and `recover`. Each prints what it measured and under what
// circumstances, for people or as JSON with stable names.
//
// # Where things run
//
// The broker is a process of its own (this program again, as `perf broker`), so that its cost is not ours. What its consumers
// have committed it gives back, so that a long measurement fits into its memory. For ingest and scan all replicas run
// in this process, as nodes that talk over TCP on the loopback interface and write real files with fsync; for recover each node is a
// process, `nyala run`. All is in one temporary folder, which goes in the end. Rows are counted in the end: they must be as many as the events.
//
// # perf ingest
//
// With --stored so many events are ingested and flushed first, so that there are rows, and logs and memory are used again. With --for the
// rate is found first, by --events. Then consumers are held while the broker is loaded, compressed by lz4, in runs of 4000 events to one partition
// after the other; event times go on from phase to phase. When they are released the clock starts.
//
//   - events_per_second: until every event is in a Parquet file on every replica, by a checkpoint of all tablets
//     as soon as the last event is committed. committed_per_second: until every event is acknowledged (committed
//     by a majority, applied, readable).
//   - cpu_us_per_event: user and system time of this process over the same interval, by event. cpu_us_by_stage
//     divides it by where a sampling profile finds it. allocated_bytes_per_event: of the Go heap, likewise.
//   - bytes_per_event: DiskRowSets (Parquet and keys) and manifests of one replica.
//   - freshness_ms: events are produced at a steady rate, --share of events_per_second or --rate. For
//     each batch of rows that becomes readable, the age of its oldest record by the timestamp that the producer gave it.
//   - upserts: a random sample of the stored keys is written again in random order, measured like fresh events.
//   - resume_ms: the network of the node that leads the most tablets is cut, as a SIGKILL of its process would
//     do, and the node is closed. From the cut until every tablet that it led has accepted a write through its log
//     again, a time for each tablet. With one replica: from the end of the node to its successor's first writes.
//   - samples, each second of the throughput and the freshness phase: see second.
//
// # perf scan
//
// Rows are flushed; then each kind of read is repeated over HTTP, one at a time. A row counts that the table has, whether
// or not the read had to look at it. Reads of columns get them as nodes send them to each other.
//
// # perf recover
//
// resume_ms is measured as above, with processes that are killed by SIGKILL while events are produced, each when the one before it has
// caught up. restart_ms: all processes are killed while all rows are in the log only; from the start of the first one until a count answers, which must be of all rows. The first
// restart reads the log from the disk, where it was written past the kernel's page cache; the later ones find it in there.
//
// Goroutines end with the measurement; nodes and the broker are closed by the one who started them.
package perf
