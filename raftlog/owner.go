package raftlog

import (
	"errors"
	"fmt"

	"nyala/raftlog/wal"
	"nyala/store/vfs"
)

// The log of a node has one value that belongs to no group: whose it is. A log that came from elsewhere, or was lost and is
// made anew, must not serve: what this node has acknowledged and voted for is not in it.
const (
	ownerGroup = 0
	ownerKey   = "server"
)

// ErrCorrupt is in the errors of Open, and of a Group that stopped, for a log that lost or changed what had been synced.
var ErrCorrupt = wal.ErrCorrupt

// ErrNotOurs is in the error of Open for a log that is of another node or another incarnation, or that is empty where it
// must not be.
var ErrNotOurs = errors.New("not this node's log")

// own checks whose log this is, and signs one that is new.
func (l *Log) own() error {
	has := string(l.wal.Group(ownerGroup).Value(ownerKey))
	switch {
	case has == string(l.self):
		return nil
	case has != "":
		return fmt.Errorf("it is the log of %s, want %s: %w", has, l.self, ErrNotOurs)
	case l.o.Used && len(l.wal.Groups()) == 0:
		return fmt.Errorf("it is empty, but there are files of tablets that had a log: %w", ErrNotOurs)
	}
	return l.wal.Group(ownerGroup).Set(ownerKey, []byte(l.self))
}

// Begin returns the first index that a group's log has here, the next one if it is empty, and 0 if it never had any. No manifest
// of the group may end further than one entry before it.
func (l *Log) Begin(id GroupID) uint64 {
	g := l.wal.Group(uint64(id))
	if first := g.First(); first != 0 {
		return first
	}
	return g.Next()
}

// Next returns the index that the next entry of a group's log must have, 0 if it never had any.
func (l *Log) Next(id GroupID) uint64 { return l.wal.Group(uint64(id)).Next() }

// Bytes is how long the entries of a group's log are from an index on.
func (l *Log) Bytes(id GroupID, from uint64) int64 { return l.wal.Group(uint64(id)).Bytes(from) }

// Stored lists the groups of which the log has anything, whether they are started or not.
func (l *Log) Stored() (ids []GroupID) {
	for _, id := range l.wal.Groups() {
		if id != ownerGroup {
			ids = append(ids, GroupID(id))
		}
	}
	return ids
}

// Span is what a log that is not open has of a group.
type Span = wal.Span

// Inspect reads the log in the Dir of a Log that is not open, and returns whose it is and what it has of each group. It changes nothing.
func Inspect(fsys vfs.FS, dir string) (owner string, spans map[GroupID]Span, err error) {
	groups, err := wal.Spans(fsys, dir)
	if err != nil {
		return "", nil, err
	}
	spans = map[GroupID]Span{}
	for id, s := range groups {
		if id == ownerGroup {
			owner = string(s.Values[ownerKey])
		} else {
			spans[GroupID(id)] = s
		}
	}
	return owner, spans, nil
}
