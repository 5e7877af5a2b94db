package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"nyala/connector/api"
)

// verifyOptions are the flags of `nyala verify`.
type verifyOptions struct {
	limit        int
	values, json bool
}

func (p *program) verifyCommand() *cobra.Command {
	o := verifyOptions{}
	c := &cobra.Command{
		Use:   "verify TABLE",
		Short: "Compare a table with its topics, record by record",
		Long: `Reads the topics of a table again, from where its connectors began, and compares every record with the table as of one
instant: each must be its row, or have been replaced by a later one, or be in nyala.dead_letters; and no row may be there without a
record. What differs is named with its partition, offset, key and columns. Rows whose records Kafka has deleted are counted as
not checkable. The node that is asked does the work, beside its own; ingest goes on.

Exit status: 0 exact, 3 not equal, 1 it could not be found out, 2 wrong use.`,
		Example: `  nyala verify events
  nyala verify events --limit 100 --values
  nyala verify events --json`,
		Args: arguments("TABLE"),
	}
	t := p.target(c)
	c.Flags().IntVar(&o.limit, "limit", 20, "`differences` to list at most, up to 1000; all are counted")
	c.Flags().BoolVar(&o.values, "values", false, "list the values of what differs, too")
	c.Flags().BoolVar(&o.json, "json", false, "the result as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if o.limit < 0 || o.limit > 1000 {
			return wrongUse("--limit %d: want a number from 0 to 1000", o.limit)
		}
		client, err := t.client(c.Context())
		if err != nil {
			return err
		}
		return p.verify(c.Context(), client, args[0], o)
	}
	return c
}

// verified is the JSON that --json prints: the result with the differences that are listed.
type verified struct {
	*api.Verification
	Listed []api.Difference `json:"listed"`
}

func (p *program) verify(ctx context.Context, client *api.Client, table string, o verifyOptions) error {
	query := url.Values{"limit": {strconv.Itoa(o.limit)}, "values": {strconv.FormatBool(o.values)}}
	res, err := client.Do(ctx, http.MethodGet, "/api/v1/tables/"+table+"/verify", query, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	show := p.newVerifyScreen(table)
	v := verified{Listed: []api.Difference{}}
	for in := json.NewDecoder(res.Body); err == nil; {
		var e api.VerifyEvent
		if err = in.Decode(&e); err != nil {
			break
		}
		switch {
		case e.Progress != nil:
			show.at(e.Progress)
		case e.Difference != nil:
			v.Listed = append(v.Listed, *e.Difference)
		case e.Result != nil:
			v.Verification = e.Result
		}
	}
	show.end()
	switch cause := res.Trailer.Get(api.ErrorTrailer); {
	case cause != "":
		return fmt.Errorf("table %s could not be verified: %s", table, cause)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("answer of %s: %w", client.Server, err)
	case v.Verification == nil:
		return fmt.Errorf("answer of %s was cut: is the node still running?", client.Server)
	}
	if o.json {
		err = p.printVerifiedJSON(v)
	} else {
		err = p.printVerified(v)
	}
	if err == nil && !v.Exact {
		err = &exitError{code: exitNotHealthy}
	}
	return err
}

// verifyScreen shows how far a verification is: a bar where a person looks on, else a line for each step.
type verifyScreen struct {
	p     *program
	table string
	step  string
	bar   *progressbar.ProgressBar
}

func (p *program) newVerifyScreen(table string) *verifyScreen {
	return &verifyScreen{p: p, table: table}
}

var verifySteps = map[string]struct{ words, unit string }{
	api.VerifyTable:   {"reading table %s", "rows"},
	api.VerifyTopics:  {"reading the topics of %s again", "offsets"},
	api.VerifyCompare: {"comparing %s", "parts"},
	api.VerifyLocate:  {"looking up what differs in %s", "differences"},
}

func (s *verifyScreen) at(e *api.VerifyProgress) {
	if e.Step != s.step {
		s.begin(e)
	}
	if s.bar != nil {
		_ = s.bar.Set64(e.Done) // a bar that cannot be drawn is no reason to stop
	}
}

func (s *verifyScreen) begin(e *api.VerifyProgress) {
	s.end()
	s.step = e.Step
	step, known := verifySteps[e.Step]
	if !known {
		return // of a newer node
	}
	words := fmt.Sprintf(step.words, s.table)
	if !isTerminal(s.p.stderr) {
		if e.Total > 0 && e.Step == api.VerifyTopics {
			words += fmt.Sprintf(": %s offsets", count(e.Total))
		}
		fmt.Fprintln(s.p.stderr, words)
		return
	}
	total := e.Total
	if total == 0 {
		total = -1
	}
	s.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(s.p.stderr), progressbar.OptionSetDescription(words),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString(step.unit),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
}

func (s *verifyScreen) end() {
	if s.bar != nil {
		_ = s.bar.Clear()
		s.bar = nil
	}
}

func (p *program) printVerifiedJSON(v verified) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.printJSON(text)
}

func (p *program) printVerified(v verified) error {
	out := p.stdout
	fmt.Fprintf(out, "%s of cluster %s as of %s: %s\n", v.Table, v.Cluster, instant(v.Timestamp), v.words())
	took := time.Duration(v.Seconds * float64(time.Second)).Round(time.Millisecond)
	rate := ""
	if v.Seconds > 0 {
		rate = fmt.Sprintf(", %s a second", count(int64(float64(v.Records)/v.Seconds)))
	}
	fmt.Fprintf(out, "  records  %s, read again in %s%s\n", count(v.Records), took, rate)
	fmt.Fprintf(out, "  rows     %s, and %s\n", count(v.Rows), plural(int(v.DeadLetters), "dead letter"))
	for _, line := range []struct {
		n    int64
		what string
	}{
		{v.Open, "records were just coming in: whether they are in the table yet was not judged"},
		{v.Dropped, "records are of ranges that were dropped from the table"},
		{v.NotCheckable, "rows or dead letters could not be checked: Kafka has deleted their records"},
	} {
		if line.n > 0 {
			fmt.Fprintf(out, "  %s %s\n", count(line.n), line.what)
		}
	}
	return errors.Join(p.printVerifiedSources(v), p.printDifferences(v))
}

// words is the verdict.
func (v verified) words() string {
	switch {
	case v.Differences == 1:
		return "1 difference"
	case v.Differences > 1:
		return count(v.Differences) + " differences"
	case !v.Complete:
		return "exact, as far as Kafka still has the records"
	}
	return "exact"
}

func (p *program) printVerifiedSources(v verified) error {
	fmt.Fprintln(p.stdout)
	g := newGrid("CONNECTOR", "TOPIC", ">PARTITION", ">FROM", ">TO", ">RECORDS", ">DEAD LETTERS", ">GAPS", ">GONE", "")
	for _, s := range v.Sources {
		topic := s.Topic
		if topic == "" {
			topic = s.TopicID
		}
		from, to := any(s.First), any(s.NothingFrom)
		note := s.Reason
		if note != "" {
			from, to = "-", "-"
		}
		if s.Compacted > 0 {
			note = fmt.Sprintf("compacted: %s offsets have no record", count(s.Compacted))
		}
		g.add(s.Connector, topic, s.Partition, from, to, s.Records, s.DeadLetters, s.Gaps, s.Gone, note)
	}
	return g.write(p.stdout)
}

func (p *program) printDifferences(v verified) error {
	if v.Differences == 0 {
		return nil
	}
	var kinds []string
	for kind, n := range v.Kinds {
		kinds = append(kinds, fmt.Sprintf("%s %s", count(n), kind))
	}
	slices.Sort(kinds)
	fmt.Fprintf(p.stdout, "\nDifferences: %s\n", strings.Join(kinds, ", "))
	if len(v.Listed) == 0 {
		return nil
	}
	g := newGrid("WHAT", "TOPIC", ">PARTITION", ">OFFSET", "KEY", "COLUMNS")
	for _, d := range v.Listed {
		partition, offset := any("-"), any("-")
		if d.Partition != nil {
			partition = *d.Partition
		}
		if d.Offset != nil {
			offset = *d.Offset
		}
		columns := strings.Join(d.Columns, ", ")
		if d.Tablet != "" {
			columns = "in tablet " + d.Tablet
		}
		g.add(d.Kind, dash(d.Topic), partition, offset, dash(shortText([]byte(d.Key))), columns)
	}
	if err := g.write(p.stdout); err != nil {
		return err
	}
	if int64(len(v.Listed)) < v.Differences {
		fmt.Fprintf(p.stderr, "%s of %s differences are listed: more with --limit\n", count(int64(len(v.Listed))), count(v.Differences))
	}
	return p.printDifferentValues(v.Listed)
}

// printDifferentValues shows both sides of each row that differs, where values were asked for.
func (p *program) printDifferentValues(list []api.Difference) error {
	for _, d := range list {
		if d.Record == nil && d.Row == nil {
			continue
		}
		fmt.Fprintf(p.stdout, "\n%s %s\n", d.Kind, shortText([]byte(d.Key)))
		var names []string
		for _, side := range []map[string]string{d.Record, d.Row} {
			for name := range side {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
		slices.Sort(names)
		g := newGrid("COLUMN", "RECORD", "TABLE")
		for _, name := range names {
			cells := []any{name, "-", "-"}
			for i, side := range []map[string]string{d.Record, d.Row} {
				if text, ok := side[name]; ok {
					cells[i+1] = shortText([]byte(text))
				}
			}
			g.add(cells...)
		}
		if err := g.write(p.stdout); err != nil {
			return err
		}
	}
	return nil
}
