package raftlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"sync"
	"time"

	"nyala/store/vfs"
)

// image is the state of a test machine at an index: what a checkpoint keeps.
type image struct {
	Durable
	Commands int
	Chain    uint64 // over (index, data) of all commands
}

// fileName of the file that holds an image's "rows"; the manifest only names it, as a tablet's does.
func (i image) fileName() string { return fmt.Sprintf("rows-%d", i.Index) }
func (i image) rows() []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%d:%x ", i.Index, i.Chain)), 64)
}

// chainMachine is a StateMachine that chains a hash over what it applies, checkpoints itself to files, and
// reports all that it sees to a truth.
type chainMachine struct {
	node  string
	fs    vfs.FS
	dir   string
	truth *truth
	group *Group // set after StartGroup
	delay time.Duration
	gate  chan struct{} // Apply waits until it is closed; nil: it does not
	mu    struct {
		sync.Mutex
		dead     bool // its node crashed
		cur      image
		durable  image
		history  []image
		prepared int
		restored int
		seen     []Entry // the first few
	}
}

func openMachine(node string, fsys vfs.FS, dir string, tr *truth) (*chainMachine, error) {
	m := &chainMachine{node: node, fs: fsys, dir: dir, truth: tr}
	if err := vfs.MakeDir(fsys, dir); err != nil {
		return nil, err
	}
	b, err := vfs.ReadFile(fsys, dir+"/manifest")
	if err == nil {
		err = json.Unmarshal(b, &m.mu.durable)
		m.mu.cur = m.mu.durable
	} else {
		err = nil // the first start
	}
	return m, err
}

func (m *chainMachine) Stamp(data []byte) { m.truth.stamp(data) }

func (m *chainMachine) Apply(entries []Entry) [][]byte {
	if m.gate != nil {
		<-m.gate
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	results := make([][]byte, len(entries))
	for i, e := range entries {
		if m.mu.dead {
			continue
		}
		if len(m.mu.seen) < 100 {
			m.mu.seen = append(m.mu.seen, e)
		}
		m.mu.cur.Index, m.mu.cur.Term = e.Index, e.Term
		switch e.Kind {
		case Command:
			m.mu.cur.Commands++
			m.mu.cur.Chain = chain(m.mu.cur.Chain, e.Index, e.Data)
			m.truth.applied(m.node, e, m.mu.cur)
		case Membership:
			m.mu.cur.Members, m.mu.cur.MembersIndex = e.Data, e.Index
			m.truth.applied(m.node, e, m.mu.cur)
		default:
			m.truth.fail("%s: entry %d of kind %d", m.node, e.Index, e.Kind)
		}
		results[i] = binary.LittleEndian.AppendUint64(nil, e.Index)
		if m.mu.history = append(m.mu.history, m.mu.cur); len(m.mu.history) > 4000 {
			m.mu.history = m.mu.history[2000:]
		}
	}
	return results
}

func chain(c, index uint64, data []byte) uint64 {
	h := fnv.New64a()
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], c)
	binary.LittleEndian.PutUint64(b[8:], index)
	h.Write(b[:])
	h.Write(data)
	return h.Sum64()
}

func (m *chainMachine) Durable() Durable {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.durable.Durable
}

func (m *chainMachine) Manifest() (Durable, []byte, error) {
	m.mu.Lock()
	i := m.mu.durable
	m.mu.Unlock()
	b, err := json.Marshal(i)
	return i.Durable, b, err
}

func (m *chainMachine) Prepare(ctx context.Context, manifest []byte, fetch Fetcher) error {
	var i image
	if err := json.Unmarshal(manifest, &i); err != nil {
		return err
	}
	m.mu.Lock()
	m.mu.prepared++
	m.mu.Unlock()
	name := m.dir + "/" + i.fileName()
	if b, err := vfs.ReadFile(m.fs, name); err == nil && bytes.Equal(b, i.rows()) {
		return nil
	}
	f, err := fetch(ctx, i.fileName(), 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if !bytes.Equal(b, i.rows()) {
		return fmt.Errorf("file %s: other bytes", i.fileName())
	}
	return vfs.ReplaceFile(m.fs, name, b)
}

func (m *chainMachine) Restore(d Durable, manifest []byte) error {
	time.Sleep(m.delay)
	var i image
	if err := json.Unmarshal(manifest, &i); err != nil {
		return err
	}
	if i.Index != d.Index || i.Term != d.Term || !bytes.Equal(i.Members, d.Members) {
		m.truth.fail("%s: restore of %v with the manifest of %v", m.node, d, i.Durable)
	}
	if b, err := vfs.ReadFile(m.fs, m.dir+"/"+i.fileName()); err != nil || !bytes.Equal(b, i.rows()) {
		m.truth.failUnlessDead(err, "%s: restore to %d without its file: %v", m.node, i.Index, err)
	}
	if err := vfs.ReplaceFile(m.fs, m.dir+"/manifest", manifest); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i.Index < m.mu.cur.Index {
		m.truth.rewound(m.node, m.mu.cur.Index, i.Index)
	}
	m.mu.cur, m.mu.durable = i, i
	m.mu.restored++
	return nil
}

// checkpoint makes the newest state that is not above limit durable, and has the log cut. 0 means no limit.
func (m *chainMachine) checkpoint(limit uint64) error {
	m.mu.Lock()
	i := m.mu.cur
	for k := len(m.mu.history) - 1; limit != 0 && k >= 0 && i.Index > limit; k-- {
		i = m.mu.history[k]
	}
	have := m.mu.durable.Index
	m.mu.Unlock()
	if i.Index <= have {
		return nil
	}
	if err := vfs.ReplaceFile(m.fs, m.dir+"/"+i.fileName(), i.rows()); err != nil {
		return err
	}
	b, err := json.Marshal(i)
	if err != nil {
		return err
	}
	m.mu.Lock()
	stale := i.Index <= m.mu.durable.Index
	m.mu.Unlock()
	if stale { // an install came first
		return nil
	}
	if err := vfs.ReplaceFile(m.fs, m.dir+"/manifest", b); err != nil {
		return err
	}
	m.truth.checkpointed(i)
	m.mu.Lock()
	if i.Index > m.mu.durable.Index {
		m.mu.durable = i
	}
	m.mu.Unlock()
	if m.group != nil {
		m.group.Cut()
	}
	return nil
}

func (m *chainMachine) state() (cur, durable image) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.cur, m.mu.durable
}

func (m *chainMachine) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.dead = true
}

// truth is what all replicas must agree on, and what was promised to writers.
type truth struct {
	mu struct {
		sync.Mutex
		at       map[uint64]image
		commands map[string]int // by id: how often applied at different indexes
		index    map[string]uint64
		configs  []uint64
		acked    map[string]uint64
		rewinds  int
		fails    []string
	}
}

func newTruth() *truth {
	t := &truth{}
	t.mu.at, t.mu.commands, t.mu.index, t.mu.acked = map[uint64]image{}, map[string]int{}, map[string]uint64{}, map[string]uint64{}
	return t
}

// A command is 8 bytes for the stamp and then its id.
const stampBytes = 8

func command(id string) []byte { return append(make([]byte, stampBytes), id...) }

func (t *truth) stamp(data []byte) {
	binary.LittleEndian.PutUint64(data, binary.LittleEndian.Uint64(data)+1)
}

func (t *truth) fail(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failLocked(format, args...)
}

func (t *truth) failLocked(format string, args ...any) {
	if len(t.mu.fails) < 5 {
		t.mu.fails = append(t.mu.fails, fmt.Sprintf(format, args...))
	}
}

func (t *truth) failUnlessDead(err error, format string, args ...any) {
	if !errors.Is(err, vfs.ErrCrashed) {
		t.fail(format, args...)
	}
}

func (t *truth) applied(node string, e Entry, i image) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, known := t.mu.at[e.Index]
	if !known {
		t.mu.at[e.Index] = i
		if e.Kind == Membership {
			t.mu.configs = append(t.mu.configs, e.Index)
		} else if len(e.Data) >= stampBytes {
			id := string(e.Data[stampBytes:])
			t.mu.commands[id]++
			t.mu.index[id] = e.Index
			if binary.LittleEndian.Uint64(e.Data) == 0 {
				t.failLocked("%s: entry %d was not stamped", node, e.Index)
			}
		}
		return
	}
	if was.Chain != i.Chain || was.Commands != i.Commands || was.Term != i.Term {
		t.failLocked("%s: at %d the state is (%d commands, %x, term %d), elsewhere (%d, %x, %d)", node, e.Index, i.Commands, i.Chain, i.Term, was.Commands, was.Chain, was.Term)
	}
}

func (t *truth) checkpointed(i image) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var want uint64
	for _, c := range t.mu.configs {
		if c <= i.Index {
			want = max(want, c)
		}
	}
	if want != i.MembersIndex {
		t.failLocked("manifest of %d has the members of %d, want %d", i.Index, i.MembersIndex, want)
	}
}

func (t *truth) rewound(node string, from, to uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.rewinds++
	t.failLocked("%s: the state went back from %d to %d", node, from, to)
}

func (t *truth) ack(id string, index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.acked[id] = index
	if at := t.mu.index[id]; at != index {
		t.failLocked("write %s acknowledged at %d, applied at %d", id, index, at)
	}
}

func (t *truth) failures() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.mu.fails...)
}

func (t *truth) counts() (acked, applied int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.mu.acked), len(t.mu.commands)
}

// checkWrites: what was acknowledged is there, once.
func (t *truth) checkWrites() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.mu.acked {
		if n := t.mu.commands[id]; n != 1 {
			t.failLocked("acknowledged write %s is there %d times", id, n)
		}
	}
}
