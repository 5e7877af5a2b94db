// Package kafka gives the tests a real Apache Kafka: one process, in KRaft mode, on free ports, of this machine only.
//
// Start fetches it with mvn the first time (pom.xml says what; a JDK of 17 or later is needed too), formats a folder and waits
// until it answers. Kill and Restart are for tests that want it to fail. Producer writes transactions, some of them aborted, and
// remembers the hash of every event that was committed, by partition and offset: the truth that a table is compared with.
// `go run ./test/kafka/serve` runs a broker by hand.
//
// The process of a Broker is a child (nyala/connector/child); Stop, Kill and Close wait for its end. On Linux
// the process ends with ours, however ours ends.
package kafka
