package raftlog

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// A node that leads a group, or follows in it, gets the rows of other nodes whether it has memory for them or not: they may
// hold none of the group's tablets themselves, and know nothing of how full this one is. So when memory is short, the entries
// that come from others wait, and with them whoever has sent them: one entry is under way for each sender and tablet.
//
// They wait for a while only. Rows leave memory when a command of the log says so, and that may be behind them in the same
// group. So memory that does not come back at all is exceeded in the end, by an append a second for each group.
// Small entries, such as those commands, never wait.
const (
	roomBytesMin       = 16 << 10
	roomBytesPerSecond = 512 << 10
	roomWaitMax        = time.Second // appends of several parts must be far below the limit of an append, and below what alarms the watchdog
)

// hasRoom tells whether an entry from another node need not wait.
func (l *Log) hasRoom(bytes int) bool {
	if l.o.Room == nil || bytes < roomBytesMin {
		return true
	}
	ctx, cancel := context.WithCancel(l.ctx)
	cancel()
	return l.o.Room(ctx) == nil
}

// awaitRoom waits for room for so many bytes, as long as they may wait, or until stop is closed.
func (l *Log) awaitRoom(bytes int, stop <-chan struct{}) {
	if l.hasRoom(bytes) {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, min(roomWaitMax, time.Duration(bytes)*time.Second/roomBytesPerSecond))
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- l.o.Room(ctx) }()
	select {
	case err := <-ended:
		if err != nil {
			l.counters.squeezed.Add(1)
		}
	case <-stop:
		cancel()
		<-ended
	}
}

// awaitRoom lets an append wait, and all behind it: the pump is blocked. Heartbeats of a leader that is known do not come this way.
func (t *transport) awaitRoom(q *raft.AppendEntriesRequest) {
	bytes := 0
	for _, e := range q.Entries {
		bytes += len(e.Data)
	}
	t.log.awaitRoom(bytes, t.closed)
}
