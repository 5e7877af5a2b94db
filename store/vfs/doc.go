// Package vfs is the seam between Nyala and a file system. Everything that writes a file goes
// through an FS, so that the same code runs on a disk, on a memory that loses power, and on a
// disk that fails, and so that a test can pin the order of its durability calls.
//
// It is a leaf: it imports nothing of ours, has no goroutines, and knows no file format.
//
//   - OS is the real one. File.Sync is fdatasync on Linux and a full fsync elsewhere.
//   - Mem is a memory with the crash semantics that a disk is allowed to have, see its comment.
//   - Faulty makes chosen calls fail, wait, hang or write short.
//   - Recorder writes down the calls that change something.
//
// An FS may be a DirectFS, which writes past the page cache; those above are, OS only on Linux.
//
// Names are slash paths. A missing file gives an error for which errors.Is(err, fs.ErrNotExist)
// holds. A file may be used by many goroutines at once; Write, which moves the file's own
// position, only by one at a time.
//
// What survives a power cut, on every FS: the bytes of a file after its Sync, and the entries of
// a directory (files created, renamed, removed, directories made) after its SyncDir. A file that
// is synced in a directory that is not can be gone.
package vfs
