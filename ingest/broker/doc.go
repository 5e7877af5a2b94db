// Package broker runs an embedded Kafka broker (franz-go's kfake) and producers of reference events, for the
// demo, for perf and for tests. A Broker owns the broker's goroutines and a Producer its client's; Close ends
// them. Nothing in a running node uses it.
package broker
