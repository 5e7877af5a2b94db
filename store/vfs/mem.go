package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
)

// Mem is a file system in memory whose power can be cut. It allows itself what disks and file
// systems do, so that code which works by luck fails here:
//
//   - Bytes written after the last Sync of a file survive in blocks of 4 KiB, each or not, in any
//     order; a block may be torn at 512 bytes, and an overwritten block may show an earlier write.
//   - A size changed after the last Sync survives or not, apart from the bytes: a file may end in
//     zeros, or lack blocks that did survive.
//   - Entries of a directory (create, rename, remove, mkdir) changed after its last SyncDir survive
//     each or not. Both halves of a rename are entries of their own: after a crash the file may
//     have both names or, if no sync kept it, none. A name that was renamed over is never missing:
//     it leads to the old file or to the new one.
//
// Parent directories must exist, as on a disk. The root, "/" or ".", always exists; "/a" and "a"
// are the same name.
type Mem struct {
	mu struct {
		sync.Mutex
		dead  bool
		root  *inode
		locks map[string]bool
	}
}

// inode is a file or, with dir, a directory. All fields are guarded by Mem.mu.
type inode struct {
	dir    *directory
	blocks map[int64]*block // by number; an absent block is all zero
	dirty  []int64          // numbers of the blocks that changed after the last sync
	size   int64
	synced int64 // the size at the last sync
	calls  int64 // writes and truncations so far
}

type directory struct {
	entries map[string]*inode // as seen by the living
	durable map[string]*inode // as of the last SyncDir
	pending []entryChange     // since then, in order
}

// entryChange is one name's change; a nil node means that the name is removed.
type entryChange struct {
	name string
	node *inode
}

// NewMem returns an empty memory.
func NewMem() *Mem {
	m := &Mem{}
	m.mu.root = newDirectory()
	m.mu.locks = map[string]bool{}
	return m
}

func newDirectory() *inode {
	return &inode{dir: &directory{entries: map[string]*inode{}, durable: map[string]*inode{}}}
}

func newFile() *inode { return &inode{blocks: map[int64]*block{}} }

func (d *directory) set(name string, node *inode) {
	if node == nil {
		delete(d.entries, name)
	} else {
		d.entries[name] = node
	}
	d.pending = append(d.pending, entryChange{name, node})
}

// Crash cuts the power: m and its files answer ErrCrashed from now on, and the returned memory
// holds what a disk may hold after it. Each block and each directory entry that was not synced
// survives with the probability survive: 0 loses all of them, 1 keeps all of them. The same state
// and the same rng give the same result.
func (m *Mem) Crash(rng *rand.Rand, survive float64) *Mem { return m.CrashApart(rng, survive, survive) }

// CrashApart is Crash with a probability for blocks and sizes of files, and one for entries of directories: file systems that
// journal only one of them keep all of it and little of the other.
func (m *Mem) CrashApart(rng *rand.Rand, blocks, entries float64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.dead = true
	after := NewMem()
	c := crash{rng: rng, survive: blocks, entries: entries, done: map[*inode]*inode{}}
	after.mu.root = c.node(m.mu.root)
	return after
}

// crash carries one power cut; done keeps a file that has two names one file.
type crash struct {
	rng     *rand.Rand
	survive float64 // of blocks and sizes
	entries float64
	done    map[*inode]*inode
}

func (c *crash) survives() bool { return c.rng.Float64() < c.survive }

func (c *crash) node(n *inode) *inode {
	if after, ok := c.done[n]; ok {
		return after
	}
	if n.dir == nil {
		after := c.file(n)
		c.done[n] = after
		return after
	}
	after := newDirectory()
	c.done[n] = after
	for name, node := range n.dir.durable {
		after.dir.entries[name] = node
	}
	// A subset in order reaches every state that a reordering reaches: what counts for a name is
	// only which of its changes is the last to arrive.
	for _, change := range n.dir.pending {
		switch {
		case c.rng.Float64() >= c.entries:
		case change.node == nil:
			delete(after.dir.entries, change.name)
		default:
			after.dir.entries[change.name] = change.node
		}
	}
	for _, name := range sortedNames(after.dir.entries) {
		node := c.node(after.dir.entries[name])
		after.dir.entries[name] = node
		after.dir.durable[name] = node
	}
	return after
}

func sortedNames(entries map[string]*inode) []string {
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// split returns the elements of a name; the root has none.
func split(name string) []string {
	name = strings.Trim(path.Clean("/"+name), "/")
	if name == "" {
		return nil
	}
	return strings.Split(name, "/")
}

func (m *Mem) findLocked(elements []string) (*inode, error) {
	n := m.mu.root
	for _, e := range elements {
		if n.dir == nil {
			return nil, fs.ErrNotExist
		}
		if n = n.dir.entries[e]; n == nil {
			return nil, fs.ErrNotExist
		}
	}
	return n, nil
}

// parentLocked returns the directory that holds a name, and the name in it.
func (m *Mem) parentLocked(name string) (*directory, string, error) {
	if m.mu.dead {
		return nil, "", ErrCrashed
	}
	elements := split(name)
	if len(elements) == 0 {
		return nil, "", fs.ErrInvalid
	}
	last := len(elements) - 1
	n, err := m.findLocked(elements[:last])
	if err != nil {
		return nil, "", err
	}
	if n.dir == nil {
		return nil, "", fs.ErrNotExist
	}
	return n.dir, elements[last], nil
}

func (m *Mem) open(op, name string, create, empty bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.parentLocked(name)
	if err != nil {
		return nil, pathError(op, name, err)
	}
	n := d.entries[base]
	switch {
	case n == nil && !create:
		return nil, pathError(op, name, fs.ErrNotExist)
	case n == nil:
		n = newFile()
		d.set(base, n)
	case n.dir != nil:
		return nil, pathError(op, name, errIsDirectory)
	case empty:
		n.truncate(0)
	}
	return &memFile{mem: m, node: n, name: name, readOnly: !create}, nil
}

var (
	errIsDirectory = errors.New("is a directory")
	errNotEmpty    = errors.New("directory not empty")
	errNotDir      = errors.New("not a directory")
)

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open("open", name, false, false) }

// Create implements FS.
func (m *Mem) Create(name string) (File, error) { return m.open("create", name, true, true) }

// OpenFile implements FS.
func (m *Mem) OpenFile(name string) (File, error) { return m.open("open", name, true, false) }

// OpenDirect implements DirectFS. A write that is not aligned fails, as it may on a disk.
func (m *Mem) OpenDirect(name string) (File, error) {
	f, err := m.open("open", name, false, false)
	if err != nil {
		return nil, err
	}
	file := f.(*memFile)
	file.readOnly, file.direct = false, true
	return file, nil
}

// Rename implements FS.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldBase, err := m.parentLocked(oldName)
	if err != nil {
		return pathError("rename", oldName, err)
	}
	node := from.entries[oldBase]
	if node == nil {
		return pathError("rename", oldName, fs.ErrNotExist)
	}
	to, newBase, err := m.parentLocked(newName)
	if err != nil {
		return pathError("rename", newName, err)
	}
	target := to.entries[newBase]
	switch {
	case target == node:
		return nil
	case target != nil && target.dir != nil && node.dir == nil:
		return pathError("rename", newName, errIsDirectory)
	case target != nil && target.dir == nil && node.dir != nil:
		return pathError("rename", newName, errNotDir)
	case target != nil && target.dir != nil && len(target.dir.entries) > 0:
		return pathError("rename", newName, errNotEmpty)
	case node.dir != nil && strings.HasPrefix(path.Clean("/"+newName)+"/", path.Clean("/"+oldName)+"/"):
		return pathError("rename", newName, fs.ErrInvalid)
	}
	to.set(newBase, node)
	from.set(oldBase, nil)
	return nil
}

// Remove implements FS. Open files of the name go on to work.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.parentLocked(name)
	if err != nil {
		return pathError("remove", name, err)
	}
	n := d.entries[base]
	switch {
	case n == nil:
		return pathError("remove", name, fs.ErrNotExist)
	case n.dir != nil && len(n.dir.entries) > 0:
		return pathError("remove", name, errNotEmpty)
	}
	d.set(base, nil)
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.dead {
		return pathError("mkdir", dir, ErrCrashed)
	}
	n := m.mu.root
	for _, e := range split(dir) {
		if n.dir == nil {
			return pathError("mkdir", dir, errNotDir)
		}
		next := n.dir.entries[e]
		if next == nil {
			next = newDirectory()
			n.dir.set(e, next)
		}
		n = next
	}
	if n.dir == nil {
		return pathError("mkdir", dir, errNotDir)
	}
	return nil
}

func (m *Mem) directoryLocked(op, name string) (*directory, error) {
	if m.mu.dead {
		return nil, pathError(op, name, ErrCrashed)
	}
	n, err := m.findLocked(split(name))
	if err == nil && n.dir == nil {
		err = errNotDir
	}
	if err != nil {
		return nil, pathError(op, name, err)
	}
	return n.dir, nil
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.directoryLocked("list", dir)
	if err != nil {
		return nil, err
	}
	return sortedNames(d.entries), nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.dead {
		return 0, pathError("stat", name, ErrCrashed)
	}
	n, err := m.findLocked(split(name))
	if err != nil {
		return 0, pathError("stat", name, err)
	}
	return n.size, nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.directoryLocked("sync", dir)
	if err != nil {
		return err
	}
	for _, change := range d.pending {
		if change.node == nil {
			delete(d.durable, change.name)
		} else {
			d.durable[change.name] = change.node
		}
	}
	d.pending = slices.Delete(d.pending, 0, len(d.pending))
	return nil
}

// Lock implements FS. A crash releases it, as the end of a process does.
func (m *Mem) Lock(name string) (io.Closer, error) {
	f, err := m.OpenFile(name)
	if err != nil {
		return nil, err
	}
	f.Close()
	key := path.Clean("/" + name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.locks[key] {
		return nil, fmt.Errorf("%s: %w", name, ErrLocked)
	}
	m.mu.locks[key] = true
	return &memLock{mem: m, key: key}, nil
}

type memLock struct {
	mem    *Mem
	key    string
	closed bool // guarded by Mem.mu
}

func (l *memLock) Close() error {
	l.mem.mu.Lock()
	defer l.mem.mu.Unlock()
	if l.closed {
		return fs.ErrClosed
	}
	l.closed = true
	delete(l.mem.mu.locks, l.key)
	return nil
}
