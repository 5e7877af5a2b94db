package connector

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"nyala/connector/catalog"
	"nyala/ingest"
	"nyala/raftlog"
	"nyala/store"
)

// router tells ingest where rows go, out of this node's catalog. Layouts are made once for each view of
// the catalog, since ingest asks once a chunk.
type router struct {
	n     *Node
	cache atomic.Pointer[layouts]
}

type layouts struct {
	view   *catalog.Snapshot
	tables map[string]*ingest.Layout
}

// Layout implements ingest.Router.
func (r *router) Layout(table string) (*ingest.Layout, error) {
	view := r.n.catalog.Snapshot()
	c := r.cache.Load()
	if c == nil || c.view != view {
		c = &layouts{view, map[string]*ingest.Layout{}}
		for _, t := range view.Tables {
			c.tables[t.Name] = layoutOf(t)
		}
		r.cache.Store(c)
	}
	l, ok := c.tables[table]
	if !ok {
		return nil, fmt.Errorf("connector: table %s is not in the catalog yet", table)
	}
	return l, nil
}

func layoutOf(t *catalog.Table) *ingest.Layout {
	l := &ingest.Layout{Schema: t.Schema}
	for _, p := range t.Partitions {
		r := ingest.RangeTablets{Low: p.Low, High: p.High}
		if t.Schema.Range == nil {
			r.Low, r.High = math.MinInt64, math.MaxInt64
		}
		for _, id := range p.Tablets {
			r.Tablets = append(r.Tablets, uint64(id))
		}
		l.Ranges = append(l.Ranges, r)
	}
	return l
}

// EnsureRange implements ingest.Router.
func (r *router) EnsureRange(ctx context.Context, table string, value int64) error {
	ctx, cancel := context.WithTimeout(ctx, r.n.logLimit())
	defer cancel()
	result, err := r.n.propose(ctx, catalog.EnsureRange{Table: table, Value: value})
	var refused *catalog.RefusedError
	if errors.As(err, &refused) && refused.Code.Final() {
		return fmt.Errorf("connector: table %s: %s: %w", table, refused.Reason, ingest.ErrRangeRefused)
	}
	if err == nil {
		_, err = r.n.catalog.Await(ctx, result.Generation)
	}
	return err
}

// write proposes an entry to a tablet's group, wherever its leader is, and waits until it was applied.
func (n *Node) write(ctx context.Context, id catalog.TabletID, entry []byte) ([]byte, error) {
	if r := n.replica(id); r != nil {
		return r.group.Propose(ctx, entry)
	}
	t, ok := n.catalog.Snapshot().Tablet(id)
	if !ok {
		return nil, fmt.Errorf("connector: tablet %d is not in the catalog: %w", id, ingest.ErrTabletGone)
	}
	errs := []error{fmt.Errorf("connector: no replica of tablet %d took the entry", id)}
	for _, r := range t.Replicas {
		if r.Member == n.member() {
			continue // it is being opened
		}
		out, err := n.raft.ProposeAt(ctx, r.Node, raftlog.GroupID(id), entry)
		if err == nil {
			return out, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// writeRows is write for ingest: it reads the answer.
func (n *Node) writeRows(ctx context.Context, tablet uint64, entry []byte) (ingest.Answer, error) {
	if n.options.broken == ackEarly {
		n.goes(func(ctx context.Context) { _, _ = n.write(ctx, catalog.TabletID(tablet), entry) })
		return ingest.Answer{}, nil
	}
	out, err := n.write(ctx, catalog.TabletID(tablet), entry)
	if n.options.broken == ackUnknown && errors.Is(err, raftlog.ErrUnknown) {
		return ingest.Answer{}, nil
	}
	if n.options.broken == gaveUp && errors.Is(err, raftlog.ErrUnknown) {
		return ingest.Answer{}, context.Canceled
	}
	if err != nil {
		if _, ok := n.catalog.Snapshot().Tablet(catalog.TabletID(tablet)); !ok {
			err = fmt.Errorf("%w: %w", err, ingest.ErrTabletGone)
		}
		return ingest.Answer{}, err
	}
	r, err := store.ParseResult(out)
	if err != nil {
		return ingest.Answer{}, err
	}
	a := ingest.Answer{Timestamp: r.Timestamp, Rows: int(r.Rows), Seen: int(r.Dropped)}
	switch r.Outcome {
	case store.Applied:
		n.metrics.duplicates.Add(float64(r.Dropped))
	case store.Hole:
		if n.options.broken == ackRefused {
			return a, nil
		}
		a.Status, a.Segment = ingest.Refused, int(r.Segment)
	case store.Stale:
		a.Status, a.Segment = ingest.Stale, int(r.Segment)
	default:
		return a, r.Err()
	}
	return a, nil
}
