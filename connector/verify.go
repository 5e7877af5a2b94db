package connector

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/connector/query"
	"nyala/connector/verify"
	"nyala/ingest"
	"nyala/offsets"
)

// verifyDir is where a verification keeps what does not fit in memory, in the data directory.
const verifyDir = "verify"

const (
	verifyMemoryShare = 16 // one part of the node's memory
	verifyMemoryLeast = 8 << 20
	verifyMemoryMost  = 64 << 20
	verifyListed      = 20   // differences that are looked up and listed, unless another number is asked for
	verifyListedMost  = 1000 // each is looked up in Kafka
	verifySettles     = 3    // tries to find a moment at which nothing is just coming in
	verifySettlePause = 1200 * time.Millisecond
	verifyTick        = 200 * time.Millisecond // between lines of progress

	beganPatience = 10 * time.Second // for this node's catalog, which lags behind others by an append
	beganPause    = 10 * time.Millisecond
)

// getVerification compares a table with its topics. The answer is a stream of api.VerifyEvent, one a line; an error
// after the first is in the trailer.
func (n *Node) getVerification(w http.ResponseWriter, r *http.Request) error {
	o := verify.Options{Limit: verifyListed}
	q := r.URL.Query()
	var err error
	if text := q.Get("limit"); text != "" {
		if o.Limit, err = strconv.Atoi(text); err != nil || o.Limit < 0 || o.Limit > verifyListedMost {
			return coded(http.StatusBadRequest, "bad_request", "limit %q: want a number of differences from 0 to %d", text, verifyListedMost)
		}
	}
	if text := q.Get("values"); text != "" {
		if o.Values, err = strconv.ParseBool(text); err != nil {
			return coded(http.StatusBadRequest, "bad_request", "values %q: want true or false", text)
		}
	}
	if !n.verifying.CompareAndSwap(false, true) {
		return coded(http.StatusConflict, "verify_running", "node %s verifies a table already: wait for its end, or ask another node", n.options.Node)
	}
	defer n.verifying.Store(false)
	return n.verify(r.Context(), w, r.PathValue("table"), o)
}

// verify prepares and runs a verification; the memory it needs is taken from the node's budget meanwhile.
func (n *Node) verify(ctx context.Context, w http.ResponseWriter, table string, o verify.Options) error {
	connectors, err := n.verifiedConnectors(table)
	if err != nil {
		return err
	}
	o.Connectors = connectors
	budget := n.tablets.Budget()
	o.MemoryBytes = min(max(budget.Limit()/verifyMemoryShare, verifyMemoryLeast), verifyMemoryMost)
	if err := budget.Acquire(ctx, o.MemoryBytes); err != nil {
		return err
	}
	defer budget.Release(o.MemoryBytes)
	if err := n.verifySnapshot(ctx, table, &o); err != nil {
		return err
	}
	out := &verifyStream{w: w, encoder: json.NewEncoder(w)}
	o.Progress = out.progress
	o.FS, o.Dir = n.options.FS, path.Join(n.self.Data, verifyDir)
	if err := verify.Clean(o.FS, o.Dir); err != nil {
		return err
	}
	run, err := verify.Prepare(ctx, o)
	if err != nil {
		return coded(http.StatusServiceUnavailable, "kafka_unavailable", "table %s cannot be verified by node %s: %s", table, n.options.Node, strings.TrimPrefix(err.Error(), "ingest: "))
	}
	w.Header().Set("Trailer", api.ErrorTrailer)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set(api.TimestampHeader, strconv.FormatInt(o.Timestamp, 10))
	result, err := run.Do(ctx, func(d *api.Difference) error { return out.send(api.VerifyEvent{Difference: d}) })
	if cerr := run.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = out.send(api.VerifyEvent{Result: result})
	}
	if err != nil {
		n.log.Warn("verification ended with an error", "table", table, "error", err)
		w.Header().Set(api.ErrorTrailer, strings.ReplaceAll(err.Error(), "\n", " "))
		return nil
	}
	n.log.Info("verification done", "table", table, "exact", result.Exact, "rows", result.Rows, "records", result.Records,
		"differences", result.Differences, "not_checkable", result.NotCheckable, "seconds", result.Seconds)
	return nil
}

// verifyStream writes events as they come.
type verifyStream struct {
	w       http.ResponseWriter
	encoder *json.Encoder
	last    time.Time
	step    string
}

func (s *verifyStream) send(e api.VerifyEvent) error {
	if err := s.encoder.Encode(e); err != nil {
		return err
	}
	return http.NewResponseController(s.w).Flush()
}

// progress sends a line from time to time, and where a new step begins. A client that is gone ends the request's context.
func (s *verifyStream) progress(p api.VerifyProgress) {
	if p.Step == s.step && time.Since(s.last) < verifyTick {
		return
	}
	s.step, s.last = p.Step, time.Now()
	_ = s.send(api.VerifyEvent{Progress: &p})
}

// verifiedConnectors are the connectors that write a table, as they read Kafka.
func (n *Node) verifiedConnectors(table string) ([]ingest.Options, error) {
	view := n.catalog.Snapshot()
	if _, ok := view.Table(table); !ok {
		return nil, coded(http.StatusNotFound, "table_not_found", "there is no table %q; `nyala status` lists them", table)
	}
	if strings.HasPrefix(table, "nyala.") {
		return nil, coded(http.StatusBadRequest, "system_table", "%s is made by nyala itself and of no topic: verify the tables of its connectors, which compares their dead letters and gaps too", table)
	}
	var out []ingest.Options
	for _, c := range n.options.Config.Connectors {
		if c.Table != table {
			continue
		}
		if state, ok := view.Connector(c.Name); ok && state.Change != nil {
			return nil, coded(http.StatusConflict, "settings_changing",
				"connector %s: its settings are being changed, and it is not yet known which records the new ones decide: try again in a minute", c.Name)
		}
		o, err := n.feedOptions(c)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	if len(out) == 0 {
		return nil, coded(http.StatusBadRequest, "no_connector", "no connector writes table %s: there is no topic to compare it with", table)
	}
	return out, nil
}

// verifySnapshot settles the table, at a moment at which nothing is just coming in if there is one soon.
func (n *Node) verifySnapshot(ctx context.Context, table string, o *verify.Options) error {
	for try := range verifySettles {
		if try > 0 {
			sleep(ctx, verifySettlePause)
		}
		applied, err := n.appliedBefore(ctx, table)
		if err != nil {
			return err
		}
		t, err := n.settleTable(ctx, table, 0)
		if err != nil {
			return err
		}
		o.Table, o.Cluster, o.Timestamp = t.table, t.view.Cluster.Name, t.timestamp
		if o.Sources = n.verifySources(t, applied, o.Connectors); !slices.ContainsFunc(o.Sources, func(s verify.Source) bool { return s.NothingFrom > s.CompleteBelow }) {
			break
		}
	}
	o.SettingsSince = n.settingsSince(o.Connectors)
	plan, err := query.Bind(table, o.Table.Schema, query.Request{})
	if err != nil {
		return err
	}
	o.Scan = func(ctx context.Context, id catalog.TabletID) (query.Stream, error) {
		return n.openTablet(ctx, id, plan, o.Timestamp, false, time.Now().Add(localPatience))
	}
	o.Began = n.began
	o.System = func(ctx context.Context, table string) (query.Stream, error) {
		in, err := n.read(ctx, table, query.Request{Order: query.OrderKey})
		if err != nil {
			return nil, fmt.Errorf("connector: table %s: %w", table, err)
		}
		return in.stream, nil
	}
	return nil
}

// began tells whether a source is known. Its dead letters come from other nodes, of which some may have heard of it before this one: so it is
// waited for.
func (n *Node) began(ctx context.Context, s offsets.Source) bool {
	for until := time.Now().Add(beganPatience); ; sleep(ctx, beganPause) {
		if _, began := n.catalog.Begun(s); began {
			return true
		}
		if ctx.Err() != nil || time.Now().After(until) {
			return false
		}
	}
}

// settingsSince is from when on replayed dead letters were surely decided by the settings of today: a minute later than these came
// into force, since the clocks of two nodes said when.
func (n *Node) settingsSince(connectors []ingest.Options) map[string]int64 {
	out := map[string]int64{}
	for _, o := range connectors {
		if c, ok := n.catalog.Snapshot().Connector(o.Name); ok && c.Decision().Version > 1 {
			out[o.Name] = int64(c.Decision().Since) + time.Minute.Microseconds()
		}
	}
	return out
}

// appliedBefore is what the ledgers of a table's tablets say now. A replica that is behind says less, which is true as well; and
// what a ledger covers was acknowledged before, so it is in every snapshot that is settled afterwards.
func (n *Node) appliedBefore(ctx context.Context, table string) (map[offsets.Source]map[catalog.TabletID]int64, error) {
	t, ok := n.catalog.Snapshot().Table(table)
	if !ok {
		return nil, coded(http.StatusNotFound, "table_not_found", "there is no table %q; `nyala status` lists them", table)
	}
	out := map[offsets.Source]map[catalog.TabletID]int64{}
	for _, p := range t.Partitions {
		for _, id := range p.Tablets {
			ledger, err := n.ledgerOf(ctx, id, 0)
			if err != nil {
				return nil, err
			}
			for _, l := range ledger {
				if out[l.source] == nil {
					out[l.source] = map[catalog.TabletID]int64{}
				}
				out[l.source][id] = l.next
			}
		}
	}
	return out, nil
}

// verifySources are the sources that the table has rows of, and those of its connectors.
func (n *Node) verifySources(t *settledTable, applied map[offsets.Source]map[catalog.TabletID]int64, connectors []ingest.Options) []verify.Source {
	sources := map[offsets.Source]*verify.Source{}
	at := func(s offsets.Source) *verify.Source {
		if sources[s] == nil {
			begun, _ := n.catalog.Begun(s)
			sources[s] = &verify.Source{Source: s, Begun: begun, Applied: applied[s]}
		}
		return sources[s]
	}
	for _, c := range t.complete {
		if slices.ContainsFunc(connectors, func(o ingest.Options) bool { return o.Name == c.Source.Connector }) {
			at(c.Source).CompleteBelow = c.Next
		}
	}
	for s, next := range t.nothing {
		at(s).NothingFrom = next
	}
	out := make([]verify.Source, 0, len(sources))
	for _, s := range sources {
		s.NothingFrom = max(s.NothingFrom, s.CompleteBelow)
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b verify.Source) int { return a.Source.Compare(b.Source) })
	return out
}
