package api

// VerifyEvent is one line of the answer to a verification: exactly one of its fields is set. The result comes last; an answer
// without one did not end.
type VerifyEvent struct {
	Progress   *VerifyProgress `json:"progress,omitempty"`
	Difference *Difference     `json:"difference,omitempty"`
	Result     *Verification   `json:"result,omitempty"`
}

// The steps of a verification.
const (
	VerifyTable   = "table"   // the table is read
	VerifyTopics  = "topics"  // the topics are read again
	VerifyCompare = "compare" // records and rows are held against each other
	VerifyLocate  = "locate"  // what differs is looked up
)

// VerifyProgress says how far a verification is.
type VerifyProgress struct {
	Step  string `json:"step"`
	Topic string `json:"topic,omitempty"` // of VerifyTopics: the one that was read last
	Done  int64  `json:"done"`            // rows, offsets, or parts
	Total int64  `json:"total,omitempty"` // 0: nobody knows
}

// The kinds of differences.
const (
	MissingRow    = "missing row"
	OtherRow      = "other row"
	ExtraRow      = "extra row"
	DeletedRow    = "deleted row"
	DoubledRow    = "doubled row"
	MisplacedRow  = "misplaced row"
	MissingLetter = "missing dead letter"
	OtherLetter   = "other dead letter"
	ExtraLetter   = "extra dead letter"
	DoubledLetter = "doubled dead letter"
	MissingGap    = "missing gap"
	GapOfARecord  = "gap of a record"
)

// Difference is one thing that is not as the topics say.
type Difference struct {
	Kind      string            `json:"kind"`
	Connector string            `json:"connector,omitempty"`
	Topic     string            `json:"topic,omitempty"`
	TopicID   string            `json:"topic_id,omitempty"`
	Partition *int32            `json:"partition,omitempty"`
	Offset    *int64            `json:"offset,omitempty"`
	Key       string            `json:"key,omitempty"`     // of the row: column=value, ...
	Columns   []string          `json:"columns,omitempty"` // that differ
	Tablet    string            `json:"tablet,omitempty"`  // of a row that is in the wrong one
	Record    map[string]string `json:"record,omitempty"`  // the columns as the record has them, where values were asked for
	Row       map[string]string `json:"row,omitempty"`     // the columns as the table has them
}

// Verification is what comparing a table with its topics came to.
type Verification struct {
	Table     string `json:"table"`
	Cluster   string `json:"cluster"`
	Timestamp int64  `json:"timestamp"` // of the snapshot of the table, microseconds since 1970
	Exact     bool   `json:"exact"`     // no difference
	Complete  bool   `json:"complete"`  // and everything could be checked

	Rows         int64            `json:"rows"`          // of the table
	Records      int64            `json:"records"`       // read again
	DeadLetters  int64            `json:"dead_letters"`  // of the table's connectors, as far as they are compared
	Differences  int64            `json:"differences"`   // of all kinds
	Kinds        map[string]int64 `json:"kinds"`         // how many of each
	NotCheckable int64            `json:"not_checkable"` // rows and dead letters whose records Kafka has deleted
	Dropped      int64            `json:"dropped"`       // records of ranges that retention has dropped from the table
	Open         int64            `json:"open"`          // records that were just coming in: in the table or not, both is right
	Seconds      float64          `json:"seconds"`
	Sources      []VerifiedSource `json:"sources"`
}

// VerifiedSource is what was compared of one partition of a topic by one connector.
type VerifiedSource struct {
	Connector     string `json:"connector"`
	Topic         string `json:"topic"`
	TopicID       string `json:"topic_id"`
	Partition     int32  `json:"partition"`
	Begun         int64  `json:"begun"`          // where the connector began to read it
	First         int64  `json:"first"`          // the first offset that was read again
	CompleteBelow int64  `json:"complete_below"` // all below is in the table
	NothingFrom   int64  `json:"nothing_from"`   // nothing from here on is
	Records       int64  `json:"records"`
	DeadLetters   int64  `json:"dead_letters"`        // records that are none of the table's
	Gaps          int64  `json:"gaps"`                // offsets that nyala.gaps has
	Gone          int64  `json:"gone"`                // offsets that were read once and are no longer in Kafka
	Compacted     int64  `json:"compacted,omitempty"` // of a compacted topic: offsets in between that have no record any more, or never had
	Reason        string `json:"reason,omitempty"`    // why nothing of it could be read
}
