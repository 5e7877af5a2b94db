package vfs

import (
	"io"
	"path"
	"slices"
	"sync"
	"time"
)

// Op is a kind of call.
type Op string

// The calls that Faulty can disturb and Recorder writes down. OpWrite stands for Write, WriteAt and
// WritevAt; OpOpen for Open, OpCreate for Create, OpOpenFile for OpenFile.
const (
	OpOpen     Op = "open"
	OpCreate   Op = "create"
	OpOpenFile Op = "openfile"
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpMkdirAll Op = "mkdirall"
	OpList     Op = "list"
	OpStat     Op = "stat"
	OpSyncDir  Op = "syncdir"
	OpLock     Op = "lock"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpSync     Op = "sync"
	OpTruncate Op = "truncate"
	OpSize     Op = "size"
	OpClose    Op = "close"
)

// Rule disturbs the calls that it matches: it waits for Delay, then for Hang, then fails with Err,
// each if set. It is not changed once it is added.
type Rule struct {
	Op    Op     // empty: every call
	Path  string // a path.Match pattern for the whole name, or for its last element; empty: every name
	After int    // matching calls that pass undisturbed first
	Count int    // how many are disturbed then; 0: all
	Delay time.Duration
	Hang  <-chan struct{} // wait until it is closed (nil: do not wait)
	Short int             // a write that fails with Err has written this many bytes first; a direct one only whole pages of them
	Skip  int             // then so many bytes are missing, and what is behind them is written, too; 0: all are missing
	Err   error           // nil: the call is carried out
}

// Faulty disturbs another FS by rules. It has no randomness: the same calls meet the same faults.
// It holds no lock while it waits.
type Faulty struct {
	fs FS
	mu struct {
		sync.Mutex
		rules []*activeRule
	}
}

type activeRule struct {
	Rule
	seen int
}

// NewFaulty disturbs fsys by the given rules; the first that matches a call counts.
func NewFaulty(fsys FS, rules ...Rule) *Faulty {
	f := &Faulty{fs: fsys}
	for _, r := range rules {
		f.Add(r)
	}
	return f
}

// Add adds a rule behind the others, and returns the function that takes it away again. Calls that
// wait go on waiting.
func (f *Faulty) Add(r Rule) (remove func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := &activeRule{Rule: r}
	f.mu.rules = append(f.mu.rules, a)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i, other := range f.mu.rules {
			if other == a {
				f.mu.rules = append(f.mu.rules[:i:i], f.mu.rules[i+1:]...)
				return
			}
		}
	}
}

func (r *Rule) matches(op Op, name string) bool {
	if r.Op != "" && r.Op != op {
		return false
	}
	if r.Path == "" {
		return true
	}
	whole, _ := path.Match(r.Path, name)
	last, _ := path.Match(r.Path, path.Base(name))
	return whole || last
}

// rule returns the rule that disturbs this call, nil for none.
func (f *Faulty) rule(op Op, name string) *Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.mu.rules {
		if !a.matches(op, name) {
			continue
		}
		a.seen++
		if a.seen > a.After && (a.Count == 0 || a.seen <= a.After+a.Count) {
			return &a.Rule
		}
	}
	return nil
}

// disturb waits as the call's rule says and returns its error.
func (f *Faulty) disturb(op Op, name string) error {
	r := f.rule(op, name)
	if r == nil {
		return nil
	}
	r.wait()
	if r.Err == nil {
		return nil
	}
	return pathError(string(op), name, r.Err)
}

func (r *Rule) wait() {
	if r.Delay > 0 {
		time.Sleep(r.Delay)
	}
	if r.Hang != nil {
		<-r.Hang
	}
}

func (f *Faulty) open(op Op, name string, open func(string) (File, error)) (File, error) {
	if err := f.disturb(op, name); err != nil {
		return nil, err
	}
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: file, fs: f, name: name}, nil
}

// Open implements FS.
func (f *Faulty) Open(name string) (File, error) { return f.open(OpOpen, name, f.fs.Open) }

// Create implements FS.
func (f *Faulty) Create(name string) (File, error) { return f.open(OpCreate, name, f.fs.Create) }

// OpenFile implements FS.
func (f *Faulty) OpenFile(name string) (File, error) {
	return f.open(OpOpenFile, name, f.fs.OpenFile)
}

// Rename implements FS. A rule's path is matched against the new name.
func (f *Faulty) Rename(oldName, newName string) error {
	if err := f.disturb(OpRename, newName); err != nil {
		return err
	}
	return f.fs.Rename(oldName, newName)
}

// Remove implements FS.
func (f *Faulty) Remove(name string) error {
	if err := f.disturb(OpRemove, name); err != nil {
		return err
	}
	return f.fs.Remove(name)
}

// MkdirAll implements FS.
func (f *Faulty) MkdirAll(dir string) error {
	if err := f.disturb(OpMkdirAll, dir); err != nil {
		return err
	}
	return f.fs.MkdirAll(dir)
}

// List implements FS.
func (f *Faulty) List(dir string) ([]string, error) {
	if err := f.disturb(OpList, dir); err != nil {
		return nil, err
	}
	return f.fs.List(dir)
}

// Stat implements FS.
func (f *Faulty) Stat(name string) (int64, error) {
	if err := f.disturb(OpStat, name); err != nil {
		return 0, err
	}
	return f.fs.Stat(name)
}

// SyncDir implements FS.
func (f *Faulty) SyncDir(dir string) error {
	if err := f.disturb(OpSyncDir, dir); err != nil {
		return err
	}
	return f.fs.SyncDir(dir)
}

// Lock implements FS.
func (f *Faulty) Lock(name string) (io.Closer, error) {
	if err := f.disturb(OpLock, name); err != nil {
		return nil, err
	}
	return f.fs.Lock(name)
}

// OpenDirect implements DirectFS, with plain writes if the other FS has no direct ones. It counts as
// OpOpenFile.
func (f *Faulty) OpenDirect(name string) (File, error) {
	file, err := f.open(OpOpenFile, name, func(name string) (File, error) { return OpenDirect(f.fs, name) })
	if err != nil {
		return nil, err
	}
	file.(*faultyFile).direct = true
	return file, nil
}

type faultyFile struct {
	File
	fs     *Faulty
	name   string
	direct bool
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.disturb(OpRead, f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

// disturbWrite waits as the call's rule says. It returns the rule if that makes the write fail.
func (f *faultyFile) disturbWrite() *Rule {
	r := f.fs.rule(OpWrite, f.name)
	if r == nil {
		return nil
	}
	r.wait()
	if r.Err == nil {
		return nil
	}
	return r
}

// torn is a failed write: the start of b, and what is behind the missing part.
func (f *faultyFile) torn(r *Rule, b []byte, off int64) (int, error) {
	start, behind := min(r.Short, len(b)), len(b)
	if r.Skip > 0 {
		behind = min(r.Short+r.Skip, len(b))
	}
	if f.direct {
		start -= start % DirectAlignment
		behind = min(len(b), behind+DirectAlignment-1)
		behind -= behind % DirectAlignment
	}
	n, err := 0, error(nil)
	if start > 0 {
		n, err = f.File.WriteAt(b[:start], off)
	}
	if err == nil && behind < len(b) && behind > start {
		_, err = f.File.WriteAt(b[behind:], off+int64(behind))
	}
	if err == nil {
		err = pathError(string(OpWrite), f.name, r.Err)
	}
	return n, err
}

func (f *faultyFile) WritevAt(bufs [][]byte, off int64) (int, error) {
	if r := f.disturbWrite(); r != nil {
		return f.torn(r, slices.Concat(bufs...), off)
	}
	return f.File.WritevAt(bufs, off)
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	if r := f.disturbWrite(); r != nil {
		return f.torn(r, p, off)
	}
	return f.File.WriteAt(p, off)
}

// Write has a start only when it fails: what is behind has no place of its own.
func (f *faultyFile) Write(p []byte) (int, error) {
	r := f.disturbWrite()
	if r == nil {
		return f.File.Write(p)
	}
	n, err := f.File.Write(p[:min(r.Short, len(p))])
	if err == nil {
		err = pathError(string(OpWrite), f.name, r.Err)
	}
	return n, err
}

func (f *faultyFile) Sync() error {
	if err := f.fs.disturb(OpSync, f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.fs.disturb(OpTruncate, f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) Size() (int64, error) {
	if err := f.fs.disturb(OpSize, f.name); err != nil {
		return 0, err
	}
	return f.File.Size()
}

// Close closes the file also when a rule makes it fail, as a kernel does.
func (f *faultyFile) Close() error {
	fault := f.fs.disturb(OpClose, f.name)
	if err := f.File.Close(); err != nil {
		return err
	}
	return fault
}
