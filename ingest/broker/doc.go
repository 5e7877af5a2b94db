// Package broker runs an embedded Kafka broker (franz-go's kfake) and a producer of reference events, for the
// demo, for perf and for tests. Nothing in a running node uses it.
//
// A Broker owns kfake's goroutines, a Producer those of its client; Close ends them. The broker keeps its records
// in memory unless it is given a folder.
package broker
