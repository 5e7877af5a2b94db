//go:build invariants

package raftlog

// invariants turns the costly checks on.
const invariants = true
