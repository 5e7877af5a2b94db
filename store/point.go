package store

// Point is a step on the way of rows to files, or of files to another replica, at which a test cuts the power of a
// node: see ManagerOptions.Reached. Each is crossed by a test of its name.
type Point int

// The points, in the order in which rows pass them; then those of a copy.
const (
	FreezeApplied     Point = iota // a MemRowSet is frozen
	ParquetWritten                 // its rows are handed to the file system
	KeysWritten                    // so are its keys
	FilesSynced                    // both are safe under temporary names
	InstallProposing               // the leader is about to propose the Install
	InstallApplied                 // it is applied, and nothing on disk has changed
	Copying                        // a replica that waited is about to copy the files
	FlushFileCopied                // one of them is here, under a temporary name, and safe
	Copied                         // both are
	CopyFailed                     // they could not be had in time: they are about to be encoded here
	Renaming                       // the files are about to get their names
	Renamed                        // they have them
	DirectorySynced                // and the names are safe
	ManifestAppending              // the manifest is about to be appended
	ManifestAppended               // it is, and not synced
	ManifestSynced                 // it is safe, and memory has the state before
	Swapped                        // memory has the state of the manifest
	LogReleased                    // the log was told that it may be cut
	GarbageFound                   // a file that no manifest names is about to be deleted at a start
	FileFetched                    // a file of another replica is here, under a temporary name
	Prepared                       // all that a manifest of another replica names are
	RestoreRenamed                 // they have their names
	Restored                       // the tablet is what that manifest says
	pointCount
)

var pointNames = [pointCount]string{
	"store.freeze-applied", "store.parquet-written", "store.keys-written", "store.files-synced", "store.install-proposing",
	"store.install-applied", "store.copying", "store.flush-file-copied", "store.copied", "store.copy-failed", "store.renaming", "store.renamed", "store.directory-synced", "store.manifest-appending",
	"store.manifest-appended", "store.manifest-synced", "store.swapped", "store.log-released", "store.garbage-found",
	"store.file-fetched", "store.prepared", "store.restore-renamed", "store.restored",
}

// String names the point in the whole program.
func (p Point) String() string { return pointNames[p] }

// Points lists all of them.
func Points() []Point {
	all := make([]Point, pointCount)
	for i := range all {
		all[i] = Point(i)
	}
	return all
}

func (m *Manager) reached(p Point) {
	if m.options.Reached != nil {
		m.options.Reached(p)
	}
}
