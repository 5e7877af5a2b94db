package connector

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"nyala/configs"
	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/ingest"
	"nyala/ingest/decode"
	"nyala/offsets"
)

// kafkaDialLimit is how long a broker may take to accept a connection.
const kafkaDialLimit = 5 * time.Second

// feed is a connector that runs on this node.
type feed struct {
	connector *ingest.Connector
	paused    bool
}

// superviseFeeds starts this node's share of every connector as soon as its table is there, and pauses
// and resumes it as the catalog wants. It ends with the node; stopFeeds ends the connectors.
func (n *Node) superviseFeeds(ctx context.Context) {
	for ctx.Err() == nil {
		view := n.catalog.Snapshot()
		for _, c := range n.options.Config.Connectors {
			n.tendFeed(view, c)
		}
		select {
		case <-view.Superseded():
		case <-time.After(reconcileInterval):
		case <-ctx.Done():
		}
	}
	n.stopFeeds(ctx) // at once, for ctx is done
}

func (n *Node) tendFeed(view *catalog.Snapshot, c configs.Connector) {
	state, known := view.Connector(c.Name)
	if _, ok := view.Table(c.Table); !ok || !known {
		return
	}
	if state.Table != c.Table {
		return // planTables says so
	}
	n.mu.Lock()
	f, stopping := n.mu.feeds[c.Name], n.mu.stopping
	n.mu.Unlock()
	if f == nil && !stopping {
		started, err := n.startFeed(c)
		if err != nil {
			n.fault("connector "+c.Name, err)
			return
		}
		n.clearFault("connector " + c.Name)
		f = &feed{connector: started}
		n.mu.Lock()
		n.mu.feeds[c.Name] = f
		n.mu.Unlock()
	}
	if f == nil {
		return
	}
	if paused := state.Desired == catalog.Paused; paused != f.paused {
		f.paused = paused
		if paused {
			f.connector.Pause()
		} else {
			f.connector.Resume()
		}
	}
}

// stopFeeds drains the connectors until ctx is done: they checkpoint, commit and leave their groups.
func (n *Node) stopFeeds(ctx context.Context) {
	n.mu.Lock()
	feeds := n.mu.feeds
	n.mu.feeds, n.mu.stopping = map[string]*feed{}, true
	n.mu.Unlock()
	done := make(chan struct{})
	for _, f := range feeds {
		go func() {
			f.connector.Close(ctx)
			done <- struct{}{}
		}()
	}
	for range feeds {
		<-done
	}
}

func (n *Node) startFeed(c configs.Connector) (*ingest.Connector, error) {
	o, err := n.feedOptions(c)
	if err != nil {
		return nil, err
	}
	n.breaks(&o)
	return ingest.New(o)
}

// feedOptions turns a connector's settings into what ingest takes.
func (n *Node) feedOptions(c configs.Connector) (ingest.Options, error) {
	kafka, err := n.kafkaOptions()
	if err != nil {
		return ingest.Options{}, err
	}
	o := ingest.Options{
		Name: c.Name, Kafka: kafka, Topics: c.Topics, TopicsRegex: c.TopicsRegex, Group: c.ConsumerGroup, Instance: n.options.Node, Table: c.Table,
		Start:           ingest.Start{Latest: c.StartFrom.At == configs.StartLatest, Time: c.StartFrom.Time},
		DeadLetterTopic: c.DeadLetterTopic,
		Decisions:       n.decisionsOf(c.Name), Router: n.router, Sender: n.sender,
		CreateCheckpoint: n.createCheckpoints, RaiseCheckpoints: n.raiseCheckpoints,
		Acquire: n.tablets.Budget().Acquire, Release: n.tablets.Budget().Release,
		SessionBytes: divide(n.options.Config.Node.MemoryBytes).records / int64(len(n.options.Config.Connectors)),
		Freshness:    n.metrics.observeFreshness(c.Name), Logger: n.log, Reached: reached[ingest.Point](n.options.reached),
		ChunkRows: n.options.rows,
	}
	if n.options.rows > 0 {
		o.BlockTablets = 1
	}
	if c.OnOffsetOutOfRange == configs.OutOfRangeSkip {
		o.OutOfRange = ingest.OutOfRangeSkip
	}
	if c.OnBadRecord == configs.BadRecordFail {
		o.BadRecords = ingest.BadRecordFail
	}
	return o, nil
}

var timestampUnits = map[configs.TimestampUnit]decode.Unit{
	configs.Seconds: decode.Seconds, configs.Milliseconds: decode.Milliseconds,
	configs.Microseconds: decode.Microseconds, configs.Nanoseconds: decode.Nanoseconds,
}

func (n *Node) kafkaOptions() (ingest.Kafka, error) {
	k := n.options.Config.Kafka
	out := ingest.Kafka{Brokers: k.Brokers, ClientID: "nyala-" + n.options.Node}
	out.Dial = func(ctx context.Context, _, addr string) (net.Conn, error) {
		// Without a limit a broker that answers nothing would hold up everything behind it, a graceful stop too.
		ctx, cancel := context.WithTimeout(ctx, kafkaDialLimit)
		defer cancel()
		return n.options.Dial(ctx, addr)
	}
	if s := k.SASL; s != nil {
		out.SASL = ingest.SASL{Mechanism: s.Mechanism, Username: s.Username, Password: s.Password.Reveal()}
	}
	if k.TLS == nil {
		return out, nil
	}
	out.TLS = &tls.Config{ServerName: k.TLS.ServerName, MinVersion: tls.VersionTLS12}
	if k.TLS.CA != "" {
		out.TLS.RootCAs = x509.NewCertPool()
		if !out.TLS.RootCAs.AppendCertsFromPEM([]byte(k.TLS.CA)) {
			return out, fmt.Errorf("connector: kafka.tls.ca_file %s has no certificate in PEM", k.TLS.CAFile)
		}
	}
	if k.TLS.Cert != "" {
		pair, err := tls.X509KeyPair([]byte(k.TLS.Cert), []byte(k.TLS.Key.Reveal()))
		if err != nil {
			return out, fmt.Errorf("connector: kafka.tls.cert_file %s and key_file %s: %w", k.TLS.CertFile, k.TLS.KeyFile, err)
		}
		out.TLS.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

func (n *Node) createCheckpoints(ctx context.Context, sources []offsets.Source, starts []int64) ([]int64, error) {
	c := catalog.CreateCheckpoints{}
	for i, s := range sources {
		c.Checkpoints = append(c.Checkpoints, catalog.Checkpoint{Source: s, Next: starts[i]})
	}
	ctx, cancel := context.WithTimeout(ctx, n.logLimit())
	defer cancel()
	if n.options.broken == startUnwritten {
		return n.startsUnwritten(c), nil
	}
	r, err := n.propose(ctx, c)
	if n.options.broken == startWanted {
		return starts, err
	}
	if err == nil && len(r.Values) != len(sources) {
		err = errors.New("connector: the catalog answered for another number of sources")
	}
	return r.Values, err
}

func (n *Node) raiseCheckpoints(ctx context.Context, next map[offsets.Source]int64) error {
	c := catalog.RaiseCheckpoints{}
	for s, at := range next {
		if n.options.broken == checkpointSent {
			at = max(at, n.positionOf(s))
		}
		c.Checkpoints = append(c.Checkpoints, catalog.Checkpoint{Source: s, Next: at})
	}
	ctx, cancel := context.WithTimeout(ctx, n.logLimit())
	defer cancel()
	_, err := n.propose(ctx, c)
	return err
}

// positionOf is how far this node has read a source.
func (n *Node) positionOf(s offsets.Source) int64 {
	n.mu.Lock()
	f := n.mu.feeds[s.Connector]
	n.mu.Unlock()
	if f == nil {
		return 0
	}
	for _, p := range f.connector.Status().Partitions {
		if p.TopicID == s.Topic && p.Partition == s.Partition {
			return p.Position
		}
	}
	return 0
}

// feedStatus is what this node says of its connectors.
func (n *Node) feedStatus() map[string]api.Feed {
	n.mu.Lock()
	feeds := make(map[string]*feed, len(n.mu.feeds))
	for name, f := range n.mu.feeds {
		feeds[name] = f
	}
	faults := map[string]string{}
	for what, reason := range n.mu.notReady {
		if name, ok := strings.CutPrefix(what, "connector "); ok {
			faults[name] = reason
		}
	}
	n.mu.Unlock()
	out := map[string]api.Feed{}
	for name, reason := range faults {
		out[name] = api.Feed{State: api.ConnectorFailed, Reason: reason}
	}
	for name, f := range feeds {
		s := f.connector.Status()
		feed := api.Feed{State: strings.ToLower(string(s.State)), Reason: s.Reason}
		for _, p := range s.Partitions {
			checkpoint, _ := n.catalog.Checkpoint(offsets.Source{Connector: name, Topic: p.TopicID, Partition: p.Partition})
			feed.Partitions = append(feed.Partitions, api.Partition{
				Topic: p.Topic, TopicID: topicID(p.TopicID), Partition: p.Partition, Node: n.options.Node,
				State: strings.ToLower(string(p.State)), Reason: p.Reason, Position: p.Position, Watermark: p.Watermark,
				Checkpoint: checkpoint, End: p.HighWatermark, LagRecords: p.LagRecords, LagSeconds: p.LagSeconds,
			})
		}
		out[name] = feed
	}
	return out
}
