package configs

import "time"

// The value of every key that may be left out. Print writes them all.
const (
	defaultMemoryBytes        = 1 << 30
	defaultDurability         = Fsync
	defaultReplicas           = 3 // 1 in a cluster of fewer nodes
	defaultHistory            = time.Hour
	defaultBuckets            = 1 // over the whole primary key: one tablet, or one per range
	defaultAhead              = 2
	defaultGroupPrefix        = "nyala-" // before the connector's name
	defaultFormat             = FormatJSON
	defaultWrite              = WriteUpsert
	defaultTimestampUnit      = Milliseconds
	defaultStartPosition      = StartEarliest
	defaultOnOffsetOutOfRange = OutOfRangeFail
	defaultOnBadRecord        = BadRecordDeadLetter
	defaultOnUnknownField     = UnknownFieldIgnore
)

// The bounds of values, each with its reason.
const (
	minMemoryBytes = 64 << 20    // below it one flush of a tablet takes the whole budget
	maxMemoryBytes = 16 << 40    // above it a unit was mistyped
	minEvery       = time.Second // a tablet costs memory and heartbeats; a range a second is already far too many
	minHistory     = time.Second // a read takes some time itself
	maxBuckets     = 1024        // a node is planned for hundreds of tablets
	maxAhead       = 1000        // the same
	maxReplicas    = 15          // more cost a write each, and save no more
	maxColumns     = 4096        // each costs buffers in every batch
	maxNameLength  = 128         // names become directories, with room for a suffix
	maxTopicLength = 249         // Kafka's own limit
	maxPrecision   = 18          // the decimal digits that fit an int64
)
