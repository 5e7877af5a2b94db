package command

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"nyala/connector/api"
)

// getVerification answers with canned events.
func (c *cluster) getVerification(w http.ResponseWriter, r *http.Request) {
	c.requests = append(c.requests, r.URL.RawQuery)
	w.Header().Set("Trailer", api.ErrorTrailer)
	for _, e := range c.verify {
		c.json(w, e)
	}
	if c.broken != "" {
		w.Header().Set(api.ErrorTrailer, c.broken)
	}
}

func verifyResult() *api.Verification {
	return &api.Verification{
		Table: "events", Cluster: "tracking", Timestamp: at, Exact: true, Complete: true, Rows: 1_999_990, Records: 2_000_000, DeadLetters: 10,
		Kinds: map[string]int64{}, Seconds: 4, Sources: []api.VerifiedSource{
			{Connector: "app-events", Topic: "app-events", TopicID: "t", CompleteBelow: 1_000_000, NothingFrom: 1_000_000, Records: 1_000_000, DeadLetters: 10},
			{Connector: "app-events", Topic: "app-events", TopicID: "t", Partition: 1, CompleteBelow: 1_000_000, NothingFrom: 1_000_000, Records: 1_000_000},
		},
	}
}

func verifyEvents(r *api.Verification, differences ...api.Difference) []api.VerifyEvent {
	events := []api.VerifyEvent{
		{Progress: &api.VerifyProgress{Step: api.VerifyTable, Done: 4096}},
		{Progress: &api.VerifyProgress{Step: api.VerifyTopics, Topic: "app-events", Done: 1000, Total: 2_000_000}},
		{Progress: &api.VerifyProgress{Step: api.VerifyTopics, Topic: "app-events", Done: 2_000_000, Total: 2_000_000}},
		{Progress: &api.VerifyProgress{Step: "a step of a newer node", Done: 1}},
		{Progress: &api.VerifyProgress{Step: api.VerifyCompare, Done: 1, Total: 1}},
	}
	for _, d := range differences {
		events = append(events, api.VerifyEvent{Difference: &d})
	}
	if r != nil {
		events = append(events, api.VerifyEvent{Result: r})
	}
	return events
}

// unequal is a result with one of most kinds of differences.
func unequal() (*api.Verification, []api.Difference) {
	r := verifyResult()
	r.Exact, r.Complete, r.Differences, r.NotCheckable, r.Open, r.Dropped = false, false, 24, 12, 3, 7
	r.Kinds = map[string]int64{api.OtherRow: 21, api.MissingRow: 1, api.ExtraRow: 1, api.MisplacedRow: 1}
	r.Sources[0].First, r.Sources[0].Gone, r.Sources[0].Gaps, r.Sources[1].Compacted = 500, 400, 100, 4711
	r.Sources = append(r.Sources, api.VerifiedSource{Connector: "app-events", TopicID: "0b4b1228-c7d1-8e58-e3fa-f2e8d46266c5", Partition: 2,
		NothingFrom: 90, Gone: 90, Reason: "kafka has no topic of this id any more"})
	place := func(partition int32, offset int64) (*int32, *int64) { return &partition, &offset }
	list := []api.Difference{
		{Kind: api.OtherRow, Topic: "app-events", Key: "tenant=7, event_id=9", Columns: []string{"url", "value"},
			Record: map[string]string{"url": "/shop", "value": "1"}, Row: map[string]string{"url": "/sh\x1b[31mop", "value": "NULL"}},
		{Kind: api.MissingRow, Topic: "app-events", Key: "tenant=7, event_id=10"},
		{Kind: api.ExtraRow, Key: "tenant=7, event_id=11"},
		{Kind: api.MisplacedRow, Key: "tenant=7, event_id=12", Tablet: "14"},
		{Kind: api.MissingLetter, Topic: "app-events"},
	}
	list[0].Partition, list[0].Offset = place(0, 612)
	list[1].Partition, list[1].Offset = place(1, 17)
	list[4].Partition, list[4].Offset = place(1, 18)
	return r, list
}

func TestVerify(t *testing.T) {
	c := newCluster(t)
	c.verify = verifyEvents(verifyResult())
	r := c.run("verify", "events")
	r.want(t, exitDone, "exact", "reading the topics of events again: 2,000,000 offsets\ncomparing events\n")
	page := r.stdout
	gone := verifyResult()
	gone.Complete, gone.NotCheckable = false, 12
	c.verify = verifyEvents(gone)
	r = c.run("verify", "events")
	r.want(t, exitDone, "exact, as far as Kafka still has the records", "comparing")
	page += "\n" + r.stdout
	result, differences := unequal()
	c.verify = verifyEvents(result, differences...)
	r = c.run("verify", "events", "--values", "--limit", "5")
	r.want(t, exitNotHealthy, "24 differences", "5 of 24 differences are listed: more with --limit")
	golden(t, "verify", page+"\n"+r.stdout)
	if last := c.requests[len(c.requests)-1]; last != "limit=5&values=true" {
		t.Errorf("asked with %q", last)
	}
	r = c.run("verify", "events", "--json")
	r.want(t, exitNotHealthy, `"differences": 24`, "reading table events")
	var v verified
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || v.Exact || len(v.Listed) != 5 || len(v.Sources) != 3 {
		t.Errorf("got %+v, %v", v, err)
	}
}

// TestVerifyThatFails never takes an answer without a result for one.
func TestVerifyThatFails(t *testing.T) {
	c := newCluster(t)
	c.verify, c.broken = verifyEvents(nil), "kafka at 10.0.0.9:9092 does not answer"
	c.run("verify", "events").want(t, exitFailed, "", "table events could not be verified: kafka at 10.0.0.9:9092 does not answer")
	c.broken = ""
	c.run("verify", "events").want(t, exitFailed, "", "was cut")
	c.run("verify", "nothing").want(t, exitFailed, "", "there is no table")
	c.Close()
	if r := c.run("verify", "events"); r.status != exitFailed || !strings.Contains(r.stderr, "no nyala node answers") {
		t.Errorf("got %+v", r)
	}
}
