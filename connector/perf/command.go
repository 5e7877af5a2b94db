package perf

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// options are the flags of perf ingest.
type options struct {
	replicas   int
	tablets    int
	events     int64
	warmup     int64 // events ingested and flushed before
	partitions int
	rate       int           // of the freshness phase; 0: half of the measured maximum
	freshness  time.Duration // how long that phase is; 0: it is left out
	kills      int           // 0: resuming is not measured
	session    string        // type of the column session
	memory     string
	dir        string
	json       bool
	profile    string
}

func (o *options) validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("perf: "+format, args...))
		}
	}
	need(o.replicas > 0 && o.replicas%2 == 1 && o.replicas <= 7, "--replicas %d: want an odd number up to 7", o.replicas)
	need(o.tablets > 0 && o.tablets <= 1024, "--tablets %d: want 1 to 1024", o.tablets)
	need(o.events > 0, "--events %d: want at least 1", o.events)
	need(o.warmup >= 0, "--warmup %d: want a number of events", o.warmup)
	need(o.partitions > 0 && o.partitions <= 1024, "--partitions %d: want 1 to 1024", o.partitions)
	need(o.rate >= 0, "--rate %d: want a number of events a second", o.rate)
	need(o.freshness >= 0 && o.kills >= 0, "--freshness %s and --kills %d: want nothing below 0", o.freshness, o.kills)
	need(o.session == "uuid" || o.session == "string", "--session %q: want uuid or string", o.session)
	return errors.Join(errs...)
}

// Command is `nyala perf`.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "perf",
		Short: "Measure this machine",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(ingestCommand(), brokerCommand())
	return c
}

func ingestCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "ingest",
		Short: "Measure the way from Kafka to Parquet on every replica",
		Long: `Measures how fast events go from Kafka into tables, what an event costs, how soon it is readable, and how long a
dead leader keeps its tablets from writing. The broker is a process of its own, all replicas run in this one; data
are synced to the disk that --dir is on. What each figure means is in docs/performance.md.`,
		Example: "  nyala perf ingest\n  nyala perf ingest --replicas 1 --events 5000000 --json\n  nyala perf ingest --dir /data/perf --cpuprofile cpu.pprof",
		Args:    cobra.NoArgs,
		// What is wrong with the flags is said before RunE: it is wrong use, exit status 2.
		PreRunE: func(*cobra.Command, []string) error { return o.validate() },
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := ingest(c.Context(), o, newProgress(c.ErrOrStderr()))
			if err != nil {
				return err
			}
			if o.json {
				return r.writeJSON(c.OutOrStdout())
			}
			return r.write(c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.IntVar(&o.replicas, "replicas", 3, "replicas of each tablet, which is also the number of nodes")
	f.IntVar(&o.tablets, "tablets", 4, "tablets of the table")
	f.Int64Var(&o.events, "events", 2_000_000, "events to ingest")
	f.Int64Var(&o.warmup, "warmup", 0, "events to ingest and flush before: logs and memory are then used again, as in a node that has run for a while")
	f.IntVar(&o.partitions, "partitions", 8, "partitions of the topic")
	f.IntVar(&o.rate, "rate", 0, "events a second while freshness is measured (default: half of the measured maximum)")
	f.DurationVar(&o.freshness, "freshness", 10*time.Second, "how long freshness is measured; 0 leaves it out")
	f.IntVar(&o.kills, "kills", 3, "how often a leader is cut off; 0 leaves it out")
	f.StringVar(&o.session, "session", "uuid", "type of the column session: uuid or string")
	f.StringVar(&o.memory, "memory", "1GiB", "node.memory of each node")
	f.StringVar(&o.dir, "dir", "", "the directory for a temporary one with all data, which is removed at the end (default: the system's)")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.StringVar(&o.profile, "cpuprofile", "", "write the CPU profile of the ingestion to this file")
	return c
}
