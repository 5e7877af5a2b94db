package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"nyala/connector/api"
)

// replayFlags select letters.
type replayFlags struct {
	connector, topic string
	partition        int32
	offset, from, to int64
	limit            int64
	dry, asJSON      bool
}

func (p *program) replayCommand() *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use:   "replay",
		Short: "Put dead letters in again, once the reason is gone",
		Long: `Decides on dead letters once more, by the settings that their connector has now. Those that are rows today are written to its
table and marked as replayed; those that are still none are left as they are, and counted by reason.

Each letter is replayed once for ever, whatever is interrupted or started twice: what was begun is finished by the next
replay, and repeating a replay changes nothing. A replayed record is the newest version of its key: with write: upsert it
replaces what came meanwhile, with write: insert a row that is there wins. --dry-run shows what would become of each.`,
		Example: `  nyala dead-letters replay --dry-run
  nyala dead-letters replay --connector app-events --topic app-events
  nyala dead-letters replay --topic app-events --partition 3 --from 1000 --to 2000`,
		Args: arguments(),
	}
	t := p.target(c)
	s := c.Flags()
	s.StringVar(&f.connector, "connector", "", "only letters of this `connector`")
	s.StringVar(&f.topic, "topic", "", "only letters of this `topic`")
	s.Int32Var(&f.partition, "partition", 0, "only letters of this `partition` of --topic")
	s.Int64Var(&f.offset, "offset", 0, "only the letter of this `offset` of --partition")
	s.Int64Var(&f.from, "from", 0, "only letters from this `offset` of --partition on")
	s.Int64Var(&f.to, "to", 0, "only letters below this `offset` of --partition")
	s.Int64Var(&f.limit, "limit", 0, "`letters` to decide on at most; 0 means all")
	s.BoolVar(&f.dry, "dry-run", false, "write nothing: print what would become of each letter")
	s.BoolVar(&f.asJSON, "json", false, "the outcome as JSON")
	c.MarkFlagsMutuallyExclusive("offset", "from")
	c.MarkFlagsMutuallyExclusive("offset", "to")
	c.RunE = func(c *cobra.Command, _ []string) error {
		q, err := f.query(s.Changed)
		if err != nil {
			return err
		}
		client, err := t.client(c.Context())
		if err != nil {
			return err
		}
		return p.replay(c.Context(), client, q, f)
	}
	return c
}

// query is the selection as the node wants it.
func (f *replayFlags) query(given func(string) bool) (url.Values, error) {
	for _, name := range []string{"offset", "from", "to"} {
		if given(name) && !given("partition") {
			return nil, wrongUse("--%s is one of a partition: give --topic and --partition as well", name)
		}
	}
	if given("partition") && f.topic == "" {
		return nil, wrongUse("--partition is one of a topic: give --topic as well")
	}
	q := url.Values{}
	set := func(name, key string, v int64) error {
		if !given(name) {
			return nil
		}
		if v < 0 {
			return wrongUse("--%s %d: want 0 or more", name, v)
		}
		q.Set(key, strconv.FormatInt(v, 10))
		return nil
	}
	err := errors.Join(set("partition", "partition", int64(f.partition)), set("offset", "from", f.offset), set("from", "from", f.from),
		set("to", "to", f.to), set("limit", "limit", f.limit))
	if given("offset") {
		q.Set("to", strconv.FormatInt(f.offset+1, 10))
	}
	for key, v := range map[string]string{"connector": f.connector, "topic": f.topic} {
		if v != "" {
			q.Set(key, v)
		}
	}
	if f.dry {
		q.Set("dry_run", "true")
	}
	return q, err
}

func (p *program) replay(ctx context.Context, client *api.Client, q url.Values, f replayFlags) error {
	res, err := client.Do(ctx, http.MethodPost, "/api/v1/dead-letters/replay", q, nil)
	if err != nil {
		return err
	}
	last, err := p.followReplay(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return fmt.Errorf("replay on %s: %w: repeat the command, it goes on where this one stood", client.Server, err)
	}
	if f.asJSON {
		text, err := json.Marshal(last)
		if err != nil {
			return err
		}
		return p.printJSON(text)
	}
	return p.printReplay(last)
}

// followReplay reads how far the replay is until it is done, and shows that where a person looks on.
func (p *program) followReplay(in io.Reader) (last api.Replay, err error) {
	watched := isTerminal(p.stderr)
	for lines := json.NewDecoder(in); !last.Done; {
		last = api.Replay{}
		if err := lines.Decode(&last); err == io.EOF {
			return last, errors.New("the answer was cut")
		} else if err != nil {
			return last, err
		}
		if last.Error != "" {
			return last, errors.New(last.Error)
		}
		if watched {
			fmt.Fprintf(p.stderr, "\r%s looked at, %s replayed ", count(last.Letters), count(last.Replayed))
		}
	}
	if watched {
		fmt.Fprint(p.stderr, "\r\x1b[K")
	}
	return last, nil
}

func (p *program) printReplay(r api.Replay) error {
	refused := int64(0)
	for _, f := range r.Refused {
		refused += f.Letters
	}
	if r.Dry {
		if err := p.printSample(r); err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "Of %s that were not replayed yet, %s would be rows, %s would not.\n", letterCount(r.Letters), count(r.Replayed), count(refused))
	} else {
		fmt.Fprintf(p.stdout, "Replayed %s.\n", letterCount(r.Replayed))
	}
	if r.Finished > 0 {
		fmt.Fprintf(p.stdout, "Finished %s of earlier replays that were interrupted.\n", letterCount(r.Finished))
	}
	if r.Elsewhere > 0 {
		fmt.Fprintf(p.stdout, "Another replay took up %s at the same time.\n", letterCount(r.Elsewhere))
	}
	if refused == 0 {
		return nil
	}
	fmt.Fprintf(p.stdout, "\nStill no rows: %s\n", letterCount(refused))
	g := newGrid(">LETTERS", "CONNECTOR", "STAGE", "REASON OF ONE OF THEM")
	for _, f := range r.Refused {
		g.add(count(f.Letters), f.Connector, f.Stage, f.Reason)
	}
	return g.write(p.stdout)
}

func letterCount(n int64) string { return plural(int(n), "dead letter") }

func (p *program) printSample(r api.Replay) error {
	if len(r.Sample) == 0 {
		return nil
	}
	g := newGrid("CONNECTOR", "TOPIC", ">PARTITION", ">OFFSET", "WOULD BE")
	for _, l := range r.Sample {
		fate := l.Operation + " of a row of " + l.Table
		if l.Reason != "" {
			fate = "still no row: " + l.Reason
		}
		g.add(l.Connector, l.Topic, l.Partition, l.Offset, fate)
	}
	if err := g.write(p.stdout); err != nil {
		return err
	}
	if int64(len(r.Sample)) < r.Letters {
		fmt.Fprintf(p.stdout, "  ... and %s more\n", count(r.Letters-int64(len(r.Sample))))
	}
	fmt.Fprintln(p.stdout)
	return nil
}
