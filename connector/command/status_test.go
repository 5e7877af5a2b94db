package command

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"nyala/connector/api"
	"nyala/connector/query"
	"nyala/store/batch"
	"nyala/store/schema"
)

func healthyStatus() api.Status {
	replicas := func(states ...string) (out []api.Replica) {
		for i, s := range states {
			out = append(out, api.Replica{Node: fmt.Sprint("n", i+1), State: s, Leader: i == 0})
		}
		return out
	}
	return api.Status{
		Cluster: "tracking", Healthy: true, Durability: "fsync", Version: "v1.2.3",
		Nodes: []api.Node{
			{ID: "n1", State: api.StateUp, HTTP: "10.0.0.1:7481", Rack: "a", MemoryUsed: 120 << 20, MemoryLimit: 4 << 30, Leaders: 2, Replicas: 3},
			{ID: "n2", State: api.StateUp, HTTP: "10.0.0.2:7481", Rack: "b", MemoryUsed: 3 << 30, MemoryLimit: 4 << 30, Leaders: 1, Replicas: 3},
			{ID: "n3", State: api.StateUp, HTTP: "10.0.0.3:7481", Rack: "c", MemoryUsed: 999, MemoryLimit: 4 << 30, Replicas: 3},
		},
		Tables: []api.Table{{Name: "events", Rows: 1_234_567_890, Bytes: 41 << 30, Tablets: 2}, {Name: "nyala.dead_letters", Rows: 3, Bytes: 1200, Tablets: 1}},
		Tablets: []api.Tablet{
			{ID: "4", Table: "events", Range: "[2026-11-20T00:00:00Z, 2026-11-21T00:00:00Z)", Leader: "n1", Replicas: replicas(api.ReplicaRunning, api.ReplicaRunning, api.ReplicaRunning)},
			{ID: "5", Table: "events", Range: "[2026-11-20T00:00:00Z, 2026-11-21T00:00:00Z)", Bucket: 1, Leader: "n1", Replicas: replicas(api.ReplicaRunning, api.ReplicaRunning, api.ReplicaRunning)},
		},
		Connectors: []api.Connector{{Name: "app-events", Table: "events", State: api.ConnectorRunning, LagRecords: 1532, LagSeconds: 0.31,
			Partitions: []api.Partition{{Topic: "app-events", State: "running", Node: "n1"}, {Topic: "app-events", Partition: 1, State: "running", Node: "n2"}}}},
	}
}

func illStatus() api.Status {
	s := healthyStatus()
	s.Healthy, s.UnderReplicated = false, 2
	s.Reasons = []string{"node n3 is down: dial tcp 10.0.0.3:7481: connection refused", "tablet 4 of events has 2 of 3 replicas",
		"tablet 5 of events has 2 of 3 replicas", "tablet 5 of events has no leader", "connector app-events is failed: offset 17 is gone"}
	s.Nodes[2] = api.Node{ID: "n3", State: api.StateDown, HTTP: "10.0.0.3:7481", Rack: "c", Reason: "connection refused"}
	s.Tablets[0].Replicas[2].State, s.Tablets[1].Replicas[2].State = api.ReplicaUnknown, api.ReplicaUnknown
	s.Tablets[1].Leader = ""
	c := &s.Connectors[0]
	c.State, c.Reason = api.ConnectorFailed, "offset 17 is gone"
	c.Partitions[1].State, c.Partitions[1].Position, c.Partitions[1].Reason = "failed", 17, "offset 17 is gone: on_offset_out_of_range is fail"
	return s
}

func pageOf(t *testing.T, s api.Status, colour bool) string {
	t.Helper()
	var out strings.Builder
	if err := writeStatus(&out, &s, colour); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestStatusPage(t *testing.T) {
	golden(t, "status_healthy", pageOf(t, healthyStatus(), false))
	golden(t, "status_ill", pageOf(t, illStatus(), false))
	golden(t, "status_empty", pageOf(t, api.Status{Cluster: "tracking", Durability: "fsync", Version: "v1.2.3", Reasons: []string{"the cluster is not made yet"}, Warnings: []string{"connector app: its settings are about to change"}}, false))

	// Colour changes nothing but the colour, so that columns stay where they are.
	coloured := pageOf(t, illStatus(), true)
	plain := coloured
	for _, code := range []string{"\x1b[31m", "\x1b[32m", "\x1b[0m"} {
		plain = strings.ReplaceAll(plain, code, "")
	}
	if coloured == plain || plain != pageOf(t, illStatus(), false) {
		t.Errorf("got\n%s", plain)
	}
}

func TestStatusPageIsShort(t *testing.T) {
	s := illStatus()
	for i := range 500 {
		s.Reasons = append(s.Reasons, fmt.Sprintf("tablet %d of events has no leader", i))
		s.Tablets = append(s.Tablets, api.Tablet{ID: fmt.Sprint(100 + i), Table: "events"})
	}
	text := pageOf(t, s, false)
	if n := strings.Count(text, "\n"); n > 80 {
		t.Errorf("%d lines:\n%s", n, text)
	}
	for _, want := range []string{"and 485 more: nyala status --json", "(the first 20 of 502)"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestStatusCommand(t *testing.T) {
	c := newCluster(t)
	c.status = healthyStatus()
	c.run("status").want(t, exitDone, "Cluster tracking is healthy.", "")
	c.status = illStatus()
	c.run("status").want(t, exitNotHealthy, "Cluster tracking is not healthy.", "")
	r := c.run("status", "--json")
	r.want(t, exitNotHealthy, `"under_replicated_tablets": 2`, "")
	var s api.Status
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || s.Healthy || len(s.Nodes) != 3 {
		t.Errorf("got %+v, %v", s, err)
	}
	c.Close()
	c.run("status").want(t, exitFailed, "", "no nyala node answers")
}

var cannedOffsets = []api.Offset{
	{Connector: "app-events", Topic: "app-events", TopicID: "t", Checkpoint: 100, Watermark: 120, Position: 130, End: 150, Node: "n1", State: "running"},
	{Connector: "app-events", TopicID: "0b4b1228-c7d1-8e58-e3fa-f2e8d46266c5", Partition: 11, Checkpoint: 7, Watermark: 7},
}

func TestOffsets(t *testing.T) {
	c := newCluster(t)
	r := c.run("offsets")
	r.want(t, exitDone, "CONNECTOR", "")
	golden(t, "offsets", r.stdout)
	var list []api.Offset
	if err := json.Unmarshal([]byte(c.run("offsets", "--json").stdout), &list); err != nil || len(list) != 2 || list[0] != cannedOffsets[0] {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestDeadLetters(t *testing.T) {
	c := newCluster(t)
	c.run("dead-letters", "list").want(t, exitDone, "", "no dead letters\n")
	c.system[schema.DeadLettersTable].rows = []*batch.Batch{letters(4)}
	c.system[schema.ReplaysTable].rows = []*batch.Batch{replays(map[int]schema.Value{0: {Int: at}, 2: schema.Null})}
	r := c.run("dead-letters", "list", "--limit", "3")
	r.want(t, exitDone, "TIME", "the first 3: there are more")
	golden(t, "dead_letters", r.stdout)
	c.run("dead-letters", "list", "--limit", "4").want(t, exitDone, "bad 3", "")
	c.run("dead-letters", "list", "--format", "ndjson").want(t, exitDone, `"connector":"app-events","topic":"app","partition":0,"offset":2,"stage":"decode","reason":"bad 2"`, "")
	for state, offsets := range map[string]string{"new": "1\n3\n", "replaying": "2\n", "replayed": "0\n", "dropped": ""} {
		got := ""
		for line := range strings.Lines(c.run("dead-letters", "list", "--format", "csv", "--state", state).stdout) {
			if cells := strings.Split(line, ","); cells[4] != "offset" {
				got += cells[4] + "\n"
			}
		}
		if got != offsets {
			t.Errorf("%s: got %q, want %q", state, got, offsets)
		}
	}
	c.run("dead-letters", "list", "--state", "old").want(t, exitWrongUse, "", "want one of new, replaying, replayed, dropped")
	c.system[schema.DeadLettersTable].rows = []*batch.Batch{letters(300), letters(700)}
	if r := c.run("dead-letters", "list", "--format", "ndjson", "--limit", "400"); strings.Count(r.stdout, "\n") != 400 {
		t.Errorf("got %d lines, want 400", strings.Count(r.stdout, "\n"))
	}
}

func TestReplay(t *testing.T) {
	c := newCluster(t)
	c.replays = []api.Replay{{Run: "r", Letters: 5}, {
		Run: "r", Done: true, Letters: 1300, Replayed: 1200, Finished: 7, Elsewhere: 1,
		Refused: []api.ReplayRefusal{{Connector: "app-events", Stage: "decode", Code: "bad_type", Letters: 99, Reason: "bad_type: column a"}},
	}}
	r := c.run("dead-letters", "replay", "--connector", "app-events", "--topic", "t", "--partition", "3", "--from", "4", "--to", "9", "--limit", "10")
	r.want(t, exitDone, "Replayed 1,200 dead letters.", "")
	golden(t, "replay", r.stdout)
	if want := "connector=app-events&from=4&limit=10&partition=3&to=9&topic=t"; len(c.requests) != 1 || c.requests[0] != want {
		t.Errorf("got %q, want %q", c.requests, want)
	}
	var last api.Replay
	if err := json.Unmarshal([]byte(c.run("dead-letters", "replay", "--json").stdout), &last); err != nil || last.Replayed != 1200 {
		t.Errorf("got %+v, %v", last, err)
	}
	c.replays = []api.Replay{{Dry: true, Done: true, Letters: 3, Replayed: 1, Sample: []api.ReplayLetter{
		{Connector: "app-events", Topic: "t", Offset: 7, Table: "events", Operation: "upsert"},
		{Connector: "app-events", Topic: "t", Offset: 8, Stage: "decode", Reason: "bad_type: column a"},
	}, Refused: []api.ReplayRefusal{{Connector: "app-events", Stage: "decode", Code: "bad_type", Letters: 2, Reason: "bad_type: column a"}}}}
	c.requests = nil
	r = c.run("dead-letters", "replay", "--dry-run", "--topic", "t", "--partition", "0", "--offset", "8")
	golden(t, "replay_dry", r.stdout)
	if want := "dry_run=true&from=8&partition=0&to=9&topic=t"; len(c.requests) != 1 || c.requests[0] != want {
		t.Errorf("got %q, want %q", c.requests, want)
	}
	c.replays = []api.Replay{{Letters: 5}}
	c.run("dead-letters", "replay").want(t, exitFailed, "", "the answer was cut: repeat the command")
	c.replays = []api.Replay{{Letters: 5, Error: "tablet 7 is away"}}
	c.run("dead-letters", "replay").want(t, exitFailed, "", "tablet 7 is away: repeat the command")
	c.run("dead-letters", "replay", "--offset", "4").want(t, exitWrongUse, "", "give --topic and --partition as well")
	c.run("dead-letters", "replay", "--partition", "4").want(t, exitWrongUse, "", "give --topic as well")
	c.run("dead-letters", "replay", "--limit", "-4").want(t, exitWrongUse, "", "--limit -4: want 0 or more")
}

// replays are marks of letters, by offset: when they were replayed, or null.
func replays(at map[int]schema.Value) *batch.Batch {
	s := schema.Replays()
	b := batch.NewBuilder(s.Columns, len(at))
	for _, offset := range slices.Sorted(maps.Keys(at)) {
		for i, c := range s.Columns {
			switch c.Name {
			case "offset":
				b.Columns[i].AppendInt(int64(offset))
			case "connector":
				b.Columns[i].AppendBytes([]byte("app-events"))
			case "replayed":
				b.Columns[i].AppendValue(at[offset])
			case "note":
				b.Columns[i].AppendNull()
			default:
				b.Columns[i].AppendValue(schema.Value{Bytes: make([]byte, 16)})
			}
		}
	}
	view := b.View()
	return &view
}

func TestGaps(t *testing.T) {
	c := newCluster(t)
	c.run("gaps").want(t, exitDone, "", "no gaps: nothing was lost before it was read\n")
	s := schema.Gaps()
	b := batch.NewBuilder(s.Columns, 2)
	for i, next := range []int64{7, 1_234_567} {
		for k, v := range map[string]schema.Value{
			"topic_id": {Bytes: make([]byte, 16)}, "partition": {Int: int64(i)}, "first": {Int: 4}, "connector": {Bytes: []byte("app-events")},
			"next": {Int: next}, "topic": {Bytes: []byte("app")}, "reason": {Bytes: []byte("out_of_range")}, "time": {Int: at},
		} {
			b.Columns[s.Position(k)].AppendValue(v)
		}
	}
	view := b.View()
	c.system[schema.GapsTable].rows = []*batch.Batch{&view}
	r := c.run("gaps")
	r.want(t, exitDone, "LOST", "")
	golden(t, "gaps", r.stdout)
	c.run("gaps", "--limit", "1").want(t, exitDone, "app-events", "the first 1: there are more (--limit, or nyala scan nyala.gaps)")
	c.run("gaps", "--json").want(t, exitDone, `"partition":1,"first":4,"next":1234567,"reason":"out_of_range"`, "")
	c.run("gaps", "--format", "xml").want(t, exitWrongUse, "", "--format")
	c.run("gaps", "--format", "csv", "--json").want(t, exitWrongUse, "", "json")
}

// letters are records: text, binary, long text, text that would drive a terminal, and so on.
func letters(n int) *batch.Batch {
	s := schema.DeadLetters()
	b := batch.NewBuilder(s.Columns, n)
	values := []string{`{"a": "é"}`, "\xff\x00\x01", strings.Repeat("長", 100), "a\x1b[2Jb\n"}
	for i := range n {
		value := values[i%len(values)]
		for k, v := range map[string]schema.Value{
			"topic_id": {Bytes: make([]byte, 16)}, "partition": {}, "offset": {Int: int64(i)}, "connector": {Bytes: []byte("app-events")},
			"topic": {Bytes: []byte("app")}, "timestamp": schema.Null, "key": schema.Null, "value": {Bytes: []byte(value)}, "headers": schema.Null,
			"stage": {Bytes: []byte("decode")}, "reason": {Bytes: fmt.Appendf(nil, "bad %d", i)}, "time": {Int: at},
		} {
			b.Columns[s.Position(k)].AppendValue(v)
		}
	}
	view := b.View()
	return &view
}

func TestShortText(t *testing.T) {
	for in, want := range map[string]string{
		"plain é":                           "plain é",
		"tab\tbell\a":                       `tab\u0009bell\u0007`,
		"\xff\xfe":                          "0xfffe",
		strings.Repeat("x", 60):             strings.Repeat("x", 60),
		strings.Repeat("x", 61):             strings.Repeat("x", 60) + "…",
		strings.Repeat("😀", 200):            strings.Repeat("😀", 60) + "…",
		"\xff" + strings.Repeat("\x01", 99): "0xff" + strings.Repeat("01", 29) + "… (100 bytes)",
	} {
		if got := shortText([]byte(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", -999: "-999", 1234567: "1,234,567"} {
		if got := count(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 KiB", 1 << 20: "1.0 MiB", 999 << 20: "999 MiB", 41 << 30: "41.0 GiB", 1 << 62: "4096 PiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

// query.Formats and what scan offers must not drift apart.
func TestFormats(t *testing.T) {
	if len(scanFormats) != len(query.Formats)+1 {
		t.Errorf("got %v", scanFormats)
	}
}
