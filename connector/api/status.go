package api

// Status is the health of a cluster as one node sees it: GET /api/v1/status, `nyala status --json`.
type Status struct {
	Cluster         string      `json:"cluster"`
	Healthy         bool        `json:"healthy"`
	Reasons         []string    `json:"reasons,omitempty"`  // why it is not, a sentence each
	Warnings        []string    `json:"warnings,omitempty"` // what wants attention though it is
	Durability      string      `json:"durability"`         // fsync or page_cache
	Version         string      `json:"version"`
	Nodes           []Node      `json:"nodes"`
	Tables          []Table     `json:"tables"`
	Tablets         []Tablet    `json:"tablets"`
	Connectors      []Connector `json:"connectors"`
	UnderReplicated int         `json:"under_replicated_tablets"`
}

// The states of nodes, replicas and connectors.
const (
	StateUp       = "up"
	StateDown     = "down"
	StateStarting = "starting"

	ReplicaRunning = "running"
	ReplicaFailed  = "failed"
	ReplicaDamaged = "damaged" // it is being made whole from another replica
	ReplicaMissing = "missing"
	ReplicaUnknown = "unknown"
	ReplicaJoining = "joining"
	ReplicaLeaving = "leaving"

	ConnectorRunning    = "running"
	ConnectorPaused     = "paused"
	ConnectorStarting   = "starting"
	ConnectorUnassigned = "unassigned"
	ConnectorFailed     = "failed"
)

// PausedMemory begins the reason of a partition or a connector that waits for memory, which is no fault of it.
const PausedMemory = "paused: memory"

// ConnectorStates are the states a connector can have on a node, from best to worst.
var ConnectorStates = []string{ConnectorUnassigned, ConnectorPaused, ConnectorRunning, ConnectorStarting, ConnectorFailed}

// Node is one machine.
type Node struct {
	ID          string `json:"id"`
	State       string `json:"state"` // up, down, starting
	Reason      string `json:"reason,omitempty"`
	HTTP        string `json:"http"`
	Peer        string `json:"peer"`
	Rack        string `json:"rack,omitempty"`
	Memory      string `json:"memory,omitempty"` // what is wrong with its memory
	MemoryUsed  int64  `json:"memory_used_bytes"`
	MemoryLimit int64  `json:"memory_limit_bytes"`
	Leaders     int    `json:"leaders"`
	Replicas    int    `json:"replicas"`
}

// Table is what a table holds: live rows, and bytes on disk and in memory of one replica of each tablet.
type Table struct {
	Name    string `json:"name"`
	Rows    int64  `json:"rows"`
	Bytes   int64  `json:"bytes"`
	Tablets int    `json:"tablets"`
}

// Tablet is one partition of a table.
type Tablet struct {
	ID       string    `json:"id"`
	Table    string    `json:"table"`
	Range    string    `json:"range"` // "" without range partitions, else "[low, high)"
	Bucket   int       `json:"bucket"`
	Leader   string    `json:"leader"` // "" when there is none
	Rows     int64     `json:"rows"`
	Bytes    int64     `json:"bytes"`
	Replicas []Replica `json:"replicas"`
}

// Replica is a tablet on one node.
type Replica struct {
	Node         string `json:"node"`
	State        string `json:"state"`
	Reason       string `json:"reason,omitempty"`
	Leader       bool   `json:"leader,omitempty"`
	AppliedIndex uint64 `json:"applied_index"`
	DurableIndex uint64 `json:"durable_index"`
	Hash         string `json:"hash"` // of the files and deletion vectors up to the durable index: equal at equal indexes
	Rows         int64  `json:"rows"`
	Bytes        int64  `json:"bytes"`
	DiskRowSets  int    `json:"disk_rowsets"`
}

// Connector is a connector over all nodes.
type Connector struct {
	Name       string      `json:"name"`
	Table      string      `json:"table"`
	State      string      `json:"state"` // running, paused, failed, starting, unassigned
	Reason     string      `json:"reason,omitempty"`
	Decision   uint32      `json:"decision"` // version of the settings in force that decide about records
	LagRecords int64       `json:"lag_records"`
	LagSeconds float64     `json:"lag_seconds"`
	Partitions []Partition `json:"partitions,omitempty"`
}

// Partition is one source of a connector.
type Partition struct {
	Topic      string  `json:"topic"`
	TopicID    string  `json:"topic_id"`
	Partition  int32   `json:"partition"`
	Node       string  `json:"node"`
	State      string  `json:"state"`
	Reason     string  `json:"reason,omitempty"`
	Position   int64   `json:"position"`   // next offset to read
	Watermark  int64   `json:"watermark"`  // all below is decided
	Checkpoint int64   `json:"checkpoint"` // all below is decided, and a restart goes on here
	End        int64   `json:"end"`        // next offset to be produced
	LagRecords int64   `json:"lag_records"`
	LagSeconds float64 `json:"lag_seconds"`
}

// Offset is where a source stands: GET /api/v1/offsets, `nyala offsets`.
type Offset struct {
	Connector  string `json:"connector"`
	Topic      string `json:"topic"`
	TopicID    string `json:"topic_id"`
	Partition  int32  `json:"partition"`
	Checkpoint int64  `json:"checkpoint"`
	Node       string `json:"node,omitempty"`
	Watermark  int64  `json:"watermark"`
	Position   int64  `json:"position"`
	End        int64  `json:"end"`
	State      string `json:"state,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

// Feed is what one node says of a connector that runs on it.
type Feed struct {
	State      string      `json:"state"`
	Reason     string      `json:"reason,omitempty"`
	Partitions []Partition `json:"partitions"`
}

// Local is what one node says of itself: other nodes merge it into a Status.
type Local struct {
	Node       Node               `json:"node"`
	Replicas   map[string]Replica `json:"replicas"`           // by tablet id
	Connectors map[string]Feed    `json:"connectors"`         // by name
	Settings   map[string]string  `json:"settings"`           // of connectors: a fingerprint of what its file has
	Tables     map[string]string  `json:"tables"`             // of tables: a fingerprint of the definition in its file
	Failures   map[string]string  `json:"failures,omitempty"` // what cannot run here, and why
}

// TableDetail is a table's definition and its partitions: GET /api/v1/tables/{t}.
type TableDetail struct {
	Name        string            `json:"name"`
	Schema      ExportSchema      `json:"schema"`
	Replicas    int               `json:"replicas"`
	Hash        []string          `json:"hash"`
	Buckets     int               `json:"buckets"`
	RangeColumn string            `json:"range_column,omitempty"`
	History     string            `json:"history"`
	Partitions  []PartitionDetail `json:"partitions"`
}

// PartitionDetail is one range partition; a table without ranges has one. Tablets are by bucket.
type PartitionDetail struct {
	Range   string   `json:"range"`
	Low     int64    `json:"low"`
	High    int64    `json:"high"`
	Tablets []string `json:"tablets"`
}

// Error is the body of every answer that is not a success.
type Error struct {
	Error ErrorBody `json:"error"`
}

// ErrorBody has a code for programs and a message for people.
type ErrorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}
