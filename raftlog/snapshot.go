package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	manifestID    = "manifest"
	streamVersion = 1
)

// appendStream puts what raft must know about a manifest in front of it: a snapshot travels as one stream, and
// the members must arrive as the very bytes of their log entry.
func appendStream(d Durable, manifest []byte) []byte {
	var e encoder
	e.u32(streamVersion)
	e.u64(d.Index)
	e.u64(d.Term)
	e.u64(d.MembersIndex)
	e.bytes(d.Members)
	e.b = append(e.b, manifest...)
	return e.b
}

func parseStream(b []byte) (Durable, []byte, error) {
	d := &decoder{b: b}
	if v := d.u32(); v != streamVersion {
		return Durable{}, nil, fmt.Errorf("raftlog: manifest stream: version %d, want %d", v, streamVersion)
	}
	out := Durable{Index: d.u64(), Term: d.u64(), MembersIndex: d.u64(), Members: d.bytes()}
	return out, d.b, d.err
}

// snapshotStore is a raft.SnapshotStore whose only snapshot is the state machine's manifest.
type snapshotStore struct {
	g  *Group
	mu struct {
		sync.Mutex
		staged map[string]*sink // received, until raft has restored them
		next   int
		pins   map[*pin]bool
	}
}

// pin keeps the log from being cut while a manifest is under way, and a little longer: the follower goes on
// with the entry behind it (rule 5).
type pin struct {
	until time.Time // zero while the manifest is open
}

func newSnapshotStore(g *Group) *snapshotStore {
	s := &snapshotStore{g: g}
	s.mu.staged, s.mu.pins = map[string]*sink{}, map[*pin]bool{}
	return s
}

func snapshotMeta(id string, d Durable, size int) (*raft.SnapshotMeta, error) {
	c, err := decodeConfiguration(d.Members)
	if err != nil {
		return nil, fmt.Errorf("raftlog: members as of index %d: %w", d.Index, err)
	}
	return &raft.SnapshotMeta{Version: 1, ID: id, Index: d.Index, Term: d.Term, Configuration: c, ConfigurationIndex: d.MembersIndex, Size: int64(size)}, nil
}

// List names the manifest, and nothing when nothing is durable yet. At start raft takes its last applied index,
// its last snapshot and its configuration from here alone (rule 7).
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	d := s.g.sm.Durable()
	if d.Index == 0 {
		return nil, nil
	}
	m, err := snapshotMeta(manifestID, d, 0)
	if err != nil {
		return nil, err
	}
	return []*raft.SnapshotMeta{m}, nil
}

// Open opens the manifest for sending, or a received one for restoring.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if id != manifestID {
		return s.openStaged(id)
	}
	p := &pin{}
	s.mu.Lock()
	s.mu.pins[p] = true // before the manifest is read: its index must not be cut away in between
	s.mu.Unlock()
	d, manifest, err := s.g.sm.Manifest()
	if err == nil && d.Index == 0 {
		err = errors.New("nothing is durable yet")
	}
	var m *raft.SnapshotMeta
	stream := appendStream(d, manifest)
	if err == nil {
		m, err = snapshotMeta(manifestID, d, len(stream))
	}
	if err != nil {
		s.unpin(p)
		return nil, nil, fmt.Errorf("raftlog: group %d: manifest: %w", s.g.id, err)
	}
	s.g.log.counters.sent.Add(1)
	return m, &manifestReader{Reader: bytes.NewReader(stream), s: s, p: p}, nil
}

type manifestReader struct {
	*bytes.Reader
	s *snapshotStore
	p *pin
}

// Close leaves the pin for a while. The housekeeper takes it away.
func (r *manifestReader) Close() error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if r.p.until.IsZero() {
		r.p.until = time.Now().Add(r.s.g.log.o.Timings.PinGrace)
	}
	return nil
}

func (s *snapshotStore) unpin(p *pin) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.pins, p)
}

// pinned reports whether the log must not be cut now, and drops the pins that have run out.
func (s *snapshotStore) pinned() bool {
	if s.g.log.o.test.without(5) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for p := range s.mu.pins {
		if !p.until.IsZero() && now.After(p.until) {
			delete(s.mu.pins, p)
		}
	}
	return len(s.mu.pins) > 0
}

// Create takes a manifest that a leader sent. One below the durable index is refused (rule 3).
func (s *snapshotStore) Create(_ raft.SnapshotVersion, index, _ uint64, _ raft.Configuration, _ uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if d := s.g.sm.Durable(); index < d.Index && !s.g.log.o.test.without(3) {
		return nil, fmt.Errorf("raftlog: group %d: manifest of index %d is older than the durable index %d", s.g.id, index, d.Index)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.next++
	return &sink{s: s, id: fmt.Sprintf("received-%d", s.mu.next)}, nil
}

// sink stages a manifest in memory. It becomes durable when raft restores it: Close only stages (rule 9).
type sink struct {
	bytes.Buffer
	s  *snapshotStore
	id string
}

func (k *sink) ID() string    { return k.id }
func (k *sink) Cancel() error { return nil }
func (k *sink) Close() error {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	clear(k.s.mu.staged) // one that raft did not restore is of no use to anybody
	k.s.mu.staged[k.id] = k
	return nil
}

func (s *snapshotStore) openStaged(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	k := s.mu.staged[id]
	delete(s.mu.staged, id)
	s.mu.Unlock()
	if k == nil {
		return nil, nil, fmt.Errorf("raftlog: group %d: no received manifest %q", s.g.id, id)
	}
	d, _, err := parseStream(k.Bytes())
	if err != nil {
		return nil, nil, err
	}
	m, err := snapshotMeta(id, d, k.Len())
	if err != nil {
		return nil, nil, err
	}
	return m, io.NopCloser(bytes.NewReader(k.Bytes())), nil
}
