//go:build !invariants

package store

// invariants turns the costly checks off.
const invariants = false
