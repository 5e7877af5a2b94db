package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"nyala/connector/catalog"
	"nyala/raftlog"
	"nyala/store"
)

// replica is a tablet that runs on this node.
type replica struct {
	id     catalog.TabletID
	tablet *store.Tablet
	group  *raftlog.Group
}

// The pace of the loops that bring a node to what the catalog says. A change of the catalog wakes
// them at once; the interval is for what failed.
const reconcileInterval = time.Second

// reconcile runs the replicas that the catalog places on this node, and deletes those that it
// may. It is the only goroutine that starts and stops tablets.
func (n *Node) reconcile(ctx context.Context) {
	for ctx.Err() == nil {
		view := n.catalog.Snapshot()
		n.runReplicas(ctx, view)
		n.dropReplicas(ctx, view)
		select {
		case <-view.Superseded():
		case <-time.After(reconcileInterval):
		case <-ctx.Done():
		}
	}
}

// runReplicas starts what does not run here yet, and what stopped by itself because its log could not be read: a
// disk's error may be a passing one.
func (n *Node) runReplicas(ctx context.Context, view *catalog.Snapshot) {
	for _, t := range view.ReplicasOn(n.member()) {
		if ctx.Err() != nil || t.ID == catalog.SystemTablet {
			continue
		}
		if r := n.replica(t.ID); r != nil {
			err := r.group.Err()
			if err == nil {
				continue
			}
			n.fault(fmt.Sprintf("tablet %d", t.ID), err)
			if err := n.stopReplica(t.ID); err != nil {
				n.log.Error("replica not stopped", "tablet", t.ID, "error", err)
			}
		}
		if err := n.startReplica(view, t); err != nil {
			n.fault(fmt.Sprintf("tablet %d", t.ID), err)
			continue
		}
		n.clearFault(fmt.Sprintf("tablet %d", t.ID))
	}
}

// startReplica opens a tablet and its group. A tablet that was made here a moment ago has no files and
// bootstraps; one that was lost or comes from elsewhere has none either, and waits for its leader.
func (n *Node) startReplica(view *catalog.Snapshot, t *catalog.Tablet) error {
	table, ok := view.TableByID(t.Table)
	if !ok {
		return fmt.Errorf("connector: tablet %d is of table %d, which is not in the catalog", t.ID, t.Table)
	}
	partition, ok := table.Partition(t.Low)
	if !ok {
		return fmt.Errorf("connector: tablet %d begins at %d, where table %s has no partition", t.ID, t.Low, table.Name)
	}
	tablet, err := n.tablets.Open(store.Spec{
		ID: store.ID(t.ID), Table: table.Name, Schema: table.Schema, Bucket: t.Bucket,
		HasRange: table.Schema.Range != nil, RangeLow: t.Low, RangeHigh: t.High, History: table.History, Begin: int64(partition.Created),
	})
	if err != nil {
		return err
	}
	n.breaks(tablet)
	var founders []raftlog.Member
	for _, m := range t.BootstrapFor(n.member()) {
		founders = append(founders, raftlog.Member{Node: m.Node, Incarnation: m.Incarnation, Voter: true})
	}
	group, err := n.raft.StartGroup(raftlog.GroupID(t.ID), tabletMachine{tablet}, founders)
	if err != nil {
		return errors.Join(err, n.tablets.CloseTablet(store.ID(t.ID)))
	}
	n.mu.Lock()
	n.mu.replicas[t.ID] = &replica{t.ID, tablet, group}
	n.mu.Unlock()
	n.log.Info("replica started", "tablet", t.ID, "table", table.Name, "durable", tablet.Durable().Index)
	return nil
}

// dropReplicas deletes what the catalog no longer places here. This node's catalog may be behind, so the
// replicas are stopped and the group is asked through its log before a byte is deleted.
func (n *Node) dropReplicas(ctx context.Context, view *catalog.Snapshot) {
	var gone []catalog.TabletID
	n.mu.Lock()
	for id := range n.mu.replicas {
		t, ok := view.Tablet(id)
		if ok {
			_, ok = t.Replica(n.member())
		}
		if !ok && id < view.NextTablet {
			gone = append(gone, id)
		}
	}
	n.mu.Unlock()
	if len(gone) == 0 {
		return
	}
	slices.Sort(gone)
	for _, id := range gone {
		if err := n.stopReplica(id); err != nil {
			n.log.Error("replica not stopped", "tablet", id, "error", err)
			return
		}
	}
	r, err := n.propose(ctx, catalog.AskFates{Member: n.member(), Tablets: gone})
	if err != nil {
		n.log.Warn("replicas not deleted yet", "tablets", gone, "error", err)
		return // they start again if the catalog still places them here
	}
	for _, id := range r.Tablets {
		err := errors.Join(n.raft.DropGroup(raftlog.GroupID(id)), n.tablets.Drop(store.ID(id)))
		n.log.Info("replica deleted", "tablet", id, "error", err)
	}
}

func (n *Node) stopReplica(id catalog.TabletID) error {
	n.mu.Lock()
	r := n.mu.replicas[id]
	delete(n.mu.replicas, id)
	n.mu.Unlock()
	if r == nil {
		return nil
	}
	return errors.Join(n.raft.StopGroup(raftlog.GroupID(id)), n.tablets.CloseTablet(store.ID(id)))
}

// fault remembers why something does not run here, for status and ready; it logs a fault once.
func (n *Node) fault(what string, err error) {
	n.mu.Lock()
	known := n.mu.notReady[what] == err.Error()
	n.mu.notReady[what] = err.Error()
	n.mu.Unlock()
	if !known {
		n.log.Error("cannot run", "what", what, "error", err)
	}
}

func (n *Node) clearFault(what string) {
	n.mu.Lock()
	delete(n.mu.notReady, what)
	n.mu.Unlock()
}

// clearFaults forgets every fault of a kind.
func (n *Node) clearFaults(prefix string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for what := range n.mu.notReady {
		if strings.HasPrefix(what, prefix) {
			delete(n.mu.notReady, what)
		}
	}
}

// What the store asks of the log.

func (n *Node) proposeTo(ctx context.Context, id store.ID, entry []byte) ([]byte, error) {
	r := n.replica(catalog.TabletID(id))
	if r == nil {
		return nil, fmt.Errorf("connector: tablet %d does not run on %s", id, n.options.Node)
	}
	return r.group.Propose(ctx, entry)
}

func (n *Node) isLeaderOf(id store.ID) bool {
	r := n.replica(catalog.TabletID(id))
	return r != nil && r.group.IsLeader()
}

func (n *Node) cutLog(id store.ID) {
	if r := n.replica(catalog.TabletID(id)); r != nil {
		r.group.Cut()
	}
}

// fetchFile reads a tablet's file from the first other replica that has it, from offset off on.
func (n *Node) fetchFile(ctx context.Context, id store.ID, name string, off int64) (io.ReadCloser, error) {
	t, ok := n.catalog.Snapshot().Tablet(catalog.TabletID(id))
	if !ok {
		return nil, fmt.Errorf("connector: tablet %d is not in the catalog", id)
	}
	errs := []error{fmt.Errorf("connector: tablet %d: no replica gave file %s", id, name)}
	for _, r := range t.Replicas {
		if r.Member == n.member() {
			continue
		}
		f, err := n.raft.Fetch(ctx, r.Node, raftlog.GroupID(id), name, off)
		if err == nil {
			return f, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// openFile serves fetchFile of other nodes.
func (n *Node) openFile(group raftlog.GroupID, name string, off int64) (io.ReadCloser, error) {
	return n.tablets.OpenFile(store.ID(group), name, off)
}
