// Package verify compares a table with the topics that it was read from, record by record.
//
// Records are read again and decided on by the same code as in ingest. Every record, and every row that the table has, becomes a
// digest of fixed size: hashes of its key and of its content. Digests are dealt by key into buckets, in files when there are many,
// so that a table of any size is compared within a bound of memory: bucket by bucket, sorted by key. Hashes are seeded anew
// in each run, 128 bits for keys and 64 for content, so nobody can prepare rows that look equal.
//
// # What is judged
//
// For each key, judge works out which rows may be there: of a source of upserts its last record, of a source of inserts its
// first; and of several sources any of those, since nothing orders them. Records from CompleteBelow on and below NothingFrom
// may have had their effect or not. Where Kafka has deleted records that the table was made from, a row without a record is
// not called wrong: it is counted as not checkable.
//
// Bad records must be in nyala.dead_letters, once and with their own bytes. What nyala.gaps names was never read, so it
// explains no row; that Kafka still has such a record is a difference.
//
// A dead letter that was replayed is a record of its run: its row is the one that was claimed for it or, when that is carried out
// and forgotten, the one that its connector makes of it today. Where neither is known the run's rows are not checkable.
//
// Only differences cost a second reading: the table is scanned once more for the keys, and Kafka is asked for the records, to
// say which column of which record it is.
//
// The package has no goroutines.
package verify
