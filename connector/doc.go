// Package connector is the node that a user runs: it opens a data directory, joins the system group
// that holds the catalog, runs the replicas that the catalog places here, feeds them from Kafka,
// answers reads on any of them, and shows all of it over HTTP.
package connector
