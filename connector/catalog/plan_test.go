package catalog

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"nyala/store/schema"
	"nyala/store/vfs"
)

// carryOut plans and proposes until nothing is left, and returns what was proposed.
func (r *replica) carryOut(w Wanted, now Micros) []string {
	r.t.Helper()
	var done []string
	for range 5 {
		commands, errs := Plan(w, r.Snapshot(), now)
		if len(errs) > 0 {
			r.t.Fatal(errs)
		}
		if len(commands) == 0 {
			return done
		}
		for _, c := range commands {
			r.want(Done, c)
			done = append(done, fmt.Sprintf("%s %+v", c.Kind(), c))
		}
	}
	r.t.Fatal("the plan does not come to an end")
	return nil
}

// lows is the days on which the table's ranges begin.
func (r *replica) lows(table string) string {
	t, _ := r.Snapshot().Table(table)
	days := make([]string, len(t.Partitions))
	for i, p := range t.Partitions {
		days[i] = fmt.Sprint(p.Low / microsPerDay)
	}
	return strings.Join(days, " ")
}

func TestPlanFollowsTime(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(3)
	spec := events("events", 2, 1)
	spec.Retain, spec.RangesMax = 3*microsPerDay, 0
	wanted := Wanted{
		Tables:     append(SystemTables(3), spec),
		Connectors: []ConnectorSpec{{Name: "app", Table: "events", Settings: "a"}},
	}
	r.carryOut(wanted, Micros(day(100)))
	if got := r.lows("events"); got != "100 101 102" {
		t.Errorf("ranges on day 100: got %s", got)
	}
	if got := r.carryOut(wanted, Micros(day(100))); len(got) != 0 {
		t.Errorf("again: %v", got)
	}
	r.want(Done, EnsureRange{Table: "events", Value: day(98)})
	r.want(BelowFloor, EnsureRange{Table: "events", Value: day(96)})
	r.carryOut(wanted, Micros(day(102)))
	if got := r.lows("events"); got != "100 101 102 103 104" {
		t.Errorf("ranges on day 102: got %s", got)
	}
	r.carryOut(wanted, Micros(day(110)))
	if got := r.lows("events"); got != "110 111 112" {
		t.Errorf("ranges on day 110: got %s", got)
	}
	r.carryOut(wanted, Micros(day(50))) // a clock that goes back drops nothing, and brings nothing back
	if got := r.lows("events"); got != "110 111 112" {
		t.Errorf("ranges after the clock went back: got %s", got)
	}
	if len(r.Snapshot().Connectors) != 1 || len(r.Snapshot().Tables) != len(SystemTables(3))+1 {
		t.Errorf("got %+v", r.Snapshot())
	}
}

func TestPlanOfOtherRanges(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(3)
	dates, numbers := events("dates", 1, 1), events("numbers", 1, 1)
	dates.Schema.Columns[1].Type.Kind, dates.Schema.Range.Every = schema.Date, 7
	numbers.Schema.Columns[1].Type.Kind, numbers.Schema.Range.Every = schema.Int64, 1000
	numbers.Ahead = 0
	r.carryOut(Wanted{Tables: []TableSpec{dates, numbers}}, -1)
	got, _ := r.Snapshot().Table("dates")
	if len(got.Partitions) != 3 || got.Partitions[0].Low != -7 || got.Partitions[0].High != 0 || got.Partitions[2].Low != 7 {
		t.Errorf("weeks around 1970: got %+v", got.Partitions)
	}
	if got := r.lows("numbers"); got != "" {
		t.Errorf("ranges of numbers were made ahead: %s", got)
	}
	// At the ends of time nothing wraps around.
	spec := events("edge", 1, 1)
	spec.Retain = math.MaxInt64
	for _, now := range []Micros{math.MinInt64, math.MaxInt64} {
		commands, errs := Plan(Wanted{Tables: []TableSpec{spec}}, r.Snapshot(), now)
		for _, c := range commands {
			if d, ok := c.(DropRanges); ok && d.Below != 0 {
				t.Errorf("at %d: got %+v", now, d)
			}
		}
		if len(errs) > 0 {
			t.Errorf("at %d: %v", now, errs)
		}
	}
}

func TestPlanNamesDifferences(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(3)
	r.want(Done, CreateTable{events("events", 2, 1)})
	r.want(Done, CreateTable{events("other", 2, 0)})
	r.want(Done, SetConnector{Name: "app", Table: "events", Settings: "a", Desired: Running})
	now := Micros(day(7))
	r.carryOut(Wanted{Tables: []TableSpec{events("events", 2, 1)}}, now)
	var text strings.Builder
	for _, change := range []func(*TableSpec, *schema.Schema){
		func(s *TableSpec, _ *schema.Schema) { s.Replicas = 1 },
		func(s *TableSpec, _ *schema.Schema) { s.History = 0 },
		func(s *TableSpec, _ *schema.Schema) { s.Retain = 5 * microsPerDay; s.Ahead = 1 },
		func(s *TableSpec, _ *schema.Schema) { s.RangesMax = 9 },
		func(_ *TableSpec, s *schema.Schema) { s.Buckets = 3 },
		func(_ *TableSpec, s *schema.Schema) { s.Hash = []int{0, 2} },
		func(_ *TableSpec, s *schema.Schema) { s.Key = []int{1, 0, 2} },
		func(_ *TableSpec, s *schema.Schema) { s.Range.Every *= 7 },
		func(t *TableSpec, s *schema.Schema) { s.Range, t.Ahead, t.RangesMax = nil, 0, 0 },
		func(_ *TableSpec, s *schema.Schema) { s.Columns[3].Name = "uri" },
		func(_ *TableSpec, s *schema.Schema) { s.Columns[3].Nullable = false },
		func(_ *TableSpec, s *schema.Schema) { s.Columns[4].Default = &schema.Value{Float: 1.5} },
		func(_ *TableSpec, s *schema.Schema) { s.Columns[4].Type.Kind = schema.Float32 },
		func(_ *TableSpec, s *schema.Schema) { s.Columns[3], s.Columns[4] = s.Columns[4], s.Columns[3] },
		func(_ *TableSpec, s *schema.Schema) { s.Columns = s.Columns[:4] },
		func(_ *TableSpec, s *schema.Schema) { s.Columns[0].ID = 0 },
		func(_ *TableSpec, s *schema.Schema) { s.Columns[4].Default = &schema.Value{Float: math.NaN()} },
		func(s *TableSpec, _ *schema.Schema) { s.Replicas = 2 },
		func(s *TableSpec, _ *schema.Schema) { s.Name = "" },
	} {
		spec := events("events", 2, 1)
		spec.RangesMax = 0
		change(&spec, spec.Schema)
		commands, errs := Plan(Wanted{Tables: []TableSpec{spec}}, r.Snapshot(), now)
		fmt.Fprintf(&text, "%v\n", errors.Join(errs...))
		for _, c := range commands {
			t.Errorf("a definition that differs gave %+v", c)
		}
	}
	for _, c := range []ConnectorSpec{{"app", "other", "a"}, {"app", "events", "b"}, {"new", "none", "a"}} {
		commands, errs := Plan(Wanted{Connectors: []ConnectorSpec{c}}, r.Snapshot(), now)
		fmt.Fprintf(&text, "%v %+v\n", errors.Join(errs...), commands)
	}
	golden(t, "differences", text.String())
}

func TestDefaultLimitOfRanges(t *testing.T) {
	for _, c := range []struct {
		buckets, retain, want int
	}{{4, 0, 256}, {1, 0, 1024}, {4096, 0, 16}, {4, 365, 460}, {4, 10_000_000, 62_504}} {
		spec := events("events", c.buckets, 1)
		spec.RangesMax, spec.Retain = 0, int64(c.retain)*microsPerDay
		spec = spec.WithDefaults()
		if err := spec.Validate(); err != nil || spec.RangesMax != c.want {
			t.Errorf("%+v: got %d, %v", c, spec.RangesMax, err)
		}
	}
}

func TestPlanSaysWhatItCannotMake(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(3)
	spec := events("events", 1, 1)
	spec.RangesMax = 1
	r.want(Done, CreateTable{spec})
	r.want(Done, EnsureRange{Table: "events", Value: day(1)})
	r.want(TooManyRanges, EnsureRange{Table: "events", Value: day(2)})
	commands, errs := Plan(Wanted{Tables: []TableSpec{spec}}, r.Snapshot(), Micros(day(1)))
	if len(commands) != 1 || commands[0] != (EnsureRange{"events", day(3), true}) || len(errs) != 1 || !strings.Contains(errs[0].Error(), "1 ahead of now") {
		t.Errorf("got %+v, %v", commands, errs)
	}
}
