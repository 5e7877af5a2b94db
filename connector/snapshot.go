package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/connector/export"
	"nyala/connector/query"
	"nyala/offsets"
)

// getSnapshot settles a table at a timestamp and says what an export of it holds.
func (n *Node) getSnapshot(w http.ResponseWriter, r *http.Request) error {
	at, err := query.ParseTime(r.URL.Query().Get("at"))
	if err != nil {
		return coded(http.StatusBadRequest, "bad_request", "%v", err)
	}
	s, err := n.snapshot(r.Context(), r.PathValue("table"), at)
	if err != nil {
		return err
	}
	return writeJSON(w, s)
}

// settledTable is a table as of one timestamp, with what is known of its sources then.
type settledTable struct {
	view      *catalog.Snapshot
	table     *catalog.Table
	timestamp int64
	tablets   []catalog.TabletID
	complete  []catalog.Checkpoint     // of all sources: what they cover is in
	nothing   map[offsets.Source]int64 // from here on nothing of a source is in
}

// settleTable settles a table with all its tablets. The checkpoints are read first: what they cover was acknowledged before,
// so it is in every tablet's past once that has advanced. The ledgers are read last: what they do not cover cannot be in.
func (n *Node) settleTable(ctx context.Context, table string, at int64) (*settledTable, error) {
	s := &settledTable{complete: n.catalog.Checkpoints(), nothing: map[offsets.Source]int64{}}
	var err error
	s.timestamp, s.tablets, err = n.settle(ctx, table, at, func(view *catalog.Snapshot, t *catalog.Table) (all []catalog.TabletID) {
		s.view, s.table = view, t
		for _, p := range t.Partitions {
			all = append(all, p.Tablets...)
		}
		return all
	})
	if err != nil {
		return nil, err
	}
	for _, id := range s.tablets {
		ledger, err := n.ledgerOf(ctx, id, s.timestamp)
		if err != nil {
			return nil, err
		}
		for _, c := range ledger {
			s.nothing[c.source] = max(s.nothing[c.source], c.next)
		}
	}
	return s, nil
}

// snapshot settles a table for an export. At a time in the past no checkpoint is known to hold, so nothing is claimed.
func (n *Node) snapshot(ctx context.Context, table string, at int64) (*export.Snapshot, error) {
	t, err := n.settleTable(ctx, table, at)
	if err != nil {
		return nil, err
	}
	s := &export.Snapshot{Table: table, Cluster: t.view.Cluster.Name, Schema: t.table.Schema, Timestamp: t.timestamp}
	for _, p := range t.table.Partitions {
		for _, id := range p.Tablets {
			s.Tablets = append(s.Tablets, export.Tablet{ID: uint64(id), Low: p.Low})
		}
	}
	s.Sources = n.exportSources(ctx, table, t.complete, t.nothing, at > 0)
	return s, nil
}

// exportSources joins checkpoints and ledgers of the connectors that write the table.
func (n *Node) exportSources(ctx context.Context, table string, before []catalog.Checkpoint, nothing map[offsets.Source]int64, past bool) []api.ExportSource {
	writes := map[string]bool{}
	for _, c := range n.options.Config.Connectors {
		writes[c.Name] = c.Table == table
	}
	complete := map[offsets.Source]int64{}
	for _, c := range before {
		if writes[c.Source.Connector] {
			complete[c.Source] = c.Next
		}
	}
	names := map[string]string{}
	for _, o := range n.offsets(ctx) {
		names[o.TopicID] = o.Topic
	}
	all := map[offsets.Source]bool{}
	for s := range complete {
		all[s] = true
	}
	for s := range nothing {
		if !strings.HasPrefix(s.Connector, replaySource) { // a replay of dead letters is no partition that one could read on from
			all[s] = true
		}
	}
	out := []api.ExportSource{}
	for s := range all {
		e := api.ExportSource{Connector: s.Connector, TopicID: topicID(s.Topic), Partition: s.Partition, CompleteBelow: complete[s]}
		e.Topic, e.NothingFrom = names[e.TopicID], max(nothing[s], complete[s])
		if past {
			e.CompleteBelow = 0
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b api.ExportSource) int {
		return cmp.Or(cmp.Compare(a.Connector, b.Connector), cmp.Compare(a.TopicID, b.TopicID), cmp.Compare(a.Partition, b.Partition))
	})
	return out
}

type ledgerNext struct {
	source offsets.Source
	next   int64
}

// ledgerJSON is a ledger between nodes.
type ledgerJSON struct {
	Connector string          `json:"connector"`
	Topic     offsets.TopicID `json:"topic"`
	Partition int32           `json:"partition"`
	Next      int64           `json:"next"`
}

// ledgerOf reads a tablet's ledger from a replica that has applied all up to at.
func (n *Node) ledgerOf(ctx context.Context, id catalog.TabletID, at int64) ([]ledgerNext, error) {
	if r := n.replica(id); r != nil && n.awaitLocal(ctx, r, at, time.Now().Add(localPatience)) {
		return r.ledger(), nil
	}
	var answer []ledgerJSON
	err := n.askReplicas(id, func(server string) error {
		client := api.Client{Server: server, HTTP: n.http}
		answer = nil
		return client.Get(ctx, fmt.Sprintf("/internal/v1/tablets/%d/ledger", id), query.Request{At: at}.Values(), &answer)
	})
	if err != nil {
		return nil, err
	}
	var out []ledgerNext
	for _, a := range answer {
		out = append(out, ledgerNext{offsets.Source{Connector: a.Connector, Topic: a.Topic, Partition: a.Partition}, a.Next})
	}
	return out, nil
}

func (r *replica) ledger() []ledgerNext {
	var out []ledgerNext
	for s, next := range r.tablet.Ledger().All() {
		out = append(out, ledgerNext{s, next})
	}
	return out
}

// getTabletLedger serves ledgerOf of other nodes.
func (n *Node) getTabletLedger(w http.ResponseWriter, r *http.Request) error {
	id, err := strconv.ParseUint(r.PathValue("tablet"), 10, 64)
	at, err2 := query.ParseTime(r.URL.Query().Get("at"))
	if err := errors.Join(err, err2); err != nil {
		return coded(http.StatusBadRequest, "bad_request", "%v", err)
	}
	replica := n.replica(catalog.TabletID(id))
	if replica == nil || !n.awaitLocal(r.Context(), replica, at, time.Now().Add(localPatience)) {
		return coded(http.StatusServiceUnavailable, "replica_behind", "tablet %d is not here, or not there yet", id)
	}
	out := []ledgerJSON{}
	for _, l := range replica.ledger() {
		out = append(out, ledgerJSON{l.source.Connector, l.source.Topic, l.source.Partition, l.next})
	}
	return writeJSON(w, out)
}
