package ingest

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const (
	fetchWait      = 200 * time.Millisecond // a fetch waits so long for a first record; a partition that is resumed waits for it
	rebalanceSlack = 10 * time.Second       // for joining again, beyond draining and publishing
	letterTimeout  = 30 * time.Second       // for the dead letter topic to take a record
	metadataAge    = time.Minute            // new topics and partitions are found after this
)

// clientOptions are what every client needs: how to reach the brokers.
func (k Kafka) clientOptions() []kgo.Opt {
	opts := []kgo.Opt{kgo.SeedBrokers(k.Brokers...), kgo.ClientID(k.ClientID), kgo.DisableClientMetrics()}
	if k.Dial != nil || k.TLS != nil {
		opts = append(opts, kgo.Dialer(k.dialer()))
	}
	switch s := k.SASL; s.Mechanism {
	case "PLAIN":
		opts = append(opts, kgo.SASL(plain.Auth{User: s.Username, Pass: s.Password}.AsMechanism()))
	case "SCRAM-SHA-256":
		opts = append(opts, kgo.SASL(scram.Auth{User: s.Username, Pass: s.Password}.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		opts = append(opts, kgo.SASL(scram.Auth{User: s.Username, Pass: s.Password}.AsSha512Mechanism()))
	}
	return opts
}

// dialer puts TLS on top of the given or the ordinary way to connect.
func (k Kafka) dialer() func(context.Context, string, string) (net.Conn, error) {
	dial := k.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	if k.TLS == nil {
		return dial
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		config := k.TLS.Clone()
		if config.ServerName == "" {
			if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
				_ = conn.Close()
				return nil, fmt.Errorf("ingest: broker address %s: %w", address, err)
			}
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("ingest: broker %s: tls: %w", address, err)
		}
		return secure, nil
	}
}

// newClient makes the group member of a session.
func (s *session) newClient() (*kgo.Client, error) {
	o := s.options
	pool := newRecordPool(o.SessionBytes / recordPoolShare)
	var err error
	if s.inflate, err = newInflater(pool, o.SessionBytes/fetchShare); err != nil {
		return nil, err
	}
	opts := append(o.Kafka.clientOptions(),
		kgo.WithContext(s.ctx),
		kgo.ConsumerGroup(o.Group),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(o.SessionTimeout),
		kgo.HeartbeatInterval(o.SessionTimeout/5),
		kgo.RebalanceTimeout(o.DrainTimeout+requestTimeout+rebalanceSlack),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(s.fetch.mu.bytes),
		kgo.FetchMaxWait(fetchWait),
		kgo.FetchMaxPartitionBytes(partitionOf(s.fetch.mu.bytes, 0)),
		kgo.WithDecompressor(s.inflate),
		kgo.MetadataMaxAge(metadataAge),
		kgo.RecordDeliveryTimeout(letterTimeout),
		kgo.WithPools(pool),
		kgo.WithHooks(brokerHook{s.connector}, s.fetch),
		kgo.WithLogger(clientLogger{o.Logger}),
		kgo.OnOffsetsFetched(s.offsetsFetched),
		kgo.AdjustFetchOffsetsFn(s.assign),
		kgo.OnPartitionsAssigned(s.joined),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { s.revoke(parts, true) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { s.revoke(parts, false) }),
	)
	if o.Instance != "" {
		opts = append(opts, kgo.InstanceID(o.Instance))
	}
	if o.TopicsRegex != "" {
		opts = append(opts, kgo.ConsumeRegex(), kgo.ConsumeTopics(o.TopicsRegex))
	} else {
		opts = append(opts, kgo.ConsumeTopics(o.Topics...))
	}
	return kgo.NewClient(opts...)
}

// brokerHook keeps the connector's status informed about connections.
type brokerHook struct{ connector *Connector }

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (h brokerHook) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil {
		h.connector.setBroker(fmt.Sprintf("broker %s:%d: %v", meta.Host, meta.Port, err))
		return
	}
	h.connector.setBroker("")
}

// clientLogger passes the client's errors and warnings on.
type clientLogger struct{ logger *slog.Logger }

// Level implements kgo.Logger.
func (l clientLogger) Level() kgo.LogLevel { return kgo.LogLevelWarn }

// Log implements kgo.Logger.
func (l clientLogger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	if level <= kgo.LogLevelWarn {
		l.logger.Warn("kafka client", append([]any{"message", msg}, keyvals...)...)
	}
}
