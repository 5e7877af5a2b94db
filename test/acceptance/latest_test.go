//go:build kafka

package acceptance

import (
	"encoding/csv"
	"strconv"
	"strings"
)

// latestKey is the primary key of the table latest.
type latestKey struct{ partition, tenant int32 }

// latestRow is the rest of a row.
type latestRow struct{ id, offset int64 }

// compareLatest holds the table whose keys repeat against the last record of each key: an old entry that was applied late, or again,
// would have put back an older one. What only an earlier life of the topic had may be there, too.
func (r *trial) compareLatest(f *faults, want map[latestKey]latestRow) {
	out, err := r.cluster.Run(r.ctx, r.cluster.Any(), "scan", "latest", "--format", "csv", "--columns", "kafka_partition,tenant,event_id,kafka_offset")
	r.must(err)
	rows, err := csv.NewReader(strings.NewReader(string(out))).ReadAll()
	r.must(err)
	found := map[latestKey]bool{}
	for _, row := range rows[1:] {
		var v [4]int64
		for i := range v {
			v[i], err = strconv.ParseInt(row[i], 10, 64)
			r.must(err)
		}
		key, got := latestKey{int32(v[0]), int32(v[1])}, latestRow{v[2], v[3]}
		if found[key] {
			f.add("latest: %+v is there twice", key)
		}
		found[key] = true
		if w, known := want[key]; known && got != w {
			f.add("latest: %+v is %+v, want %+v", key, got, w)
		} else if !known && len(r.lives) == 0 && len(r.deleted) == 0 {
			f.add("latest: %+v is of no record: %+v", key, got)
		}
	}
	for key, w := range want {
		if !found[key] {
			f.add("latest: %+v is missing, want %+v", key, w)
		}
	}
}

// verifyLatest has the product compare it, too.
func (r *trial) verifyLatest(back int) {
	v, err := r.verification("latest")
	r.must(err)
	if v.Differences != v.Kinds["gap of a record"] || !v.Exact && back == 0 {
		r.Fatalf("nyala verify latest: %d differences, %v", v.Differences, v.Kinds)
	}
}
