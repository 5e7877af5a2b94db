package raftlog

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// machine is the raft.BatchingFSM in front of a StateMachine.
type machine struct {
	g       *Group
	applied atomic.Uint64 // index of the last entry that the state machine saw; only raft's FSM goroutine writes
	members atomic.Pointer[membership]
}

// ApplyBatch gives committed entries to the state machine. raft calls it on its FSM goroutine, in log order;
// it leaves out no-ops and barriers, and brings configurations here because the FSM is a batching one (rule 8).
func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	entries := make([]Entry, len(logs))
	for i, l := range logs {
		must(l.Index > m.applied.Load(), "raftlog: group %d: entry %d applied at %d", m.g.id, l.Index, m.applied.Load())
		kind := Command
		if l.Type == raft.LogConfiguration {
			kind = Membership
		}
		entries[i] = Entry{Index: l.Index, Term: l.Term, Kind: kind, Data: l.Data}
	}
	results := m.g.sm.Apply(entries)
	m.g.log.reached(Applied)
	must(len(results) == len(entries), "raftlog: group %d: %d results for %d entries", m.g.id, len(results), len(entries))
	if len(entries) > 0 {
		m.applied.Store(entries[len(entries)-1].Index)
	}
	for _, e := range entries {
		if e.Kind == Membership {
			m.members.Store(&membership{e.Data, e.Index})
		}
	}
	out := make([]any, len(results))
	for i, r := range results {
		out[i] = r
	}
	return out
}

// Apply exists for the interface only: raft never calls it for a batching FSM.
func (m *machine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// Snapshot refuses: raft would stamp the manifest with its last applied index and cut the log to it, but the
// state machine is durable to a lower one.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return nil, raft.ErrNothingNewToSnapshot }

// Restore makes an installed manifest the state, and drops the part of the log that it replaces.
func (m *machine) Restore(r io.ReadCloser) error {
	stream, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("raftlog: group %d: installed manifest: %w", m.g.id, err)
	}
	d, manifest, err := parseStream(stream)
	if err != nil {
		return err
	}
	if d.Index < m.applied.Load() && !m.g.log.o.test.without(3) {
		return fmt.Errorf("raftlog: group %d: manifest of index %d would go behind %d", m.g.id, d.Index, m.applied.Load())
	}
	if err := m.g.sm.Restore(d, manifest); err != nil {
		return fmt.Errorf("raftlog: group %d: restore to %d: %w", m.g.id, d.Index, err)
	}
	m.began(d)
	m.g.log.logger.Info("manifest installed", "group", m.g.id, "index", d.Index, "term", d.Term)
	m.g.log.reached(ManifestRestored)
	if err := m.g.store.dropInstalled(d); err != nil {
		return err
	}
	m.g.log.reached(ManifestInstalled)
	return nil
}

// membership is a committed configuration and its index.
type membership struct {
	data  []byte
	index uint64
}

// began says that the state machine stands at d.
func (m *machine) began(d Durable) {
	m.applied.Store(d.Index)
	if d.MembersIndex > 0 {
		m.members.Store(&membership{d.Members, d.MembersIndex})
	}
}

// Committed returns the newest members that were committed here, and the index of the entry that made them
// so; index 0 means none yet.
func (g *Group) Committed() ([]Member, uint64) {
	m := g.machine.members.Load()
	if m == nil {
		return nil, 0
	}
	members, err := DecodeMembers(m.data)
	must(err == nil, "raftlog: group %d: members at %d: %v", g.id, m.index, err)
	return members, m.index
}
