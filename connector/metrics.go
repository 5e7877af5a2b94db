package connector

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"nyala/connector/api"
	"nyala/raftlog"
)

// metrics are what GET /metrics shows. Counters and gauges that a room keeps by itself are read when
// they are asked for; only what is a distribution is observed as it happens.
type metrics struct {
	node       *Node
	registry   *prometheus.Registry
	duplicates prometheus.Counter
	scanned    prometheus.Counter
	freshness  *prometheus.HistogramVec
	fsync      prometheus.Histogram
}

var fastBuckets = prometheus.ExponentialBuckets(50e-6, 2, 18) // 50 us to 6.5 s

func newMetrics(n *Node) *metrics {
	m := &metrics{node: n, registry: prometheus.NewRegistry()}
	m.duplicates = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "nyala_duplicates_dropped_total", Help: "Rows that a tablet had already and dropped."})
	m.scanned = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "nyala_scan_rows_total", Help: "Rows given to readers."})
	m.freshness = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "nyala_ingest_freshness_seconds", Help: "From a record's timestamp to its row being readable.",
		Buckets: prometheus.ExponentialBuckets(1e-3, 2, 20)}, []string{"connector"})
	m.fsync = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "nyala_wal_fsync_seconds", Help: "Duration of an fsync of the write-ahead log.", Buckets: fastBuckets})
	m.registry.MustRegister(m.duplicates, m.scanned, m.freshness, m.fsync, &collector{node: n},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *metrics) observeFreshness(connector string) func(seconds float64, rows int) {
	h := m.freshness.WithLabelValues(connector)
	return func(seconds float64, rows int) {
		h.Observe(seconds)
		if f := m.node.options.Freshness; f != nil {
			f(seconds, rows)
		}
	}
}

func (m *metrics) observeSync(took time.Duration, _ int64) { m.fsync.Observe(took.Seconds()) }

// collector reads the state of the node when Prometheus asks for it.
type collector struct{ node *Node }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("nyala_"+name, help, labels, nil)
}

var (
	descRecords     = describe("ingest_records_total", "Offsets taken from Kafka.", "connector")
	descBytes       = describe("ingest_bytes_total", "Bytes of records taken from Kafka.", "connector")
	descRows        = describe("ingest_rows_total", "Rows acknowledged.", "connector")
	descLag         = describe("ingest_lag_records", "Offsets from the watermark to the end of the partition.", "connector", "topic", "partition")
	descLagSeconds  = describe("ingest_lag_seconds", "Age of the oldest record that may be undecided.", "connector", "topic", "partition")
	descPaused      = describe("paused_partitions", "Partitions paused because memory is short.", "connector")
	descDeadLetters = describe("dead_letters_total", "Records that could not be rows.", "connector", "stage", "reason")
	descGaps        = describe("gap_records_total", "Offsets that were gone before they were read.", "connector")
	descLeaders     = describe("raft_leaders", "Groups that this node leads.")
	descMemoryUsed  = describe("memory_used_bytes", "Memory held because of rows.")
	descMemoryLimit = describe("memory_limit_bytes", "The part of node.memory that is for rows.")
	descTablets     = describe("tablets", "Replicas on this node.", "state")
	descWALBytes    = describe("wal_bytes", "Bytes of write-ahead log segments in use.")
	descWALPinned   = describe("wal_pinned_bytes", "Bytes of the log that are kept for tablets that are not flushed further.")
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRecords, descBytes, descRows, descLag, descLagSeconds, descPaused, descDeadLetters,
		descGaps, descLeaders, descMemoryUsed, descMemoryLimit, descTablets, descWALBytes, descWALPinned} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	n := c.node
	if n.tablets == nil || n.raft == nil {
		return // still opening
	}
	l := n.local()
	states := map[string]int{api.ReplicaRunning: 0, api.ReplicaFailed: 0}
	for _, r := range l.Replicas {
		states[r.State]++
	}
	for s, count := range states {
		gauge(descTablets, float64(count), s)
	}
	gauge(descLeaders, float64(l.Node.Leaders))
	gauge(descMemoryUsed, float64(l.Node.MemoryUsed))
	gauge(descMemoryLimit, float64(l.Node.MemoryLimit))
	w := n.raft.Stats()
	gauge(descWALBytes, float64(w.WAL.LogBytes))
	gauge(descWALPinned, float64(pinned(n.raft.Pins())))
	c.collectFeeds(ch, gauge)
}

func (c *collector) collectFeeds(ch chan<- prometheus.Metric, gauge func(*prometheus.Desc, float64, ...string)) {
	count := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	c.node.mu.Lock()
	feeds := make(map[string]*feed, len(c.node.mu.feeds))
	for name, f := range c.node.mu.feeds {
		feeds[name] = f
	}
	c.node.mu.Unlock()
	for name, f := range feeds {
		s := f.connector.Status()
		count(descRecords, s.Counters.Records, name)
		count(descBytes, s.Counters.Bytes, name)
		count(descRows, s.Counters.Rows, name)
		count(descGaps, s.Counters.Lost, name)
		for letter, v := range s.Counters.DeadLetters {
			count(descDeadLetters, v, name, letter.Stage, letter.Reason)
		}
		paused := 0
		for _, p := range s.Partitions {
			number := partitionLabel(p.Partition)
			gauge(descLag, float64(p.LagRecords), name, p.Topic, number)
			gauge(descLagSeconds, p.LagSeconds, name, p.Topic, number)
			if p.Throttled {
				paused++
			}
		}
		gauge(descPaused, float64(paused), name)
	}
}

// pinned is what the group that holds on to the oldest segment keeps from being recycled.
func pinned(pins []raftlog.Pin) int64 {
	if len(pins) == 0 {
		return 0
	}
	return pins[0].Bytes
}

func partitionLabel(p int32) string { return strconv.Itoa(int(p)) }
