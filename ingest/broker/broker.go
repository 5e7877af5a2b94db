package broker

import (
	"fmt"
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Options of a Broker; the zero value is one broker on a free port without topics.
type Options struct {
	Brokers    int                                                 // 0 means 1
	Ports      []int                                               // one per broker; empty means free ones
	Partitions int                                                 // of each topic; 0 means 1
	Topics     []string                                            // made at the start
	Folder     string                                              // records survive a restart in it; empty means memory only
	Listen     func(network, address string) (net.Listener, error) // nil means net.Listen
}

// Broker is a running Kafka cluster in this process.
type Broker struct {
	cluster    *kfake.Cluster
	partitions int
}

// batchBytesMax lets a producer send batches as large as a real cluster is often configured for.
const batchBytesMax = 64 << 20

// segmentBytes is what records are given back in, when they are deleted: whole segments.
const segmentBytes = 16 << 20

// Start runs a cluster. Close it in the end.
func Start(o Options) (*Broker, error) {
	o.Brokers, o.Partitions = max(o.Brokers, 1), max(o.Partitions, 1)
	opts := []kfake.Opt{
		kfake.NumBrokers(o.Brokers),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": strconv.Itoa(batchBytesMax), "log.segment.bytes": strconv.Itoa(segmentBytes)}),
	}
	if len(o.Topics) > 0 {
		opts = append(opts, kfake.SeedTopics(int32(o.Partitions), o.Topics...))
	}
	if len(o.Ports) > 0 {
		opts = append(opts, kfake.Ports(o.Ports...))
	}
	if o.Folder != "" {
		opts = append(opts, kfake.DataDir(o.Folder))
	}
	if o.Listen != nil {
		opts = append(opts, kfake.ListenFn(o.Listen))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("broker: start: %w", err)
	}
	return &Broker{cluster: cluster, partitions: o.Partitions}, nil
}

// Addresses is where the brokers listen.
func (b *Broker) Addresses() []string { return b.cluster.ListenAddrs() }

// Close ends the cluster.
func (b *Broker) Close() { b.cluster.Close() }

// CreateTopic makes one more topic; partitions 0 means as many as the first ones have.
func (b *Broker) CreateTopic(name string, partitions int) error {
	if partitions == 0 {
		partitions = b.partitions
	}
	if err := b.cluster.CreateTopic(name, int32(partitions), nil); err != nil {
		return fmt.Errorf("broker: topic %s: %w", name, err)
	}
	return nil
}

// DeleteTopic deletes a topic; made again under its name it is another one.
func (b *Broker) DeleteTopic(name string) error {
	if err := b.cluster.DeleteTopic(name); err != nil {
		return fmt.Errorf("broker: topic %s: %w", name, err)
	}
	return nil
}

// DeleteRecords removes the records of a partition below an offset, as retention does.
func (b *Broker) DeleteRecords(topic string, partition int32, below int64) error {
	if err := b.cluster.DeleteRecords(topic, partition, below); err != nil {
		return fmt.Errorf("broker: topic %s partition %d: %w", topic, partition, err)
	}
	return nil
}

// End is the offset behind the last record of a partition, -1 when there is no such partition.
func (b *Broker) End(topic string, partition int32) int64 {
	info := b.cluster.PartitionInfo(topic, partition)
	if info == nil {
		return -1
	}
	return info.HighWatermark
}

// Commit is a group's commit of a partition, -1 when it has none.
func (b *Broker) Commit(group, topic string, partition int32) int64 {
	info := b.cluster.GroupInfo(group)
	if info == nil {
		return -1
	}
	if c, ok := info.Commits[topic][partition]; ok {
		return c.Offset
	}
	return -1
}
