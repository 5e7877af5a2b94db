package catalog

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"nyala/offsets"
	"nyala/store/schema"
)

// ErrMalformed is wrapped by the errors of Parse and ParseResult.
var ErrMalformed = errors.New("malformed")

// ErrCorrupt is wrapped by the errors of a file or manifest whose bytes are not what was written.
var ErrCorrupt = errors.New("corrupt")

// Kind numbers the commands. The numbers are in logs: never renumber.
type Kind uint8

// The kinds of commands.
const (
	KindInitCluster Kind = iota + 1
	KindRegisterNode
	KindSetNodeState
	KindCreateTable
	KindDropTable
	KindEnsureRange
	KindDropRanges
	KindSetConnector
	KindReplaceReplica
	KindUpdateReplicas
	KindCreateCheckpoints
	KindRaiseCheckpoints
	KindAskFates
	KindChangeSettings
	KindSettleSettings
	KindForgetSettings
	KindChangeTable
	KindSettleTable
)

var kindNames = [...]string{
	KindInitCluster: "init_cluster", KindRegisterNode: "register_node", KindSetNodeState: "set_node_state",
	KindCreateTable: "create_table", KindDropTable: "drop_table", KindEnsureRange: "ensure_range",
	KindDropRanges: "drop_ranges", KindSetConnector: "set_connector", KindReplaceReplica: "replace_replica",
	KindUpdateReplicas: "update_replicas", KindCreateCheckpoints: "create_checkpoints",
	KindRaiseCheckpoints: "raise_checkpoints", KindAskFates: "ask_fates",
	KindChangeSettings: "change_settings", KindSettleSettings: "settle_settings", KindForgetSettings: "forget_settings",
	KindChangeTable: "change_table", KindSettleTable: "settle_table",
}

// String is the command's name.
func (k Kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// Command is one of the structs below.
type Command interface {
	Kind() Kind
	apply(*change) Result
}

// InitCluster names the cluster, once: a second one with the same name answers Unchanged.
type InitCluster struct {
	Name   string   `json:"name"`
	ID     string   `json:"id"`     // random, made by the proposer
	System []Member `json:"system"` // what the system group was bootstrapped with
}

// RegisterNode says that a node runs on a data directory. A new incarnation takes the name over, and
// the ones before it never come back.
type RegisterNode struct {
	Name        string `json:"name"`
	Incarnation string `json:"incarnation"`
	Cluster     string `json:"cluster,omitempty"` // the cluster id in its data directory, empty when that is new
	Peer        string `json:"peer"`
	HTTP        string `json:"http"`
	Rack        string `json:"rack,omitempty"`
}

// SetNodeState records what the leader found out about a node, or what an operator wants of it.
type SetNodeState struct {
	Name        string    `json:"name"`
	Incarnation string    `json:"incarnation"`
	State       NodeState `json:"state"`
}

// CreateTable makes a table and, unless it has ranges, its tablets.
type CreateTable struct {
	Spec TableSpec `json:"spec"`
}

// DropTable removes a table and its tablets.
type DropTable struct {
	Table string `json:"table"`
}

// EnsureRange makes the range partition that Value belongs to, with its tablets, unless it exists.
// The Result names its bounds and tablets by bucket. A refusal with a Final code is a decision on all
// records of that range, for ever; after any other one the caller asks again later.
type EnsureRange struct {
	Table     string `json:"table"`
	Value     int64  `json:"value"`
	Scheduled bool   `json:"scheduled,omitempty"` // made ahead of its time, not for a record: the limit does not count
}

// DropRanges removes the range partitions that lie wholly below Below, and keeps them from being made again.
type DropRanges struct {
	Table string `json:"table"`
	Below int64  `json:"below"` // a bound between two partitions
}

// SetConnector makes a connector known, or changes what it should do. Settings that differ from those in force are refused:
// they are changed by ChangeSettings.
type SetConnector struct {
	Name     string  `json:"name"`
	Table    string  `json:"table"`
	Settings string  `json:"settings"`
	Desired  Desired `json:"desired"`
}

// ChangeSettings begins a new version of a connector's settings, the first of three steps. From here on tablets are made with
// a fence against the older versions, and every owner of the connector's sources waits.
type ChangeSettings struct {
	Connector string `json:"connector"`
	Version   uint32 `json:"version"` // one above the version in force
	Settings  string `json:"settings"`
}

// SettleSettings puts a new version in force. Whoever sends it has made every tablet refuse the older versions, after
// ChangeSettings was applied, and then read how far they came: From.
type SettleSettings struct {
	Connector string     `json:"connector"`
	Version   uint32     `json:"version"`
	From      []Position `json:"from"`
}

// ForgetSettings drops the versions below one of them, when all checkpoints are past what they decide.
type ForgetSettings struct {
	Connector string `json:"connector"`
	Below     uint32 `json:"below"`
}

// ChangeTable begins a new version of a table's columns, the first of three steps: from here on tablets are made with it. It changes
// the decision version of every connector that writes the table, for records are decoded under the columns of their decision; what
// else changes of a connector's settings comes with it.
type ChangeTable struct {
	Table      string           `json:"table"`
	Schema     *schema.Schema   `json:"schema"`               // the present columns, and new ones behind
	Connectors []ChangeSettings `json:"connectors,omitempty"` // all that write the table, by name; their settings may be the present ones
}

// SettleTable puts the new columns in force, and the decision version of every connector with them. Whoever sends it has given every
// tablet the columns, made it refuse the older versions, and then read how far they came.
type SettleTable struct {
	Table      string           `json:"table"`
	Version    uint32           `json:"version"` // of the schema
	Connectors []SettleSettings `json:"connectors,omitempty"`
}

// ReplaceReplica decides that Old leaves a tablet and New joins it. New may be another node, or the
// same one after it lost its data. One replacement at a time is carried out per tablet.
type ReplaceReplica struct {
	Tablet TabletID `json:"tablet"`
	Old    Member   `json:"old"`
	New    Member   `json:"new"`
}

// UpdateReplicas reports the membership that a tablet's group has, as of a log index.
type UpdateReplicas struct {
	Tablet TabletID  `json:"tablet"`
	Index  uint64    `json:"index"`
	Group  []Replica `json:"group"` // Leaving is not read
}

// Checkpoint is one source's watermark: every record below Next is decided.
type Checkpoint struct {
	Source offsets.Source
	Next   int64
}

// CreateCheckpoints writes down where sources start unless that is known. Result.Values are the
// checkpoints that hold, in the order asked.
type CreateCheckpoints struct{ Checkpoints []Checkpoint }

// RaiseCheckpoints moves watermarks up, never down. Result.Values are the checkpoints that hold.
type RaiseCheckpoints struct{ Checkpoints []Checkpoint }

// AskFates asks, through the log, which of its replicas a member may delete: Result.Tablets are those.
// The caller stops them before it asks, and starts again those that it may not delete; an answer is
// good only until it starts any of them.
type AskFates struct {
	Member  Member     `json:"member"`
	Tablets []TabletID `json:"tablets"`
}

// Kind implements Command.
func (InitCluster) Kind() Kind       { return KindInitCluster }
func (RegisterNode) Kind() Kind      { return KindRegisterNode }
func (SetNodeState) Kind() Kind      { return KindSetNodeState }
func (CreateTable) Kind() Kind       { return KindCreateTable }
func (DropTable) Kind() Kind         { return KindDropTable }
func (EnsureRange) Kind() Kind       { return KindEnsureRange }
func (DropRanges) Kind() Kind        { return KindDropRanges }
func (SetConnector) Kind() Kind      { return KindSetConnector }
func (ReplaceReplica) Kind() Kind    { return KindReplaceReplica }
func (UpdateReplicas) Kind() Kind    { return KindUpdateReplicas }
func (CreateCheckpoints) Kind() Kind { return KindCreateCheckpoints }
func (RaiseCheckpoints) Kind() Kind  { return KindRaiseCheckpoints }
func (AskFates) Kind() Kind          { return KindAskFates }
func (ChangeSettings) Kind() Kind    { return KindChangeSettings }
func (SettleSettings) Kind() Kind    { return KindSettleSettings }
func (ForgetSettings) Kind() Kind    { return KindForgetSettings }
func (ChangeTable) Kind() Kind       { return KindChangeTable }
func (SettleTable) Kind() Kind       { return KindSettleTable }

const (
	commandVersion = 1
	commandHeader  = 16
	checkpointMin  = 2 + 16 + 4 + 8 // the shortest checkpoint: a source without a connector's name, and next
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Encode makes the log entry of a command. now is the proposer's clock: the only time that Apply sees.
// The error is one of the command: a value that has no encoding.
func Encode(now Micros, c Command) ([]byte, error) {
	b := make([]byte, commandHeader, 256)
	b[0], b[1], b[2], b[3] = 'N', 'C', commandVersion, byte(c.Kind())
	le.PutUint64(b[4:], uint64(now))
	var err error
	switch c := c.(type) {
	case CreateCheckpoints:
		b, err = appendCheckpoints(b, c.Checkpoints)
	case RaiseCheckpoints:
		b, err = appendCheckpoints(b, c.Checkpoints)
	default:
		var body []byte
		body, err = json.Marshal(c)
		b = append(b, body...)
	}
	if err != nil {
		return nil, fmt.Errorf("catalog: command %s: %w", c.Kind(), err)
	}
	le.PutUint32(b[12:], commandSum(b))
	return b, nil
}

func commandSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[commandHeader:])
}

func appendCheckpoints(b []byte, list []Checkpoint) ([]byte, error) {
	b = le.AppendUint32(b, uint32(len(list)))
	for _, c := range list {
		if c.Next < 0 || c.Source.Partition < 0 || len(c.Source.Connector) > offsets.MaxConnector {
			return nil, fmt.Errorf("source %s: checkpoint %d or the source is out of bounds", c.Source, c.Next)
		}
		b = le.AppendUint64(c.Source.AppendTo(b), uint64(c.Next))
	}
	return b, nil
}

// Parse reads what Encode wrote. The error is ErrMalformed.
func Parse(b []byte) (now Micros, c Command, err error) {
	if len(b) < commandHeader || b[0] != 'N' || b[1] != 'C' {
		return 0, nil, fmt.Errorf("catalog: command of %d bytes: no header: %w", len(b), ErrMalformed)
	}
	if got, want := commandSum(b), le.Uint32(b[12:]); got != want {
		return 0, nil, fmt.Errorf("catalog: command of %d bytes: crc %08x, want %08x: %w", len(b), got, want, ErrMalformed)
	}
	if b[2] != commandVersion {
		return 0, nil, fmt.Errorf("catalog: command: version %d, want %d: %w", b[2], commandVersion, ErrMalformed)
	}
	kind, body := Kind(b[3]), b[commandHeader:]
	if c, err = parseBody(kind, body); err != nil {
		return 0, nil, fmt.Errorf("catalog: command %s: %w: %w", kind, err, ErrMalformed)
	}
	return Micros(le.Uint64(b[4:])), c, nil
}

func parseBody(kind Kind, body []byte) (Command, error) {
	switch kind {
	case KindInitCluster:
		return parseJSON[InitCluster](body)
	case KindRegisterNode:
		return parseJSON[RegisterNode](body)
	case KindSetNodeState:
		return parseJSON[SetNodeState](body)
	case KindCreateTable:
		return parseJSON[CreateTable](body)
	case KindDropTable:
		return parseJSON[DropTable](body)
	case KindEnsureRange:
		return parseJSON[EnsureRange](body)
	case KindDropRanges:
		return parseJSON[DropRanges](body)
	case KindSetConnector:
		return parseJSON[SetConnector](body)
	case KindReplaceReplica:
		return parseJSON[ReplaceReplica](body)
	case KindUpdateReplicas:
		return parseJSON[UpdateReplicas](body)
	case KindCreateCheckpoints:
		list, err := parseCheckpoints(body)
		return CreateCheckpoints{list}, err
	case KindRaiseCheckpoints:
		list, err := parseCheckpoints(body)
		return RaiseCheckpoints{list}, err
	case KindAskFates:
		return parseJSON[AskFates](body)
	case KindChangeSettings:
		return parseJSON[ChangeSettings](body)
	case KindSettleSettings:
		return parseJSON[SettleSettings](body)
	case KindForgetSettings:
		return parseJSON[ForgetSettings](body)
	case KindChangeTable:
		return parseJSON[ChangeTable](body)
	case KindSettleTable:
		return parseJSON[SettleTable](body)
	}
	return nil, errors.New("unknown kind")
}

// parseJSON is strict: a field that this version does not know would be a decision it does not carry out.
func parseJSON[C Command](body []byte) (Command, error) {
	var c C
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows its body")
	}
	return c, nil
}

func parseCheckpoints(b []byte) ([]Checkpoint, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("body of %d bytes, want at least 4", len(b))
	}
	count := int64(le.Uint32(b))
	b = b[4:]
	if int64(len(b)) < count*checkpointMin { // so that a wrong count cannot ask for memory
		return nil, fmt.Errorf("%d checkpoints in %d bytes", count, len(b))
	}
	list := make([]Checkpoint, count)
	for i := range list {
		s, rest, err := offsets.ParseSource(b)
		if err != nil {
			return nil, err
		}
		if len(rest) < 8 {
			return nil, fmt.Errorf("checkpoint %d of %d is cut short", i, count)
		}
		next := int64(le.Uint64(rest))
		if next < 0 {
			return nil, fmt.Errorf("source %s: checkpoint %d is negative", s, next)
		}
		list[i], b = Checkpoint{s, next}, rest[8:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes after the last checkpoint", len(b))
	}
	return list, nil
}
