package ingest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nyala/offsets"
)

// State of a connector or of one of its partitions.
type State string

// The states. TopicRecreated is of partitions only; Starting, Paused and Stopped of connectors only.
const (
	Starting       State = "STARTING"
	Running        State = "RUNNING"
	Paused         State = "PAUSED"
	Failed         State = "FAILED" // of a connector: no client, or a partition has stopped
	TopicRecreated State = "TOPIC_RECREATED"
	Stopped        State = "STOPPED"
)

// PausedMemory begins the reason of a partition, and of a connector, that waits for memory. It is no error.
const PausedMemory = "paused: memory"

// throttledAfter is how long a wait for memory lasts before it is worth a word: shorter ones are how a busy node works.
const throttledAfter = time.Second

// ConnectorStatus is what Status returns: this node's share of the connector.
type ConnectorStatus struct {
	Name       string
	State      State
	Reason     string
	Group      string
	Table      string
	LagRecords int64   // offsets from the watermarks to the ends of the logs
	LagSeconds float64 // age of the oldest record that may be undecided
	Partitions []PartitionStatus
	Counters   Counters
}

// PartitionStatus is one partition that this node owns. Offsets are next positions; -1 is unknown.
type PartitionStatus struct {
	Topic         string
	TopicID       offsets.TopicID
	Partition     int32
	State         State
	Reason        string
	Start         int64 // where the ownership began
	Position      int64 // decoded and sent up to here
	Watermark     int64 // decided up to here
	Checkpoint    int64
	Committed     int64 // in Kafka
	HighWatermark int64
	LagRecords    int64
	LagSeconds    float64
	QueuedBytes   int64 // of records taken and undecided
	Throttled     bool  // it is not read, or not decoded, because memory is short; Reason begins with PausedMemory
}

// Counters rise for as long as the connector lives.
type Counters struct {
	Records     int64 // taken from Kafka, control records too
	Bytes       int64
	Rows        int64 // in applied entries
	Seen        int64 // of these dropped by tablets that had them already (the shared entry's are counted once)
	Lost        int64 // offsets in nyala.gaps
	Restarts    int64 // owners that began again after a refusal
	DeadLetters map[Letter]int64
}

// Letter is why a record became a dead letter: the stage and a short reason.
type Letter struct{ Stage, Reason string }

// counters is the live form of Counters.
type counters struct {
	records, bytes, rows, seen, gaps, restarts atomic.Int64
	mu                                         struct {
		sync.Mutex
		letters map[Letter]int64
	}
}

func (c *counters) letter(stage, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.letters == nil {
		c.mu.letters = map[Letter]int64{}
	}
	c.mu.letters[Letter{stage, reason}]++
}

func (c *counters) snapshot() Counters {
	c.mu.Lock()
	letters := maps.Clone(c.mu.letters)
	c.mu.Unlock()
	return Counters{
		Records: c.records.Load(), Bytes: c.bytes.Load(), Rows: c.rows.Load(), Seen: c.seen.Load(),
		Lost: c.gaps.Load(), Restarts: c.restarts.Load(), DeadLetters: letters,
	}
}

// Status is how the connector stands now, partitions in order of topic and number.
func (c *Connector) Status() ConnectorStatus {
	st := ConnectorStatus{
		Name: c.options.Name, Group: c.options.Group, Table: c.options.Table,
		State: Running, Counters: c.counters.snapshot(),
	}
	c.mu.Lock()
	s := c.mu.session
	paused, started, closed, failure := c.mu.paused, c.mu.started, c.mu.closed, c.mu.failure
	st.Reason = cmp.Or(c.mu.reason, c.mu.broker)
	c.mu.Unlock()
	if s != nil {
		now := time.Now()
		for _, o := range s.all() {
			st.Partitions = append(st.Partitions, o.status(now))
		}
	}
	slices.SortFunc(st.Partitions, func(a, b PartitionStatus) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	var stopped *PartitionStatus // the first one
	others, throttled := 0, 0
	for i := range st.Partitions {
		p := &st.Partitions[i]
		st.LagRecords += p.LagRecords
		st.LagSeconds = max(st.LagSeconds, p.LagSeconds)
		if p.Throttled {
			throttled++
		}
		if p.State == Running {
			continue
		}
		if others++; stopped == nil {
			stopped, others = p, 0
		}
	}
	if throttled > 0 && st.Reason == "" {
		st.Reason = fmt.Sprintf("%s: %d of %d partitions wait for it", PausedMemory, throttled, len(st.Partitions))
	}
	switch {
	case closed:
		st.State = Stopped
	case failure != "":
		st.State, st.Reason = Failed, failure
	case stopped != nil:
		st.State, st.Reason = Failed, fmt.Sprintf("%s/%d: %s", stopped.Topic, stopped.Partition, stopped.Reason)
		if others > 0 {
			st.Reason += fmt.Sprintf(" (stopped on this node, too: %d more)", others)
		}
	case paused:
		st.State = Paused
	case !started:
		st.State = Starting
	}
	return st
}

func (o *owner) status(now time.Time) PartitionStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := PartitionStatus{
		Topic: o.topic, TopicID: o.source.Topic, Partition: o.source.Partition,
		State: o.mu.state, Reason: o.mu.reason, Start: o.start, Position: o.mu.position,
		Watermark: o.mu.tracker.Low(), Checkpoint: o.mu.checkpoint, Committed: o.mu.committed,
		HighWatermark: o.mu.high, QueuedBytes: o.mu.queued,
	}
	if why := o.throttledLocked(now); why != "" {
		p.Throttled, p.Reason = true, cmp.Or(p.Reason, PausedMemory+": "+why)
	}
	if p.HighWatermark > p.Watermark {
		p.LagRecords = p.HighWatermark - p.Watermark
		if o.mu.newest > 0 {
			p.LagSeconds = max(now.Sub(time.UnixMilli(o.mu.newest)).Seconds(), 0)
		}
	}
	return p
}

// throttledLocked is what the partition waits for when memory is short, empty when it does not.
func (o *owner) throttledLocked(now time.Time) string {
	full := o.session.full.Load()
	switch {
	case o.mu.state != Running:
		return ""
	case !o.mu.waiting.IsZero() && now.Sub(o.mu.waiting) >= throttledAfter:
		return "node.memory is in use, rows are being written to files"
	case o.mu.paused:
		return fmt.Sprintf("%d bytes of its records wait for their tablets", o.mu.queued)
	case full > 0 && now.Sub(time.UnixMicro(full)) >= throttledAfter:
		return "records of all partitions wait for their tablets"
	}
	return ""
}
