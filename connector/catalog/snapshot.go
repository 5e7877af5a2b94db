package catalog

import (
	"cmp"
	"slices"
	"time"

	"nyala/offsets"
	"nyala/store/schema"
)

// TabletID is a tablet's number and its Raft group's. Ids are never given twice.
type TabletID uint64

// SystemTablet is the group that replicates the catalog itself.
const SystemTablet TabletID = 1

// TableID numbers tables for ever: a table that was dropped and made again has another one.
type TableID uint64

// Micros is a time in microseconds since 1970 UTC.
type Micros int64

// NodeState is what the cluster last knew of a node.
type NodeState string

// The states of a node. Draining lasts until it is taken back, also over restarts of the node.
const (
	NodeUp       NodeState = "up"
	NodeDown     NodeState = "down"
	NodeDraining NodeState = "draining"
)

// Desired is what a connector should do.
type Desired string

// The desired states of a connector.
const (
	Running Desired = "running"
	Paused  Desired = "paused"
)

// Cluster names the cluster. ID is random, made at the first start; data of another one is refused.
type Cluster struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Created Micros `json:"created"`
}

// Member is one replica as Raft names it: a node's name and the incarnation of its data directory.
type Member struct {
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"`
}

// String is the Raft server id.
func (m Member) String() string { return m.Node + "#" + m.Incarnation }

func (m Member) compare(o Member) int {
	return cmp.Or(cmp.Compare(m.Node, o.Node), cmp.Compare(m.Incarnation, o.Incarnation))
}

// Node is one machine of the cluster.
type Node struct {
	Name        string    `json:"name"`
	Incarnation string    `json:"incarnation"` // of the data directory it runs on
	Peer        string    `json:"peer"`
	HTTP        string    `json:"http"`
	Rack        string    `json:"rack,omitempty"`
	Registered  Micros    `json:"registered"` // this incarnation, the first time
	State       NodeState `json:"state"`
	Since       Micros    `json:"since"`          // of State
	Past        []string  `json:"past,omitempty"` // incarnations that were replaced; they never come back
}

// Member is the node as a member of groups.
func (n *Node) Member() Member { return Member{n.Name, n.Incarnation} }

// TableSpec is what a table was defined as.
type TableSpec struct {
	Name      string         `json:"name"`
	Schema    *schema.Schema `json:"schema"` // columns with ids, key, hash, range
	Replicas  int            `json:"replicas"`
	History   time.Duration  `json:"history,omitempty"`
	Ahead     int            `json:"ahead,omitempty"`     // range partitions made before their time comes
	Retain    int64          `json:"retain,omitempty"`    // in the range column's unit; 0 keeps for ever
	RangesMax int            `json:"rangesMax,omitempty"` // partitions the table may have; 0 means as WithDefaults sets it
}

// Table is a table as it is.
type Table struct {
	ID      TableID `json:"id"`
	Created Micros  `json:"created"`
	TableSpec
	// Partitions, by Low. A table without ranges has exactly one.
	Partitions []Partition `json:"partitions"`
	// Floor is where rows begin to be kept: below it partitions were dropped and are never made again.
	// It is the smallest int64 at first.
	Floor int64 `json:"floor"`
	// Refused are lower bounds of range partitions that were refused because the table had too many.
	// They stay refused: their records are dead letters, and would be there twice if a replay found room.
	Refused []int64 `json:"refused,omitempty"`
	// Change is a new version of the schema on its way; nil when none is.
	Change *TableChange `json:"change,omitempty"`
}

// Partition is one range partition: rows whose range column is in [Low, High), one tablet a bucket.
// The only partition of a table without ranges has Low = High = 0.
type Partition struct {
	Low     int64      `json:"low"`
	High    int64      `json:"high"`
	Created Micros     `json:"created"`
	Tablets []TabletID `json:"tablets"` // by bucket
}

// Partition finds the partition that value v of the range column belongs to. Without ranges every
// value does.
func (t *Table) Partition(v int64) (Partition, bool) {
	if t.Schema.Range == nil {
		return t.Partitions[0], true
	}
	i, found := slices.BinarySearchFunc(t.Partitions, v, func(p Partition, v int64) int { return cmp.Compare(p.Low, v) })
	if !found {
		i--
	}
	if i < 0 || v >= t.Partitions[i].High {
		return Partition{}, false
	}
	return t.Partitions[i], true
}

// Replica is one copy of a tablet. It is joining until Voter is true, and then leaving once its
// replacement was decided.
type Replica struct {
	Member
	Voter   bool `json:"voter,omitempty"`
	Leaving bool `json:"leaving,omitempty"`
}

// Tablet is one bucket of one partition of a table, or the system group (Table 0).
type Tablet struct {
	ID     TabletID `json:"id"`
	Table  TableID  `json:"table,omitempty"`
	Bucket int      `json:"bucket,omitempty"`
	Low    int64    `json:"low,omitempty"`
	High   int64    `json:"high,omitempty"`
	// Replicas is the union of what the group has and what it should have, by member: a node runs the
	// tablet as long as it is listed. The group's leader adds those that join, and removes those that leave.
	Replicas []Replica `json:"replicas"`
	// Bootstrap are the members that create the group, all with this same list. It is empty as soon as the
	// group reported its membership, for then a replica with no log joins: one that created it anew
	// could vote for a log without entries that it had acknowledged in an earlier life.
	Bootstrap []Member `json:"bootstrap,omitempty"`
	// Fences are the decisions that the tablet refused from its birth. They never change: every replica begins with them.
	Fences []offsets.Fence `json:"fences,omitempty"`
	// Schema is the version of the table's schema that the tablet was made with. It never changes: what came later is in its log.
	Schema uint32 `json:"schema"`
	// MembersIndex is the index of the membership that was last reported; older reports are refused.
	MembersIndex uint64 `json:"membersIndex,omitempty"`
	// Leader is the node that should lead, so that leaders are spread.
	Leader string `json:"leader"`
}

// Replica finds the replica of that member.
func (t *Tablet) Replica(m Member) (Replica, bool) {
	i := slices.IndexFunc(t.Replicas, func(r Replica) bool { return r.Member == m })
	if i < 0 {
		return Replica{}, false
	}
	return t.Replicas[i], true
}

// BootstrapFor is what the member m must create the group with if it has no log of it: nil means that
// it joins, and waits for the leader.
func (t *Tablet) BootstrapFor(m Member) []Member {
	if !slices.Contains(t.Bootstrap, m) {
		return nil
	}
	return t.Bootstrap
}

// Connector is what the cluster keeps of a connector: those of its settings that decide about records. The others, such as
// its topics, are in the configuration file only.
type Connector struct {
	Name    string  `json:"name"`
	Table   string  `json:"table"`
	Desired Desired `json:"desired"`
	Since   Micros  `json:"since"` // of Desired
	// Decisions are the versions of its settings that may still decide on a record, oldest first. The last one is in force; nodes
	// go by it and not by their file, so that all of them decide alike while they are restarted one after the other.
	Decisions []Decision `json:"decisions"`
	Change    *Change    `json:"change,omitempty"` // to the next version; nil when none is under way
}

// Snapshot is an immutable view of the catalog: nothing that is reachable from it ever changes, and
// nobody may change it. All lists are sorted by name or id.
type Snapshot struct {
	Format     int     `json:"format"`     // commands up to this version are applied
	Generation uint64  `json:"generation"` // index of the entry that made the last change
	Cluster    Cluster `json:"cluster"`
	NextTable  TableID `json:"nextTable"`
	// NextTablet is above every tablet that this view knows of. A lower one that is not in Tablets was dropped.
	NextTablet TabletID     `json:"nextTablet"`
	Nodes      []*Node      `json:"nodes"`
	Tables     []*Table     `json:"tables"`
	Tablets    []*Tablet    `json:"tablets"`
	Connectors []*Connector `json:"connectors"`
	// Clock is in the file only: the latest clock of all commands applied.
	Clock Micros `json:"clock,omitempty"`

	superseded chan struct{}
}

func newSnapshot() *Snapshot {
	return &Snapshot{Format: 1, NextTable: 1, NextTablet: SystemTablet + 1, superseded: make(chan struct{})}
}

// edit is a copy whose lists may be changed; what they point to may not.
func (s *Snapshot) edit() *Snapshot {
	c := *s
	c.superseded = make(chan struct{})
	c.Nodes = slices.Clone(s.Nodes)
	c.Tables = slices.Clone(s.Tables)
	c.Tablets = slices.Clone(s.Tablets)
	c.Connectors = slices.Clone(s.Connectors)
	return &c
}

// Superseded is closed when the Catalog has a newer view.
func (s *Snapshot) Superseded() <-chan struct{} { return s.superseded }

// Node finds a node by its name.
func (s *Snapshot) Node(name string) (*Node, bool) {
	return find(s.Nodes, name, func(n *Node) string { return n.Name })
}

// TableByID finds a table by its id.
func (s *Snapshot) TableByID(id TableID) (*Table, bool) {
	return find(s.Tables, id, func(t *Table) TableID { return t.ID })
}

// Table finds a table by its name.
func (s *Snapshot) Table(name string) (*Table, bool) {
	i := slices.IndexFunc(s.Tables, func(t *Table) bool { return t.Name == name })
	if i < 0 {
		return nil, false
	}
	return s.Tables[i], true
}

// Tablet finds a tablet by its id.
func (s *Snapshot) Tablet(id TabletID) (*Tablet, bool) {
	return find(s.Tablets, id, func(t *Tablet) TabletID { return t.ID })
}

// Connector finds a connector by its name.
func (s *Snapshot) Connector(name string) (*Connector, bool) {
	return find(s.Connectors, name, func(c *Connector) string { return c.Name })
}

// ReplicasOn lists the tablets of which the member holds a replica, by id.
func (s *Snapshot) ReplicasOn(m Member) []*Tablet {
	var on []*Tablet
	for _, t := range s.Tablets {
		if _, ok := t.Replica(m); ok {
			on = append(on, t)
		}
	}
	return on
}

func search[T any, K cmp.Ordered](list []*T, key K, of func(*T) K) (int, bool) {
	return slices.BinarySearchFunc(list, key, func(e *T, k K) int { return cmp.Compare(of(e), k) })
}

func find[T any, K cmp.Ordered](list []*T, key K, of func(*T) K) (*T, bool) {
	i, ok := search(list, key, of)
	if !ok {
		return nil, false
	}
	return list[i], true
}

// put replaces the element with e's key, or inserts e at its place.
func put[T any, K cmp.Ordered](list []*T, e *T, of func(*T) K) []*T {
	i, ok := search(list, of(e), of)
	if ok {
		list[i] = e
		return list
	}
	return slices.Insert(list, i, e)
}
