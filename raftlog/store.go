package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"nyala/raftlog/wal"
)

// errNotFound is what raft wants to hear, by its text, of a stable value that was never set.
var errNotFound = errors.New("not found")

const (
	keyTerm     = "CurrentTerm" // raft's names
	keyVoteTerm = "LastVoteTerm"
)

// logStore is raft's LogStore and StableStore: one group's part of the node's WAL, seen together with the
// manifest. F is the durable index, term(F) its term.
//
//   - An entry at F is always there: if the log has it no more, or has one of another term, the manifest's index
//     and term answer for it (rule 1, the sentinel). The log's entries at or below F are consistent with F, or
//     they are gone: recover and dropInstalled see to that.
//   - A missing entry is raft.ErrLogNotFound itself: raft compares with == (rule 6).
//   - It does not say IsMonotonic: raft would remove all of the log after an install, also what is above F.
//   - A failed write or read of the WAL never goes back to raft where that would panic: see Group.halt.
type logStore struct {
	g    *Group
	wal  *wal.GroupLog
	scan atomic.Uint64 // the next entry that raft's search for members at its start asks for; 0: it is over
	mu   struct {
		sync.Mutex
		// raft removes a conflicting suffix and then appends. If the append failed alone, raft would take
		// entries for stored that are gone, and refuse all appends until a restart. So the removal waits here
		// for its append. 0: none.
		truncate uint64
		// The last entry of a log that an install dropped, if it was one of another history at the very index of the
		// manifest: raft goes on remembering its term until the next entry is stored (rule 13).
		stale entryID
	}
}

// entryID names an entry of the log.
type entryID struct{ index, term uint64 }

func newLogStore(g *Group, w *wal.GroupLog) *logStore { return &logStore{g: g, wal: w} }

// recover makes the log fit the manifest at start. A crash may have come between the two steps of an install,
// and a cut of the log may be undone by it.
func (s *logStore) recover() error {
	d := s.g.sm.Durable()
	first, last := s.wal.First(), s.wal.Last()
	if last == 0 {
		next := s.wal.Next()
		if next > d.Index+1 { // the manifest was lost, or is an older copy: with it this replica would vote as one that has less
			return fmt.Errorf("raftlog: group %d: log begins at %d, want at most %d: the manifest is durable to %d", s.g.id, next, d.Index+1, d.Index)
		}
		if next != 0 && next != d.Index+1 {
			return s.wal.Reset(d.Index + 1)
		}
		return nil
	}
	if first > d.Index+1 { // rule 7: NewRaft would panic
		return fmt.Errorf("raftlog: group %d: log begins at %d, want at most %d: the manifest is durable to %d", s.g.id, first, d.Index+1, d.Index)
	}
	if d.Index == 0 {
		return nil
	}
	if last < d.Index {
		return s.wal.Reset(d.Index + 1)
	}
	r, err := s.wal.Get(d.Index)
	switch {
	case err == wal.ErrNotFound:
		return nil // the log begins at d.Index+1
	case err != nil:
		return fmt.Errorf("raftlog: group %d: entry %d: %w", s.g.id, d.Index, err)
	case r.Term != d.Term:
		return s.wal.CutBelow(d.Index + 1)
	}
	return nil
}

// bootstrap writes the first entry, the members, unless the group has any state. A crash between the term and
// the entry leaves a term without a log; that is no state.
func (s *logStore) bootstrap(members []Member) error {
	if s.wal.Next() != 0 || s.g.sm.Durable().Index != 0 || s.wal.Value(keyVoteTerm) != nil {
		return nil
	}
	if term, err := s.GetUint64([]byte(keyTerm)); err == nil && term > 1 {
		return nil
	}
	c := configuration(members)
	voters := 0
	for _, m := range members {
		if m.Voter {
			voters++
		}
	}
	if voters == 0 {
		return fmt.Errorf("raftlog: group %d: bootstrap with %d members, want at least one voter", s.g.id, len(members))
	}
	var term [8]byte
	binary.LittleEndian.PutUint64(term[:], 1)
	if err := s.wal.Set(keyTerm, term[:]); err != nil {
		return fmt.Errorf("raftlog: group %d: bootstrap: %w", s.g.id, err)
	}
	s.g.log.reached(BootstrapTerm)
	err := s.wal.Append([]wal.Record{{Index: 1, Term: 1, Kind: uint8(raft.LogConfiguration), Data: raft.EncodeConfiguration(c)}})
	if err != nil {
		return fmt.Errorf("raftlog: group %d: bootstrap: %w", s.g.id, err)
	}
	return nil
}

func (s *logStore) FirstIndex() (uint64, error) { return s.wal.First(), nil }
func (s *logStore) LastIndex() (uint64, error)  { return s.wal.Last(), nil }

// beginScan is called before NewRaft, which asks for all entries behind the manifest, one after the other, to find those with members, and
// looks at nothing else in them. So of commands it gets the kind alone: reading gigabytes only for that took a third of a start.
func (s *logStore) beginScan() { s.scan.Store(s.g.sm.Durable().Index + 1) }

// endScan is called after NewRaft: whoever asks now wants what is in an entry.
func (s *logStore) endScan() { s.scan.Store(0) }

// scanned answers the search. The last entry is read: its term is wanted before the search, and the search ends with it.
func (s *logStore) scanned(index uint64, l *raft.Log) bool {
	if index != s.scan.Load() || index >= s.wal.Last() {
		return false
	}
	s.scan.Store(index + 1)
	if kind, ok := s.wal.Kind(index); !ok || raft.LogType(kind) != raft.LogCommand {
		return false
	}
	*l = raft.Log{Index: index, Type: raft.LogCommand}
	return true
}

// GetLog reads an entry.
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	if s.scan.Load() != 0 && s.scanned(index, l) {
		return nil
	}
	r, err := s.wal.Get(index)
	if d := s.g.sm.Durable(); index == d.Index && index != 0 && (err == wal.ErrNotFound || err == nil && r.Term != d.Term) && !s.g.log.o.test.without(1) {
		*l = raft.Log{Index: d.Index, Term: d.Term, Type: raft.LogNoop}
		return nil
	}
	if err == wal.ErrNotFound {
		if s.g.log.o.test.without(6) {
			return fmt.Errorf("raftlog: group %d: %w", s.g.id, raft.ErrLogNotFound)
		}
		return raft.ErrLogNotFound
	}
	if err != nil {
		s.g.halt(fmt.Errorf("raftlog: group %d: entry %d: %w", s.g.id, index, err))
		// raft may be about to apply it, and panics without one. What it does with this reaches nobody.
		*l = raft.Log{Index: index, Type: raft.LogNoop}
		return nil
	}
	*l = raft.Log{Index: r.Index, Term: r.Term, Type: raft.LogType(r.Kind), Data: r.Data, Extensions: r.Extensions, AppendedAt: fromUnixNano(r.AppendedAt)}
	return nil
}

// lastEntry names the last entry of the log; an empty log has none to name.
func (s *logStore) lastEntry() (entryID, bool) {
	r, err := s.wal.Get(s.wal.Last())
	return entryID{r.Index, r.Term}, err == nil
}

// StoreLog appends an entry.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends entries and returns when they are durable.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	if f := s.g.log.o.test.storeLogs; f != nil {
		if err := f(s.g.id); err != nil {
			s.setTruncate(0)
			return err
		}
	}
	if err := s.prepare(logs[0].Index); err != nil {
		return err
	}
	records := make([]wal.Record, len(logs))
	for i, l := range logs {
		records[i] = wal.Record{Index: l.Index, Term: l.Term, Kind: uint8(l.Type), Data: l.Data, Extensions: l.Extensions, AppendedAt: unixNano(l.AppendedAt)}
	}
	if err := s.wal.Append(records); err != nil {
		return fmt.Errorf("raftlog: group %d: %w", s.g.id, err)
	}
	s.setStale(entryID{}) // raft remembers these now
	return nil
}

func (s *logStore) setStale(e entryID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.stale = e
}

// remembered is the term that raft compares with the one that a request says the entry at index has, if that is not the entry's
// own: what it remembers of a log that an install dropped (rule 13).
func (s *logStore) remembered(index uint64) (term uint64, differs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.stale.term, index != 0 && s.mu.stale.index == index && !s.g.log.o.test.without(13)
}

func (s *logStore) setTruncate(index uint64) (old uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, s.mu.truncate = s.mu.truncate, index
	return old
}

// prepare makes the log end where first begins.
func (s *logStore) prepare(first uint64) error {
	if from := s.setTruncate(0); from != 0 {
		if first != from {
			return fmt.Errorf("raftlog: group %d: append %d after removing from %d on", s.g.id, first, from)
		}
		if err := s.wal.TruncateAfter(from - 1); err != nil {
			return fmt.Errorf("raftlog: group %d: %w", s.g.id, err)
		}
	}
	next := s.wal.Next()
	if next == 0 || next == first {
		return nil
	}
	// Rule 7: the first entry behind an installed manifest leaves a gap, and no other may.
	if d := s.g.sm.Durable(); first != d.Index+1 || next > first {
		return fmt.Errorf("raftlog: group %d: append %d, want %d (durable %d)", s.g.id, first, next, d.Index)
	}
	if err := s.wal.Reset(first); err != nil {
		return fmt.Errorf("raftlog: group %d: %w", s.g.id, err)
	}
	return nil
}

// DeleteRange removes a suffix, with the next append. raft has no reason to remove a prefix here.
func (s *logStore) DeleteRange(from, to uint64) error {
	if last := s.wal.Last(); to < last {
		return fmt.Errorf("raftlog: group %d: remove %d to %d of a log that ends at %d: only a suffix may go", s.g.id, from, to, last)
	}
	if d := s.g.sm.Durable(); from <= d.Index {
		return fmt.Errorf("raftlog: group %d: remove from %d on: durable to %d", s.g.id, from, d.Index)
	}
	s.setTruncate(from)
	s.g.endReplay(from - 1)
	return nil
}

// dropInstalled removes what an installed manifest replaces and keeps what is above (rule 1).
func (s *logStore) dropInstalled(d Durable) error {
	if s.g.log.o.test.without(1) {
		return nil
	}
	last := s.wal.Last()
	if last == d.Index {
		if r, err := s.wal.Get(last); err == nil && r.Term != d.Term {
			s.setStale(entryID{last, r.Term})
		}
	}
	var err error
	if last <= d.Index {
		s.g.endReplay(d.Index)
		err = s.wal.Reset(d.Index + 1)
	} else {
		err = s.wal.CutBelow(d.Index + 1)
	}
	if err != nil {
		s.g.halt(fmt.Errorf("raftlog: group %d: drop entries up to %d: %w", s.g.id, d.Index, err))
	}
	return err
}

// cutBelow removes the entries below index, which is at most F: the entry at F itself stays while it can.
func (s *logStore) cutBelow(index uint64) error {
	if first, last := s.wal.First(), s.wal.Last(); first == 0 || first >= index || last < index {
		return nil
	}
	if err := s.wal.CutBelow(index); err != nil {
		return fmt.Errorf("raftlog: group %d: %w", s.g.id, err)
	}
	s.g.log.reached(LogCut)
	return nil
}

// Set stores a stable value.
func (s *logStore) Set(key, value []byte) error {
	if err := s.wal.Set(string(key), value); err != nil {
		err = fmt.Errorf("raftlog: group %d: %w", s.g.id, err)
		if string(key) == keyTerm {
			s.g.halt(err)
			return nil // raft panics on an error here, and is being stopped
		}
		return err
	}
	return nil
}

// Get returns a stable value.
func (s *logStore) Get(key []byte) ([]byte, error) {
	if v := s.wal.Value(string(key)); v != nil {
		return v, nil
	}
	return nil, errNotFound
}

// SetUint64 stores a stable number.
func (s *logStore) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.LittleEndian.AppendUint64(nil, value))
}

// GetUint64 returns a stable number.
func (s *logStore) GetUint64(key []byte) (uint64, error) {
	v, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("raftlog: group %d: value %s has %d bytes, want 8", s.g.id, key, len(v))
	}
	return binary.LittleEndian.Uint64(v), nil
}
