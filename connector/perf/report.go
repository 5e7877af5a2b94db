package perf

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// report is what `perf ingest --json` prints. Its names are a contract.
type report struct {
	Events     int64  `json:"events"`
	Warmup     int64  `json:"warmup"` // events before
	Replicas   int    `json:"replicas"`
	Tablets    int    `json:"tablets"`
	Partitions int    `json:"partitions"`
	Session    string `json:"session"`
	Durability string `json:"durability"`
	Rows       int64  `json:"rows"` // counted in the end, of all phases

	EventsPerSecond        float64            `json:"events_per_second"` // until flushed on every replica
	CommittedPerSecond     float64            `json:"committed_per_second"`
	CPUMicrosPerEvent      float64            `json:"cpu_us_per_event"`
	CPUByStage             map[string]float64 `json:"cpu_us_by_stage,omitempty"`
	AllocatedBytesPerEvent float64            `json:"allocated_bytes_per_event"`
	BytesPerEvent          float64            `json:"bytes_per_event"` // of one replica

	Freshness *freshness `json:"freshness_ms,omitempty"`
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

type resumed struct {
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
	Max     float64 `json:"max"`
	Kills   int     `json:"kills"`
	Tablets int     `json:"tablets"` // times of so many
}

func newReport(o options, dir string) *report {
	return &report{Events: o.events, Warmup: o.warmup, Replicas: o.replicas, Tablets: o.tablets, Partitions: o.partitions, Session: o.session,
		Durability: "fsync", Machine: thisMachine(dir)}
}

func (r *report) writeJSON(w io.Writer) error {
	out := *r
	for _, v := range []*float64{&out.EventsPerSecond, &out.CommittedPerSecond} {
		*v = round(*v, 0)
	}
	for _, v := range []*float64{&out.CPUMicrosPerEvent, &out.AllocatedBytesPerEvent, &out.BytesPerEvent} {
		*v = round(*v, 3)
	}
	out.CPUByStage = nil
	for s, v := range r.CPUByStage {
		if out.CPUByStage == nil {
			out.CPUByStage = map[string]float64{}
		}
		out.CPUByStage[s] = round(v, 3)
	}
	body, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", body)
	return err
}

// write prints the report for people.
func (r *report) write(w io.Writer) error {
	t := newTable()
	add := func(what, value, note string) { t.AppendRow(table.Row{what, value, note}) }
	add("flushed on every replica", perSecond(r.EventsPerSecond), "events/s")
	add("committed and readable", perSecond(r.CommittedPerSecond), "events/s")
	add("CPU", fmt.Sprintf("%.2f", r.CPUMicrosPerEvent), fmt.Sprintf("us an event, %s, without the broker", replicas(r.Replicas)))
	for _, s := range stages {
		if v := r.CPUByStage[s]; v >= 0.005 {
			add("  "+s, fmt.Sprintf("%.2f", v), "")
		}
	}
	add("allocated", fmt.Sprintf("%.0f", r.AllocatedBytesPerEvent), "bytes an event, "+replicas(r.Replicas))
	add("on disk", fmt.Sprintf("%.1f", r.BytesPerEvent), "bytes an event, of one replica")
	if f := r.Freshness; f != nil {
		add("fresh, p50", fmt.Sprintf("%.0f", f.P50), fmt.Sprintf("ms, at %s events/s", perSecond(float64(f.Rate))))
		add("fresh, p99", fmt.Sprintf("%.0f", f.P99), "ms")
	}
	if f := r.Resume; f != nil {
		what := "ms without writes after a leader's end"
		if r.Replicas == 1 {
			what = "ms without writes when the node starts again"
		}
		add("resumed, p50", fmt.Sprintf("%.0f", f.P50), what)
		add("resumed, p99", fmt.Sprintf("%.0f", f.P99), fmt.Sprintf("ms, of %d times", f.Tablets))
	}
	m := r.Machine
	facts := []string{fmt.Sprintf("%d cores", m.Cores), fmt.Sprintf("GOMAXPROCS %d", m.GoMaxProcs), m.OS + "/" + m.Arch, m.Go}
	if m.CPU != "" {
		facts = append([]string{m.CPU}, facts...)
	}
	if m.Memory > 0 {
		facts = append(facts, fmt.Sprintf("%.0f GiB", float64(m.Memory)/(1<<30)))
	}
	if m.FileSystem != "" {
		facts = append(facts, m.FileSystem)
	}
	if r.Warmup > 0 {
		facts = append(facts, "after "+perSecond(float64(r.Warmup))+" events of warm-up")
	}
	_, err := fmt.Fprintf(w, "%s events, %s, %d tablets, %d partitions, fsync, session as %s; %s rows counted\n%s\n\n%s\n",
		perSecond(float64(r.Events)), replicas(r.Replicas), r.Tablets, r.Partitions, r.Session, perSecond(float64(r.Rows)), strings.Join(facts, ", "), t.Render())
	return err
}

func newTable() table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = " ", " "
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
