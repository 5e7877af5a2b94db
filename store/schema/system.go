package schema

// Names of the tables that every cluster has.
const (
	DeadLettersTable = "nyala.dead_letters"
	GapsTable        = "nyala.gaps"
	ReplaysTable     = "nyala.replays"
)

// DeadLetters is the schema of nyala.dead_letters: records that were read and could not be rows. Its
// key is where the record came from, so that a record is there once however often it is sent.
func DeadLetters() *Schema {
	return system([]Column{
		{Name: "topic_id", Type: Type{Kind: UUID}},
		{Name: "partition", Type: Type{Kind: Int32}},
		{Name: "offset", Type: Type{Kind: Int64}},
		{Name: "connector", Type: Type{Kind: String}},
		{Name: "topic", Type: Type{Kind: String}},
		{Name: "timestamp", Type: Type{Kind: Timestamp}, Nullable: true},
		{Name: "key", Type: Type{Kind: Binary}, Nullable: true},
		{Name: "value", Type: Type{Kind: Binary}, Nullable: true},
		{Name: "headers", Type: Type{Kind: JSON}, Nullable: true},
		{Name: "stage", Type: Type{Kind: String}},
		{Name: "reason", Type: Type{Kind: String}},
		{Name: "time", Type: Type{Kind: Timestamp}},
	}, 4)
}

// Gaps is the schema of nyala.gaps: offsets that were gone before they were read. Where a range ends belongs to its
// key: an owner that begins at the same offset later may find more of the log gone, and both rows are true.
func Gaps() *Schema {
	return system([]Column{
		{Name: "topic_id", Type: Type{Kind: UUID}},
		{Name: "partition", Type: Type{Kind: Int32}},
		{Name: "first", Type: Type{Kind: Int64}},
		{Name: "connector", Type: Type{Kind: String}},
		{Name: "next", Type: Type{Kind: Int64}},
		{Name: "topic", Type: Type{Kind: String}},
		{Name: "reason", Type: Type{Kind: String}},
		{Name: "time", Type: Type{Kind: Timestamp}},
	}, 5)
}

// Replays is the schema of nyala.replays: dead letters that were taken up again, each by the key it has in
// nyala.dead_letters. A letter is taken up once for ever: what it becomes, and under which sequence of which run, is in its
// row from the first moment on, so that carrying it out again changes nothing.
func Replays() *Schema {
	return system([]Column{
		{Name: "topic_id", Type: Type{Kind: UUID}},
		{Name: "partition", Type: Type{Kind: Int32}},
		{Name: "offset", Type: Type{Kind: Int64}},
		{Name: "connector", Type: Type{Kind: String}},
		{Name: "topic", Type: Type{Kind: String}},
		{Name: "table", Type: Type{Kind: String}},
		{Name: "run", Type: Type{Kind: UUID}},
		{Name: "sequence", Type: Type{Kind: Int64}},
		{Name: "operation", Type: Type{Kind: String}},
		{Name: "row", Type: Type{Kind: Binary}, Nullable: true}, // until it is replayed
		{Name: "claimed", Type: Type{Kind: Timestamp}},
		{Name: "replayed", Type: Type{Kind: Timestamp}, Nullable: true},
		{Name: "note", Type: Type{Kind: String}, Nullable: true},
	}, 4)
}

// system makes a one-tablet schema whose key is the first n columns.
func system(columns []Column, n int) *Schema {
	s := &Schema{Version: 1, Columns: columns, Buckets: 1}
	for i := range columns {
		columns[i].ID = ColumnID(i + 1)
		if i < n {
			s.Key = append(s.Key, i)
		}
	}
	return s
}
