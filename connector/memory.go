package connector

// division says how node.memory, which is the resident memory of the process, is divided. What grows with the load
// takes from rows, which is a Budget that those wait for who can; the other parts are bounds of what lies beside it.
// What no part names is for the rest of the process and for the collector's garbage: connections, goroutines,
// a fetch from Kafka on its way, files that are being encoded, pages that are read, and some 20 MiB of program.
//
// The parts and where they end are in docs/operations.md, "Sizing".
type division struct {
	heap    int64 // the collector's limit, GOMEMLIMIT
	rows    int64 // store.Budget: rows in memory, keys of rows on disk, records on their way to be rows
	records int64 // of rows: records that are fetched and undecided, of all connectors together
	cache   int64 // newest entries of the log, which are those of rows as long as they are not in files
	appends int   // entries that are read at a time for a follower that lags, of each group and follower
}

const (
	mib = 1 << 20

	cacheMax   = 64 * mib  // more is only read again by followers that lag far behind
	recordsMax = 256 * mib // more is only latency: it is what waits between Kafka and the tablets

	// An entry has up to half a MiB of rows, and a node may lead dozens of groups with a follower that comes back: with 4 entries for
	// each of them 64 groups need 256 MiB in the worst case, where entries are as large as that.
	appendShare = 128 * mib
	appendsMin  = 4
	appendsMax  = 64
)

func divide(memory int64) division {
	return division{
		heap:    MemoryLimit(memory),
		rows:    memory * 7 / 16,
		records: min(memory/16, recordsMax),
		cache:   min(memory/16, cacheMax),
		appends: int(min(max(memory/appendShare, appendsMin), appendsMax)),
	}
}

// MemoryLimit is what Go's collector is told to stay below for a node of so much memory (GOMEMLIMIT). The kernel counts the
// pages of the program, too, and a collector that is behind goes beyond its limit: so it is a tenth less.
func MemoryLimit(memory int64) int64 { return memory - memory/10 }
