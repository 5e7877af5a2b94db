// Package perf measures this machine: `nyala perf ingest`. It prints what it measured and under what
// circumstances, for people or as JSON with stable names.
//
// # What is measured
//
// The broker is a process of its own (this program again, as `perf broker`), so that its cost is not ours. It is
// loaded with events first, compressed by lz4, in runs of 4000 to one partition after the other. All replicas
// run in this process, as nodes that talk over TCP on the loopback interface and write real files with fsync.
// With --warmup some events are ingested and flushed before, so that logs and memory are used again.
// Consumers are held until every node is healthy and every partition has its reader. Then the clock starts.
//
//   - events_per_second: until every event is in a Parquet file on every replica, by a checkpoint of all tablets
//     as soon as the last event is committed. committed_per_second: until every event is acknowledged (committed
//     by a majority, applied, readable). Afterwards the rows are counted: they must be as many as the events.
//   - cpu_us_per_event: user and system time of this process over the same interval, by event. cpu_us_by_stage
//     divides it by where a sampling profile finds it. allocated_bytes_per_event: of the Go heap, likewise.
//   - bytes_per_event: DiskRowSets (Parquet and keys) and manifests of one replica.
//   - freshness_ms: events are produced at a steady rate, half of what committed_per_second found or --rate. For
//     each batch of rows that becomes readable, the age of its oldest record by the timestamp that the producer gave it.
//   - resume_ms: the network of the node that leads the most tablets is cut, as a SIGKILL of its process would
//     do, and the node is closed. From the cut until every tablet that it led has accepted a write through its log
//     again, a time for each tablet. With one replica: from the end of the node to its successor's first writes.
//
// Goroutines end with the measurement; nodes and the broker are closed by the one who started them.
package perf
