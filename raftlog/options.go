package raftlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"nyala/store/vfs"
)

// Options configure a Log. Node, Incarnation, Cluster, FS, Dir, Listener, Dial and Address are required.
type Options struct {
	Node        string // this node's name
	Incarnation string // made when the data directory was: a node that lost its disk is another server
	Cluster     string // connections of other clusters are refused

	FS        vfs.FS
	Dir       string // of the WAL
	Used      bool   // there is state that a log belongs to: an empty one is refused, for it was lost
	PageCache bool   // acknowledge without fsync: what a crash of the machine loses is lost

	Listener net.Listener // closed by Log.Close
	Dial     func(ctx context.Context, addr string) (net.Conn, error)
	Address  func(node string) string // to dial for a node, empty if unknown

	// Preferred names the node that should lead a group, empty if it is all the same: it is the first to stand for election after a start. nil: it is.
	Preferred func(group GroupID) string

	// Files opens a file of a group for another node, at an offset. nil: none.
	Files func(group GroupID, name string, off int64) (io.ReadCloser, error)
	// Requests answers the calls of other nodes. nil: none.
	Requests func(ctx context.Context, from string, method uint8, body []byte) ([]byte, error)

	// Room waits until there is memory for more entries, or ctx is done. The entries of others wait for it, large ones and only for
	// a while: what gives memory back may be in an entry behind them. nil: there always is.
	Room func(ctx context.Context) error

	SegmentBytes int64                                 // of the WAL; 0 means the WAL's default
	CacheBytes   int64                                 // of entries kept in memory; 0 means the WAL's default
	AppendMax    int                                   // entries that one append takes to a follower; those read for one that lags are in memory at once. 0 means 64
	SlowWrite    time.Duration                         // a write that takes so long costs this node what it leads; 0 means 1s
	WriteTimeout time.Duration                         // of one WAL write and sync; 0 means the WAL's default
	OnSync       func(took time.Duration, bytes int64) // told of each WAL write and its sync; must be quick. nil: nobody asks
	Timings      Timings
	Logger       *slog.Logger // nil: none
	Reached      func(Point)  // told of each step; only tests set it

	test switches
}

// Timings are the clocks of the groups. The zero value of each means its default.
type Timings struct {
	Heartbeat time.Duration // a follower that hears nothing for so long, and up to twice that, stands for election; 0 means 500ms
	Commit    time.Duration // how soon followers of an idle group learn of the last commit; 0 means 200ms
	Append    time.Duration // an append without an answer for so long has failed, beside 1s for each MiB; 0 means 10s
	Install   time.Duration // the same of a manifest, with the fetching of its files; 0 means 1h
	Stall     time.Duration // the same of the next piece of a file; 0 means 30s
	PinGrace  time.Duration // the log is not cut for so long after a manifest was sent; 0 means 10s
	Retain    time.Duration // how long a living follower that lags keeps the leader's log from being cut; 0 means 1m
	Transfer  time.Duration // how long a transfer of leadership or a change of members may take; 0 means 10s
	Watchdog  time.Duration // the leader that sends a follower nothing for so long gives up its place; 0 means 15s
}

func (t Timings) withDefaults() Timings {
	for _, f := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&t.Heartbeat, 500 * time.Millisecond}, {&t.Commit, 200 * time.Millisecond}, {&t.Append, 10 * time.Second},
		{&t.Install, time.Hour}, {&t.Stall, 30 * time.Second}, {&t.PinGrace, 10 * time.Second},
		{&t.Retain, time.Minute}, {&t.Transfer, 10 * time.Second}, {&t.Watchdog, 15 * time.Second},
	} {
		if *f.value == 0 {
			*f.value = f.def
		}
	}
	return t
}

// tick is how long heartbeats wait for those of other groups to the same peer.
func (t Timings) tick() time.Duration { return t.Heartbeat / 25 }

// ping is how often a quiet connection is tried, silence how long a peer may say nothing at all.
func (t Timings) ping() time.Duration    { return 2 * t.Heartbeat }
func (t Timings) silence() time.Duration { return 8 * t.Heartbeat }

func (o Options) validate() error {
	var errs []error
	for _, f := range []struct {
		name    string
		missing bool
	}{
		{"Node", o.Node == ""}, {"Incarnation", o.Incarnation == ""}, {"Cluster", o.Cluster == ""}, {"FS", o.FS == nil}, {"Dir", o.Dir == ""},
		{"Listener", o.Listener == nil}, {"Dial", o.Dial == nil}, {"Address", o.Address == nil},
	} {
		if f.missing {
			errs = append(errs, fmt.Errorf("raftlog: options: %s is missing", f.name))
		}
	}
	if strings.Contains(o.Node+o.Incarnation, "#") {
		errs = append(errs, fmt.Errorf("raftlog: options: node %q, incarnation %q: want no #", o.Node, o.Incarnation))
	}
	if o.Timings.Heartbeat < 0 || o.Timings.Heartbeat > 0 && o.Timings.Heartbeat < 50*time.Millisecond {
		errs = append(errs, fmt.Errorf("raftlog: options: Timings.Heartbeat is %v, want at least 50ms", o.Timings.Heartbeat))
	}
	return errors.Join(errs...)
}

// switches are for this package's tests: they take safeguards away, to show that each is needed, and bring
// faults in.
type switches struct {
	rules      uint32 // bit n: without rule n
	noPipeline bool
	storeLogs  func(GroupID) error // asked before each append to the log
}

func (s switches) without(rule int) bool { return s.rules&(1<<rule) != 0 }
