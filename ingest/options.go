package ingest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"nyala/offsets"
	"nyala/store/batch"
)

// Kafka says how to reach the brokers.
type Kafka struct {
	Brokers  []string
	ClientID string // empty means "nyala"
	TLS      *tls.Config
	SASL     SASL
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // nil means a net.Dialer with a timeout of 10 s; TLS is put on top
}

// SASL says how to log in; an empty Mechanism means not at all.
type SASL struct {
	Mechanism string // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512
	Username  string
	Password  string
}

// Start says where a source begins that has neither a checkpoint nor a commit of the group.
type Start struct {
	Latest bool      // behind the last record
	Time   time.Time // not zero: at the first record stamped then or later
}

// OutOfRange says what to do when the next offset is gone from the log.
type OutOfRange uint8

// The policies.
const (
	OutOfRangeFail OutOfRange = iota // stop the partition and say so
	OutOfRangeSkip                   // a row in nyala.gaps, and on at the log's start
)

// BadRecords says what to do with a record that cannot be a row.
type BadRecords uint8

// The policies.
const (
	BadRecordDeadLetter BadRecords = iota // a row in nyala.dead_letters
	BadRecordFail                         // stop the partition and say so
)

// Options of a Connector. Those without a default must be set.
type Options struct {
	Name        string
	Kafka       Kafka
	Topics      []string
	TopicsRegex string // instead of Topics
	Group       string // the consumer group; empty means "nyala-" and the name
	// Instance makes this node a static member of the group (KIP-345): after a crash it is given its partitions
	// back at once, instead of waiting until the group gives its dead self up. Empty means none.
	Instance string
	Table    string

	// How records become rows; the schema comes from the Router. Decisions is called once a chunk, so it must be cheap, and its
	// result is never changed. nil means that the settings never change.
	Settings
	Decisions func() (*Decisions, error)

	Start           Start
	OutOfRange      OutOfRange
	BadRecords      BadRecords
	DeadLetterTopic string // dead letters are also produced here; empty means no

	// What the node gives.
	Router           Router
	Sender           *Sender
	CreateCheckpoint func(ctx context.Context, sources []offsets.Source, starts []int64) ([]int64, error)
	RaiseCheckpoints func(ctx context.Context, next map[offsets.Source]int64) error
	Acquire          func(ctx context.Context, bytes int64) error // waits for memory; nil means there always is
	Release          func(bytes int64)
	Freshness        func(seconds float64, rows int) // called as rows become readable, with the age of their oldest; nil means nobody asks
	Logger           *slog.Logger                    // nil means slog.Default
	Reached          func(Point)                     // told of each step; only tests set it
	broken           mistake                         // likewise

	// Of what records may hold until they are decided (recordBytes) all other bounds follow: what a fetch asks for, what pools keep.
	SessionBytes    int64         // of all partitions here, at which nothing is polled; 0 means 64 MiB
	PartitionBytes  int64         // of one, at which it is paused; 0 means half of SessionBytes
	ChunkBytes      int64         // decoded at a time; 0 means 2 MiB, at most a sixteenth of SessionBytes
	ChunkRows       int           // rows decoded at a time; 0 means 4096
	BlockTablets    int           // rows that go to so many tablets at a time are put together for each; 0 means 16
	CheckpointEvery time.Duration // 0 means 1 s
	DrainTimeout    time.Duration // how long a revoked partition may finish what it has sent; 0 means 5 s
	SessionTimeout  time.Duration // the group gives a silent member's partitions away after this; 0 means 10 s
	RestartDelay    time.Duration // before a refused owner, or a client that failed, is started again; 0 means 1 s
}

// Router knows where rows go. Both methods are called from many goroutines.
type Router interface {
	// Layout is the present layout of a table; it must be cheap. The result is never changed.
	Layout(table string) (*Layout, error)
	// EnsureRange makes the range partition that value falls into. ErrRangeRefused says it will not be made
	// (retention has dropped it, or it is beyond reason); other errors are tried again.
	EnsureRange(ctx context.Context, table string, value int64) error
}

// ErrRangeRefused is EnsureRange's answer for a value that has no place in the table: the row becomes a dead letter.
var ErrRangeRefused = errors.New("range refused")

// ErrTabletGone is Write's answer for a tablet that was dropped: the rows are read again and routed anew.
var ErrTabletGone = errors.New("tablet gone")

func (o Options) withDefaults() Options {
	if o.Group == "" {
		o.Group = "nyala-" + o.Name
	}
	if o.Kafka.ClientID == "" {
		o.Kafka.ClientID = "nyala"
	}
	if o.Acquire == nil {
		o.Acquire = func(context.Context, int64) error { return nil }
	}
	if o.Release == nil {
		o.Release = func(int64) {}
	}
	if o.Freshness == nil {
		o.Freshness = func(float64, int) {}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = o.Logger.With("connector", o.Name)
	setDefault(&o.SessionBytes, 64<<20)
	setDefault(&o.PartitionBytes, o.SessionBytes/2)
	setDefault(&o.ChunkRows, 4096)
	setDefault(&o.BlockTablets, 16)
	setDefault(&o.ChunkBytes, min(2<<20, o.SessionBytes/16))
	setDefault(&o.CheckpointEvery, time.Second)
	setDefault(&o.DrainTimeout, 5*time.Second)
	setDefault(&o.SessionTimeout, 10*time.Second)
	setDefault(&o.RestartDelay, time.Second)
	return o
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// validate returns every fault at once.
func (o *Options) validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("ingest: connector %s: %s", o.Name, what))
		}
	}
	need(o.Name != "" && len(o.Name) <= offsets.MaxConnector, "want a name of at most 512 bytes")
	need(len(o.Kafka.Brokers) > 0, "want at least one broker")
	need((len(o.Topics) > 0) != (o.TopicsRegex != ""), "want topics or a topics regex, not both")
	need(o.Table != "" && !strings.HasPrefix(o.Table, "nyala."), "want a table that is no system table")
	need(o.Router != nil && o.Sender != nil, "want a router and a sender")
	need(o.CreateCheckpoint != nil && o.RaiseCheckpoints != nil, "want checkpoints")
	need(o.Op != batch.Delete, "want upsert or insert")
	switch o.Kafka.SASL.Mechanism {
	case "", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
	default:
		need(false, fmt.Sprintf("sasl mechanism %q is unknown, want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", o.Kafka.SASL.Mechanism))
	}
	return errors.Join(errs...)
}
