package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// askAgain is how often a broker is asked whether it knows what it was told.
const askAgain = 50 * time.Millisecond

// CreateTopic makes a topic of one replica.
func CreateTopic(ctx context.Context, addr, topic string, partitions int32) error {
	return administer(addr, func(admin *kadm.Client) error {
		if _, err := admin.CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
			return fmt.Errorf("kafka: create topic %s: %w", topic, err)
		}
		return awaitPartitions(ctx, admin, topic, int(partitions))
	})
}

// GrowTopic gives a topic more partitions.
func GrowTopic(ctx context.Context, addr, topic string, partitions int32) error {
	return administer(addr, func(admin *kadm.Client) error {
		r, err := admin.UpdatePartitions(ctx, int(partitions), topic)
		if err == nil {
			err = r.Error()
		}
		if err != nil {
			return fmt.Errorf("kafka: %s: %d partitions: %w", topic, partitions, err)
		}
		return awaitPartitions(ctx, admin, topic, int(partitions))
	})
}

// DeleteTopic deletes a topic and all that is in it.
func DeleteTopic(ctx context.Context, addr, topic string) error {
	return administer(addr, func(admin *kadm.Client) error {
		if _, err := admin.DeleteTopic(ctx, topic); err != nil {
			return fmt.Errorf("kafka: delete topic %s: %w", topic, err)
		}
		return awaitPartitions(ctx, admin, topic, 0)
	})
}

// DeleteRecords deletes the records of a topic below an offset of each partition, as retention does.
func DeleteRecords(ctx context.Context, addr, topic string, below map[int32]int64) error {
	return administer(addr, func(admin *kadm.Client) error {
		offsets := kadm.Offsets{}
		for p, o := range below {
			offsets.AddOffset(topic, p, o, -1)
		}
		r, err := admin.DeleteRecords(ctx, offsets)
		if err == nil {
			err = r.Error()
		}
		if err != nil {
			return fmt.Errorf("kafka: delete records of %s below %v: %w", topic, below, err)
		}
		return nil
	})
}

func administer(addr string, do func(*kadm.Client) error) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	defer client.Close()
	return do(kadm.NewClient(client))
}

// awaitPartitions waits until the broker tells clients of so many partitions.
func awaitPartitions(ctx context.Context, admin *kadm.Client, topic string, want int) error {
	for {
		topics, err := admin.ListTopics(ctx, topic)
		if err == nil && len(topics[topic].Partitions) == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kafka: %s: got %d partitions, want %d: %w", topic, len(topics[topic].Partitions), want, ctx.Err())
		case <-time.After(askAgain):
		}
	}
}
