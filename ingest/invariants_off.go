//go:build !invariants

package ingest

// invariants turns the costly checks on.
const invariants = false
