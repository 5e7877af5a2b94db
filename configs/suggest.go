package configs

import (
	"fmt"
	"slices"
	"strings"
)

// synonyms maps what other systems call a thing to our name for it. A synonym is only
// suggested where our name is possible.
var synonyms = map[string][]string{
	"bigint": {"int64"}, "boolean": {"bool"}, "bytes": {"binary"}, "char": {"string"}, "datetime": {"timestamp"},
	"double": {"float64"}, "float": {"float64"}, "guid": {"uuid"}, "int": {"int32"}, "integer": {"int32"}, "jsonb": {"json"},
	"long": {"int64"}, "map": {"json"}, "number": {"float64"}, "numeric": {"decimal(18,2)"}, "object": {"json"}, "real": {"float32"}, "short": {"int16"},
	"smallint": {"int16"}, "text": {"string"}, "time": {"timestamp"}, "timestamptz": {"timestamp"}, "tinyint": {"int8"},
	"uint8": {"int16"}, "uint16": {"int32"}, "uint32": {"int64"}, "varchar": {"string"},

	"address": {"peer"}, "bootstrap_servers": {"brokers"}, "bootstrap.servers": {"brokers"}, "ca": {"ca_file"}, "cert": {"cert_file"},
	"data_dir": {"data"}, "directory": {"data"}, "dlq": {"dead_letter_topic"}, "group": {"consumer_group"}, "group.id": {"consumer_group"}, "group_id": {"consumer_group"},
	"interval": {"every"}, "key": {"primary_key", "key_file"}, "keys": {"primary_key"}, "id": {"name"}, "mode": {"write"}, "name": {"id"}, "optional": {"nullable"},
	"partitions": {"buckets"}, "path": {"data"}, "pk": {"primary_key"}, "precreate": {"ahead"}, "replication": {"replicas"}, "replication_factor": {"replicas"},
	"schema": {"columns"}, "topic": {"topics"}, "user": {"username"}, "zone": {"rack"},

	"begin": {"earliest"}, "beginning": {"earliest"}, "end": {"latest"}, "oldest": {"earliest"}, "newest": {"latest"}, "append": {"insert"}, "cdc": {"changes"}, "merge": {"upsert"},
	"dlt": {"dead_letter"}, "drop": {"skip", "ignore"}, "reject": {"dead_letter"}, "stop": {"fail"}, "headers": {"headers.NAME"}, "header": {"headers.NAME"},
	"sync": {"fsync"}, "async": {"page_cache"}, "none": {"page_cache"}, "micros": {"us"}, "millis": {"ms"}, "nanos": {"ns"}, "seconds": {"s"},
	"milliseconds": {"ms"}, "microseconds": {"us"}, "nanoseconds": {"ns"},
}

// maxListed is how many names a hint lists; more would bury the fault.
const maxListed = 16

func didYouMean(name string) string { return fmt.Sprintf("did you mean %q?", name) }

// suggest returns a hint towards the known name that is nearest to what was written, or "".
func suggest(written string, known []string) string {
	if name := nearest(written, known); name != "" {
		return didYouMean(name)
	}
	return ""
}

// suggestOrList is suggest, or a list of all names where none is near. What is the plural of the thing.
func suggestOrList(written, what string, known []string) string {
	if hint := suggest(written, known); hint != "" {
		return hint
	}
	switch len(known) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("there is only %q", known[0])
	}
	if len(known) > maxListed {
		return fmt.Sprintf("%s are %s and %d more", what, strings.Join(known[:maxListed], ", "), len(known)-maxListed)
	}
	return what + " are " + enumerate(known, "and")
}

// nearest returns the known name that differs from the written one in the fewest keystrokes, if
// they are few for its length; among equals the first.
func nearest(written string, known []string) string {
	folded := fold(written)
	if folded == "" {
		return ""
	}
	for _, name := range known {
		if fold(name) == folded {
			return name
		}
	}
	for _, name := range synonyms[strings.ToLower(written)] {
		if slices.Contains(known, name) {
			return name
		}
	}
	best, bestDistance := "", max(1, (len([]rune(folded))+1)/3)+1
	for _, name := range known {
		if d := distance([]rune(folded), []rune(fold(name)), bestDistance); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
}

// fold makes names equal that differ only in case and in the way words are joined.
func fold(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "", ".", "").Replace(name))
}

// distance is the number of single-character insertions, deletions, replacements and swaps of
// neighbours that turn a into b (optimal string alignment), or limit if it is at least that.
func distance(a, b []rune, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range a {
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}

// enumerate joins names as a sentence does: a, b and c.
func enumerate(names []string, conjunction string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " " + conjunction + " " + names[len(names)-1]
}
