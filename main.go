// Nyala reads Kafka topics into replicated, updatable, columnar tables.
package main

import (
	"os"

	"nyala/connector/command"
)

func main() {
	os.Exit(command.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
}
