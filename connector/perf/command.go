package perf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Command is `nyala perf`.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "perf",
		Short: "Measure this machine",
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return wrongUse{fmt.Errorf("perf: there is nothing called %q to measure, want ingest, scan or recover", args[0])}
			}
			return c.Help()
		},
	}
	c.AddCommand(ingestCommand(), scanCommand(), recoverCommand(), plotCommand(), brokerCommand())
	return c
}

// wrongUse is an error that the user mends on the command line.
type wrongUse struct{ error }

// ExitCode is the exit status of wrong use.
func (wrongUse) ExitCode() int { return 2 }

// result is what a measurement has found.
type result interface {
	write(w io.Writer) error // for people
	rounded() any            // for JSON: numbers of a readable length
}

// measuring is a command that measures and prints. What is wrong with the flags is said before RunE: it is wrong use, exit status 2.
func measuring(c *cobra.Command, o *options, measure func(ctx context.Context, p *progress) (result, error)) *cobra.Command {
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("perf: %s takes no argument, got %q: give numbers by flags", c.Name(), args[0])
		}
		return nil
	}
	if c.PreRunE == nil {
		c.PreRunE = func(*cobra.Command, []string) error { return o.validate() }
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		r, err := measure(c.Context(), newProgress(c.ErrOrStderr()))
		switch {
		case r == nil:
			return err
		case o.json:
			return errors.Join(err, writeJSON(c.OutOrStdout(), r.rounded()))
		}
		return errors.Join(err, r.write(c.OutOrStdout()))
	}
	return c
}

// shared adds the flags that every measurement has. replicas and tablets are options of their own where a list is taken.
func (o *options) shared(c *cobra.Command, memory string) {
	f := c.Flags()
	*o = options{command: c.Name(), tablets: 4, events: 1, share: 0.5, reads: 1, partitions: 8, session: "uuid"}
	f.IntVar(&o.replicas, "replicas", 3, "replicas of each tablet, which is also the number of nodes")
	f.StringVar(&o.memory, "memory", memory, "node.memory of each node")
	f.StringVar(&o.dir, "dir", "", "the `folder` for a temporary one with all data, which is removed at the end (default: the system's)")
	f.BoolVar(&o.json, "json", false, "print JSON")
}

func ingestCommand() *cobra.Command {
	var o options
	var tablets, stored []int64
	c := &cobra.Command{
		Use:   "ingest",
		Short: "Measure the way from Kafka to Parquet on every replica",
		Long: `Measures how fast events go from Kafka into tables, what an event costs, how soon it is readable, and how long a
leader that is cut off keeps its tablets from writing. The broker is a process of its own, all replicas run in this one;
data are synced to the disk that --dir is on. What each figure means is in docs/performance.md.

--tablets and --stored take lists: each combination is measured on a cluster of its own, one after the other, and compared
with the first one.`,
		Example: `  nyala perf ingest
  nyala perf ingest --replicas 1 --events 5M --json
  nyala perf ingest --for 60s --dir /data/perf
  nyala perf ingest --tablets 4,64,256 --freshness 0 --kills 0
  nyala perf ingest --stored 10M --upserts 2M --memory 4GiB
  nyala perf ingest --freshness 10m --share 0.6 --memory 2GiB --samples long.ndjson
  nyala perf ingest --cpuprofile cpu.pprof`,
	}
	o.shared(c, "1GiB")
	f := c.Flags()
	countsFlag(c, &tablets, "tablets", 4, "tablets of the table; a list measures each")
	f.IntVar(&o.partitions, "partitions", 8, "partitions of the topic")
	countFlag(c, &o.events, "events", 2e6, "events to ingest")
	f.DurationVar(&o.sustain, "for", 0, "ingest so many events as take at least so long, after --events of them, which are not counted")
	countsFlag(c, &stored, "stored", 0, "rows, with other keys, that the table has before; a list measures each")
	countFlag(c, &o.upserts, "upserts", 0, "at the end write so many of the --stored rows again, in random order")
	countFlag(c, &o.rate, "rate", 0, "events a second while freshness is measured (default: --share of what was measured)")
	f.Float64Var(&o.share, "share", 0.5, "the rate while freshness is measured, as a part of the measured events a second")
	f.DurationVar(&o.freshness, "freshness", 10*time.Second, "how long freshness is measured; 0 leaves it out")
	f.IntVar(&o.kills, "kills", 3, "how often a leader is cut off; 0 leaves it out (perf recover kills processes)")
	f.StringVar(&o.session, "session", "uuid", "type of the column session: uuid or string")
	f.StringVar(&o.profile, "cpuprofile", "", "write the CPU profile of the ingestion to this `file`")
	f.StringVar(&o.allocs, "allocprofile", "", "write the profile of what was allocated from the start to the end of the ingestion to this `file`")
	f.StringVar(&o.samples, "samples", "", "write what each second was like to this `file`, a JSON object a line; perf plot draws it")
	var all []options
	c.PreRunE = func(*cobra.Command, []string) (err error) {
		all, err = series(o, tablets, stored)
		return err
	}
	return measuring(c, &o, func(ctx context.Context, p *progress) (result, error) { return ingestAll(ctx, all, p) })
}

// series are the measurements of every combination.
func series(o options, tablets, stored []int64) (all []options, err error) {
	var errs []error
	for _, t := range tablets {
		for _, s := range stored {
			one := o
			one.tablets, one.stored = int(min(t, 1<<30)), s
			errs = append(errs, one.validate())
			all = append(all, one)
		}
	}
	if len(all) > 1 && (o.profile != "" || o.allocs != "" || o.samples != "") {
		errs = append(errs, errors.New("perf: --cpuprofile, --allocprofile and --samples: want one measurement, not a list of --tablets or --stored"))
	}
	return all, errors.Join(errs...)
}

func scanCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "scan",
		Short: "Measure reads of a table",
		Long: `Measures how fast a table is read over HTTP: counted, 3 of its 11 columns, all rows and those with a condition, and single
rows by their primary key. Its rows are flushed to Parquet before. Nodes and the reader run in this process, so the
CPU time is that of both. What each figure means is in docs/performance.md.`,
		Example: `  nyala perf scan
  nyala perf scan --replicas 1 --events 20M --memory 2GiB --json`,
	}
	o.shared(c, "1GiB")
	f := c.Flags()
	f.IntVar(&o.tablets, "tablets", 4, "tablets of the table")
	countFlag(c, &o.events, "events", 2e6, "rows of the table")
	f.DurationVar(&o.reads, "for", 3*time.Second, "how long each kind of read is measured")
	return measuring(c, &o, func(ctx context.Context, p *progress) (result, error) { return scan(ctx, o, p) })
}

func recoverCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "recover",
		Short: "Measure how long a killed node is missed",
		Long: `Kills processes with SIGKILL and measures how long they are missed. Every node is a process of its own.

First the node that leads the most tablets is killed, again and again, while events are produced at --rate; measured is
the time until every tablet that it led takes a write. Then, in a new cluster, all nodes are killed at once with rows that are only in
the log; measured is the time from their start to the first count of all rows. All rows are counted in both.`,
		Example: `  nyala perf recover
  nyala perf recover --kills 5 --unflushed 0
  nyala perf recover --kills 0 --unflushed 4M --restarts 5 --json`,
	}
	o.shared(c, "4GiB")
	f := c.Flags()
	f.IntVar(&o.tablets, "tablets", 16, "tablets of the table")
	f.IntVar(&o.kills, "kills", 50, "how often a leader is killed; 0 leaves it out")
	countFlag(c, &o.rate, "rate", 10_000, "events a second that are produced meanwhile; 0: none")
	countFlag(c, &o.unflushed, "unflushed", 4e6, "rows that are only in the log when all nodes are killed; 0 leaves it out")
	f.IntVar(&o.restarts, "restarts", 3, "how often all nodes are killed")
	return measuring(c, &o, func(ctx context.Context, p *progress) (result, error) { return recovery(ctx, o, p) })
}

func plotCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "plot FILE",
		Short: "Draw the samples of perf ingest as SVG",
		Long:  "Reads a file of perf ingest --samples and prints an SVG picture of it: throughput, freshness, memory, files and the log over time.",
		Example: strings.TrimPrefix(`
  nyala perf ingest --freshness 10m --share 0.6 --samples long.ndjson
  nyala perf plot long.ndjson >long.svg`, "\n"),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("perf: plot: got %d arguments, want one: a file of perf ingest --samples", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			s, err := readSamples(args[0])
			if err != nil {
				return err
			}
			_, err = io.WriteString(c.OutOrStdout(), plot(s))
			return err
		},
	}
}
