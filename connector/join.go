package connector

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"nyala/configs"
	"nyala/connector/catalog"
	"nyala/raftlog"
)

// The methods of small calls between nodes (raftlog.Log.Call).
const (
	methodHello    = 1 // asks who a node is and whether it knows a cluster
	methodRegister = 2 // asks a member of the system group to register the caller
	methodManifest = 3 // asks for the durable manifest of a group
)

const (
	callLimit  = 3 * time.Second  // of a call that writes nothing, and of one that does while disks are fast
	callWrites = 8                // what goes through a log writes here, on its leader and on a voter, and each may wait for another's write
	callMost   = 30 * time.Second // no call waits longer: it is made again
)

// logLimit is how long to wait for what goes through a log. A call that is given up sooner than disks can write is made again behind
// itself, and nothing moves any more; a longer wait than that only keeps the caller from asking another leader.
func (n *Node) logLimit() time.Duration {
	return min(callLimit+callWrites*n.raft.SlowestWrite(), callMost)
}

// hello is a node's answer to methodHello.
type hello struct {
	Identity    Identity `json:"identity"`
	Initialised bool     `json:"initialised"` // it has, or had, a part of the system group's log
}

// answer serves the small calls of other nodes. The log listens before this node has all its parts, so a call waits for them.
func (n *Node) answer(ctx context.Context, from string, method uint8, body []byte) ([]byte, error) {
	if err := n.waitOpened(ctx); err != nil {
		return nil, err
	}
	switch method {
	case methodHello:
		return json.Marshal(hello{n.identity, n.initialised()})
	case methodRegister:
		var c catalog.RegisterNode
		if err := json.Unmarshal(body, &c); err != nil {
			return nil, fmt.Errorf("connector: registration of %s: %w", from, err)
		}
		_, err := n.propose(ctx, c)
		return nil, err
	case methodManifest:
		return n.giveManifest(ctx, body)
	}
	return nil, fmt.Errorf("connector: call of %s: method %d is unknown, is it a newer nyala?", from, method)
}

// waitOpened waits until all parts that open makes are there, or until ctx is done.
func (n *Node) waitOpened(ctx context.Context) error {
	select {
	case <-n.opened:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("connector: node %s is starting: %w", n.options.Node, context.Cause(ctx))
	}
}

// initialised tells whether this data directory has seen a cluster. Whatever a cluster has acknowledged is
// in the log of a majority of its system nodes, so a founder that asks all of them hears of it.
func (n *Node) initialised() bool {
	return n.catalogLost.Load() != nil || n.catalog.Durable().Index > 0 || n.raft.HasEntries(raftlog.GroupID(catalog.SystemTablet))
}

// join starts the system group, registers the node, and then starts everything else.
//
// Exactly one node makes the cluster: the first of the file, when every system node has answered that
// it knows of none. All others wait for its log. A node whose directory was lost hears from the others
// that there is a cluster, and joins as another incarnation.
func (n *Node) join(ctx context.Context) {
	if n.recoverCatalog(ctx) != nil {
		return // closing
	}
	members, err := n.founders(ctx)
	if err != nil {
		return // closing
	}
	var group *raftlog.Group
	err = retry(ctx, 50*time.Millisecond, time.Second, func() (err error) {
		group, err = n.raft.StartGroup(raftlog.GroupID(catalog.SystemTablet), catalogMachine{n.catalog}, members)
		if err != nil { // a disk that is broken for good ends the node by itself
			n.setPhaseIfNew("system group not started: " + err.Error())
		}
		return err
	})
	if err != nil {
		return // closing
	}
	n.mu.Lock()
	n.mu.system = group
	n.mu.Unlock()
	n.setPhase("waiting for the system group")
	n.goes(n.systemDuties)
	n.startKnown(ctx)
	if n.register(ctx) != nil {
		return
	}
	close(n.ready)
	n.goes(n.reconcile)
	n.goes(n.groupDuties)
	n.goes(n.superviseFeeds)
}

// founders returns the members that the system group is to be made with, nil if this node does not make it.
func (n *Node) founders(ctx context.Context) ([]raftlog.Member, error) {
	nodes := systemNodes(n.options.Config)
	if n.initialised() || nodes[0].ID != n.options.Node {
		return nil, nil
	}
	var members []raftlog.Member
	err := retry(ctx, 50*time.Millisecond, time.Second, func() error {
		members = members[:0]
		for _, node := range nodes {
			h, err := n.hello(ctx, node)
			if err != nil {
				n.setPhaseIfNew(fmt.Sprintf("waiting for node %s at %s, to make the cluster with it", node.ID, node.Peer))
				return err
			}
			if h.Initialised {
				members = nil
				return nil
			}
			members = append(members, raftlog.Member{Node: node.ID, Incarnation: h.Identity.Incarnation, Voter: true})
		}
		return nil
	})
	return members, err
}

func (n *Node) setPhaseIfNew(s string) {
	if p := n.phase.Load(); p == nil || *p != s {
		n.setPhase(s)
	}
}

func (n *Node) hello(ctx context.Context, node configs.ClusterNode) (h hello, err error) {
	if node.ID == n.options.Node {
		return hello{n.identity, n.initialised()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	text, err := n.raft.Call(ctx, node.ID, methodHello, nil)
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(text, &h)
}

// register makes the catalog know this node and waits until this node's catalog says so.
func (n *Node) register(ctx context.Context) error {
	return retry(ctx, 20*time.Millisecond, 200*time.Millisecond, func() error {
		c := catalog.RegisterNode{
			Name: n.options.Node, Incarnation: n.identity.Incarnation,
			Peer: n.self.Peer, HTTP: n.self.HTTP, Rack: n.self.Rack,
		}
		if err := n.registerWith(ctx, c); err != nil {
			n.setPhaseIfNew("waiting for the system group's leader")
			n.log.Debug("not registered yet", "error", err)
			var refused *catalog.RefusedError
			if errors.As(err, &refused) && refused.Code != catalog.NotReady {
				n.log.Error("node refused", "error", err)
			}
			if replaced(err) {
				n.stopKnown()
			}
			return err
		}
		if node, ok := n.catalog.Snapshot().Node(n.options.Node); !ok || node.Incarnation != n.identity.Incarnation {
			return fmt.Errorf("connector: this node's catalog is behind")
		}
		return nil
	})
}

// replaced tells whether a node was refused because another incarnation has taken its place. What another node answers is text.
func replaced(err error) bool { return strings.Contains(err.Error(), catalog.NodeReplaced.String()) }

// registerWith proposes the registration here if this node is in the system group, and otherwise asks a
// node that is.
func (n *Node) registerWith(ctx context.Context, c catalog.RegisterNode) error {
	ctx, cancel := context.WithTimeout(ctx, n.logLimit())
	defer cancel()
	if _, known := n.system().Leader(); known {
		_, err := n.propose(ctx, c)
		return err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	errs := []error{errors.New("connector: no node of the system group took the registration")}
	for _, node := range systemNodes(n.options.Config) {
		if node.ID == n.options.Node {
			continue
		}
		if _, err = n.raft.Call(ctx, node.ID, methodRegister, body); err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// propose runs a command through the system group's log. A refusal is a *catalog.RefusedError.
func (n *Node) propose(ctx context.Context, c catalog.Command) (catalog.Result, error) {
	return n.proposeAt(ctx, n.options.Now().UnixMicro(), c)
}

// proposeAt is propose with a clock of its own: what is made by later commands was made later than that.
func (n *Node) proposeAt(ctx context.Context, at int64, c catalog.Command) (catalog.Result, error) {
	g := n.system()
	if g == nil {
		return catalog.Result{}, errors.New("connector: the system group is not running here yet")
	}
	data, err := catalog.Encode(catalog.Micros(at), c)
	if err != nil {
		return catalog.Result{}, err
	}
	out, err := g.Propose(ctx, data)
	if err != nil {
		return catalog.Result{}, err
	}
	r, err := catalog.ParseResult(out)
	if err != nil {
		return catalog.Result{}, err
	}
	return r, r.Err()
}

// clusterID makes the random id of a new cluster.
func (n *Node) clusterID() (string, error) {
	var raw [8]byte
	if _, err := n.options.Entropy.Read(raw[:]); err != nil {
		return "", fmt.Errorf("connector: id of the cluster: %w", err)
	}
	return hex.EncodeToString(raw[:]), nil
}
