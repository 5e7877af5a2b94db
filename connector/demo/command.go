package demo

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// options are the flags.
type options struct {
	dir    string
	rate   int
	chaos  bool
	length time.Duration // 0: until Ctrl-C
}

const rateMax = 5_000_000

func (o *options) validate() error {
	var errs []error
	if o.rate < 1 || o.rate > rateMax {
		errs = append(errs, fmt.Errorf("demo: --rate %d: want 1 to %d events a second", o.rate, rateMax))
	}
	if o.length < 0 {
		errs = append(errs, fmt.Errorf("demo: --for %s: want a duration above 0, as 30s", o.length))
	}
	return errors.Join(errs...)
}

// Command is `nyala demo`.
func Command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run three nodes, a Kafka broker and a producer here, and prove that no row is lost or doubled",
		Long: `Runs a whole cluster on this machine: three nodes, each a process of its own, an embedded Kafka broker and
a producer of app events. It ends at Ctrl-C or after --for: the producer stops, the rest is read, the table is
exported as Parquet, and every record that the broker acknowledged is looked for in the table and in the export.
Exit status 0 only if each is there exactly once, as it was produced; 3 if not.`,
		Example: "  nyala demo\n  nyala demo --chaos --for 60s\n  nyala demo --rate 200000 --dir demo-data",
		Args:    cobra.NoArgs,
		// What is wrong with the flags is said before RunE: it is wrong use, exit status 2.
		PreRunE: func(*cobra.Command, []string) error { return o.validate() },
		RunE: func(c *cobra.Command, _ []string) error {
			// The first Ctrl-C ends the show, and begins the proof; the second ends the proof, too.
			signals := make(chan os.Signal, 2)
			signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
			defer signal.Stop(signals)
			return run(c.Context(), o, newScreen(c.OutOrStdout()), signals)
		},
	}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", "", "a new or empty directory for all data, which is kept (default: a temporary one, removed at the end)")
	f.IntVar(&o.rate, "rate", 20_000, "events a second")
	f.BoolVar(&o.chaos, "chaos", false, "kill (SIGKILL) a node again and again")
	f.DurationVar(&o.length, "for", 0, "end after this long, as 30s (default: at Ctrl-C)")
	c.AddCommand(guardCommand())
	return c
}
