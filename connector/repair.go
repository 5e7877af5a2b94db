package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"nyala/configs"
	"nyala/connector/catalog"
	"nyala/raftlog"
	"nyala/store"
)

// What is damaged on a disk is one of three things.
//
//   - Files of tablets, manifests, the catalog's file: all of it is committed state that other replicas have, too. The log and
//     its votes are whole, so the replica may come back as what it was, with a manifest that is not shorter than the log allows.
//     It is mended in place, and until then neither serves nor votes.
//   - The log: what this node acknowledged and voted for may be gone. Nobody can say what, so it may not come back as what it
//     was. The node refuses to start. With an empty directory it is another incarnation and is rebuilt.
//   - The identity: without it nobody knows whose log that is. The same.

// repair is a replica that is being made whole, or waits for that to be tried again.
type repair struct {
	reason error
	from   string // the node that gave the last file
	tries  int
	until  time.Time // when it is tried again
	active bool
}

const (
	repairPauseMin = time.Second
	repairPauseMax = time.Minute
	repairForgets  = 10 * time.Minute // a replica that ran so long did not fail again
)

// refused adds to the reason why a data directory cannot be used what to do about it.
func (n *Node) refused(err error) error {
	if !errors.Is(err, raftlog.ErrCorrupt) && !errors.Is(err, raftlog.ErrNotOurs) && !errors.Is(err, errIdentity) {
		return err
	}
	what := fmt.Sprintf("move %s away and start the node again, while the others run: it comes back as a new incarnation and gets all of its replicas from them", n.self.Data)
	if len(n.options.Config.Cluster.Nodes) == 1 {
		what = fmt.Sprintf("there is no other node to get it from; keep %s, and see `nyala check %s` for what is damaged", n.self.Data, n.self.Data)
	}
	return fmt.Errorf("connector: node %s cannot use its data directory: %w; what to do: %s", n.options.Node, err, what)
}

// used tells whether the data directory has files that cannot be without a log.
func (n *Node) used() (bool, error) {
	for _, part := range []string{tabletsDir, catalogDir} {
		some, err := anyFile(n.options.FS, path.Join(n.self.Data, part))
		if some != "" || err != nil {
			return true, err
		}
	}
	return false, nil
}

// compareAges refuses a log that is older than a manifest: the log was rolled back, and with it votes and acknowledged entries
// are gone. An entry is applied only after it was synced here, so the log always has what a manifest has, unless
// that came from another replica. Without fsync a power cut may do the same, which that mode accepts.
func (n *Node) compareAges() error {
	dir := path.Join(n.self.Data, tabletsDir)
	extents, err := store.Extents(n.options.FS, dir)
	if err != nil {
		return err
	}
	for _, e := range extents {
		n.leftovers = append(n.leftovers, catalog.TabletID(e.ID))
		next := n.raft.Next(raftlog.GroupID(e.ID))
		if e.Index == 0 || next > e.Index || e.Restored || n.options.Config.Node.Durability == configs.PageCache {
			continue
		}
		return n.refused(fmt.Errorf("connector: log %s at group %d: its next entry is %d, but %s/%d/manifest has all up to %d: the log is an older copy, or lost its end: %w",
			path.Join(n.self.Data, walDir), e.ID, next, dir, e.ID, e.Index, raftlog.ErrNotOurs))
	}
	for _, id := range n.raft.Stored() {
		if id != raftlog.GroupID(catalog.SystemTablet) {
			n.leftovers = append(n.leftovers, catalog.TabletID(id))
		}
	}
	// The catalog's file and its log: a file that was lost shows only here.
	first := n.raft.Begin(raftlog.GroupID(catalog.SystemTablet))
	if d := n.catalog.Durable().Index; n.catalogLost.Load() == nil && d+1 < first {
		return n.loseCatalog(fmt.Errorf("connector: %s at 0: it has all up to %d, but the log begins at %d: the file is missing, or an older copy",
			path.Join(n.self.Data, catalogDir, catalog.File), d, first))
	}
	return nil
}

// endIfDamaged ends the node when damage of the log was found while it ran. The next start says the same.
func (n *Node) endIfDamaged(err error) {
	if !errors.Is(err, raftlog.ErrCorrupt) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.end = n.refused(err)
}

// openCatalog reads the catalog. A damaged file is put aside, to come from another node.
func (n *Node) openCatalog() (err error) {
	o := catalog.Options{FS: n.options.FS, Dir: path.Join(n.self.Data, catalogDir), Logger: n.log, Reached: reached[catalog.Point](n.options.reached)}
	if n.catalog, err = catalog.Open(o); err == nil || !errors.Is(err, catalog.ErrCorrupt) {
		return err
	}
	if err := n.loseCatalog(err); err != nil {
		return err
	}
	name := path.Join(o.Dir, catalog.File)
	if err := n.options.FS.Rename(name, name+".damaged"); err != nil {
		return fmt.Errorf("connector: %w", err)
	}
	if err := n.options.FS.SyncDir(o.Dir); err != nil {
		return fmt.Errorf("connector: %w", err)
	}
	n.catalog, err = catalog.Open(o)
	return err
}

func (n *Node) loseCatalog(why error) error {
	if len(n.options.Config.Cluster.Nodes) == 1 {
		return fmt.Errorf("connector: node %s cannot use its catalog, and there is no other node to get it from: %w", n.options.Node, why)
	}
	n.log.Error("the catalog is damaged, it comes from another node", "error", why)
	n.catalogLost.Store(&why)
	return nil
}

// recoverCatalog gets the catalog from another node before this one takes part in its group: one that is not shorter
// than the log here allows.
func (n *Node) recoverCatalog(ctx context.Context) error {
	why := n.catalogLost.Load()
	if why == nil {
		return nil
	}
	n.setPhase(fmt.Sprintf("waiting for a node that gives its catalog: %v", *why))
	least := max(n.raft.Begin(raftlog.GroupID(catalog.SystemTablet)), 1) - 1
	return retry(ctx, 100*time.Millisecond, time.Second, func() error {
		var errs []error
		for _, node := range n.options.Config.Cluster.Nodes {
			if node.ID == n.options.Node {
				continue
			}
			m, err := n.askManifest(ctx, node.ID, raftlog.GroupID(catalog.SystemTablet), least)
			if err == nil {
				err = n.catalog.Restore(catalog.Durable(m.Durable), m.Manifest)
			}
			if err == nil {
				n.log.Info("catalog comes from another node", "from", node.ID, "index", m.Durable.Index)
				n.catalogLost.Store(nil)
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// manifestRequest asks for a manifest that is durable at least so far.
type manifestRequest struct {
	Group raftlog.GroupID `json:"group"`
	Least uint64          `json:"least"`
}

type manifestAnswer struct {
	Durable  raftlog.Durable `json:"durable"`
	Manifest []byte          `json:"manifest"`
}

// giveManifest answers another node that repairs a replica. Only what serves here is given away.
func (n *Node) giveManifest(ctx context.Context, body []byte) ([]byte, error) {
	var q manifestRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("connector: request of a manifest: %w", err)
	}
	var a manifestAnswer
	var err error
	if q.Group == raftlog.GroupID(catalog.SystemTablet) {
		if n.system() == nil {
			return nil, fmt.Errorf("connector: the system group does not run on %s", n.options.Node)
		}
		if n.catalog.Durable().Index < max(q.Least, 1) {
			err = n.catalog.Save(ctx)
		}
		if err == nil {
			a.Durable, a.Manifest, err = catalogMachine{n.catalog}.Manifest()
		}
	} else {
		r := n.replica(catalog.TabletID(q.Group))
		if r == nil {
			return nil, fmt.Errorf("connector: tablet %d does not run on %s", q.Group, n.options.Node)
		}
		if err = r.tablet.Err(); err == nil {
			a.Durable, a.Manifest, err = tabletMachine{r.tablet}.Manifest()
		}
	}
	if err == nil && a.Durable.Index < q.Least {
		err = fmt.Errorf("connector: group %d is durable to %d on %s, want at least %d", q.Group, a.Durable.Index, n.options.Node, q.Least)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

func (n *Node) askManifest(ctx context.Context, node string, id raftlog.GroupID, least uint64) (a manifestAnswer, err error) {
	body, err := json.Marshal(manifestRequest{id, least})
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	text, err := n.raft.Call(ctx, node, methodManifest, body)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(text, &a)
}

// others lists the other nodes with a replica of a tablet, each time from another one on: what one gives may be damaged.
func (n *Node) others(id store.ID) ([]string, error) {
	t, ok := n.catalog.Snapshot().Tablet(catalog.TabletID(id))
	if !ok {
		return nil, fmt.Errorf("connector: tablet %d is not in the catalog", id)
	}
	var nodes []string
	for _, r := range t.Replicas {
		if r.Member != n.member() {
			nodes = append(nodes, r.Node)
		}
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("connector: tablet %d has no other replica", id)
	}
	first := int(n.asked.Add(1)) % len(nodes)
	return append(nodes[first:], nodes[:first]...), nil
}

// fetchFile reads a tablet's file from the first other replica that has it, from offset off on.
func (n *Node) fetchFile(ctx context.Context, id store.ID, name string, off int64) (io.ReadCloser, error) {
	nodes, err := n.others(id)
	if err != nil {
		return nil, err
	}
	errs := []error{fmt.Errorf("connector: tablet %d: no replica gave file %s", id, name)}
	for _, node := range nodes {
		f, err := n.raft.Fetch(ctx, node, raftlog.GroupID(id), name, off)
		if err == nil {
			n.repairFrom(catalog.TabletID(id), node)
			return f, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// fetchManifest asks the other replicas of a tablet for their manifest.
func (n *Node) fetchManifest(ctx context.Context, id store.ID, least uint64) ([]byte, error) {
	nodes, err := n.others(id)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, node := range nodes {
		a, err := n.askManifest(ctx, node, raftlog.GroupID(id), least)
		if err == nil {
			n.repairFrom(catalog.TabletID(id), node)
			return a.Manifest, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (n *Node) repairFrom(id catalog.TabletID, node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.mu.repairs[id]; p != nil {
		p.from = node
	}
}

// underRepair tells whether a replica must be left alone.
func (n *Node) underRepair(id catalog.TabletID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.mu.repairs[id]
	return p != nil && (p.active || time.Now().Before(p.until))
}

// healed forgets a repair that has held.
func (n *Node) healed(r *replica) {
	if time.Since(r.began) < repairForgets {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.mu.repairs, r.id)
}

// beginRepair makes the files of a replica that does not run whole again, in a goroutine of its own. reconcile starts it
// when that is done. What fails again soon waits longer each time.
func (n *Node) beginRepair(view *catalog.Snapshot, t *catalog.Tablet, reason error) {
	spec, err := specOf(view, t)
	if err != nil {
		n.fault(fmt.Sprintf("tablet %d", t.ID), err)
		return
	}
	n.mu.Lock()
	p := n.mu.repairs[t.ID]
	if p == nil {
		p = &repair{}
		n.mu.repairs[t.ID] = p
	}
	p.reason, p.active, p.from = reason, true, ""
	p.tries++
	n.mu.Unlock()
	n.log.Error("replica is damaged, it is repaired", "tablet", t.ID, "try", p.tries, "error", reason)
	n.goes(func(ctx context.Context) {
		err := n.tablets.Repair(ctx, spec, n.raft.Begin(raftlog.GroupID(t.ID)))
		n.mu.Lock()
		p.active = false
		if err != nil || p.tries > 1 {
			p.until = time.Now().Add(min(repairPauseMin<<min(p.tries-1, 10), repairPauseMax))
		}
		from := p.from
		n.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			n.fault(fmt.Sprintf("tablet %d", t.ID), err)
			n.log.Warn("replica not repaired yet", "tablet", t.ID, "error", err)
		} else if err == nil {
			n.log.Info("replica repaired", "tablet", t.ID, "from", from)
		}
		n.wakeReplicas()
	})
}
