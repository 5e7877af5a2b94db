//go:build invariants

package store

// invariants turns the costly checks on.
const invariants = true
