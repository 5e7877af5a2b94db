// Package demo runs a whole Nyala on one machine to be looked at: three nodes as processes of their own, an
// embedded Kafka broker and a producer in this process, and at the end an export and a proof.
//
// The proof does not trust what it proves. The producer keeps, for every offset that the broker acknowledged, a
// hash of the event (tally). Every row of a scan over HTTP, and every row of the exported Parquet files, names
// the partition and the offset that it came from: each offset must come exactly once, with the same hash.
//
// Goroutines: the pacer, the chaos (if asked for) and the watch, which Run waits for; and one for each process,
// which ends with it. Processes end with the demo, whatever ends it: on Linux the kernel sees to it, elsewhere a
// guard, a process that does nothing but wait for our end.
package demo
