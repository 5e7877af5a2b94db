package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/connector/query"
	"nyala/store"
	"nyala/store/batch"
	"nyala/store/schema"
)

const (
	readProposals  = 16                     // tablets that are advanced at once by one read
	futureLimit    = time.Second            // a read may be this far ahead of this node's clock
	schemaPatience = time.Second            // for a node's catalog to show columns that another one's shows
	localPatience  = 200 * time.Millisecond // for this node's replica to apply what its leader has, before the leader is asked
)

// codedError is an error that HTTP answers with a status and a code of its own.
type codedError struct {
	status int
	code   string
	text   string
}

func (e *codedError) Error() string { return e.text }

func coded(status int, code, format string, args ...any) error {
	return &codedError{status, code, fmt.Sprintf(format, args...)}
}

// rows is a read that has begun: what comes out of stream is the snapshot at timestamp.
type rows struct {
	columns   []schema.Column
	timestamp int64
	stream    query.Stream
}

// read answers a request from all tablets of a table, wherever they are. The snapshot is one of all
// tablets: each is first made to advance to the timestamp through its log, so that whatever was
// acknowledged before is in it, and the same timestamp gives the same rows again on any replica.
func (n *Node) read(ctx context.Context, table string, r query.Request) (*rows, error) {
	view := n.catalog.Snapshot()
	t, ok := view.Table(table)
	if !ok {
		return nil, coded(http.StatusNotFound, "table_not_found", "there is no table %q; `nyala status` lists them", table)
	}
	plan, err := query.Bind(table, t.Schema, r)
	if err != nil {
		return nil, coded(http.StatusBadRequest, "bad_request", "%v", err)
	}
	at, tablets, err := n.settle(ctx, table, r.At, func(_ *catalog.Snapshot, t *catalog.Table) []catalog.TabletID {
		return pruneTablets(t, plan, r.Tablet)
	})
	if err != nil {
		return nil, err
	}
	out, until := &rows{columns: plan.Columns, timestamp: at}, time.Now().Add(localPatience)
	merged := len(tablets) > 1 || len(plan.Fetch) > len(plan.Columns) // a merge also leaves out what was read for the order alone
	if r.Order == query.OrderKey && merged && !r.Count {
		var streams []query.Stream
		for _, id := range tablets {
			streams = append(streams, &tabletStream{n: n, ctx: ctx, plan: plan, at: at, ordered: true, left: []catalog.TabletID{id}, until: until})
		}
		out.stream, err = query.NewMerge(t.Schema, plan.Fetch, plan.Columns, streams)
	} else {
		out.stream = &tabletStream{n: n, ctx: ctx, plan: plan, at: at, ordered: r.Order == query.OrderKey, left: tablets, until: until}
	}
	if err == nil && r.Limit > 0 && !r.Count {
		out.stream = &limited{out.stream, r.Limit}
	}
	return out, err
}

// pruneTablets lists the tablets that may have rows for a plan: by range only, since a condition rarely
// fixes all hash columns.
func pruneTablets(t *catalog.Table, plan *query.Plan, only uint64) []catalog.TabletID {
	low, high, ok := plan.RangeBounds()
	var ids []catalog.TabletID
	for _, p := range t.Partitions {
		if t.Schema.Range != nil && (!ok || p.High <= low || p.Low > high) {
			continue
		}
		for _, id := range p.Tablets {
			if only == 0 || uint64(id) == only {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// settle makes the past of a table final up to one timestamp, which it returns: at, or now. choose says
// which of its tablets count; those are returned too. A leader whose clock is ahead may have stamped what is already
// acknowledged later than our now; so now is the greatest of what the tablets answer, in a second round if need be.
//
// The tablets are listed after the timestamp is chosen, and the catalog is told of it: a range that is made between would
// have rows from before it, missing now and there when the same timestamp is read again.
func (n *Node) settle(ctx context.Context, table string, at int64, choose func(*catalog.Snapshot, *catalog.Table) []catalog.TabletID) (int64, []catalog.TabletID, error) {
	now := n.options.Now().UnixMicro()
	round := func(to int64) (int64, []catalog.TabletID, error) {
		view, t, err := n.tableAt(ctx, table, to)
		if err != nil {
			return 0, nil, err
		}
		tablets := choose(view, t)
		reached, err := n.advance(ctx, tablets, to)
		return reached, tablets, err
	}
	if at > 0 && at <= now+futureLimit.Microseconds() {
		_, tablets, err := round(at)
		return at, tablets, err
	}
	reached, tablets, err := round(now)
	switch {
	case err != nil:
		return 0, nil, err
	case at > reached: // what was read at a node whose clock is ahead may be read again here
		return 0, nil, coded(http.StatusBadRequest, "in_the_future", "the time %s is in the future: it is %s here",
			time.UnixMicro(at).UTC().Format(time.RFC3339Nano), time.UnixMicro(now).UTC().Format(time.RFC3339Nano))
	case at <= 0 && reached == now:
		return now, tablets, nil
	case at <= 0:
		at = reached
	}
	_, tablets, err = round(at)
	return at, tablets, err
}

// tableAt is a table with all tablets that it has by now; what it is given later begins behind the timestamp at. This node's
// catalog may be behind, so one whose tablets change is asked for through the log of the system group.
func (n *Node) tableAt(ctx context.Context, name string, at int64) (*catalog.Snapshot, *catalog.Table, error) {
	view := n.catalog.Snapshot()
	t, ok := view.Table(name)
	if ok && t.Schema.Range != nil {
		var err error
		if view, err = n.viewNow(ctx, at); err != nil {
			return nil, nil, err
		}
		t, ok = view.Table(name)
	}
	if !ok {
		return nil, nil, coded(http.StatusNotFound, "table_not_found", "there is no table %q; `nyala status` lists them", name)
	}
	return view, t, nil
}

// viewNow is the catalog as it is by now, asked for through the log of the system group; what is made by later commands was made
// later than at.
func (n *Node) viewNow(ctx context.Context, at int64) (view *catalog.Snapshot, err error) {
	err = retry(ctx, 10*time.Millisecond, 250*time.Millisecond, func() error {
		r, err := n.proposeAt(ctx, at, catalog.AskFates{Member: n.member()}) // nothing; its answer says how far the catalog is
		if err == nil {
			view, err = n.catalog.Await(ctx, r.Generation)
		}
		return err
	})
	if err != nil {
		return nil, coded(http.StatusServiceUnavailable, "catalog_unavailable", "the system group does not answer: %v", err)
	}
	return view, nil
}

// advance makes each tablet's last timestamp at least to, and returns the greatest that any has.
func (n *Node) advance(ctx context.Context, tablets []catalog.TabletID, to int64) (int64, error) {
	reached := make([]int64, len(tablets))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readProposals)
	for i, id := range tablets {
		g.Go(func() (err error) {
			reached[i], err = n.advanceOne(ctx, id, to)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	last := to
	for _, r := range reached {
		last = max(last, r)
	}
	return last, nil
}

func (n *Node) advanceOne(ctx context.Context, id catalog.TabletID, to int64) (reached int64, err error) {
	err = retry(ctx, 10*time.Millisecond, 250*time.Millisecond, func() error {
		out, err := n.write(ctx, id, store.AdvanceEntry(to))
		if err != nil {
			return err
		}
		r, err := store.ParseResult(out)
		if err == nil {
			err = r.Err()
		}
		reached = r.Timestamp
		return err
	})
	if err != nil {
		return 0, coded(http.StatusServiceUnavailable, "tablet_unavailable", "tablet %d has no leader that answers: %v", id, err)
	}
	return reached, nil
}

// tabletStream reads tablets one after the other.
type tabletStream struct {
	n       *Node
	ctx     context.Context
	plan    *query.Plan
	at      int64
	ordered bool
	left    []catalog.TabletID
	until   time.Time // so long replicas of this node are waited for, all together: they lag at the same time
	now     query.Stream
}

// Next implements query.Stream.
func (s *tabletStream) Next() (*batch.Batch, error) {
	for {
		if s.now == nil {
			if len(s.left) == 0 {
				return nil, io.EOF
			}
			id := s.left[0]
			s.left = s.left[1:]
			var err error
			if s.now, err = s.n.openTablet(s.ctx, id, s.plan, s.at, s.ordered, s.until); err != nil {
				return nil, err
			}
		}
		b, err := s.now.Next()
		if err == nil {
			s.n.metrics.scanned.Add(float64(b.Rows))
		}
		if err != io.EOF {
			return b, err
		}
		if err := s.Close(); err != nil {
			return nil, err
		}
	}
}

// Close implements query.Stream.
func (s *tabletStream) Close() error {
	if s.now == nil {
		return nil
	}
	now := s.now
	s.now = nil
	return now.Close()
}

// limited ends a stream after a number of rows.
type limited struct {
	query.Stream
	left int64
}

// Next implements query.Stream.
func (l *limited) Next() (*batch.Batch, error) {
	if l.left == 0 {
		return nil, io.EOF
	}
	b, err := l.Stream.Next()
	if err != nil {
		return nil, err
	}
	if int64(b.Rows) > l.left {
		b = b.Head(int(l.left))
	}
	l.left -= int64(b.Rows)
	return b, nil
}

// openTablet reads one tablet at a settled timestamp: here if this node has a replica that is there,
// else wherever one answers. Until then it waits for this node's.
func (n *Node) openTablet(ctx context.Context, id catalog.TabletID, plan *query.Plan, at int64, ordered bool, until time.Time) (query.Stream, error) {
	if r := n.replica(id); r != nil && n.awaitLocal(ctx, r, at, until) {
		s, err := n.scan(ctx, r, plan, at, ordered)
		if err != nil {
			return nil, err
		}
		if s.begins(diskReadPatience) {
			return s, nil
		}
		n.log.Warn("this node's disk does not answer, another replica is asked", "tablet", id)
		if err := errors.Join(s.Close(), context.Cause(ctx)); err != nil {
			return nil, err
		}
	}
	var out query.Stream
	err := n.askReplicas(id, func(server string) (err error) {
		out, err = n.openRemote(ctx, server, id, plan, at, ordered)
		return err
	})
	return out, err
}

// askReplicas asks the other nodes that have a tablet, one after the other, until one answers: the leader first, which has all.
func (n *Node) askReplicas(id catalog.TabletID, ask func(server string) error) error {
	view := n.catalog.Snapshot()
	t, ok := view.Tablet(id)
	if !ok {
		return coded(http.StatusGone, "tablet_dropped", "tablet %d was dropped while it was read", id)
	}
	errs := []error{fmt.Errorf("connector: no replica of tablet %d answers", id)}
	leader := t.Leader
	if r := n.replica(id); r != nil {
		if node, known := r.group.Leader(); known {
			leader = node
		}
	}
	replicas := slices.Clone(t.Replicas)
	if i := slices.IndexFunc(replicas, func(r catalog.Replica) bool { return r.Node == leader }); i > 0 {
		replicas[0], replicas[i] = replicas[i], replicas[0]
	}
	for _, r := range replicas {
		node, ok := view.Node(r.Node)
		if !ok || r.Member == n.member() {
			continue
		}
		err := ask(node.HTTP)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return coded(http.StatusServiceUnavailable, "tablet_unavailable", "%v", errors.Join(errs...))
}

// awaitLocal waits for a while for this node's replica to have applied all up to at. One that applies its log again after a start is not waited
// for: that takes seconds.
func (n *Node) awaitLocal(ctx context.Context, r *replica, at int64, until time.Time) bool {
	for r.tablet.LastTimestamp() < at {
		if ctx.Err() != nil || time.Now().After(until) || r.group.Replaying() {
			return false
		}
		sleep(ctx, time.Millisecond)
	}
	return true
}

// awaitSchema waits a little until this node's catalog shows a version of a table's schema, which another node knows already.
func (n *Node) awaitSchema(ctx context.Context, id catalog.TableID, version uint32) (*catalog.Table, bool) {
	ctx, cancel := context.WithTimeout(ctx, schemaPatience)
	defer cancel()
	for {
		view := n.catalog.Snapshot()
		if t, ok := view.TableByID(id); !ok || t.Schema.Version >= version {
			return t, ok
		}
		select {
		case <-view.Superseded():
		case <-ctx.Done():
			return nil, false
		}
	}
}

// scan reads this node's replica.
func (n *Node) scan(ctx context.Context, r *replica, plan *query.Plan, at int64, ordered bool) (*patient, error) {
	o := store.ScanOptions{At: at, Where: plan.Where, Ordered: ordered, Schema: plan.Schema}
	for _, c := range plan.Fetch {
		o.Columns = append(o.Columns, c.ID)
	}
	s, err := r.tablet.Scan(o)
	if err != nil {
		return nil, err
	}
	return &patient{n: n, ctx: ctx, from: s}, nil
}

// remoteStream is a tablet's rows from another node.
type remoteStream struct {
	*query.StreamReader
	io.Closer
}

func (n *Node) openRemote(ctx context.Context, server string, id catalog.TabletID, plan *query.Plan, at int64, ordered bool) (query.Stream, error) {
	r := query.Request{At: at, Where: plan.Conditions, Count: len(plan.Fetch) == 0}
	for _, c := range plan.Fetch {
		r.Columns = append(r.Columns, c.Name)
	}
	if ordered {
		r.Order = query.OrderKey
	}
	c := api.Client{Server: server, HTTP: n.http}
	values := r.Values()
	values.Set("schema", strconv.FormatUint(uint64(plan.Schema.Version), 10))
	res, err := c.Do(ctx, http.MethodGet, fmt.Sprintf("/internal/v1/tablets/%d/rows", id), values, nil)
	if err != nil {
		return nil, err
	}
	return &remoteStream{query.NewStreamReader(res.Body), res.Body}, nil
}
