// Package schema says what a table's rows are: typed columns with permanent ids, the primary key,
// and how a key chooses its tablet (hash bucket and range partition).
//
// Everything here that turns a value into bytes or a bucket is frozen: a record of Kafka must reach
// the same tablet under the same key for as long as its table lives (docs/exactly-once.md). The
// golden tests of this package pin it.
package schema
