// Package export writes a table's snapshot as a directory of Parquet files that any reader takes, with
// a manifest that names the snapshot's time and how much of each source it holds.
//
// The layout, under the directory asked for:
//
//	TABLE/event_time=2026-11-20/0001-<content hash>.parquet
//	TABLE/_manifest.json
//
// The manifest is written last, by rename: a directory without one holds no export.
package export
