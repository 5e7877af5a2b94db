package batch

import (
	"encoding/binary"
	"slices"

	"nyala/store/schema"
)

// Keys holds encoded primary keys, one after the other. Where all have the same length they lie at
// a stride of Width and Offsets is empty.
type Keys struct {
	Width   int // 0: lengths differ
	Data    []byte
	Offsets []uint32 // Len()+1 of them when Width is 0
	types   []schema.Type
	cols    []int
	columns []*Column // scratch of Append
}

// NewKeys makes an empty set of keys of schema s.
func NewKeys(s *schema.Schema) *Keys {
	k := &Keys{Width: s.KeyWidth(), cols: s.Key}
	for _, c := range s.Key {
		k.types = append(k.types, s.Columns[c].Type)
	}
	if k.Width == 0 {
		k.Offsets = append(k.Offsets, 0)
	}
	return k
}

// Len is the number of keys.
func (k *Keys) Len() int {
	if k.Width > 0 {
		return len(k.Data) / k.Width
	}
	return len(k.Offsets) - 1
}

// At is key i; it aliases k.
func (k *Keys) At(i int) []byte {
	if k.Width > 0 {
		return k.Data[i*k.Width : i*k.Width+k.Width : i*k.Width+k.Width]
	}
	return k.Data[k.Offsets[i]:k.Offsets[i+1]:k.Offsets[i+1]]
}

// Reset empties k and keeps its memory.
func (k *Keys) Reset() {
	k.Data = k.Data[:0]
	if k.Width == 0 {
		k.Offsets = k.Offsets[:1]
	}
}

// Append encodes the keys of rows [from, to) of b, whose columns stand in the schema's order.
func (k *Keys) Append(b *Batch, from, to int) {
	k.columns = k.columns[:0]
	for _, c := range k.cols {
		k.columns = append(k.columns, &b.Columns[c])
	}
	if k.Width > 0 {
		k.appendFixed(from, to)
		return
	}
	for r := from; r < to; r++ {
		for i, c := range k.columns {
			switch t := k.types[i]; t.Layout() {
			case schema.Bytes:
				k.Data = schema.AppendKeyBytes(k.Data, c.Bytes(r))
			case schema.Fixed16:
				k.Data = append(k.Data, c.Values[r*16:r*16+16]...)
			default:
				k.Data = schema.AppendKeyInt(k.Data, c.Int(r), t.Width())
			}
		}
		k.Offsets = append(k.Offsets, uint32(len(k.Data)))
	}
}

// appendFixed goes column by column: the inner loops have no branches.
func (k *Keys) appendFixed(from, to int) {
	n, w := to-from, k.Width
	if n == 0 {
		return
	}
	start := len(k.Data)
	k.Data = slices.Grow(k.Data, n*w)[:start+n*w]
	at := start
	for i, c := range k.columns {
		out := k.Data[at:]
		switch k.types[i].Layout() {
		case schema.Fixed8:
			for r, v := range c.Int64s()[from:to] {
				binary.BigEndian.PutUint64(out[r*w:], uint64(v)^1<<63)
			}
		case schema.Fixed4:
			for r, v := range c.Int32s()[from:to] {
				binary.BigEndian.PutUint32(out[r*w:], uint32(v)^1<<31)
			}
		case schema.Fixed2:
			for r, v := range c.Int16s()[from:to] {
				binary.BigEndian.PutUint16(out[r*w:], uint16(v)^1<<15)
			}
		case schema.Fixed1:
			for r, v := range c.Int8s()[from:to] {
				out[r*w] = byte(v) ^ 0x80
			}
		case schema.Fixed16:
			for r := range n {
				copy(out[r*w:], c.Values[(from+r)*16:(from+r)*16+16])
			}
		}
		at += k.types[i].Width()
	}
}

// HashRows writes the hash of the schema's hash columns for rows [from, to) of b into out, which has
// to-from places; schema.BucketOf maps a hash to a bucket.
func HashRows(s *schema.Schema, b *Batch, from, to int, out []uint64) {
	clear(out)
	for _, h := range s.Hash {
		c := &b.Columns[h]
		switch c.Type.Layout() {
		case schema.Fixed8:
			for i, v := range c.Int64s()[from:to] {
				out[i] = schema.Mix(out[i], uint64(v))
			}
		case schema.Bytes:
			for i := range out {
				out[i] = schema.Mix(out[i], schema.HashBytes(c.Bytes(from+i)))
			}
		case schema.Fixed16:
			for i := range out {
				out[i] = schema.Mix(out[i], schema.HashBytes(c.Values[(from+i)*16:(from+i)*16+16]))
			}
		default:
			for i := range out {
				out[i] = schema.Mix(out[i], uint64(c.Int(from+i)))
			}
		}
	}
}
