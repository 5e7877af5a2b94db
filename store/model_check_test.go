package store

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"nyala/offsets"
	"nyala/store/schema"
)

func (m *model) visible(at Timestamp, columns int, where *modelWhere) string {
	var out []string
	for _, v := range m.versions {
		if v.birth <= at && (v.death == 0 || v.death > at) && where.holds(v) {
			text := fmt.Sprint(v.value)
			if v.value%3 == 0 {
				text = "NULL"
			}
			out = append(out, fmt.Sprintf("%s=%d/%s%s", v.key, v.value, text, extras(v, columns)))
		}
	}
	slices.Sort(out)
	return fmt.Sprint(out)
}

func (m *model) check(r *modelReplica) {
	if r.applied == 0 || m.fault != nil {
		return
	}
	h := m.at[r.applied-1]
	var lowest Timestamp = 995
	for at := max(h.horizon, lowest); at <= h.last; at++ {
		ordered := m.rng.IntN(2) == 0
		where, predicates := m.where(h.schema)
		ids := append([]schema.ColumnID{9, 1, 7}, extraIDs(h.schema)...)
		got, err := m.scan(r.tablet, ScanOptions{At: at, Columns: ids, Where: predicates, Ordered: ordered}, ordered)
		if want := m.visible(at, h.schema, where); err != nil || got != want {
			m.failf("replica at %d (durable %d), scan at %d: got %s %v, want %s", r.applied, r.durable, at, got, err, want)
			return
		}
	}
	if _, err := r.tablet.Scan(ScanOptions{At: h.last + 1}); !errors.Is(err, ErrNotYet) {
		m.failf("scan above the last timestamp: %v", err)
	}
	if h.horizon > 1 {
		if _, err := r.tablet.Scan(ScanOptions{At: h.horizon - 1}); !errors.Is(err, ErrTooOld) {
			m.failf("scan below the horizon: %v", err)
		}
	}
	got := maps.Collect(r.tablet.Ledger().All())
	want := maps.Clone(h.ledger)
	maps.DeleteFunc(want, func(s offsets.Source, n int64) bool { _, ok := got[s]; return n == 0 && !ok })
	maps.DeleteFunc(got, func(s offsets.Source, n int64) bool { _, ok := want[s]; return n == 0 && !ok })
	if !maps.Equal(got, want) {
		m.failf("ledger at %d: got %v, want %v", r.applied, got, want)
	}
}

func (m *model) scan(t *Tablet, o ScanOptions, ordered bool) (string, error) {
	s, err := t.Scan(o)
	if err != nil {
		return "", err
	}
	defer s.Close()
	var out []string
	for {
		b, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
		for i := range b.Rows {
			key := string(b.Columns[1].Value(i).Bytes)
			if b.Columns[1].Type.Kind != schema.String {
				key = string(rune(b.Columns[1].Int(i)))
			}
			text := schema.AppendText(nil, b.Columns[0].Type, b.Columns[0].Value(i))
			row := fmt.Sprintf("%s=%d/%s", key, b.Columns[2].Int(i), text)
			for _, c := range b.Columns[3:] {
				row += "/" + string(schema.AppendText(nil, c.Type, c.Value(i)))
			}
			out = append(out, row)
		}
	}
	if ordered && !slices.IsSorted(out) {
		return "", fmt.Errorf("not in order: %v", out)
	}
	slices.Sort(out)
	return fmt.Sprint(out), nil
}
