// Package acceptance drives the built binary as its users do, beside a real Apache Kafka: node processes,
// kill -9, and a comparison of every committed record with the table. See cluster.go for the pieces.
package acceptance
