//go:build !invariants

package raftlog

// invariants turns the costly checks off.
const invariants = false
