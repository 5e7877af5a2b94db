package verify

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"nyala/store/batch"
)

// history is the records of one key by source, and what is known of the sources.
type history struct {
	records [][]digest // by source, in the order of offsets; those that are gone are not given to judge
	gone    [][]bool   // by source and record: those that cannot be read any more, of the beginning or of anywhere
	sources []evidence
}

func drawHistory(t *rapid.T) history {
	h := history{}
	row := uint64(0)
	for s := range rapid.IntRange(1, 3).Draw(t, "sources") {
		e := evidence{inserts: rapid.IntRange(0, 2).Draw(t, "inserts") == 0}
		e.upserts = !e.inserts || rapid.IntRange(0, 3).Draw(t, "upserts") == 0
		e.deletes = e.upserts && rapid.Bool().Draw(t, "deletes")
		n := rapid.IntRange(0, 3).Draw(t, "records")
		lost, holes := 0, false
		switch rapid.IntRange(0, 3).Draw(t, "loses") {
		case 0:
			lost = rapid.IntRange(0, n).Draw(t, "lost")
		case 1:
			holes = true
		}
		settled := rapid.IntRange(lost, n).Draw(t, "settled")
		e.lost = lost > 0
		var list []digest
		var gone []bool
		for i := range n {
			row++
			d := digest{row: row, offset: int64(i), source: uint32(s), open: i >= settled}
			switch {
			case e.inserts && (!e.upserts || rapid.Bool().Draw(t, "insert")):
				d.op = batch.Insert
			case e.deletes && rapid.Bool().Draw(t, "delete"):
				d.op = batch.Delete
			}
			list = append(list, d)
			hole := holes && i < settled && rapid.Bool().Draw(t, "hole")
			gone = append(gone, i < lost || hole)
			e.holes = e.holes || hole
		}
		h.records, h.gone, h.sources = append(h.records, list), append(h.gone, gone), append(h.sources, e)
	}
	return h
}

// outcomes are all rows that may be there, 0 for none: every order that keeps the sources' own, and every number of open records.
func (h history) outcomes() map[uint64]bool {
	out := map[uint64]bool{}
	at := make([]int, len(h.records))
	var walk func(row uint64)
	seen := map[string]bool{}
	walk = func(row uint64) {
		state := string([]byte{byte(row)})
		done := true
		for s, n := range at {
			state += string([]byte{byte(n)})
			done = done && (n == len(h.records[s]) || h.records[s][n].open)
		}
		if seen[state] {
			return
		}
		seen[state] = true
		if done {
			out[row] = true
		}
		for s, n := range at {
			if n == len(h.records[s]) {
				continue
			}
			next := row
			switch d := h.records[s][n]; {
			case d.op == batch.Delete:
				next = 0
			case d.op == batch.Upsert || row == 0:
				next = d.row
			}
			at[s]++
			walk(next)
			at[s]--
		}
	}
	walk(0)
	return out
}

// readable is what judge is given.
func (h history) readable() []digest {
	var out []digest
	for s, list := range h.records {
		for i, d := range list {
			if !h.gone[s][i] {
				out = append(out, d)
			}
		}
	}
	return out
}

// TestJudgeAgreesWithEveryOrder holds judge against all orders in which the records of a key may have had their effect: what is
// possible is never called a difference; and where nothing is lost, what is impossible always is. Folding changes neither.
func TestJudgeAgreesWithEveryOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		h.judgeAll(t, h.readable())
		if !h.mixed() {
			h.judgeAll(t, fold(h.readable()))
		}
	})
}

func (h history) judgeAll(t *rapid.T, records []digest) {
	possible := h.outcomes()
	last, loses := uint64(0), false
	for s, list := range h.records {
		last += uint64(len(list))
		loses = loses || slices.Contains(h.gone[s], true)
	}
	for row := range last + 2 {
		var rows []digest
		if row > 0 {
			rows = append(rows, digest{row: row, kind: rowKind})
		}
		v, culprit := judge(records, rows, h.sources)
		switch {
		case possible[row] && v != fine && v != unchecked, possible[row] && v == unchecked && !loses:
			t.Fatalf("%+v: row %d is possible, got verdict %d", h, row, v)
		case row == last+1 && v == fine:
			t.Fatalf("%+v: a row of nobody is fine", h)
		case row == 0 && v == unchecked && !h.deleting():
			t.Fatalf("%+v: nothing deletes, and that there is no row is not checkable", h)
		case !possible[row] && v == fine && !loses && h.strict():
			t.Fatalf("%+v: row %d is impossible, and fine", h, row)
		case (v == missing || v == differs || v == deleted) && (culprit < 0 || records[culprit].open):
			t.Fatalf("%+v: row %d, verdict %d: culprit %d", h, row, v, culprit)
		}
	}
}

// strict tells whether judge is exact: with inserts beside deletions, or beside upserts of the same source, it lets some
// impossible rows pass.
func (h history) strict() bool {
	inserts, deletes := false, false
	for _, e := range h.sources {
		inserts, deletes = inserts || e.inserts, deletes || e.deletes
		if e.inserts && e.upserts {
			return false
		}
	}
	return !inserts || !deletes
}

func (h history) deleting() bool {
	return slices.ContainsFunc(h.sources, func(e evidence) bool { return e.deletes })
}

// mixed tells whether inserts and deletions meet: then nothing is folded.
func (h history) mixed() bool {
	var all evidence
	for _, e := range h.sources {
		all.inserts, all.deletes = all.inserts || e.inserts, all.deletes || e.deletes
	}
	return all.inserts && all.deletes
}

func TestTwoRowsOfAKey(t *testing.T) {
	rows := []digest{{row: 1, kind: rowKind}, {row: 1, kind: rowKind}}
	if v, _ := judge(nil, rows, []evidence{{unknown: true}}); v != doubled {
		t.Errorf("got %d, want doubled", v)
	}
}
