package raftlog

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// protocolVersion of hashicorp/raft that all nodes speak. Who sends is not in the messages: a connection
// belongs to one node, whose id the handshake named.
const protocolVersion = 3

func header(from raft.ServerID) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: protocolVersion, ID: []byte(from), Addr: []byte(from)}
}

func encodeAppend(group GroupID, q *raft.AppendEntriesRequest) *message {
	var e encoder
	e.u64(uint64(group))
	e.u64(q.Term)
	e.u64(q.PrevLogEntry)
	e.u64(q.PrevLogTerm)
	e.u64(q.LeaderCommitIndex)
	e.u32(uint32(len(q.Entries)))
	m := &message{kind: kindAppend}
	for _, l := range q.Entries {
		e.u64(l.Index)
		e.u64(l.Term)
		e.u8(uint8(l.Type))
		e.u64(uint64(unixNano(l.AppendedAt)))
		e.bytes(l.Extensions)
		m.parts = append(m.parts, l.Data)
	}
	m.meta = e.b
	return m
}

func decodeAppend(m *message, d *decoder) *raft.AppendEntriesRequest {
	q := &raft.AppendEntriesRequest{Term: d.u64(), PrevLogEntry: d.u64(), PrevLogTerm: d.u64(), LeaderCommitIndex: d.u64()}
	n := int(d.u32())
	if n != len(m.parts) {
		d.err = fmt.Errorf("raftlog: append: %d entries with %d parts", n, len(m.parts))
		return q
	}
	for i := range n {
		l := &raft.Log{Index: d.u64(), Term: d.u64(), Type: raft.LogType(d.u8()), AppendedAt: fromUnixNano(int64(d.u64()))}
		if ext := d.bytes(); len(ext) > 0 {
			l.Extensions = ext
		}
		l.Data = m.parts[i]
		q.Entries = append(q.Entries, l)
	}
	return q
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromUnixNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func encodeVote(group GroupID, q *raft.RequestVoteRequest) *message {
	var e encoder
	e.u64(uint64(group))
	e.u64(q.Term)
	e.u64(q.LastLogIndex)
	e.u64(q.LastLogTerm)
	e.bool(q.LeadershipTransfer)
	return &message{kind: kindVote, meta: e.b}
}

func encodePreVote(group GroupID, q *raft.RequestPreVoteRequest) *message {
	var e encoder
	e.u64(uint64(group))
	e.u64(q.Term)
	e.u64(q.LastLogIndex)
	e.u64(q.LastLogTerm)
	return &message{kind: kindPreVote, meta: e.b}
}

func encodeTimeoutNow(group GroupID) *message {
	var e encoder
	e.u64(uint64(group))
	return &message{kind: kindTimeoutNow, meta: e.b}
}

func encodeInstall(group GroupID, q *raft.InstallSnapshotRequest, stream []byte) *message {
	var e encoder
	e.u64(uint64(group))
	e.u64(q.Term)
	e.u64(q.LastLogIndex)
	e.u64(q.LastLogTerm)
	e.bytes(q.Configuration)
	e.u64(q.ConfigurationIndex)
	return &message{kind: kindInstall, meta: e.b, parts: [][]byte{stream}}
}

// decodeRequest decodes what follows the group's id, without the header.
func decodeRequest(m *message, d *decoder) (any, error) {
	var q any
	switch m.kind {
	case kindAppend:
		q = decodeAppend(m, d)
	case kindVote:
		q = &raft.RequestVoteRequest{Term: d.u64(), LastLogIndex: d.u64(), LastLogTerm: d.u64(), LeadershipTransfer: d.bool()}
	case kindPreVote:
		q = &raft.RequestPreVoteRequest{Term: d.u64(), LastLogIndex: d.u64(), LastLogTerm: d.u64()}
	case kindTimeoutNow:
		q = &raft.TimeoutNowRequest{}
	case kindInstall:
		r := &raft.InstallSnapshotRequest{
			SnapshotVersion: 1, Term: d.u64(), LastLogIndex: d.u64(), LastLogTerm: d.u64(),
			Configuration: d.bytes(), ConfigurationIndex: d.u64(),
		}
		if len(m.parts) != 1 {
			return nil, fmt.Errorf("raftlog: install: %d parts, want 1", len(m.parts))
		}
		r.Size = int64(len(m.parts[0]))
		q = r
	default:
		return nil, fmt.Errorf("raftlog: message of kind %d is no request of a group", m.kind)
	}
	return q, d.finish()
}

// setSender puts the id that the handshake named into a request. The fields that the library calls deprecated
// are still read by it.
func setSender(q any, from raft.ServerID) {
	h := header(from)
	switch q := q.(type) {
	case *raft.AppendEntriesRequest:
		//lint:ignore SA1019 the library itself still reads it
		q.RPCHeader, q.Leader = h, h.Addr
	case *raft.RequestVoteRequest:
		//lint:ignore SA1019 the library itself still reads it
		q.RPCHeader, q.Candidate = h, h.Addr
	case *raft.RequestPreVoteRequest:
		q.RPCHeader = h
	case *raft.TimeoutNowRequest:
		q.RPCHeader = h
	case *raft.InstallSnapshotRequest:
		q.RPCHeader, q.Leader = h, h.Addr
	}
}

// encodeAnswer encodes raft's response to a request, or its error.
func encodeAnswer(resp any, err error) []byte {
	if err != nil {
		return encodeStatus(statusError, err.Error())
	}
	var e encoder
	e.u8(uint8(statusOK))
	switch r := resp.(type) {
	case *raft.AppendEntriesResponse:
		e.u64(r.Term)
		e.u64(r.LastLog)
		e.bool(r.Success)
		e.bool(r.NoRetryBackoff)
	case *raft.RequestVoteResponse:
		e.u64(r.Term)
		e.bool(r.Granted)
	case *raft.RequestPreVoteResponse:
		e.u64(r.Term)
		e.bool(r.Granted)
	case *raft.InstallSnapshotResponse:
		e.u64(r.Term)
		e.bool(r.Success)
	case *raft.TimeoutNowResponse:
	default:
		return encodeStatus(statusError, fmt.Sprintf("response of type %T", resp))
	}
	return e.b
}

// decodeAnswer fills resp, a pointer to one of raft's responses.
func decodeAnswer(meta []byte, from raft.ServerID, resp any) error {
	d, err := decodeStatus(meta)
	if err != nil {
		return err
	}
	h := header(from)
	switch r := resp.(type) {
	case *raft.AppendEntriesResponse:
		*r = raft.AppendEntriesResponse{RPCHeader: h, Term: d.u64(), LastLog: d.u64(), Success: d.bool(), NoRetryBackoff: d.bool()}
	case *raft.RequestVoteResponse:
		*r = raft.RequestVoteResponse{RPCHeader: h, Term: d.u64(), Granted: d.bool()}
	case *raft.RequestPreVoteResponse:
		*r = raft.RequestPreVoteResponse{RPCHeader: h, Term: d.u64(), Granted: d.bool()}
	case *raft.InstallSnapshotResponse:
		*r = raft.InstallSnapshotResponse{RPCHeader: h, Term: d.u64(), Success: d.bool()}
	case *raft.TimeoutNowResponse:
		*r = raft.TimeoutNowResponse{RPCHeader: h}
	}
	return d.finish()
}
