package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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
	began  time.Time
}

// The pace of the loops that bring a node to what the catalog says. A change of the catalog wakes
// them at once; the interval is for what failed.
const reconcileInterval = time.Second

// startKnown starts the replicas that have a log here, by the catalog as it was when this node last saved it. Nobody can tell yet what it is by
// now: that takes a leader of the system group, and the tablets need not wait for it to elect their own.
//
// It is as safe as in a node that runs and has not heard of a change of the catalog. What a tablet was made with never changes, and who votes
// in a group says its log. A group is not made here: its log may have been deleted, by a later word of the catalog, after it acknowledged
// entries. What has no place here any more reconcile finds running, when this node's catalog has caught up. What cannot be started
// is tried again and repaired by reconcile, too.
func (n *Node) startKnown(ctx context.Context) {
	view := n.catalog.Snapshot()
	for _, t := range view.ReplicasOn(n.member()) {
		if ctx.Err() != nil || t.ID == catalog.SystemTablet || n.raft.Next(raftlog.GroupID(t.ID)) == 0 {
			continue
		}
		if err := n.startReplica(view, t); err != nil {
			n.log.Warn("replica not started yet", "tablet", t.ID, "error", err)
		}
	}
}

// stopKnown stops them, for this node was refused.
func (n *Node) stopKnown() {
	n.mu.Lock()
	running := slices.Collect(maps.Keys(n.mu.replicas))
	n.mu.Unlock()
	for _, id := range running {
		if err := n.stopReplica(id); err != nil {
			n.log.Error("replica not stopped", "tablet", id, "error", err)
		}
	}
}

// reconcile runs the replicas that the catalog places on this node, and deletes those that it
// may. It is the only goroutine that starts and stops tablets, and runs when join, which started the first ones, has ended.
func (n *Node) reconcile(ctx context.Context) {
	for ctx.Err() == nil {
		view := n.catalog.Snapshot()
		n.runReplicas(ctx, view)
		n.dropReplicas(ctx, view)
		select {
		case <-view.Superseded():
		case <-n.moved:
		case <-time.After(reconcileInterval):
		case <-ctx.Done():
		}
	}
}

// wakeReplicas has reconcile look at the replicas now.
func (n *Node) wakeReplicas() {
	select {
	case n.moved <- struct{}{}:
	default:
	}
}

// runReplicas starts what does not run here yet, and what stopped by itself because its log could not be read: a
// disk's error may be a passing one. What stopped applying, or cannot be opened, is repaired first.
func (n *Node) runReplicas(ctx context.Context, view *catalog.Snapshot) {
	for _, t := range view.ReplicasOn(n.member()) {
		if ctx.Err() != nil || t.ID == catalog.SystemTablet || n.underRepair(t.ID) {
			continue
		}
		what := fmt.Sprintf("tablet %d", t.ID)
		if r := n.replica(t.ID); r != nil {
			err, failed := r.group.Err(), r.tablet.Err()
			if err == nil && failed == nil {
				n.healed(r)
				continue
			}
			n.fault(what, errors.Join(err, failed))
			n.endIfDamaged(err)
			if err := n.stopReplica(t.ID); err != nil {
				n.log.Error("replica not stopped", "tablet", t.ID, "error", err)
			}
			if failed != nil {
				n.beginRepair(view, t, failed)
				continue
			}
		}
		switch err := n.startReplica(view, t); {
		case errors.Is(err, store.ErrDamaged):
			n.fault(what, err)
			n.beginRepair(view, t, err)
		case err != nil:
			n.fault(what, err)
		default:
			n.clearFault(what)
		}
	}
}

// specOf is what the store must know of a tablet.
func specOf(view *catalog.Snapshot, t *catalog.Tablet) (store.Spec, error) {
	table, ok := view.TableByID(t.Table)
	if !ok {
		return store.Spec{}, fmt.Errorf("connector: tablet %d is of table %d, which is not in the catalog", t.ID, t.Table)
	}
	partition, ok := table.Partition(t.Low)
	if !ok {
		return store.Spec{}, fmt.Errorf("connector: tablet %d begins at %d, where table %s has no partition", t.ID, t.Low, table.Name)
	}
	return store.Spec{
		ID: store.ID(t.ID), Table: table.Name, Schema: table.SchemaAt(t.Schema), Bucket: t.Bucket,
		HasRange: table.Schema.Range != nil, RangeLow: t.Low, RangeHigh: t.High, History: table.History, Begin: int64(partition.Created),
		Fences: t.Fences,
	}, nil
}

// startReplica opens a tablet and its group. A tablet that was made here a moment ago has no files and
// bootstraps; one that was lost or comes from elsewhere has none either, and waits for its leader.
func (n *Node) startReplica(view *catalog.Snapshot, t *catalog.Tablet) error {
	spec, err := specOf(view, t)
	if err != nil {
		return err
	}
	tablet, err := n.tablets.OpenAbove(spec, n.raft.Begin(raftlog.GroupID(t.ID)))
	if err != nil {
		return err
	}
	n.breaks(tablet)
	tablet.Expect(n.raft.Bytes(raftlog.GroupID(t.ID), tablet.Durable().Index+1))
	var founders []raftlog.Member
	for _, m := range t.BootstrapFor(n.member()) {
		founders = append(founders, raftlog.Member{Node: m.Node, Incarnation: m.Incarnation, Voter: true})
	}
	group, err := n.raft.StartGroup(raftlog.GroupID(t.ID), tabletMachine{tablet}, founders)
	if err != nil {
		return errors.Join(err, n.tablets.CloseTablet(store.ID(t.ID)))
	}
	n.mu.Lock()
	n.mu.replicas[t.ID] = &replica{id: t.ID, tablet: tablet, group: group, began: time.Now()}
	n.mu.Unlock()
	n.log.Info("replica started", "tablet", t.ID, "table", spec.Table, "durable", tablet.Durable().Index)
	return nil
}

// goneReplicas lists what runs here, or is on the disk from before the start, and has no place here by the catalog.
func (n *Node) goneReplicas(view *catalog.Snapshot) (gone []catalog.TabletID) {
	placed := func(id catalog.TabletID) bool {
		t, ok := view.Tablet(id)
		if ok {
			_, ok = t.Replica(n.member())
		}
		return ok || id >= view.NextTablet
	}
	n.leftovers = slices.DeleteFunc(n.leftovers, placed)
	gone = append(gone, n.leftovers...)
	n.mu.Lock()
	for id := range n.mu.replicas {
		if !placed(id) {
			gone = append(gone, id)
		}
	}
	n.mu.Unlock()
	slices.Sort(gone)
	return slices.DeleteFunc(slices.Compact(gone), n.underRepair)
}

// dropReplicas deletes what the catalog no longer places here. This node's catalog may be behind, so the
// replicas are stopped and the group is asked through its log before a byte is deleted.
func (n *Node) dropReplicas(ctx context.Context, view *catalog.Snapshot) {
	gone := n.goneReplicas(view)
	if len(gone) == 0 {
		return
	}
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
		err := n.tablets.Drop(store.ID(id)) // before its log: a manifest without a log is a sign of a log that was lost
		if err == nil {
			err = n.raft.DropGroup(raftlog.GroupID(id))
		}
		if err != nil {
			n.log.Error("replica not deleted", "tablet", id, "error", err)
			continue
		}
		n.leftovers = slices.DeleteFunc(n.leftovers, func(o catalog.TabletID) bool { return o == id })
		n.log.Info("replica deleted", "tablet", id)
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

// faultOf is why something does not run here, "" if nothing is known.
func (n *Node) faultOf(what string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.notReady[what]
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

// preferred names the node that should lead a tablet, as far as this node's catalog knows.
func (n *Node) preferred(id raftlog.GroupID) string {
	t, ok := n.catalog.Snapshot().Tablet(catalog.TabletID(id))
	if !ok {
		return ""
	}
	return t.Leader
}

// openFile serves fetchFile of other nodes.
func (n *Node) openFile(group raftlog.GroupID, name string, off int64) (io.ReadCloser, error) {
	return n.tablets.OpenFile(store.ID(group), name, off)
}
