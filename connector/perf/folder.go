package perf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// makeDir makes the folder that everything is in.
func (m *run) makeDir() (remove func() error, err error) {
	made := "" // by us, and empty again in the end
	if d := m.options.dir; d != "" {
		if _, err := os.Stat(d); errors.Is(err, os.ErrNotExist) {
			made = d
		}
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("perf: --dir: %w", err)
		}
	}
	dir, err := os.MkdirTemp(m.options.dir, "nyala-perf-")
	if err == nil {
		m.dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("perf: --dir: %w", err)
	}
	dir = m.dir // and not m, with all that the nodes have in memory: the folder may be removed much later
	return func() error {
		err := os.RemoveAll(dir)
		if made != "" {
			_ = os.Remove(made) // someone may have put something there
		}
		return err
	}, nil
}

// What an event takes on the disk of one replica: in the log, which keeps more than it needs, and in files.
const (
	logBytes    = 150
	rowSetBytes = 60
	nodeBytes   = 256 << 20 // the log's empty segments, and room to work
)

// roomOnDisk refuses what would fill the disk. A full disk would end nodes in the middle, and whatever else writes to it.
func (m *run) roomOnDisk() error {
	o := &m.options
	free, err := freeOnDisk(m.dir)
	if err != nil {
		return fmt.Errorf("perf: --dir %s: how much is free: %w", m.dir, err)
	}
	need := int64(o.replicas) * (nodeBytes + (logBytes+rowSetBytes)*max(o.events, o.unflushed) + rowSetBytes*(o.stored+o.upserts))
	if free < need {
		return fmt.Errorf("perf: %s has %s free, and this may need %s: give another --dir, or fewer events or replicas", filepath.Dir(m.dir), bytesText(free), bytesText(need))
	}
	return nil
}

// freeOnDisk is how many bytes are free where a folder is.
func freeOnDisk(dir string) (int64, error) {
	var fs syscall.Statfs_t
	err := syscall.Statfs(dir, &fs)
	return int64(fs.Bavail) * int64(fs.Bsize), err
}

// leftovers are the folders of measurements that are over. They are removed when the last one is, or before that where the disk has not much more room:
// ext4 walks past every file that was removed in the last minutes when it makes one, which was a twelfth of the CPU of what was measured next.
type leftovers struct {
	remove []func() error
	bytes  int64
}

// leaveRoom is how many times what was left must be free, or it is removed.
const leaveRoom = 3

// add takes over a folder, which was made when so many bytes were free. A nil leftovers removes it at once.
func (l *leftovers) add(dir string, freeBefore int64, remove func() error) error {
	if l == nil {
		return remove()
	}
	l.remove = append(l.remove, remove)
	free, err := freeOnDisk(dir)
	l.bytes += max(freeBefore-free, 0)
	if err != nil || free < leaveRoom*l.bytes {
		return l.removeAll()
	}
	return nil
}

// removeAll removes the newest first: the oldest may have made what they are all in.
func (l *leftovers) removeAll() (err error) {
	for _, remove := range slices.Backward(l.remove) {
		err = errors.Join(err, remove())
	}
	*l = leftovers{}
	return err
}
