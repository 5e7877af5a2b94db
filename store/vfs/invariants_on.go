//go:build invariants

package vfs

// directLeast lets the small files of tests go past the page cache, too.
const directLeast = DirectAlignment
