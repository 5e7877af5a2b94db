//go:build invariants

package offsets

// invariants turns the costly checks on.
const invariants = true
