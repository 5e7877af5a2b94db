package store

import (
	"slices"

	"nyala/store/batch"
	"nyala/store/schema"
)

// slackBytes is how much zeroed room stands behind a gathered buffer: readers may go over the end in words.
const slackBytes = 64

// gather copies the given columns of rows of several batches into a new batch.
func gather(columns []schema.Column, batches []*batch.Batch, refs []batch.Ref) *batch.Batch {
	out := &batch.Batch{Rows: len(refs), Columns: make([]batch.Column, len(columns))}
	in := make([]*batch.Column, len(batches))
	for i, c := range columns {
		nulls := false
		for k, b := range batches {
			in[k] = b.Column(c.ID)
			nulls = nulls || in[k].Nulls > 0
		}
		o := &out.Columns[i]
		*o = batch.Column{ID: c.ID, Type: c.Type, Rows: len(refs)}
		if nulls {
			gatherNulls(o, in, refs)
		}
		switch c.Type.Layout() {
		case schema.Bytes:
			gatherBytes(o, in, refs)
		case schema.Bits:
			o.Values = make([]byte, (len(refs)+7)/8, (len(refs)+7)/8+slackBytes)
			for k, r := range refs {
				if in[r.Batch].Bit(int(r.Row)) {
					o.Values[k>>3] |= 1 << (k & 7)
				}
			}
		case schema.Fixed1:
			o.Values = gatherFixed(in, refs, (*batch.Column).Int8s)
		case schema.Fixed2:
			o.Values = gatherFixed(in, refs, (*batch.Column).Int16s)
		case schema.Fixed4:
			o.Values = gatherFixed(in, refs, (*batch.Column).Int32s)
		case schema.Fixed8:
			o.Values = gatherFixed(in, refs, (*batch.Column).Int64s)
		default:
			o.Values = gatherFixed16(in, refs)
		}
	}
	return out
}

func gatherFixed[T int8 | int16 | int32 | int64](in []*batch.Column, refs []batch.Ref, view func(*batch.Column) []T) []byte {
	views := make([][]T, len(in))
	for k, c := range in {
		views[k] = view(c)
	}
	out := make([]T, len(refs), len(refs)+slackBytes)
	for k, r := range refs {
		out[k] = views[r.Batch][r.Row]
	}
	return batch.BytesOf(out)
}

func gatherFixed16(in []*batch.Column, refs []batch.Ref) []byte {
	out := make([]byte, 0, len(refs)*16+slackBytes)
	for _, r := range refs {
		out = append(out, in[r.Batch].Values[r.Row*16:r.Row*16+16]...)
	}
	return out
}

func gatherNulls(o *batch.Column, in []*batch.Column, refs []batch.Ref) {
	valid := make([]byte, (len(refs)+7)/8, (len(refs)+7)/8+slackBytes)
	for k, r := range refs {
		if in[r.Batch].IsNull(int(r.Row)) {
			o.Nulls++
		} else {
			valid[k>>3] |= 1 << (k & 7)
		}
	}
	if o.Nulls > 0 {
		o.Valid = valid
	}
}

func gatherBytes(o *batch.Column, in []*batch.Column, refs []batch.Ref) {
	o.Offsets = make([]int32, len(refs)+1)
	total := int32(0)
	for k, r := range refs {
		at := in[r.Batch].Offsets
		total += at[r.Row+1] - at[r.Row]
		o.Offsets[k+1] = total
	}
	o.Values = slices.Grow([]byte(nil), int(total)+slackBytes)
	for _, r := range refs {
		o.Values = append(o.Values, in[r.Batch].Bytes(int(r.Row))...)
	}
}
