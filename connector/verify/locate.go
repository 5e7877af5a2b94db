package verify

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"nyala/connector/api"
	"nyala/ingest"
	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/schema"
)

// values are a row's columns in the schema's order, with memory of their own.
type values []schema.Value

func valuesOf(b *batch.Batch, row int) values {
	out := make(values, len(b.Columns))
	for i := range b.Columns {
		v := b.Columns[i].Value(row)
		v.Bytes = bytes.Clone(v.Bytes)
		out[i] = v
	}
	return out
}

// locate looks up the differences that are kept, and tells them in the order of their sources.
func (r *Run) locate(ctx context.Context, difference func(*api.Difference) error) error {
	if len(r.found) == 0 {
		return nil
	}
	slices.SortStableFunc(r.found, func(a, b found) int { return cmp.Or(cmp.Compare(a.source, b.source), cmp.Compare(a.offset, b.offset)) })
	rows, err := r.findRows(ctx)
	if err != nil {
		return err
	}
	records, err := r.findRecords(ctx)
	if err != nil {
		return err
	}
	for i := range r.found {
		f := &r.found[i]
		if err := difference(r.describe(f, records[i], rows[f.key])); err != nil {
			return err
		}
		r.o.Progress(api.VerifyProgress{Step: api.VerifyLocate, Done: int64(i + 1), Total: int64(len(r.found))})
	}
	return nil
}

// findRows reads the table once more for the rows with the keys of differences.
func (r *Run) findRows(ctx context.Context) (map[[2]uint64]values, error) {
	out := map[[2]uint64]values{}
	for _, f := range r.found {
		if f.key != [2]uint64{} && f.kind != api.MissingRow {
			out[f.key] = nil
		}
	}
	if len(out) == 0 {
		return out, nil
	}
	for _, p := range r.o.Table.Partitions {
		for _, id := range p.Tablets {
			in, err := r.o.Scan(ctx, id)
			err = each(in, err, func(b *batch.Batch) error {
				r.hash.encode(b)
				for i := range b.Rows {
					key := r.hash.keyOf(r.hash.keys.At(i))
					if _, wanted := out[key]; wanted {
						out[key] = valuesOf(b, i)
					}
				}
				return nil
			})
			if err != nil {
				return nil, fmt.Errorf("verify: table %s: tablet %d: %w", r.o.Table.Name, id, err)
			}
		}
	}
	return out, nil
}

// findRecords reads the records of differences once more, in rounds: of each partition one a round.
func (r *Run) findRecords(ctx context.Context) (map[int]values, error) {
	out := map[int]values{}
	open := map[int]bool{}
	for i, f := range r.found {
		if f.source >= 0 && slices.Contains([]string{api.MissingRow, api.OtherRow, api.DeletedRow}, f.kind) {
			open[i] = true
		}
	}
	for len(open) > 0 {
		round := map[string][]int{} // by connector
		taken := map[int]bool{}
		for i := range r.found {
			if s := r.found[i].source; open[i] && !taken[s] {
				taken[s] = true
				delete(open, i)
				name := r.sources[s].Connector
				round[name] = append(round[name], i)
			}
		}
		for _, c := range r.o.Connectors {
			if err := r.findRound(ctx, c, round[c.Name], out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (r *Run) findRound(ctx context.Context, c ingest.Options, which []int, out map[int]values) error {
	if len(which) == 0 {
		return nil
	}
	var wanted []ingest.RereadSource
	for _, i := range which {
		f := &r.found[i]
		wanted = append(wanted, ingest.RereadSource{Source: r.sources[f.source].Source.Source, Wanted: offsets.Range{First: f.offset, Next: f.offset + 1}})
	}
	reader, err := ingest.OpenReread(ctx, ingest.RereadOptions{Connector: c, Schema: r.o.Table.Schema, Sources: wanted, FetchBytes: 1 << 20})
	if err != nil {
		return err
	}
	defer reader.Close()
	return reader.Run(ctx, func(in *ingest.Reread) error {
		if in.Rows.Rows > 0 {
			out[which[in.Source]] = valuesOf(&in.Rows, 0)
		}
		return nil
	})
}

// describe says what a person needs to find a difference again.
func (r *Run) describe(f *found, record, row values) *api.Difference {
	d := &api.Difference{Kind: f.kind}
	if f.source >= 0 {
		s := &r.sources[f.source]
		d.Connector, d.Topic, d.TopicID = s.Connector, s.topic, topicID(s.Topic)
		d.Partition, d.Offset = &s.Partition, &f.offset
	}
	if f.tablet != 0 {
		d.Tablet = strconv.FormatUint(uint64(f.tablet), 10)
	}
	switch {
	case row != nil:
		d.Key = r.keyText(row)
	case record != nil:
		d.Key = r.keyText(record)
	}
	if row != nil && record != nil && f.kind == api.OtherRow {
		for i, c := range r.o.Table.Schema.Columns {
			if !same(c.Type, record[i], row[i]) {
				d.Columns = append(d.Columns, c.Name)
			}
		}
	}
	if r.o.Values {
		d.Record, d.Row = r.texts(record), r.texts(row)
	}
	return d
}

// same compares as the digests do: by bits.
func same(t schema.Type, a, b schema.Value) bool {
	if a.Null || b.Null {
		return a.Null == b.Null
	}
	if t.Kind == schema.Float32 || t.Kind == schema.Float64 {
		return math.Float64bits(a.Float) == math.Float64bits(b.Float)
	}
	return a.Int == b.Int && bytes.Equal(a.Bytes, b.Bytes)
}

// keyTextMax is how much of a key is shown.
const keyTextMax = 300

func (r *Run) keyText(v values) string {
	var parts []string
	s := r.o.Table.Schema
	for _, k := range s.Key {
		parts = append(parts, s.Columns[k].Name+"="+string(schema.AppendText(nil, s.Columns[k].Type, v[k])))
	}
	text := strings.Join(parts, ", ")
	if len(text) > keyTextMax {
		text = strings.ToValidUTF8(text[:keyTextMax], "") + "…"
	}
	return text
}

func (r *Run) texts(v values) map[string]string {
	if v == nil {
		return nil
	}
	out := map[string]string{}
	for i, c := range r.o.Table.Schema.Columns {
		out[c.Name] = string(schema.AppendText(nil, c.Type, v[i]))
	}
	return out
}
