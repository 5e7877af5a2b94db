package verify

import (
	"slices"

	"nyala/store/batch"
)

// verdict is what a key comes to.
type verdict uint8

const (
	fine      verdict = iota
	unchecked         // a record that Kafka has deleted may explain it
	missing           // there must be a row
	differs           // there is a row, and it is of none of the records that may have won
	extra             // there is a row that no record explains
	doubled           // there is more than one row
	deleted           // there is a row, but the last record deleted it
)

// evidence is what is known of a source beside its records.
type evidence struct {
	inserts bool // it has inserts: the first wins
	upserts bool // it has upserts: the last wins. A connector whose settings were changed may have both
	deletes bool // it may have deletions
	lost    bool // Kafka has deleted some of its records that may be in the table
	holes   bool // Kafka has deleted some of them anywhere: its topic is compacted
	unknown bool // nothing is known of its records: no connector that writes the table has it
}

// judge says what a key comes to: its records, sorted by source and offset, and its rows. culprit is the position of the record
// that should be there where it is missing, or where another one is; -1 when there is none.
//
// Records of one source take effect in their order, and nothing orders those of several. So each source has candidates:
// of upserts the last settled record or any open one behind it, of inserts the first. Whoever comes last wins, but an
// insert only where there is nothing; so where an upsert has surely happened, no insert is left unless something deletes.
func judge(records, rows []digest, sources []evidence) (v verdict, culprit int) {
	if len(rows) > 1 {
		return doubled, -1
	}
	j := judgement{sources: sources, culprit: -1}
	for at := 0; at < len(records); {
		end := at + 1
		for end < len(records) && records[end].source == records[at].source {
			end++
		}
		j.take(records[at:end], at)
		at = end
	}
	j.finish()
	switch {
	case len(rows) == 0 && j.mayBeAbsent(), len(rows) == 1 && j.mayBe(rows[0].row):
		return fine, -1
	case j.lostExplains(len(rows) == 1):
		return unchecked, -1
	case len(rows) == 0:
		return missing, j.culprit
	case j.culprit < 0:
		return extra, -1
	case records[j.culprit].op == batch.Delete:
		return deleted, j.culprit
	}
	return differs, j.culprit
}

// judgement gathers what may have won.
type judgement struct {
	sources []evidence
	settled []uint32 // those of which an upsert or delete has surely happened

	lasts, firsts []digest // candidates of sources of upserts, and of inserts
	upserted      bool     // some upsert or delete has surely happened
	present       bool     // some record has surely had its effect
	deletes       bool     // some record deletes
	culprit       int
}

// take takes up the records of one source; at is the position of the first.
func (j *judgement) take(records []digest, at int) {
	settled := 0
	for settled < len(records) && !records[settled].open {
		settled++
	}
	for i := range records {
		j.deletes = j.deletes || records[i].op == batch.Delete
	}
	if settled > 0 {
		j.present = true
	}
	last := settled - 1 // the last settled one that is no insert
	for last >= 0 && records[last].op == batch.Insert {
		last--
	}
	if last >= 0 {
		if !j.upserted {
			j.culprit = at + last
		}
		j.upserted = true
		j.settled = append(j.settled, records[0].source)
		j.lasts = append(j.lasts, records[last:]...)
		return
	}
	if settled > 0 && j.culprit < 0 {
		j.culprit = at
	}
	for _, d := range records {
		if d.op == batch.Insert {
			j.firsts = append(j.firsts, d)
		} else {
			j.lasts = append(j.lasts, d)
		}
	}
}

// finish leaves of the inserts those that may be there.
func (j *judgement) finish() {
	switch {
	case j.deletes: // any may have come behind a deletion
	case j.upserted:
		j.firsts = nil
	default:
		n := 0
		for i, d := range j.firsts {
			if i == 0 || d.source != j.firsts[i-1].source {
				j.firsts[n] = d
				n++
			}
		}
		j.firsts = j.firsts[:n]
	}
}

func (j *judgement) mayBeAbsent() bool {
	if !j.present {
		return true
	}
	for i := range j.lasts {
		if j.lasts[i].op == batch.Delete {
			return true
		}
	}
	return false
}

func (j *judgement) mayBe(row uint64) bool {
	for _, list := range [][]digest{j.lasts, j.firsts} {
		for i := range list {
			if list[i].row == row && list[i].op != batch.Delete {
				return true
			}
		}
	}
	return false
}

// lostExplains tells whether records that nobody can read any more may be why a row is there, or not there. Lost records of a
// source come before those that can be read, but for those of a compacted topic. Only a deletion explains that no row is there.
func (j *judgement) lostExplains(there bool) bool {
	for i, e := range j.sources {
		switch {
		case e.unknown, e.holes && (there || e.deletes):
			return true
		case !e.lost:
		case e.inserts && there && (!j.upserted || j.deletes):
			return true
		case e.upserts && !slices.Contains(j.settled, uint32(i)) && (there || e.deletes):
			return true
		}
	}
	return false
}
