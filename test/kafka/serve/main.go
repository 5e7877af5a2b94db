// Command serve runs an Apache Kafka for trying things by hand: it prints the address, and stops on SIGINT or SIGTERM.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"nyala/test/kafka"
)

func main() {
	dir := flag.String("dir", "", "folder of its data, kept at the end; without it a temporary one")
	topic := flag.String("topic", "", "a topic to create")
	partitions := flag.Int("partitions", 8, "partitions of the topic")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *dir, *topic, int32(*partitions)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, dir, topic string, partitions int32) error {
	broker, err := kafka.Start(ctx, kafka.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer broker.Close()
	if topic != "" {
		if err := kafka.CreateTopic(ctx, broker.Addr(), topic, partitions); err != nil {
			return err
		}
	}
	fmt.Println(broker.Addr())
	<-ctx.Done()
	return broker.Stop()
}
