// Package acceptance drives the built binary as its users do, beside a real Apache Kafka: node processes that are killed, stopped and
// woken, a broker that is killed, a topic that changes, and a comparison of every committed record with the table. cluster.go has
// the processes; of the tests, trial_test.go one run, faults_test.go what happens in it, oracle_test.go what must hold after it.
package acceptance
