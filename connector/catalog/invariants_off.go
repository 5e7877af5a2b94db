//go:build !invariants

package catalog

// invariants turns the costly checks on.
const invariants = false
