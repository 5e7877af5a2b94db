package configs

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

// readCluster reads the section cluster.
func (r *reader) readCluster(top *section) Cluster {
	s := r.section(top.node("cluster"), "cluster", "cluster", top.at)
	if top.node("cluster") == nil {
		top.missing("cluster", "name the cluster and its nodes")
	}
	c := Cluster{Name: required(s, "name", "nodes refuse to talk to a cluster of another name", parseName).value}
	items, ok := s.elements("nodes")
	if s.node("nodes") == nil {
		s.missing("nodes", "list at least one node: {id: n1, peer: host:7401, http: host:7481, data: data/n1}")
	} else if ok && len(items) == 0 {
		s.fault(s.node("nodes").at, s.object("nodes"), problem{"got no node, want at least one", ""})
	}
	c.Nodes = r.readNodes(items, s)
	s.readReplicas(&c, ok, len(items))
	return c
}

// readReplicas reads cluster.replicas, which depends on how many nodes there are. Known says
// that the list of nodes could be read.
func (s *section) readReplicas(c *Cluster, known bool, nodes int) {
	fallback := 1
	if nodes >= defaultReplicas {
		fallback = defaultReplicas
	}
	found := optional(s, "replicas", fallback, parseWhole(1, maxReplicas, "an odd number"))
	c.Replicas = found.value
	switch {
	case !found.given || !found.ok:
	case found.value%2 == 0:
		s.fault(found.at, s.object("replicas"), problem{fmt.Sprintf("got %d, want an odd number", found.value),
			fmt.Sprintf("%d replicas survive no more failures than %d", found.value, found.value-1)})
	case known && nodes > 0 && found.value > nodes:
		s.fault(found.at, s.object("replicas"), problem{fmt.Sprintf("got %d, want at most one per node", found.value),
			fmt.Sprintf("cluster.nodes lists %s", count(nodes, "node"))})
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// nodeSettings are the settings of one node, still with their places.
type nodeSettings struct {
	label                      string
	id, peer, http, data, rack setting[string]
}

func (r *reader) readNodes(items []*node, cluster *section) []ClusterNode {
	var read []nodeSettings
	var nodes []ClusterNode
	labels := map[string]bool{}
	for i, n := range items {
		numbered := fmt.Sprintf("number %d of cluster.nodes", i+1)
		label := "node " + peek(n, "id", numbered)
		if labels[label] { // two of the same id
			label = "node " + numbered
		}
		labels[label] = true
		s := r.section(n, "cluster.nodes[]", label, cluster.at)
		one := nodeSettings{
			label: label,
			id:    required(s, "id", "it is how run, status and logs name the node", parseName),
			peer:  required(s, "peer", "it is the address for the other nodes, such as 10.0.0.1:7401", parsePeer),
			http:  required(s, "http", "it is the address for users, such as 10.0.0.1:7481", parseListen),
			data:  required(s, "data", "it is the directory for the node's data", parseText),
			rack:  optional(s, "rack", "", parseText),
		}
		read = append(read, one)
		nodes = append(nodes, ClusterNode{ID: one.id.value, Peer: one.peer.value, HTTP: one.http.value, Data: one.data.value, Rack: one.rack.value})
	}
	r.checkNodes(read)
	return nodes
}

// checkNodes reports what two nodes cannot both have.
//
// Directories may only be the same on different hosts: three machines that all keep their data in
// /var/lib/nyala are the usual case.
func (r *reader) checkNodes(nodes []nodeSettings) {
	ids, addresses := map[string]int{}, map[string]string{}
	for i, n := range nodes {
		if n.id.ok {
			if first, doubled := ids[n.id.value]; doubled {
				r.fault(n.id.at, n.label, problem{
					fmt.Sprintf("id: %q is the id of node number %d already, in line %d", n.id.value, first+1, nodes[first].id.at.line), ""})
			} else {
				ids[n.id.value] = i
			}
		}
		host := hostOf(n.peer.value)
		for _, a := range []struct {
			key     string
			address setting[string]
		}{{"peer", n.peer}, {"http", n.http}} {
			if !a.address.ok {
				continue
			}
			where := effectiveAddress(a.address.value, host)
			if first, doubled := addresses[where]; doubled {
				r.fault(a.address.at, n.label, problem{fmt.Sprintf("%s: %q is %s already", a.key, a.address.value, first), ""})
				continue
			}
			addresses[where] = fmt.Sprintf("the %s address of %s", a.key, n.label)
		}
		for _, other := range nodes[:i] {
			if r.checkDirectories(other, n) {
				break // one is enough
			}
		}
	}
}

// checkDirectories reports two nodes on one host whose directories are the same, or inside each other.
func (r *reader) checkDirectories(first, second nodeSettings) (reported bool) {
	if !first.data.ok || !second.data.ok || !first.peer.ok || !second.peer.ok || hostOf(first.peer.value) != hostOf(second.peer.value) {
		return false
	}
	a, b := filepath.Clean(first.data.value), filepath.Clean(second.data.value)
	switch {
	case a == b:
		r.fault(second.data.at, second.label, problem{fmt.Sprintf("data: %q is the directory of %s already, on the same host", second.data.value, first.label), ""})
	case contains(a, b) || contains(b, a):
		r.fault(second.data.at, second.label, problem{fmt.Sprintf("data: %q and the directory %q of %s, on the same host, are inside each other",
			second.data.value, first.data.value, first.label), ""})
	default:
		return false
	}
	return true
}

func contains(outer, inner string) bool {
	return outer == "." && !filepath.IsAbs(inner) && !strings.HasPrefix(inner, "..") ||
		strings.HasPrefix(inner, strings.TrimSuffix(outer, string(filepath.Separator))+string(filepath.Separator))
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

// effectiveAddress puts the node's own host in place of a wildcard.
func effectiveAddress(address, host string) string {
	own, port, _ := net.SplitHostPort(address)
	if isWildcard(own) {
		own = host
	}
	return net.JoinHostPort(own, port)
}

// readNode reads the section node.
func (r *reader) readNode(top *section) Node {
	s := r.section(top.node("node"), "node", "node", top.at)
	memory := optional(s, "memory", defaultMemoryBytes, parseSize)
	if memory.ok && (memory.value < minMemoryBytes || memory.value > maxMemoryBytes) {
		s.fault(memory.at, s.object("memory"), problem{fmt.Sprintf("got %s, want %s to %s",
			formatSize(memory.value), formatSize(minMemoryBytes), formatSize(maxMemoryBytes)), ""})
	}
	return Node{MemoryBytes: memory.value, Durability: optional(s, "durability", defaultDurability, choice("node.durability", Fsync, PageCache)).value}
}
