package api

// Replay is how far a replay of dead letters is: POST /api/v1/dead-letters/replay answers with one after the other, a line
// each. The last one has Done or Error; an answer without was cut.
type Replay struct {
	Run       string          `json:"run"`
	Dry       bool            `json:"dry_run,omitempty"`
	Letters   int64           `json:"letters"`             // looked at: of the selection, and not replayed before
	Replayed  int64           `json:"replayed"`            // of these in their tables now; of a dry run: would be
	Finished  int64           `json:"finished,omitempty"`  // of earlier replays that were interrupted
	Elsewhere int64           `json:"elsewhere,omitempty"` // taken up by another replay at the same time
	Refused   []ReplayRefusal `json:"refused,omitempty"`   // still no rows
	Sample    []ReplayLetter  `json:"sample,omitempty"`    // of a dry run: what would become of each
	Done      bool            `json:"done,omitempty"`
	Error     string          `json:"error,omitempty"`
}

// ReplayRefusal counts letters that are still no rows, by what refuses them. The reason is that of one of them.
type ReplayRefusal struct {
	Connector string `json:"connector"`
	Stage     string `json:"stage"`
	Code      string `json:"code"`
	Letters   int64  `json:"letters"`
	Reason    string `json:"reason"`
}

// ReplayLetter is what would become of one letter. Reason is empty where it would be a row of the table.
type ReplayLetter struct {
	Connector string `json:"connector"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Table     string `json:"table,omitempty"`
	Operation string `json:"operation,omitempty"` // upsert, insert, delete
	Stage     string `json:"stage,omitempty"`
	Reason    string `json:"reason,omitempty"`
}
