// Package broker runs an embedded Kafka broker (franz-go's kfake) and a producer of reference events, for the
// demo, for perf and for tests. It owns the broker's goroutines; Close ends them. Nothing in a running node
// uses it.
package broker
