package perf

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// report is what `perf ingest --json` prints. Its names are a contract.
type report struct {
	Events     int64   `json:"events"`
	Before     int64   `json:"events_before,omitempty"` // ingested to find the rate
	Stored     int64   `json:"stored"`                  // rows before
	Replicas   int     `json:"replicas"`
	Tablets    int     `json:"tablets"`
	Partitions int     `json:"partitions"`
	Session    string  `json:"session"`
	Memory     string  `json:"memory"` // of a node
	Durability string  `json:"durability"`
	Rows       int64   `json:"rows"`    // counted in the end, of all phases
	Seconds    float64 `json:"seconds"` // of events_per_second

	EventsPerSecond        float64            `json:"events_per_second"` // until flushed on every replica
	CommittedPerSecond     float64            `json:"committed_per_second"`
	CPUMicrosPerEvent      float64            `json:"cpu_us_per_event"`
	CPUByStage             map[string]float64 `json:"cpu_us_by_stage,omitempty"`
	AllocatedBytesPerEvent float64            `json:"allocated_bytes_per_event"`
	BytesPerEvent          float64            `json:"bytes_per_event"` // of one replica
	RSSMax                 int64              `json:"rss_bytes_max,omitempty"`

	Freshness *freshness `json:"freshness_ms,omitempty"`
	Upserts   *upserts   `json:"upserts,omitempty"`
	Resume    *resumed   `json:"resume_ms,omitempty"`
	Machine   machine    `json:"machine"`
}

type freshness struct {
	P50    float64 `json:"p50"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
	Rate   int64   `json:"rate"` // events a second
	Events int64   `json:"events"`
}

// upserts are rows that were written again.
type upserts struct {
	Events             int64   `json:"events"`
	EventsPerSecond    float64 `json:"events_per_second"`
	CommittedPerSecond float64 `json:"committed_per_second"`
	CPUMicrosPerEvent  float64 `json:"cpu_us_per_event"`
	ToInserts          float64 `json:"to_inserts"` // its events_per_second to that of fresh rows
}

type resumed struct {
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
	Max     float64 `json:"max"`
	Kills   int     `json:"kills"`
	Tablets int     `json:"tablets"`        // times of so many
	Rate    int64   `json:"rate,omitempty"` // events a second meanwhile
	Rows    int64   `json:"rows,omitempty"` // counted in the end
}

// restarted is how long it takes all nodes to answer after all were killed.
type restarted struct {
	P50       float64 `json:"p50"`
	P99       float64 `json:"p99"`
	Max       float64 `json:"max"`
	Restarts  int     `json:"restarts"`
	Unflushed int64   `json:"unflushed_rows"`
	WALBytes  int64   `json:"wal_bytes"` // of one node
}

func newReport(o options, dir string) *report {
	return &report{Events: o.events, Stored: o.stored, Replicas: o.replicas, Tablets: o.tablets, Partitions: o.partitions, Session: o.session,
		Memory: o.memory, Durability: "fsync", Machine: thisMachine(dir)}
}

func writeJSON(w io.Writer, v any) error {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", body)
	return err
}

// roundAll makes figures readable.
func roundAll(digits int, all ...*float64) {
	for _, v := range all {
		*v = round(*v, digits)
	}
}

func (r *report) rounded() any {
	out := *r
	roundAll(0, &out.EventsPerSecond, &out.CommittedPerSecond)
	roundAll(3, &out.CPUMicrosPerEvent, &out.AllocatedBytesPerEvent, &out.BytesPerEvent, &out.Seconds)
	out.CPUByStage = nil
	for s, v := range r.CPUByStage {
		if out.CPUByStage == nil {
			out.CPUByStage = map[string]float64{}
		}
		out.CPUByStage[s] = round(v, 3)
	}
	if r.Freshness != nil {
		f := *r.Freshness
		roundAll(2, &f.P50, &f.P99, &f.Max)
		out.Freshness = &f
	}
	if r.Upserts != nil {
		u := *r.Upserts
		roundAll(0, &u.EventsPerSecond, &u.CommittedPerSecond)
		roundAll(3, &u.CPUMicrosPerEvent, &u.ToInserts)
		out.Upserts = &u
	}
	return &out
}

// write prints the report for people.
func (r *report) write(w io.Writer) error {
	t := newTable()
	add := func(what, value, note string) { t.AppendRow(table.Row{what, value, note}) }
	add("flushed on every replica", perSecond(r.EventsPerSecond), fmt.Sprintf("events/s, over %.1f s", r.Seconds))
	add("committed and readable", perSecond(r.CommittedPerSecond), "events/s")
	add("CPU", fmt.Sprintf("%.2f", r.CPUMicrosPerEvent), fmt.Sprintf("us an event, %s, without the broker", replicas(r.Replicas)))
	for _, s := range stages {
		if v := r.CPUByStage[s]; v >= 0.005 {
			add("  "+s, fmt.Sprintf("%.2f", v), "")
		}
	}
	add("allocated", fmt.Sprintf("%.0f", r.AllocatedBytesPerEvent), "bytes an event, "+replicas(r.Replicas))
	add("on disk", fmt.Sprintf("%.1f", r.BytesPerEvent), "bytes an event, of one replica")
	if r.RSSMax > 0 {
		add("resident at most", fmt.Sprintf("%.0f", float64(r.RSSMax)/(1<<20)), fmt.Sprintf("MiB, %s", replicas(r.Replicas)))
	}
	if f := r.Freshness; f != nil {
		add("fresh, p50", fmt.Sprintf("%.1f", f.P50), fmt.Sprintf("ms, at %s events/s", perSecond(float64(f.Rate))))
		add("fresh, p99", fmt.Sprintf("%.1f", f.P99), fmt.Sprintf("ms, at most %.0f", f.Max))
	}
	if u := r.Upserts; u != nil {
		add("upserts flushed", perSecond(u.EventsPerSecond), fmt.Sprintf("events/s of %s old keys: %.2f of fresh ones", perSecond(float64(u.Events)), u.ToInserts))
		add("upserts, CPU", fmt.Sprintf("%.2f", u.CPUMicrosPerEvent), "us an event")
	}
	if f := r.Resume; f != nil {
		what := "ms without writes after a leader is cut off"
		if r.Replicas == 1 {
			what = "ms without writes when the node starts again"
		}
		addResumed(t, f, what)
	}
	facts := r.Machine.facts()
	if r.Stored > 0 {
		facts = append(facts, perSecond(float64(r.Stored))+" rows stored before")
	}
	_, err := fmt.Fprintf(w, "%s events, %s, %d tablets, %d partitions, fsync, session as %s; %s rows counted\n%s\n\n%s\n",
		perSecond(float64(r.Events)), replicas(r.Replicas), r.Tablets, r.Partitions, r.Session, perSecond(float64(r.Rows)), strings.Join(facts, ", "), t.Render())
	return err
}

func addResumed(t table.Writer, f *resumed, what string) {
	t.AppendRow(table.Row{"resumed, p50", fmt.Sprintf("%.0f", f.P50), what})
	t.AppendRow(table.Row{"resumed, p99", fmt.Sprintf("%.0f", f.P99), fmt.Sprintf("ms, of %d times after %d ends, at most %.0f", f.Tablets, f.Kills, f.Max)})
}

// seriesReport is what `perf ingest` prints when --tablets or --stored are lists.
type seriesReport struct {
	Series []*report `json:"series"`
}

func (r *seriesReport) rounded() any {
	var out []any
	for _, one := range r.Series {
		out = append(out, one.rounded())
	}
	return map[string]any{"series": out}
}

// write prints the reports, and compares each with the first.
func (r *seriesReport) write(w io.Writer) error {
	t := newTable()
	t.AppendHeader(table.Row{"tablets", "stored", "events/s", "to the first", "CPU us", "to the first", "load"})
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 1, Align: text.AlignRight}, {Number: 2, Align: text.AlignRight}, {Number: 3, Align: text.AlignRight},
		{Number: 4, Align: text.AlignRight}, {Number: 5, Align: text.AlignRight}, {Number: 6, Align: text.AlignRight}, {Number: 7, Align: text.AlignRight}})
	first := r.Series[0]
	for _, one := range r.Series {
		if err := one.write(w); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		t.AppendRow(table.Row{one.Tablets, perSecond(float64(one.Stored)), perSecond(one.EventsPerSecond), fmt.Sprintf("%.2f", one.EventsPerSecond/first.EventsPerSecond),
			fmt.Sprintf("%.2f", one.CPUMicrosPerEvent), fmt.Sprintf("%.2f", one.CPUMicrosPerEvent/first.CPUMicrosPerEvent), fmt.Sprintf("%.1f-%.1f", one.Machine.LoadBegin, one.Machine.LoadEnd)})
	}
	_, err := fmt.Fprintln(w, t.Render())
	return err
}

// scanReport is what `perf scan --json` prints. Its names are a contract.
type scanReport struct {
	Replicas int                    `json:"replicas"`
	Tablets  int                    `json:"tablets"`
	Rows     int64                  `json:"rows"` // of the table, all in files
	Reads    map[string]*readReport `json:"reads"`
	Points   *pointReport           `json:"points"`
	Machine  machine                `json:"machine"`
}

// readReport is of one kind of read. A row counts that the table has, whether or not the read had to look at it.
type readReport struct {
	Reads                int     `json:"reads"`
	Rows                 int64   `json:"rows"` // that came out of one
	RowsPerSecond        float64 `json:"rows_per_second"`
	RowsPerSecondPerCore float64 `json:"rows_per_second_per_core"` // per second of CPU time, of the nodes and the reader
	P50                  float64 `json:"p50_ms"`
	P99                  float64 `json:"p99_ms"`
}

// pointReport is of reads of one row.
type pointReport struct {
	Reads            int     `json:"reads"`
	ReadsPerSecond   float64 `json:"reads_per_second"` // one after the other
	CPUMicrosPerRead float64 `json:"cpu_us_per_read"`
	P50              float64 `json:"p50_ms"`
	P99              float64 `json:"p99_ms"`
}

func (r *scanReport) rounded() any {
	for _, one := range r.Reads {
		roundAll(0, &one.RowsPerSecond, &one.RowsPerSecondPerCore)
		roundAll(2, &one.P50, &one.P99)
	}
	roundAll(1, &r.Points.ReadsPerSecond, &r.Points.CPUMicrosPerRead)
	roundAll(2, &r.Points.P50, &r.Points.P99)
	return r
}

func (r *scanReport) write(w io.Writer) error {
	t := newTable()
	t.AppendHeader(table.Row{"read", "M rows/s", "M rows/s a core", "p50 ms", "p99 ms", "times"})
	right := []table.ColumnConfig{}
	for n := 2; n <= 6; n++ {
		right = append(right, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(right)
	for _, k := range readings {
		one := r.Reads[k.name]
		t.AppendRow(table.Row{k.text, fmt.Sprintf("%.1f", one.RowsPerSecond/1e6), fmt.Sprintf("%.1f", one.RowsPerSecondPerCore/1e6), fmt.Sprintf("%.1f", one.P50), fmt.Sprintf("%.1f", one.P99), one.Reads})
	}
	p := r.Points
	t.AppendRow(table.Row{"one row by its primary key", "", "", fmt.Sprintf("%.1f", p.P50), fmt.Sprintf("%.1f", p.P99), p.Reads})
	_, err := fmt.Fprintf(w, "%s rows in files, %s, %d tablets; one read at a time, of rows of the whole table\n%s\n\n%s\n",
		perSecond(float64(r.Rows)), replicas(r.Replicas), r.Tablets, strings.Join(r.Machine.facts(), ", "), t.Render())
	return err
}

// recoverReport is what `perf recover --json` prints. Its names are a contract.
type recoverReport struct {
	Replicas   int        `json:"replicas"`
	Tablets    int        `json:"tablets"`
	Durability string     `json:"durability"`
	Resume     *resumed   `json:"resume_ms,omitempty"`
	Restart    *restarted `json:"restart_ms,omitempty"`
	Machine    machine    `json:"machine"`
}

func (r *recoverReport) rounded() any {
	if r.Resume != nil {
		roundAll(1, &r.Resume.P50, &r.Resume.P99, &r.Resume.Max)
	}
	if r.Restart != nil {
		roundAll(1, &r.Restart.P50, &r.Restart.P99, &r.Restart.Max)
	}
	return r
}

func (r *recoverReport) write(w io.Writer) error {
	t := newTable()
	if f := r.Resume; f != nil {
		addResumed(t, f, fmt.Sprintf("ms without writes after SIGKILL of a leader, at %s events/s; %s rows counted", perSecond(float64(f.Rate)), perSecond(float64(f.Rows))))
	}
	if f := r.Restart; f != nil {
		t.AppendRow(table.Row{"all read again, p50", fmt.Sprintf("%.0f", f.P50), fmt.Sprintf("ms from the start of all nodes, killed with %s rows in the log only (%s of log on each)", perSecond(float64(f.Unflushed)), bytesText(f.WALBytes))})
		t.AppendRow(table.Row{"all read again, most", fmt.Sprintf("%.0f", f.Max), fmt.Sprintf("ms, of %d restarts", f.Restarts)})
	}
	_, err := fmt.Fprintf(w, "%s, %d tablets, fsync; each node a process, killed by SIGKILL: what the kernel has of their files stays\n%s\n\n%s\n",
		replicas(r.Replicas), r.Tablets, strings.Join(r.Machine.facts(), ", "), t.Render())
	return err
}

func newTable() table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = " ", " "
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 2, Align: text.AlignRight}})
	return t
}

func replicas(n int) string {
	if n == 1 {
		return "1 replica"
	}
	return fmt.Sprintf("%d replicas", n)
}

// perSecond writes a large number with commas, without a fraction.
func perSecond(v float64) string {
	digits := fmt.Sprintf("%.0f", v)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// round keeps a figure readable.
func round(v float64, digits int) float64 {
	p := math.Pow(10, float64(digits))
	return math.Round(v*p) / p
}
