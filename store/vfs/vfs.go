package vfs

import (
	"errors"
	"io"
	"io/fs"
	"path"
)

var (
	// ErrLocked says that another owner, of this process or another one, holds the lock.
	ErrLocked = errors.New("vfs: locked by another owner")
	// ErrCrashed is the answer of a Mem, and of its files, after its power was cut.
	ErrCrashed = errors.New("vfs: the power of this memory was cut")
)

// FS is a file system. All methods are safe for concurrent use.
type FS interface {
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// Create opens a file for reading and writing, and empties it if it exists.
	Create(name string) (File, error)
	// OpenFile opens a file for reading and writing, and creates it if it is absent.
	OpenFile(name string) (File, error)
	// Rename moves a file or directory; a file that has the new name is replaced atomically.
	Rename(oldName, newName string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// MkdirAll makes a directory and all above it. It is no error if they exist.
	MkdirAll(dir string) error
	// List returns the names in a directory, sorted, without the directory's own name.
	List(dir string) ([]string, error)
	// Stat returns the size of a file in bytes. For a directory the size means nothing.
	Stat(name string) (size int64, err error)
	// SyncDir makes the entries of a directory durable, not the bytes of its files.
	SyncDir(dir string) error
	// Lock creates the file if it is absent and takes an exclusive lock on it, until the
	// closer is closed or the process ends. It returns ErrLocked at once when it is held.
	Lock(name string) (io.Closer, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Write writes at the file's own position, which begins at 0, and moves it.
	io.Writer
	// WritevAt writes the buffers one after another from off on. It returns an error when it
	// wrote less than all of them.
	WritevAt(bufs [][]byte, off int64) (int, error)
	// Sync makes the bytes and the size of the file durable. After an error nothing is known
	// about the file, and a second Sync that succeeds proves nothing.
	Sync() error
	// Truncate changes the size; new bytes are zero.
	Truncate(size int64) error
	// Size returns the size in bytes.
	Size() (int64, error)
	Close() error
}

// MakeDir makes a directory and all above it, and makes their entries durable. It syncs every
// directory above, also those that it found: the process that made them may have been killed
// before it synced them. A directory above that may not be opened was not made by us.
func MakeDir(fsys FS, dir string) error {
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	for d := path.Clean(dir); path.Dir(d) != d; d = path.Dir(d) {
		err := fsys.SyncDir(path.Dir(d))
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// ReadFile returns the whole content of a file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if n, err := f.ReadAt(data, 0); err != nil && !(errors.Is(err, io.EOF) && int64(n) == size) {
		return nil, err
	}
	return data, nil
}

// ReplaceFile writes a file so that after a crash it has either its old content or all of the
// new one: temporary file, sync, rename, sync of the directory.
func ReplaceFile(fsys FS, name string, data []byte) error {
	temp := name + ".tmp"
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(temp, name)
	}
	if err == nil {
		err = fsys.SyncDir(path.Dir(name))
	}
	return err
}
