package perf

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nyala/configs"
)

// options are the flags of all measurements; each command has those that mean something to it.
type options struct {
	command    string
	replicas   int
	tablets    int
	partitions int
	events     int64
	session    string // type of the column session
	memory     string
	dir        string
	json       bool
	left       *leftovers // of a series

	// Of ingest.
	sustain   time.Duration // so many events as take about so long, instead of events; 0: events
	stored    int64         // rows that the table has before
	upserts   int64         // of these written again, in the end
	rate      int64         // of the freshness phase; 0: share of the measured maximum
	share     float64
	freshness time.Duration // how long that phase is; 0: it is left out
	kills     int           // 0: resuming is not measured
	profile   string
	allocs    string
	samples   string

	// Of scan.
	reads time.Duration // how long each kind of read is measured

	// Of recover.
	unflushed int64 // rows that are only in the log when all nodes are killed; 0: that is not measured
	restarts  int
}

// validate names every fault of the flags.
func (o *options) validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("perf: "+format, args...))
		}
	}
	need(o.replicas > 0 && o.replicas%2 == 1 && o.replicas <= 7, "--replicas %d: want an odd number up to 7", o.replicas)
	need(o.tablets > 0 && o.tablets <= 1024, "--tablets %d: want 1 to 1024", o.tablets)
	need(o.partitions > 0 && o.partitions <= 1024, "--partitions %d: want 1 to 1024", o.partitions)
	need(o.events > 0, "--events %d: want at least 1", o.events)
	need(o.session == "uuid" || o.session == "string", "--session %q: want uuid or string", o.session)
	memory, err := parseMemory(o.memory)
	need(err == nil, "--memory %q: want a size of at least 64MiB, as 1GiB", o.memory)
	need(o.sustain >= 0, "--for %s: want nothing below 0", o.sustain)
	need(o.upserts <= o.stored, "--upserts %d: want at most --stored, which is %d: each writes a row again that is stored", o.upserts, o.stored)
	need(o.share > 0 && o.share <= 1, "--share %g: want a part of 1, as 0.5", o.share)
	need(o.freshness >= 0 && o.kills >= 0, "--freshness %s and --kills %d: want nothing below 0", o.freshness, o.kills)
	need(o.reads > 0, "--for %s: want more than 0", o.reads)
	need(o.unflushed == 0 || o.restarts > 0, "--restarts %d: want at least 1", o.restarts)
	if o.unflushed > 0 && err == nil {
		rows, memoryRows := o.unflushed*unflushedBytes, memory/4
		need(rows < int64(o.tablets)*min(flushBytes, memory/20), "--unflushed %d: %s of rows in --tablets %d are too many: a tablet flushes at %s",
			o.unflushed, bytesText(rows), o.tablets, bytesText(min(flushBytes, memory/20)))
		need(rows < memoryRows, "--unflushed %d: %s of rows are too many for --memory %s: a node flushes at about %s", o.unflushed, bytesText(rows), o.memory, bytesText(memoryRows))
	}
	return errors.Join(errs...)
}

// parseMemory reads a size as a configuration has it: it asks one.
func parseMemory(text string) (int64, error) {
	c, err := configs.Parse("--memory", fmt.Appendf(nil, "cluster: {name: perf, nodes: [{id: n1, peer: '127.0.0.1:1', http: '127.0.0.1:2', data: d}]}\nnode: {memory: %q}\n", text), noEnvironment, noFiles)
	if err != nil {
		return 0, err
	}
	return c.Node.MemoryBytes, nil
}

func noEnvironment(string) (string, bool) { return "", false }
func noFiles(name string) ([]byte, error) { return nil, fmt.Errorf("%s: %w", name, os.ErrNotExist) }

// A tablet flushes when it has so many bytes of rows (store.ManagerOptions.FlushBytes: less in a small memory), and all of a node's are
// flushed when they fill a quarter of it. An event is about so many bytes.
const (
	flushBytes     = 64 << 20
	unflushedBytes = 190
)

// count is a flag's value (pflag.Value), a number of things, which may end in k, M or G; with commas it is many of them if the flag takes a list.
type count struct {
	values *[]int64
	one    *int64
}

// parseCount reads 2000000, 2M, 500k or 0.5M.
func parseCount(text string) (int64, error) {
	digits, unit := text, 1.0
	for suffix, u := range map[string]float64{"k": 1e3, "M": 1e6, "G": 1e9} {
		if d, ok := strings.CutSuffix(text, suffix); ok {
			digits, unit = d, u
		}
	}
	v, err := strconv.ParseFloat(digits, 64)
	if n := int64(v * unit); err == nil && v >= 0 && v*unit < 1e15 && float64(n) == v*unit {
		return n, nil
	}
	return 0, errors.New("want a number, as 500000, 500k or 2M")
}

// Set reads what the user gave.
func (c count) Set(text string) error {
	var all []int64
	for _, part := range strings.Split(text, ",") {
		n, err := parseCount(part)
		if err != nil {
			return err
		}
		all = append(all, n)
	}
	if c.values != nil {
		*c.values = all
		return nil
	}
	if len(all) > 1 {
		return errors.New("want one number")
	}
	*c.one = all[0]
	return nil
}

// String is the value as help shows it.
func (c count) String() string {
	var all []string
	switch {
	case c.values != nil:
		for _, n := range *c.values {
			all = append(all, countText(n))
		}
	case c.one != nil:
		all = append(all, countText(*c.one))
	}
	return strings.Join(all, ",")
}

// Type is what help shows for a value.
func (c count) Type() string {
	if c.values != nil {
		return "counts"
	}
	return "count"
}

func countText(n int64) string {
	switch {
	case n >= 1e6 && n%1e6 == 0:
		return fmt.Sprintf("%dM", n/1e6)
	case n >= 1e3 && n%1e3 == 0:
		return fmt.Sprintf("%dk", n/1e3)
	}
	return strconv.FormatInt(n, 10)
}

func countFlag(c *cobra.Command, into *int64, name string, value int64, usage string) {
	*into = value
	c.Flags().Var(count{one: into}, name, usage)
}

func countsFlag(c *cobra.Command, into *[]int64, name string, value int64, usage string) {
	*into = []int64{value}
	c.Flags().Var(count{values: into}, name, usage)
}

// bytesText writes a size for people.
func bytesText(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
