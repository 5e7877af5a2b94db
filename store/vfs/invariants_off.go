//go:build !invariants

package vfs

// directLeast is from how many bytes on a write past the page cache takes less than one into it.
const directLeast = 128 << 10
