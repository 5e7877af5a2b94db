package configs

import (
	"fmt"
	"time"
)

// Config is a whole, checked configuration with every default filled in.
// It is not changed after Parse has returned it.
type Config struct {
	Cluster    Cluster
	Node       Node
	Kafka      *Kafka      // nil when the file has no kafka section; never nil when there are Connectors
	Tables     []Table     // in the order of the file
	Connectors []Connector // in the order of the file
}

// Cluster names the nodes and how many of them hold each tablet.
type Cluster struct {
	Name     string
	Replicas int // per tablet; odd, and at most len(Nodes)
	Nodes    []ClusterNode
}

// ClusterNode is one node of the cluster: where it listens and where its data are.
type ClusterNode struct {
	ID   string
	Peer string // host:port for the other nodes
	HTTP string // host:port for users; the host may be empty or a wildcard
	Data string // directory; relative to the folder in which the node is started
	Rack string // "" when not given
}

// Node holds the settings that are the same on every node and that `run` also takes as flags.
type Node struct {
	MemoryBytes int64
	Durability  Durability
}

// Durability says when a write counts as acknowledged.
type Durability string

// Fsync acknowledges after an fsync on a majority. PageCache does not wait for the disk:
// what was acknowledged is then not safe from a power cut.
const (
	Fsync     Durability = "fsync"
	PageCache Durability = "page_cache"
)

// Kafka says how to reach the Kafka cluster.
type Kafka struct {
	Brokers []string // host:port
	TLS     *TLS     // nil: no TLS
	SASL    *SASL    // nil: no authentication
}

// TLS holds the names of the files as they are written in the configuration, and their content.
type TLS struct {
	CAFile, CertFile, KeyFile string // "" when not given
	ServerName                string // "" means the broker's host name
	CA, Cert                  string // PEM; CA "" means the system's certificates, Cert "" means no client certificate
	Key                       Secret // PEM
}

// SASL holds a user's credentials.
type SASL struct {
	Mechanism    string // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	Username     string
	Password     Secret // also when it came from PasswordFile
	PasswordFile string // as written; "" when the password itself is in the configuration
}

// Table describes a table and how it is cut into tablets.
type Table struct {
	Name       string
	Columns    []Column // in the order of the file
	PrimaryKey []string // in key order; at least one
	Hash       Hash
	Range      *Range        // nil: one tablet per hash bucket
	History    time.Duration // how far back a read may look
}

// Column is one column of a table.
type Column struct {
	Name     string
	Type     Type
	Nullable bool
	// Default is what a record without the field gets; nil means null, or a bad record
	// where the column is not nullable. Its Go type follows from the column's type:
	//
	//	bool                    bool
	//	int8 int16 int32 int64  int64
	//	float32 float64         float64, finite and not -0; of a float32 already rounded to one
	//	decimal                 int64, unscaled: 12.34 of scale 2 is 1234
	//	string json             string
	//	binary                  []byte
	//	uuid                    [16]byte
	//	date                    int64, days since 1970-01-01
	//	timestamp               int64, microseconds since 1970 UTC
	Default any
}

// Type is a parsed column type. Kind is the name without parameters, such as "int32" or
// "decimal"; Precision and Scale are 0 for every kind but decimal.
type Type struct {
	Kind             string
	Precision, Scale int
}

// String returns the type as it is written in the file, such as "decimal(18,2)".
func (t Type) String() string {
	if t.Kind == kindDecimal {
		return fmt.Sprintf("%s(%d,%d)", t.Kind, t.Precision, t.Scale)
	}
	return t.Kind
}

// Hash spreads rows over buckets by some of the primary key's columns.
type Hash struct {
	Columns []string // a subset of the primary key, at least one
	Buckets int      // at least one
}

// Range cuts a table by one column of its primary key. Every is in the unit of the column:
// microseconds for a timestamp, days for a date, 1 for an integer.
type Range struct {
	Column string
	Every  int64
	Ahead  int // how many ranges are made before their first row comes
}

// Connector brings topics into one table.
type Connector struct {
	Name               string
	Topics             []string // nil when TopicsRegex is set
	TopicsRegex        string   // "" when Topics is set
	ConsumerGroup      string   // unique among the connectors
	Table              string   // the name of one of Config.Tables
	Format             Format
	Write              Write
	TimestampUnit      TimestampUnit
	StartFrom          StartFrom
	OnOffsetOutOfRange OnOffsetOutOfRange
	OnBadRecord        OnBadRecord
	OnUnknownField     OnUnknownField
	DeadLetterTopic    string  // "" means none
	Fields             []Field // where a column's path is not its name; in the order of the file
	Add                []Add   // columns that are not filled from the record's value; in the order of the file
}

// Format says how a record's value is encoded.
type Format string

// FormatJSON is one JSON object a record.
const FormatJSON Format = "json"

// Write says what a record does to the row of its key.
type Write string

// WriteUpsert lets the last record win, WriteInsert the first; WriteChanges is an upsert
// where a record without a value deletes the row that its key names.
const (
	WriteUpsert  Write = "upsert"
	WriteInsert  Write = "insert"
	WriteChanges Write = "changes"
)

// TimestampUnit is the unit of a number that is read into a timestamp column.
type TimestampUnit string

// The units that a producer may count time since 1970 UTC in.
const (
	Seconds      TimestampUnit = "s"
	Milliseconds TimestampUnit = "ms"
	Microseconds TimestampUnit = "us"
	Nanoseconds  TimestampUnit = "ns"
)

// StartFrom says where a source starts that has neither a checkpoint nor a commit.
type StartFrom struct {
	At   StartPosition
	Time time.Time // UTC; only with StartAtTime
}

// StartPosition is the kind of a StartFrom.
type StartPosition string

// The three places to start from; StartAtTime is written as an RFC 3339 time in the file.
const (
	StartEarliest StartPosition = "earliest"
	StartLatest   StartPosition = "latest"
	StartAtTime   StartPosition = "time"
)

// String returns the position as it is written in the file.
func (s StartFrom) String() string {
	if s.At == StartAtTime {
		return s.Time.UTC().Format(time.RFC3339Nano)
	}
	return string(s.At)
}

// OnOffsetOutOfRange says what to do when Kafka no longer has the offset to go on from.
type OnOffsetOutOfRange string

// OutOfRangeFail stops the partition; OutOfRangeSkip goes on and writes a row to nyala.gaps.
const (
	OutOfRangeFail OnOffsetOutOfRange = "fail"
	OutOfRangeSkip OnOffsetOutOfRange = "skip"
)

// OnBadRecord says what to do with a record that does not fit the table.
type OnBadRecord string

// BadRecordDeadLetter writes it to nyala.dead_letters; BadRecordFail stops the partition.
const (
	BadRecordDeadLetter OnBadRecord = "dead_letter"
	BadRecordFail       OnBadRecord = "fail"
)

// OnUnknownField says what to do with a record that has a field without a column.
type OnUnknownField string

// UnknownFieldIgnore drops the field; UnknownFieldDeadLetter makes the record a bad one.
const (
	UnknownFieldIgnore     OnUnknownField = "ignore"
	UnknownFieldDeadLetter OnUnknownField = "dead_letter"
)

// Field maps a column to the path of its value in the record, such as "user.id".
type Field struct {
	Column string
	Path   string // names separated by dots, none of them empty; a dot in a name is written \.
}

// Add fills a column from the record's envelope.
type Add struct {
	Column string
	From   AddFrom
	Header string // the header's name; only with AddHeader
}

// AddFrom is the part of a record that an Add takes its value from.
type AddFrom string

// The parts of a record; AddHeader is written as headers.NAME in the file.
const (
	AddTopic     AddFrom = "topic"
	AddPartition AddFrom = "partition"
	AddOffset    AddFrom = "offset"
	AddTimestamp AddFrom = "timestamp"
	AddKey       AddFrom = "key"
	AddHeader    AddFrom = "header"
)

// String returns the source as it is written in the file, such as "headers.trace".
func (a Add) String() string {
	if a.From == AddHeader {
		return headerPrefix + a.Header
	}
	return string(a.From)
}
