package verify

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"slices"

	"nyala/store/batch"
	"nyala/store/schema"
)

// digest is one record, or one row, as far as a comparison needs it. In a file it is 40 bytes, little endian.
type digest struct {
	key    [2]uint64
	row    uint64 // hash of all columns
	offset int64  // of a record or letter
	kind   kind
	op     batch.Op
	open   bool // of a record: it may have had its effect or not
	source uint32
}

// kind says what a digest is of.
type kind uint8

const (
	recordKind kind = iota // a record that makes a row, or deletes one
	rowKind                // a row of the table
	badKind                // a record that is no row
	letterKind             // a row of nyala.dead_letters
)

const digestBytes = 40

func (d *digest) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, d.key[0])
	b = binary.LittleEndian.AppendUint64(b, d.key[1])
	b = binary.LittleEndian.AppendUint64(b, d.row)
	b = binary.LittleEndian.AppendUint64(b, uint64(d.offset))
	tag := uint64(d.kind) | uint64(d.op)<<8 | uint64(d.source)<<32
	if d.open {
		tag |= 1 << 16
	}
	return binary.LittleEndian.AppendUint64(b, tag)
}

func parseDigest(b []byte) (d digest) {
	_ = b[digestBytes-1]
	d.key[0], d.key[1] = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	d.row, d.offset = binary.LittleEndian.Uint64(b[16:]), int64(binary.LittleEndian.Uint64(b[24:]))
	tag := binary.LittleEndian.Uint64(b[32:])
	d.kind, d.op, d.open, d.source = kind(tag), batch.Op(tag>>8), tag&(1<<16) != 0, uint32(tag>>32)
	return d
}

// hasher makes hashes that mean something within one run only.
type hasher struct {
	seeds [2]maphash.Seed
	a, b  uint64 // secrets
	null  uint64 // stands for a null
	rows  []uint64
	keys  *batch.Keys

	before []uint64 // rows, before a column with nulls
}

func newHasher(s *schema.Schema) *hasher {
	return &hasher{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, a: rand.Uint64(), b: rand.Uint64(), null: rand.Uint64(), keys: batch.NewKeys(s)}
}

// mix takes v into h; both halves of the product count.
func (x *hasher) mix(h, v uint64) uint64 {
	hi, lo := bits.Mul64(h^x.a, v^x.b)
	return hi ^ lo
}

// hash fills x.rows with the hashes of all rows of b over all its columns.
func (x *hasher) hash(b *batch.Batch, columns []int) []uint64 {
	x.rows = slices.Grow(x.rows[:0], b.Rows)[:b.Rows]
	for i := range x.rows {
		x.rows[i] = 1
	}
	for _, c := range columns {
		x.column(&b.Columns[c])
	}
	return x.rows
}

// column takes the values of a column into x.rows. A null counts as one, whatever its place holds.
func (x *hasher) column(c *batch.Column) {
	if c.Valid == nil {
		x.values(c)
		return
	}
	x.before = append(x.before[:0], x.rows...)
	x.values(c)
	for i := range x.rows {
		if c.IsNull(i) {
			x.rows[i] = x.mix(x.before[i], x.null)
		}
	}
}

func (x *hasher) values(c *batch.Column) {
	out := x.rows
	switch c.Type.Layout() {
	case schema.Bytes:
		for i := range out {
			v := c.Bytes(i)
			out[i] = x.mix(x.mix(out[i], uint64(len(v))), maphash.Bytes(x.seeds[0], v))
		}
	case schema.Fixed16:
		for i := range out {
			v := c.Values[i*16:]
			out[i] = x.mix(x.mix(out[i], binary.LittleEndian.Uint64(v)), binary.LittleEndian.Uint64(v[8:]))
		}
	case schema.Fixed8:
		for i, v := range c.Int64s() {
			out[i] = x.mix(out[i], uint64(v))
		}
	default:
		for i := range out {
			out[i] = x.mix(out[i], uint64(c.Int(i)))
		}
	}
}

// keyOf is the hash of an encoded key.
func (x *hasher) keyOf(encoded []byte) [2]uint64 {
	return [2]uint64{maphash.Bytes(x.seeds[0], encoded), maphash.Bytes(x.seeds[1], encoded)}
}

// letterKey is the key of a record as a dead letter.
func (x *hasher) letterKey(source uint32, offset int64) [2]uint64 {
	var b [13]byte
	binary.LittleEndian.PutUint32(b[:], source)
	binary.LittleEndian.PutUint64(b[4:], uint64(offset))
	b[12] = 'L'
	return x.keyOf(b[:])
}

// encode fills x.keys with the primary keys of b, whose columns are the schema's.
func (x *hasher) encode(b *batch.Batch) {
	x.keys.Reset()
	x.keys.Append(b, 0, b.Rows)
}
