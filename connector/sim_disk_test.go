package connector

import (
	"errors"

	"nyala/store/vfs"
)

var errDisk = errors.New("input/output error")

// heal takes all faults of a disk away.
func (d *disk) heal() {
	for _, remove := range d.rules {
		remove()
	}
	d.rules = nil
	d.release()
}

func (d *disk) add(r vfs.Rule) { d.rules = append(d.rules, d.faulty.Add(r)) }

// failDisk makes some calls of one kind fail, now or in a while.
func (s *simulation) failDisk(id string) {
	ops := []vfs.Op{vfs.OpWrite, vfs.OpSync, vfs.OpRename, vfs.OpCreate, vfs.OpSyncDir, vfs.OpRead, vfs.OpRemove}
	paths := []string{"", "*.parquet", "*.keys", "*.wal", "manifest*"}
	r := vfs.Rule{
		Op: ops[s.rng.IntN(len(ops))], Path: paths[s.rng.IntN(len(paths))], After: s.rng.IntN(20), Count: s.rng.IntN(3),
		Short: s.rng.IntN(5000), Err: errDisk,
	}
	if s.rng.IntN(2) == 0 {
		r.Skip = 1 + s.rng.IntN(9000)
	}
	s.note("disk of %s: %s of %q fails after %d, %d times", id, r.Op, r.Path, r.After, r.Count)
	s.disks[id].add(r)
}

// hangDisk makes one kind of call never come back.
func (s *simulation) hangDisk(id string) {
	d := s.disks[id]
	if d.hang != nil || s.nodes[id] == nil {
		return
	}
	d.hang = make(chan struct{})
	r := vfs.Rule{Op: []vfs.Op{vfs.OpWrite, vfs.OpSync, ""}[s.rng.IntN(3)], After: s.rng.IntN(20), Hang: d.hang}
	s.note("disk of %s: %q hangs after %d", id, r.Op, r.After)
	d.add(r)
}

// cutPower makes every call fail from some call on, wherever that is, of the last write a start and an end done. What the disk holds
// then is what a power cut there leaves, as soon as somebody notices.
func (s *simulation) cutPower(id string) {
	n := s.rng.IntN([]int{3, 30, 300}[s.rng.IntN(3)])
	s.note("power of %s is cut at its call %d", id, n)
	s.disks[id].add(vfs.Rule{Op: vfs.OpWrite, After: n, Short: s.rng.IntN(5000), Skip: s.rng.IntN(9000), Err: vfs.ErrCrashed})
	for _, op := range []vfs.Op{vfs.OpSync, vfs.OpRename, vfs.OpCreate, vfs.OpOpenFile, vfs.OpRemove, vfs.OpSyncDir, vfs.OpTruncate} {
		s.disks[id].add(vfs.Rule{Op: op, After: n / 4, Err: vfs.ErrCrashed})
	}
}
