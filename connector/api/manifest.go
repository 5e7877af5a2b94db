package api

// ExportFormat is the version of ExportManifest.
const ExportFormat = 1

// ExportManifest is DIR/TABLE/_manifest.json: what an export holds. It is written last, by rename; a
// directory without one holds no export.
type ExportManifest struct {
	Format    int            `json:"format"`
	Cluster   string         `json:"cluster"`
	Table     string         `json:"table"`
	Schema    ExportSchema   `json:"schema"`
	Timestamp int64          `json:"timestamp"` // of the snapshot, microseconds since 1970
	Rows      int64          `json:"rows"`
	Files     []ExportFile   `json:"files"`
	Sources   []ExportSource `json:"sources"`
}

// ExportSchema is the table's schema, types as a configuration writes them.
type ExportSchema struct {
	Version    uint32         `json:"version"`
	Columns    []ExportColumn `json:"columns"`
	PrimaryKey []string       `json:"primary_key"`
}

// ExportColumn is one column; ID is its Parquet field id.
type ExportColumn struct {
	ID       uint32 `json:"id"`
	Name     string `json:"name"`
	Type     string `json:"type"`
	Nullable bool   `json:"nullable"`
}

// ExportFile is one Parquet file. Bounds are encoded primary keys in hex.
type ExportFile struct {
	Path   string `json:"path"` // relative to the manifest's directory
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	MinKey string `json:"min_key"`
	MaxKey string `json:"max_key"`
}

// ExportSource says how much of a source the export holds: every record below CompleteBelow that
// belongs to the table, and none from NothingFrom on.
type ExportSource struct {
	Connector     string `json:"connector"`
	Topic         string `json:"topic"`
	TopicID       string `json:"topic_id"`
	Partition     int32  `json:"partition"`
	CompleteBelow int64  `json:"complete_below"`
	NothingFrom   int64  `json:"nothing_from"`
}
